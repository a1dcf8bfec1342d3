"""The contracts between the parts: what an attack returns, what a defense may see, and the protocols of all methods."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from poisonbench.data import Dataset
from poisonbench.errors import PoisonError
from poisonbench.registry import lookup as lookup
from poisonbench.trace import Trace
from poisonbench.training import Recipe

CLEAN, POISON, COVER = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Poisoned:
    """What an attack returns; the ground truth in it never reaches an estimator or a defense.

    Attributes:
        train: what the victim trains on, n rows.
        role: (n,) uint8: 0 clean, 1 poison, 2 cover.
        origin: (n,) int64: row in the clean training set, -1 if the instance is new.
        targets: attacked test points as presented (trigger applied) with TRUE labels; empty for indiscriminate attacks.
        wanted: (targets,) int64, the label that the attacker wants for each.
        target_origin: (targets,) int64: row in the clean test set, -1 if it comes from elsewhere.
    """

    train: Dataset
    role: Tensor
    origin: Tensor
    targets: Dataset
    wanted: Tensor
    target_origin: Tensor


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that a defense may see.

    Attributes:
        trace: the victim's training run.
        test: the m probe points with the PREDICTED labels.
        influence: (m, n) influence of every training instance on every probe point, positive = helped the prediction;
            None for a defense that does not use it.
        reference: a small held-out clean set with true labels, for a defense that declares `uses = ("reference", ...)`.
    """

    trace: Trace
    test: Dataset
    influence: Tensor | None = None
    reference: Dataset | None = None


@dataclass(frozen=True, eq=False)
class Certified:
    """Predictions with a guarantee.

    Attributes:
        labels: (m,) int64.
        radius: (m,) int64, the training instances that may be inserted or deleted without changing the label; -1 abstains.
    """

    labels: Tensor
    radius: Tensor


Scorer = Callable[[Dataset], Tensor]


@runtime_checkable
class Attack(Protocol):
    """A frozen dataclass whose fields are the hyperparameters.

    Two optional members tell the checker more: `budget` (a field: poisoned rows as a fraction of the training set)
    and `clean_label` (a class attribute: poison keeps its true label).
    """

    def __call__(self, train: Dataset, test: Dataset, recipe: Recipe, seed: int) -> Poisoned:
        """Poisons `train`. `test` supplies the points to attack, `recipe` is the victim's (for a white-box surrogate)."""
        ...


@runtime_checkable
class Estimator(Protocol):
    """A frozen dataclass whose fields are the hyperparameters. `fit` pays the upfront cost, the scorer the incremental one."""

    def fit(self, trace: Trace) -> Scorer:
        """Returns a scorer: test (m rows) -> (m, n), row j, column i: how much training instance i helped the prediction
        test.y[j] at test.x[j]. Positive = helped = L(without i) - L(with i) > 0. NaN = could not be computed.
        """
        ...


@runtime_checkable
class Detector(Protocol):
    """Judges test points. `uses` names what it reads beyond the victim: "influence", "probe" (the other probe points),
    "reference" (clean data), "oracle" (ground truth).
    """

    @property
    def uses(self) -> tuple[str, ...]:
        """What it reads."""
        ...

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,): larger = the prediction rests on fewer, more influential instances."""
        ...


@runtime_checkable
class Filter(Protocol):
    """Judges training instances; `uses` as for a detector."""

    @property
    def uses(self) -> tuple[str, ...]:
        """What it reads."""
        ...

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (n,): larger = more suspicious."""
        ...


@runtime_checkable
class Certifier(Protocol):
    """Predicts with a guarantee against changes of the training set."""

    def __call__(self, train: Dataset, test: Dataset, recipe: Recipe, seed: int) -> Certified:
        """Returns labels and radii for the m rows of `test`."""
        ...


RULES = {
    "shape": "train, role, origin, targets, wanted and target_origin agree in length and instance shape",
    "dtype": "x keeps its dtype; role is uint8; origin, wanted and target_origin are int64",
    "finite": "every pixel is finite",
    "range": "pixels of images stay in [0, 1]",
    "label": "labels, true and wanted, lie in [0, classes)",
    "role": "role is 0 (clean), 1 (poison) or 2 (cover)",
    "origin": "origin is -1 or a row of the clean training set, each clean row once at most",
    "clean": "a row of role 0 is an unchanged row of the clean training set",
    "budget": "poison rows do not exceed budget x n",
    "clean-label": "a clean-label attack leaves the labels of its poison rows as they were",
    "wanted": "the wanted label differs from the true one",
    "inputs": "the attack leaves the training and test set that it was given as they were",
    "random-state": "the attack leaves the global random generators and the default dtype as they were",
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
        attack: the attack itself, whose `budget` and `clean_label`, where it has them, are enforced too.

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
    budget = getattr(attack, "budget", None)
    if budget is not None:
        limit, poison = count(budget, len(clean)), int((role == POISON).sum())
        _refuse(poison > limit, "budget", f"{poison} poison rows, {limit} are paid for by budget {budget}")
    if getattr(attack, "clean_label", False):
        _refuse((role == POISON) & (origin >= 0) & (poisoned.train.y != source.y), "clean-label", "the label was changed")
    _refuse(poisoned.wanted == poisoned.targets.y, "wanted", "the wanted label is the true one")


def craft(attack: Attack, train: Dataset, test: Dataset, recipe: Recipe, seed: int) -> Poisoned:
    """Runs an attack and enforces its whole contract, inputs and global state included.

    Raises:
        PoisonError: names the broken rule of `RULES`.
    """
    before = [t.clone() for t in (train.x, train.y, test.x, test.y)]
    state, dtype = torch.random.get_rng_state(), torch.get_default_dtype()
    poisoned = attack(train, test, recipe, seed)
    moved = not torch.equal(torch.random.get_rng_state(), state) or torch.get_default_dtype() != dtype
    torch.random.set_rng_state(state)
    torch.set_default_dtype(dtype)
    _refuse(moved, "random-state", "the global generator or the default dtype was changed")
    for name, now, then in zip(
        ("train.x", "train.y", "test.x", "test.y"), (train.x, train.y, test.x, test.y), before, strict=True
    ):
        _refuse(not torch.equal(now, then), "inputs", f"{name} was changed in place")
    check_poisoned(poisoned, train, test, attack)
    return poisoned
