"""What estimators of influence are held against: models trained without some of the rows.

Linear datamodeling score: Park et al., ICML 2023, arXiv 2303.14186. Leave-one-out and groups of
rows: Koh et al., NeurIPS 2019, arXiv 1905.13289.

Cost: subsets or groups times repeats trainings, once per scene for all of its estimators.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from estimators.kit.retraining import check_measure, random_subsets
from experiments.plan.measures.groups import check_some_stay
from poisonbench.checks import check_at_least, check_choice
from poisonbench.data import Dataset
from poisonbench.models import predict
from poisonbench.models.head import body_of
from poisonbench.objectives import Measure
from poisonbench.seeding import generator
from poisonbench.training.trace import Trace

Choice = Literal["random", "class", "proponents"]
FEWEST = 3  # of which a correlation is told


@dataclass(frozen=True)
class Subsets:
    """Random subsets of the training rows: the linear datamodeling score.

    The score of a test point is Spearman's correlation, over the subsets, of the summed influence
    of a subset's rows with the mean measure of models trained on it.

    Attributes:
        subsets: how many, each of half of the rows.
        repeats: trainings on each, from seeds of their own.
        points: how many probe points: the first ones, which are attacked as far as there are any.
        measure: of a prediction at the label that the victim gives: "margin", "loss" (minus the
            cross entropy) or "correct".
    """

    uses: ClassVar[tuple[str, ...]] = ("influence",)
    paired: ClassVar[bool] = False

    subsets: int = 100
    repeats: int = 4
    points: int = 80
    measure: Measure = "margin"

    def __post_init__(self) -> None:
        check_at_least("subsets", self.subsets, FEWEST)
        check_at_least("repeats", self.repeats, 1)
        check_at_least("points", self.points, 1)
        check_measure(self.measure)

    def kept(self, trace: Trace, points: Dataset, seed: int) -> Tensor:  # noqa: ARG002
        """Returns the rows on which models are trained, (subsets, n) bool."""
        n = len(trace.train)
        return random_subsets(self.subsets, n, n // 2, generator(seed, "truth"))


@dataclass(frozen=True)
class LeftOut:
    """Groups of training rows that are left out; of single rows, leave-one-out.

    The score of a test point is Spearman's correlation, over the groups, of the summed influence of
    a group with what the measure loses when the victim is trained again without it: from the same
    start, in the same order of batches.

    Attributes:
        size: rows of a group.
        choice: "random" rows; "class": random rows of one class, the classes in turn;
            "proponents": of one of the test points, in turn, the rows of its label that are
            nearest to it in the features below the model's head. They are the same for all
            estimators.
        groups: how many.
        repeats: pairs of trainings, with and without each group.
        points: as for `Subsets`.
        measure: as for `Subsets`.

    Raises:
        ValueError: a field out of its range; in a scene, a group that leaves no row.
    """

    uses: ClassVar[tuple[str, ...]] = ("influence",)
    paired: ClassVar[bool] = True

    size: int = 10
    choice: Choice = "random"
    groups: int = 50
    repeats: int = 4
    points: int = 80
    measure: Measure = "margin"

    def __post_init__(self) -> None:
        check_at_least("size", self.size, 1)
        check_choice("choice", self.choice, get_args(Choice))
        check_at_least("groups", self.groups, FEWEST)
        check_at_least("repeats", self.repeats, 1)
        check_at_least("points", self.points, 1)
        check_measure(self.measure)

    def kept(self, trace: Trace, points: Dataset, seed: int) -> Tensor:
        """Returns the rows that stay when each group leaves, (groups, n) bool."""
        train = trace.train
        check_some_stay("size", self.size, len(train))
        draws = generator(seed, "truth")
        rank = torch.rand((self.groups, len(train)), generator=draws)
        if self.choice == "class":
            own = torch.arange(self.groups) % train.classes
            rank[train.y.cpu() != own[:, None]] = torch.inf
        if self.choice == "proponents":
            turn = torch.arange(self.groups) % len(points)
            rank = distances(trace, points.take(turn))
        order = rank.argsort(dim=1, stable=True)
        kept = torch.ones(rank.shape, dtype=torch.bool)
        return kept.scatter(1, order[:, : self.size], False)


def distances(trace: Trace, points: Dataset) -> Tensor:
    """Returns how far rows of its label are from each of m points, in features, (m, n).

    Rows of other labels are infinitely far.
    """
    body = body_of(trace.model())
    rows = predict(body, trace.train.x).flatten(1)
    far = torch.cdist(predict(body, points.x).flatten(1), rows)
    other = points.y[:, None] != trace.train.y
    return far.masked_fill(other, torch.inf).cpu()


TRUTHS: dict[str, type] = {"datamodeling": Subsets, "left-out": LeftOut}
