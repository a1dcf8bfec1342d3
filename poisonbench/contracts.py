"""The contract of an attack, enforced; with the values and protocols of `protocols.py`, which are to be imported from here."""

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poisonbench.data import Dataset
from poisonbench.errors import PoisonError
from poisonbench.protocols import CLEAN as CLEAN
from poisonbench.protocols import COVER as COVER
from poisonbench.protocols import POISON as POISON
from poisonbench.protocols import Attack as Attack
from poisonbench.protocols import Certified as Certified
from poisonbench.protocols import Certifier as Certifier
from poisonbench.protocols import Detector as Detector
from poisonbench.protocols import Estimator as Estimator
from poisonbench.protocols import Evidence as Evidence
from poisonbench.protocols import Filter as Filter
from poisonbench.protocols import Poisoned as Poisoned
from poisonbench.protocols import Scorer as Scorer
from poisonbench.registry import lookup as lookup
from poisonbench.training import Recipe

RULES = {
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
    "inputs": "the attack leaves the training and test set that it was given as they were",
    "random-state": "the attack leaves the global generators (torch, numpy, random) and the default dtype as they were",
    "type": "the attack returns a Poisoned",
}


def count(budget: float, n: int) -> int:
    """Returns the number of rows that a budget (a fraction of the n training rows) pays for, rounded, at least 1."""
    return max(1, round(budget * n))


def _refuse(bad: Tensor | bool, rule: str, what: str) -> None:
    """Raises PoisonError naming the first offending row where `bad` (a bool or a (rows,) mask) holds."""
    if isinstance(bad, Tensor):
        rows = bad.nonzero()
        if len(rows):
            raise PoisonError(rule, f"{what} in row {int(rows[0, 0])} ({len(rows)} of {len(bad)} rows)", RULES[rule])
    elif bad:
        raise PoisonError(rule, what, RULES[rule])


def _check_form(p: Poisoned, clean: Dataset) -> None:
    n, m = len(p.train), len(p.targets)
    for name, values, rows in (("role", p.role, n), ("origin", p.origin, n), ("wanted", p.wanted, m)):
        _refuse(tuple(values.shape) != (rows,), "shape", f"{name} has shape {tuple(values.shape)}, not ({rows},)")
    _refuse(
        tuple(p.target_origin.shape) != (m,),
        "shape",
        f"target_origin has shape {tuple(p.target_origin.shape)}, not ({m},)",
    )
    _refuse(p.role.dtype != torch.uint8, "dtype", f"role is {p.role.dtype}, not uint8")
    for name, values in (("origin", p.origin), ("wanted", p.wanted), ("target_origin", p.target_origin)):
        _refuse(values.dtype != torch.int64, "dtype", f"{name} is {values.dtype}, not int64")
    for name, part in (("train", p.train), ("targets", p.targets)):
        _refuse(part.classes != clean.classes, "label", f"{name} has {part.classes} classes, the data set {clean.classes}")
        _refuse(part.shape != clean.shape, "shape", f"instances of {name} have shape {part.shape}, not {clean.shape}")
        _refuse(part.x.dtype != clean.x.dtype, "dtype", f"{name}.x is {part.x.dtype}, not {clean.x.dtype}")
        _refuse(~part.x.flatten(1).isfinite().all(1), "finite", f"{name}.x is not finite")
        if len(clean.shape) == 3:
            _refuse(((part.x < 0) | (part.x > 1)).flatten(1).any(1), "range", f"a pixel of {name} is outside [0, 1]")
        _refuse((part.y < 0) | (part.y >= clean.classes), "label", f"a label of {name} is outside [0, {clean.classes})")
    _refuse((p.wanted < 0) | (p.wanted >= clean.classes), "label", f"a wanted label is outside [0, {clean.classes})")


def check_poisoned(poisoned: Poisoned, clean: Dataset, test: Dataset, attack: object = None) -> None:
    """Enforces the contract of an attack over shapes, pixels, labels, roles, origins and budget.

    Args:
        poisoned: what the attack returned.
        clean: the n0 training rows it was given.
        test: the test rows it was given.
        attack: the attack itself, whose `budget`, `clean_label` and `eps`, where it has them, are enforced too.

    Raises:
        PoisonError: names the first broken rule of `RULES` and the row.
    """
    _refuse(not isinstance(poisoned, Poisoned), "type", f"got {type(poisoned).__name__}")
    _check_form(poisoned, clean)
    role, origin = poisoned.role, poisoned.origin
    _refuse(role > COVER, "role", "role is above 2")
    _refuse((origin < -1) | (origin >= len(clean)), "origin", f"origin is outside [-1, {len(clean)})")
    _refuse(
        (poisoned.target_origin < -1) | (poisoned.target_origin >= len(test)),
        "origin",
        f"target_origin is outside [-1, {len(test)})",
    )
    kept = origin[origin >= 0]
    _refuse(torch.bincount(kept, minlength=len(clean)) > 1, "origin", "a clean training row is used twice; the first one is")
    _refuse((role == CLEAN) & (origin < 0), "clean", "a new instance has role 0")
    source = clean.take(origin.clamp(min=0))
    changed = (poisoned.train.x != source.x).flatten(1).any(1) | (poisoned.train.y != source.y)
    _refuse((role == CLEAN) & changed, "clean", "a clean row was changed")
    _check_budget(poisoned, clean, attack)
    if getattr(attack, "clean_label", False):
        _refuse((role == POISON) & (origin >= 0) & (poisoned.train.y != source.y), "clean-label", "the label was changed")
    _check_eps(poisoned, source, attack)
    known = poisoned.target_origin >= 0
    truth = test.y[poisoned.target_origin.clamp(min=0)] if len(test) else poisoned.targets.y
    _refuse(known & (poisoned.targets.y != truth), "true-label", "targets.y is not the label of the test point it comes from")
    _refuse(poisoned.wanted == poisoned.targets.y, "wanted", "the wanted label is the true one")


def _check_budget(poisoned: Poisoned, clean: Dataset, attack: object) -> None:
    """Poison and deleted rows are paid for by `budget`, cover rows by `cover`, where the attack has such fields."""
    budget = getattr(attack, "budget", None)
    if budget is None:
        return
    poison, cover = (int((poisoned.role == role).sum()) for role in (POISON, COVER))
    gone = len(clean) - int((poisoned.origin >= 0).sum())
    limit, pays = count(budget, len(clean)), f"paid for by budget {budget}"
    also = f" and {gone} deleted ones" if gone else ""
    _refuse(poison + gone > limit, "budget", f"{poison} poison rows{also}, {limit} are {pays}")
    share = getattr(attack, "cover", 0.0)
    limit = count(share, len(clean)) if share else 0
    _refuse(cover > limit, "cover", f"{cover} cover rows, {limit} are paid for by cover {share}")


def _check_eps(poisoned: Poisoned, source: Dataset, attack: object) -> None:
    """A poison row made from the clean one beside it in `source` lies within `eps`, outside the pixels of a trigger on top."""
    eps = getattr(attack, "eps", None)
    if eps is None:
        return
    distance = (poisoned.train.x - source.x).abs()
    if covered := getattr(attack, "covered", None):
        distance = distance.where(~covered(source.shape).to(distance.device), 0)
    bound = eps + 1e-6  # rounding of clean + (poison - clean) in float32
    far = (poisoned.role == POISON) & (poisoned.origin >= 0) & (distance.flatten(1).amax(1) > bound)
    _refuse(far, "eps", f"a pixel is more than eps {eps:g} away from the clean row")


def craft(attack: Attack, train: Dataset, test: Dataset, recipe: Recipe, seed: int) -> Poisoned:
    """Runs an attack and enforces its whole contract, inputs and global state included.

    Returns:
        What the attack returned, on the device of `train`.

    Raises:
        PoisonError: names the broken rule of `RULES`.
    """
    inputs = {"train.x": train.x, "train.y": train.y, "test.x": test.x, "test.y": test.y}
    before = {name: tensor.clone() for name, tensor in inputs.items()}
    state = _global_state()
    try:
        poisoned = attack(train, test, recipe, seed)
    finally:
        moved = _restore(state)
    _refuse(moved, "random-state", "a global generator or the default dtype was changed")
    for name, tensor in inputs.items():
        _refuse(not torch.equal(tensor, before[name]), "inputs", f"{name} was changed in place")
    _refuse(not isinstance(poisoned, Poisoned), "type", f"got {type(poisoned).__name__}")
    poisoned = poisoned.to(train.x.device)
    check_poisoned(poisoned, train, test, attack)
    return poisoned


State = tuple[Tensor, torch.dtype, tuple[Any, ...], tuple[Any, ...]]


def _global_state() -> State:
    numpy_state = np.random.get_state(legacy=True)  # noqa: NPY002 - the global generator is what is watched
    return torch.random.get_rng_state(), torch.get_default_dtype(), tuple(numpy_state), random.getstate()


def _restore(state: State) -> bool:
    """Puts the global generators and the default dtype back; returns whether they had been moved."""
    now = _global_state()
    same = torch.equal(now[0], state[0]) and now[1] == state[1] and now[3] == state[3]
    same = same and all(np.array_equal(a, b) for a, b in zip(now[2], state[2], strict=True))
    torch.random.set_rng_state(state[0])
    torch.set_default_dtype(state[1])
    np.random.set_state(state[2])  # noqa: NPY002
    random.setstate(state[3])
    return not same
