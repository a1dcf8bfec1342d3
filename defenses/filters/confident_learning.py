"""Confident learning (Northcutt, Jiang & Chuang, JAIR 2021, arXiv 1911.00068): label errors.

Needs: retraining. Cost: one training run per part.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses.kit.evidence import check_rows
from poisonbench.checks import check_at_least
from poisonbench.contracts.values import Evidence
from poisonbench.errors import ConfigError
from poisonbench.log import names
from poisonbench.models import predict
from poisonbench.notes import attach
from poisonbench.seeding import generator


@dataclass(frozen=True)
class ConfidentLearning:
    """How much more probable another label is, to models that were not trained on the row.

    Label errors, the rows off the diagonal of the confident joint, come before all other rows.

    Attributes:
        folds: of the cross-validation.

    Raises:
        ValueError: fewer than two folds.
    """

    uses: ClassVar[tuple[str, ...]] = ("retraining",)

    folds: int = 5

    def __post_init__(self) -> None:
        check_at_least("folds", self.folds, 2)

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (n,): in [0, 1], and in [1, 2] for a label error.

        Raises:
            ConfigError: nothing to train again with, or fewer rows than folds.
        """
        check_rows(evidence)
        probability = held_out_probabilities(evidence, self.folds)
        labels = evidence.trace.train.y
        counted = confident_labels(probability, labels)
        errors = (counted >= 0) & (counted != labels)
        return told_errors(probability, labels, errors)


def told_errors(probability: Tensor, labels: Tensor, errors: Tensor) -> Tensor:
    """Tells of the errors, and returns the scores (n,): errors first, then by margin.

    Args:
        probability: (n, C).
        labels: (n,).
        errors: (n,) bool.
    """
    column = labels[:, None]
    own = probability.gather(1, column).squeeze(1)
    others = probability.scatter(1, column, -1.0)
    best = others.max(1)
    attach(names.OWN_PROBABILITY, own)
    attach(names.OTHER_LABEL, best.indices)
    attach(names.SUSPECT, errors)
    margin = own - best.values
    doubt = (1 - margin) / 2
    return errors + doubt


def held_out_probabilities(evidence: Evidence, folds: int) -> Tensor:
    """Returns the probabilities (n, C) that models give which did not see the row.

    Each is of the victim's recipe and seed; the folds are drawn by the seed of the run, with the
    labels in equal parts.

    Raises:
        ConfigError: nothing to train again with, or fewer rows than folds.
    """
    data = evidence.trace.train
    n = len(data)
    if evidence.means is None:
        raise ConfigError(
            ["confident learning trains again, and this run cannot be made again"],
            "give the run its recipe, or its loop: Trace.of(..., retrain=fn)",
        )
    if n < folds:
        raise ConfigError([f"folds must be at most the {n} rows, got {folds}"])
    home = data.y.device
    g = generator(evidence.trace.seed, "confident-learning")
    shuffled = torch.randperm(n, generator=g)
    labels = data.y.cpu()[shuffled]
    by_label = labels.argsort(stable=True)
    order = shuffled[by_label]
    found = data.zeros(n, data.classes)
    for first in range(folds):
        own = order[first::folds]
        keep = torch.ones(n, dtype=torch.bool)
        keep[own] = False
        run = evidence.means.retrain(keep.to(home))
        rows = own.to(home)
        logits = predict(run.model(), data.x[rows])
        found[rows] = logits.softmax(1)
    return found


def confident_labels(probability: Tensor, labels: Tensor) -> Tensor:
    """Returns the label (n,) under which each row counts in the confident joint, -1 for none.

    A label counts if its probability reaches the mean that it has over the rows that bear it; of
    several the most probable one does. A label that no row bears never counts.

    Args:
        probability: (n, C).
        labels: (n,).
    """
    threshold = torch.full_like(probability[0], torch.inf)
    for label in range(len(threshold)):
        bearing = labels == label
        own = probability[bearing, label]
        if len(own):
            threshold[label] = own.mean()
    reached = probability >= threshold
    candidates = probability.masked_fill(~reached, -1.0)
    likely = candidates.argmax(1)
    counts = reached.any(1)
    return likely.where(counts, -1)
