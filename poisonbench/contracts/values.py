"""What passes between the parts: what an attack returns, what a defense may see and gives back."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.training.trace import Trace


@dataclass(frozen=True, eq=False)
class Poisoned:
    """What an attack returns; the ground truth in it never reaches an estimator or a defense.

    Attributes:
        train: what the victim trains on, n rows.
        role: (n,) uint8: 0 clean, 1 poison, 2 cover, see `poisonbench.roles`.
        origin: (n,) int64: row in the clean training set, -1 if the instance is new.
        targets: attacked test points as presented (trigger applied) with TRUE labels; empty for
            indiscriminate attacks.
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
        return Poisoned(
            train=self.train.to(device),
            role=self.role.to(device),
            origin=self.origin.to(device),
            targets=self.targets.to(device),
            wanted=self.wanted.to(device),
            target_origin=self.target_origin.to(device),
        )


def untrainable(data: Dataset) -> Trace:
    """Stands for training where there is none.

    Raises:
        ConfigError: always.
    """
    told = f"these means do not train on other data, got {data}"
    raise ConfigError([told], "give Means(train=...)")


@dataclass(frozen=True, eq=False)
class Means:
    """What a defense that trains again works with, beyond the evidence.

    Attributes:
        retrain: (n,) bool, the rows kept -> the run of the victim's recipe and seed on these rows
            alone.
        influence: a run on k rows, m points -> (m, k), by the estimator; None without one.
        suspicion: (m,) a detector's scores of the probe points; None without a detector.
        flags: (m,) bool, those that it flags: no points that are known to be clean are among them;
            None without a detector.
        scores: (n,) a filter's scores of the training rows; None without a filter.
        train: another training set of the same form -> the run of the victim's recipe and seed on
            it. The same set is trained on once: cells of a scene share its run.
        known: (m,) bool, the probe points known to be clean, for a mitigation that declares
            `uses = ("reference", ...)`; None for any other.
        alarm: share of clean points that the detector flags at most.

    Suspicion, flags, known points, scores and alarm are for mitigations alone.
    """

    retrain: Callable[[Tensor], Trace]
    influence: Callable[[Trace, Dataset], Tensor] | None = None
    suspicion: Tensor | None = None
    flags: Tensor | None = None
    scores: Tensor | None = None
    train: Callable[[Dataset], Trace] = untrainable
    known: Tensor | None = None
    alarm: float = 0.05


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that a defense may see.

    Attributes:
        trace: the victim's training run.
        test: the m probe points with the PREDICTED labels.
        influence: (m, n) influence of every training instance on every probe point, positive =
            helped the prediction; None for a defense that does not use it.
        trusted: (m,) bool, the probe points known to be clean, for a defense that declares
            `uses = ("reference", ...)`.
        role: (n,) uint8, the ground truth of the training rows, for a baseline that declares
            `uses = ("oracle", ...)`.
        means: to train again, for a defense that declares `uses = ("retraining", ...)`; None where
            the run cannot be made again, as of a model without its recipe.
        per_cosine: what a cosine of 1 counts in `influence`, where that is the cosine of gradients
            at the final model times this number; None where it is anything else.
    """

    trace: Trace
    test: Dataset
    influence: Tensor | None = None
    trusted: Tensor | None = None
    role: Tensor | None = None
    means: Means | None = None
    per_cosine: float | None = None


@dataclass(frozen=True, eq=False)
class Certified:
    """Predictions with a guarantee.

    Attributes:
        labels: (m,) int64.
        radius: (m,) int64, the training instances that may be inserted or deleted without changing
            the label; -1 abstains.
    """

    labels: Tensor
    radius: Tensor


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
