"""What passes between the parts, and the protocols of all methods: what an attack returns, what a defense may see."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from poisonbench.data import Dataset
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

    def to(self, device: torch.device | str) -> "Poisoned":
        """Returns the same with every tensor on `device`."""
        tensors = (self.role, self.origin, self.wanted, self.target_origin)
        role, origin, wanted, target_origin = (tensor.to(device) for tensor in tensors)
        return Poisoned(self.train.to(device), role, origin, self.targets.to(device), wanted, target_origin)


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that a defense may see.

    Attributes:
        trace: the victim's training run.
        test: the m probe points with the PREDICTED labels.
        influence: (m, n) influence of every training instance on every probe point, positive = helped the prediction;
            None for a defense that does not use it.
        trusted: (m,) bool, the probe points known to be clean, for a defense that declares `uses = ("reference", ...)`.
        role: (n,) uint8, the ground truth of the training rows, for a baseline that declares `uses = ("oracle", ...)`.
    """

    trace: Trace
    test: Dataset
    influence: Tensor | None = None
    trusted: Tensor | None = None
    role: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Certified:
    """Predictions with a guarantee.

    Attributes:
        labels: (m,) int64.
        radius: (m,) int64, the training instances that may be inserted or deleted without changing the label; -1 abstains.
    """

    labels: Tensor
    radius: Tensor


@dataclass(frozen=True, eq=False)
class Means:
    """What a mitigation works with, beyond the evidence.

    Attributes:
        retrain: (n,) bool, the rows kept -> the run of the victim's recipe and seed on these rows alone.
        influence: a run on k rows, m points -> (m, k), by the estimator; None without one.
        suspicion: (m,) a detector's scores of the probe points; None without a detector.
        flags: (m,) bool, those that it flags: no points that are known to be clean are among them; None without a detector.
        scores: (n,) a filter's scores of the training rows; None without a filter.
    """

    retrain: Callable[[Tensor], Trace]
    influence: Callable[[Trace, Dataset], Tensor] | None = None
    suspicion: Tensor | None = None
    flags: Tensor | None = None
    scores: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Mitigated:
    """A victim in which the poison is undone, as far as it is.

    Attributes:
        keep: (n,) bool, the training rows that it still rests on.
        trace: its training run.
        retrainings: how many runs that took.
    """

    keep: Tensor
    trace: Trace
    retrainings: int


Scorer = Callable[[Dataset], Tensor]


@runtime_checkable
class Attack(Protocol):
    """A frozen dataclass whose fields are the hyperparameters.

    Optional members tell the checker more: the fields `budget` and `cover` (poison and cover rows as fractions of the
    training set) and `eps` (the largest change of a pixel of a poison row); the class attributes `clean_label` (poison keeps
    its true label), `seeded` (False: equal poison for every seed) and `trigger_differs` (poison rows show something else than
    the trigger at test time); the method `trigger(x, seed)`, which made the attacked points and, unless it differs or eps
    bounds them, the poison rows. An attack that lays a trigger over rows within eps has a method `covered(shape)`: a bool
    mask of that shape, of the pixels that the trigger may change freely.
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
    "reference" (probe points known to be clean), "oracle" (ground truth).
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

    def __call__(self, train: Dataset, test: Dataset, recipe: Recipe, seed: int, scratch: Path | None = None) -> Certified:
        """Returns labels and radii for the m rows of `test`; `scratch` is a folder for restart blocks, or None."""
        ...


@runtime_checkable
class Mitigation(Protocol):
    """Undoes poison in a trained victim. `uses` as for a detector, and "detector" or "filter" for the verdict it works on."""

    @property
    def uses(self) -> tuple[str, ...]:
        """What it reads."""
        ...

    def __call__(self, evidence: Evidence, means: Means) -> Mitigated:
        """Returns the new victim. It may be the old one, with nothing removed."""
        ...
