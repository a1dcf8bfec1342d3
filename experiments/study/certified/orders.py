"""Which training rows an estimator holds for the most helpful to a prediction of model and vote."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from estimators.gas import GAS
from estimators.influence_functions import InfluenceFunctions
from estimators.shapley.shapley import Shapley
from estimators.trak import TRAK
from experiments.study.certified.partition import Partition
from experiments.study.certified.records import RANDOM, SPREAD
from poisonbench.contracts.protocols import Estimator
from poisonbench.data import Dataset
from poisonbench.models import predict
from poisonbench.objectives import utility
from poisonbench.seeding import generator
from poisonbench.training import Recipe, Trace, train

ESTIMATORS: dict[str, Estimator] = {
    "influence functions": InfluenceFunctions(),
    "TRAK": TRAK(dimensions=512),
    "GAS": GAS(),
    "KNN-Shapley": Shapley(method="knn"),
}


@dataclass(frozen=True, eq=False)
class Case:
    """A model, a vote on the same rows, and m points that both give the same label.

    Attributes:
        trace: the run of the model, on the rows in the order of the vote.
        vote: its points are these, at the shared label.
        number: (m,) int64, of each point in the test set.
    """

    trace: Trace
    vote: Partition
    number: Tensor

    @property
    def points(self) -> Dataset:
        """The m points."""
        return self.vote.points


def orders(
    case: Case,
    seed: int,
) -> dict[str, tuple[Tensor, Tensor | None]]:
    """Returns how each source orders the training rows, and what it says of their removal.

    Returns:
        Source -> rows (m, n) int64, the most helpful first, and whether the sum of the scores of
        the first k = 1..n says that the prediction changes, (m, n) bool; None where scores have no
        unit.
    """
    found: dict[str, tuple[Tensor, Tensor | None]] = {}
    for name, estimator in ESTIMATORS.items():
        scores = estimator.fit(case.trace)(case.points).double()
        ordered = scores.sort(stable=True, dim=1, descending=True)
        fallen = ordered.values.cumsum(1)
        said = predicted_changes(case, name, fallen)
        found[name] = (ordered.indices, said)
    nearest = found["KNN-Shapley"][0]
    found[SPREAD] = (spread(case.vote, nearest), None)
    draws = generator(seed, "random removal")
    n = len(case.trace.train)
    random = [torch.randperm(n, generator=draws) for _ in range(len(case.points))]
    found[RANDOM] = (torch.stack(random), None)
    return found


def spread(
    vote: Partition,
    ordered: Tensor,
) -> Tensor:
    """Returns the rows in an order that takes one of each part before a second of any, (m, n).

    Parts whose model votes for the label come first: no other vote can be lost.

    Args:
        vote: gives the parts, and the labels of its points.
        ordered: (m, n) int64, the order of the rows within a part, and of parts.
    """
    label = vote.points.y
    voting = (vote.votes == label).T  # (m, P)
    found = []
    for point, order in enumerate(ordered):
        part = vote.part[order]
        same = part == part[:, None]
        earlier = same.tril(-1).sum(1)  # rows of its part that come before it
        idle = ~voting[point, part]
        late = earlier + idle * len(order)
        found.append(order[late.argsort(stable=True)])
    return torch.stack(found)


def predicted_changes(
    case: Case,
    name: str,
    fallen: Tensor,
) -> Tensor | None:
    """Returns whether the label's probability is said to fall to a half or below, (m, n) bool.

    A label with more than a half cannot lose. None where the scores have no unit.

    Args:
        case: gives the model.
        name: of the estimator.
        fallen: (m, n), the sum of its first k scores.
    """
    logits = predict(case.trace.model(), case.points.x).double()
    if name == "influence functions":
        log_p = utility(logits, case.points.y, "loss")
        return log_p[:, None] - fallen <= -math.log(2)
    if name == "TRAK":
        margin = utility(logits, case.points.y, "margin")
        return margin[:, None] - fallen <= 0
    return None


def case_of(
    vote: Partition,
    recipe: Recipe,
    points: int,
    seed: int,
) -> Case:
    """Returns the case of random points at which a model and the vote agree.

    Args:
        vote: on all test points.
        recipe: of the model.
        points: at most so many.
        seed: of the model and of the draw.
    """
    trace = train(vote.train, recipe, seed)
    labels = predict(trace.model(), vote.points.x).argmax(1)
    agreed = (labels == vote.certified.labels).nonzero().squeeze(1)
    order = torch.randperm(len(agreed), generator=generator(seed, "certified"))
    number = agreed[order[:points]]
    chosen = Partition(
        vote.train,
        vote.part,
        vote.recipe,
        vote.seed,
        vote.points.take(number).relabel(labels[number]),
        vote.votes[:, number],
    )
    return Case(trace, chosen, number)
