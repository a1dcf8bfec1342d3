"""The contract of an attack, enforced; rule by rule."""

from collections.abc import Iterator

import torch
from torch import Tensor

from poisonbench.contracts.budget import count as count
from poisonbench.contracts.budget import warn_of_unspent
from poisonbench.contracts.protocols import Attack
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.errors import PoisonError
from poisonbench.roles import CLEAN, COVER, POISON
from poisonbench.seeding import global_state, restore
from poisonbench.training import Recipe

RULES = {
    "random-state": "the attack leaves the global generators (torch, numpy, random) and the default dtype as they were",
    "inputs": "the attack leaves the training and test set that it was given as they were",
    "type": "the attack returns a Poisoned",
    "shape": "train, role, origin, targets, wanted and target_origin agree in length and instance shape",
    "dtype": "x keeps its dtype; role is uint8; origin, wanted and target_origin are int64",
    "finite": "every pixel is finite",
    "range": "pixels of images stay in [0, 1]",
    "label": "labels, true and wanted, lie in [0, classes)",
    "role": "role is 0 (clean), 1 (poison) or 2 (cover)",
    "origin": "origin is -1 or a row of the clean training set, each clean row once at most",
    "clean": "a row of role 0 is an unchanged row of the clean training set",
    "budget": "poison rows and deleted clean rows together do not exceed budget x n",
    "cover": "cover rows do not exceed cover x n, none without a field `cover`",
    "clean-label": "a clean-label attack leaves the labels of its poison rows as they were",
    "eps": "poison rows stay in the max-norm ball of radius eps around their clean rows, but for the pixels that `covered` names",
    "true-label": "targets.y is the true label of the test row that target_origin names",
    "wanted": "the wanted label differs from the true one",
}


def _broken(bad: Tensor | bool, rule: str, what: str) -> Iterator[PoisonError]:
    """Yields an error that names the first offending row where `bad` (a bool or a (rows,) mask) holds."""
    if isinstance(bad, Tensor):
        rows = bad.nonzero()
        if len(rows):
            yield PoisonError(
                rule,
                f"{what} in row {int(rows[0, 0])} ({len(rows)} of {len(bad)} rows)",
                RULES[rule],
            )
    elif bad:
        yield PoisonError(rule, what, RULES[rule])


def _form(p: Poisoned, clean: Dataset) -> Iterator[PoisonError]:
    n, m = len(p.train), len(p.targets)
    lengths = {"role": n, "origin": n, "wanted": m, "target_origin": m}
    for name, rows in lengths.items():
        shape = tuple(getattr(p, name).shape)
        yield from _broken(shape != (rows,), "shape", f"{name} has shape {shape}, not ({rows},)")
    yield from _broken(p.role.dtype != torch.uint8, "dtype", f"role is {p.role.dtype}, not uint8")
    for name in ("origin", "wanted", "target_origin"):
        dtype = getattr(p, name).dtype
        yield from _broken(dtype != torch.int64, "dtype", f"{name} is {dtype}, not int64")
    for name, part in (("train", p.train), ("targets", p.targets)):
        yield from _broken(
            part.shape != clean.shape,
            "shape",
            f"instances of {name} have shape {part.shape}, not {clean.shape}",
        )
        yield from _broken(
            part.x.dtype != clean.x.dtype,
            "dtype",
            f"{name}.x is {part.x.dtype}, not {clean.x.dtype}",
        )


def _values(p: Poisoned, clean: Dataset, test: Dataset) -> Iterator[PoisonError]:
    classes, n, m = clean.classes, len(clean), len(test)
    for name, part in (("train", p.train), ("targets", p.targets)):
        yield from _broken(
            part.classes != classes,
            "label",
            f"{name} has {part.classes} classes, the data set {classes}",
        )
        yield from _broken(
            ~part.x.flatten(1).isfinite().all(1), "finite", f"{name}.x is not finite"
        )
        if len(clean.shape) == 3:
            outside = ((part.x < 0) | (part.x > 1)).flatten(1).any(1)
            yield from _broken(outside, "range", f"a pixel of {name} is outside [0, 1]")
        yield from _broken(
            (part.y < 0) | (part.y >= classes),
            "label",
            f"a label of {name} is outside [0, {classes})",
        )
    yield from _broken(
        (p.wanted < 0) | (p.wanted >= classes), "label", f"a wanted label is outside [0, {classes})"
    )
    yield from _broken(p.role > COVER, "role", "role is above 2")
    inside = (p.origin >= -1) & (p.origin < n)
    yield from _broken(~inside, "origin", f"origin is outside [-1, {n})")
    yield from _broken(
        (p.target_origin < -1) | (p.target_origin >= m),
        "origin",
        f"target_origin is outside [-1, {m})",
    )
    kept = p.origin[inside & (p.origin >= 0)]
    twice = torch.bincount(kept, minlength=n) > 1
    yield from _broken(twice, "origin", "a clean training row is used twice; the first one is")


def _relations(p: Poisoned, clean: Dataset, test: Dataset, attack: object) -> Iterator[PoisonError]:
    source = clean.take(p.origin.clamp(min=0))
    relabelled = p.train.y != source.y
    changed = (p.train.x != source.x).flatten(1).any(1) | relabelled
    yield from _broken((p.role == CLEAN) & (p.origin < 0), "clean", "a new instance has role 0")
    yield from _broken(
        (p.role == CLEAN) & (p.origin >= 0) & changed, "clean", "a clean row was changed"
    )
    yield from _budget(p, clean, attack)
    if getattr(attack, "clean_label", False):
        yield from _broken(
            (p.role == POISON) & (p.origin >= 0) & relabelled,
            "clean-label",
            "the label was changed",
        )
    yield from _eps(p, source, attack)
    known = p.target_origin >= 0
    truth = test.y[p.target_origin.clamp(min=0)] if len(test) else p.targets.y
    yield from _broken(
        known & (p.targets.y != truth),
        "true-label",
        "targets.y is not the label of the test point it comes from",
    )
    yield from _broken(p.wanted == p.targets.y, "wanted", "the wanted label is the true one")


def broken_rules(
    poisoned: Poisoned, clean: Dataset, test: Dataset, attack: object = None
) -> Iterator[PoisonError]:
    """Yields what breaks the contract of an attack: faults of form, or else of values, or else of how they are related.

    Args:
        poisoned: what the attack returned.
        clean: the n0 training rows it was given.
        test: the test rows it was given.
        attack: the attack itself, whose `budget`, `clean_label` and `eps`, where it has them, are enforced too.
    """
    for stage in (
        _form(poisoned, clean),
        _values(poisoned, clean, test),
        _relations(poisoned, clean, test, attack),
    ):
        if faults := list(stage):
            yield from faults
            return


def check_poisoned(
    poisoned: Poisoned, clean: Dataset, test: Dataset, attack: object = None
) -> None:
    """Enforces the contract of an attack over shapes, pixels, labels, roles, origins and budget; arguments of `broken_rules`.

    Raises:
        PoisonError: names the first broken rule of `RULES` and the row.
    """
    for error in broken_rules(poisoned, clean, test, attack):
        raise error


def _budget(poisoned: Poisoned, clean: Dataset, attack: object) -> Iterator[PoisonError]:
    """Poison and deleted rows are paid for by `budget`, cover rows by `cover`, where the attack has such fields."""
    budget = getattr(attack, "budget", None)
    if budget is None:
        return
    poison, cover = (int((poisoned.role == role).sum()) for role in (POISON, COVER))
    gone = len(clean) - int((poisoned.origin >= 0).sum())
    limit, also = count(budget, len(clean)), f" and {gone} deleted ones" if gone else ""
    told = f"{poison} poison rows{also}, {limit} are paid for by budget {budget}"
    yield from _broken(poison + gone > limit, "budget", told)
    share = getattr(attack, "cover", 0.0)
    limit = count(share, len(clean)) if share else 0
    yield from _broken(
        cover > limit, "cover", f"{cover} cover rows, {limit} are paid for by cover {share}"
    )


def _eps(poisoned: Poisoned, source: Dataset, attack: object) -> Iterator[PoisonError]:
    """A poison row made from the clean one beside it in `source` lies within `eps`, outside the pixels of a trigger on top."""
    eps = getattr(attack, "eps", None)
    if eps is None:
        return
    distance = (poisoned.train.x - source.x).abs()
    if covered := getattr(attack, "covered", None):
        distance = distance.where(~covered(source.shape).to(distance.device), 0)
    bound = eps + 1e-6  # rounding of clean + (poison - clean) in float32
    far = (poisoned.role == POISON) & (poisoned.origin >= 0) & (distance.flatten(1).amax(1) > bound)
    yield from _broken(far, "eps", f"a pixel is more than eps {eps:g} away from the clean row")


def attempt(
    attack: Attack, train: Dataset, test: Dataset, recipe: Recipe, seed: int
) -> tuple[object, list[PoisonError]]:
    """Runs an attack and returns what it returned, with the rules that it broke in running: global state, inputs, type.

    Whatever it did to the global state is undone.
    """
    inputs = {"train.x": train.x, "train.y": train.y, "test.x": test.x, "test.y": test.y}
    before = {name: tensor.clone() for name, tensor in inputs.items()}
    state = global_state()
    try:
        poisoned = attack(train, test, recipe, seed)
    finally:
        moved = restore(state)
    faults = [
        *_broken(moved, "random-state", "a global generator or the default dtype was changed")
    ]
    for name, tensor in inputs.items():
        faults += _broken(
            not torch.equal(tensor, before[name]), "inputs", f"{name} was changed in place"
        )
    faults += _broken(not isinstance(poisoned, Poisoned), "type", f"got {type(poisoned).__name__}")
    return poisoned, faults


def craft(attack: Attack, train: Dataset, test: Dataset, recipe: Recipe, seed: int) -> Poisoned:
    """Runs an attack and enforces its whole contract, inputs and global state included.

    An attack that spends less than its budget or its cover pays for is told with a `BudgetWarning`.

    Returns:
        What the attack returned, on the device of `train`.

    Raises:
        PoisonError: names the broken rule of `RULES`.
    """
    poisoned, faults = attempt(attack, train, test, recipe, seed)
    if faults:
        raise faults[0]
    assert isinstance(poisoned, Poisoned)
    poisoned = poisoned.to(train.x.device)
    check_poisoned(poisoned, train, test, attack)
    warn_of_unspent(poisoned, train, attack)
    return poisoned
