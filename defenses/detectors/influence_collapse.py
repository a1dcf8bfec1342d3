"""Influence collapse: a transformed trigger loses its proponents.

Source: Delta-Influence (Li et al. 2024, arXiv 2411.13731).

Needs: the final model; it scores transformed points itself, so it reads no influence matrix.

Cost: the dot products of gradients of one checkpoint within the labels of the m points, and those
of 2 m or 3 m transformed points with the proponents alone, at most k m rows. Inside a detector that
is given these cosines as its influence, the latter alone.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from defenses.kit.evidence import Shared, check_points, once
from defenses.kit.features import Passing, knows_rows
from defenses.kit.proponents import strongest
from defenses.kit.transforms.table import transforms_of
from poisonbench.checks import check_at_least
from poisonbench.contracts.values import Evidence
from poisonbench.data import Dataset
from poisonbench.data.dataset import join
from poisonbench.gradients import Form, dot_products


@dataclass(frozen=True)
class InfluenceCollapse:
    """How far the influence of a point's proponents falls when the point is transformed; the mean.

    Transformed is, by kind: images blurred, flipped and cropped; sentences with half of their words
    dropped or hidden; sounds moved in time, and without half of their bands; vectors with half of
    their features at the median. Influence is the cosine of margin gradients at the final
    checkpoint, a cheap stand-in for any estimator, and proponents are the k strongest rows of the
    predicted label, which stays that of the unchanged point. The paper flags training rows whose
    influence on a known poisoned image collapses; here the collapse itself marks the point.

    Attributes:
        k: proponents watched.
        transformation: 0: the mean over all of the kind; 1, 2, ...: one of them alone, in the order
            of `defenses.kit.transforms.table`.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    uses: ClassVar[tuple[str, ...]] = ("gradients",)

    k: int = 10
    transformation: int = 0

    def __post_init__(self) -> None:
        check_at_least("k", self.k, 1)
        check_at_least("transformation", self.transformation, 0)

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,) in [-2, 2].

        NaN where no training row bears the predicted label, or the kind has fewer transformations.
        """
        check_points(evidence)
        lost = falls(evidence, self.k)
        if not self.transformation:
            return lost.mean(0)
        if self.transformation > len(lost):
            return torch.full_like(lost[0], torch.nan)
        return lost[self.transformation - 1]


def falls(evidence: Evidence, k: int) -> Tensor:
    """Returns the fall of the mean cosine of the k strongest proponents, (transformations, m).

    See the detector; computed once on shared evidence, which also gets the inner features of the
    training rows, where these pass: they are seen on the way. Where the influence is these cosines,
    the rows do not pass.
    """
    key = ("falls", evidence.trace, evidence.test, k)
    return once(evidence, key, lambda: _falls(evidence, k))


def _falls(evidence: Evidence, k: int) -> Tensor:
    given = evidence.per_cosine is not None
    if given or not isinstance(evidence, Shared) or knows_rows(evidence):
        return _lost_of_all(evidence, k, None)
    passing = Passing.of(evidence.trace)
    lost = _lost_of_all(evidence, k, passing)
    passing.leave(evidence)
    return lost


def _lost_of_all(evidence: Evidence, k: int, passing: Passing | None) -> Tensor:
    """Returns the falls, (transformations, m); `passing` keeps the features of what passes."""
    test = evidence.test
    train = evidence.trace.train
    model = evidence.trace.model()
    form = Form.of(evidence.trace.loss, "all")
    versions = transforms_of(test).perturbed(test.x, train.x)
    lost = test.zeros(len(versions), len(test))
    for label in test.y.unique():
        points = (test.y == label).nonzero().squeeze(1)
        rows = (train.y == label).nonzero().squeeze(1)
        if not len(rows):
            lost[:, points] = torch.nan
            continue
        watched = _watched(evidence, model, points, rows, k, passing)
        changed = [test.rows(x[points], test.y[points]) for x in versions]
        lost[:, points] = _lost(model, train, changed, form, watched)
    return lost


@dataclass(frozen=True, eq=False)
class Watched:
    """The proponents of b points.

    Attributes:
        rows: (b, k) int64, of the training set.
        cosines: (b, k), of their gradients with those of the points.
    """

    rows: Tensor
    cosines: Tensor


def _watched(
    evidence: Evidence,
    model: nn.Module,
    points: Tensor,
    rows: Tensor,
    k: int,
    passing: Passing | None,
) -> Watched:
    """Returns the k strongest rows of points.

    Args:
        evidence: whose influence may be the cosines.
        model: the final one.
        points: (b,) int64, of one label.
        rows: (r,) int64, the training rows with that label.
        k: at most the r rows.
        passing: keeps the features of the rows as they pass.
    """
    count = min(k, len(rows))
    if evidence.per_cosine is not None and evidence.influence is not None:
        found = strongest(evidence.influence, points, rows, count)
        values = evidence.influence[points[:, None], found]
        return Watched(found, values / evidence.per_cosine)
    trace = evidence.trace
    cosines = dot_products(
        model,
        trace.train.take(rows),
        evidence.test.take(points),
        Form.of(trace.loss, "all"),
        seen=None if passing is None else partial(passing.seen, rows),
    )
    top = cosines.topk(count)
    return Watched(rows[top.indices], top.values)


def _lost(
    model: nn.Module,
    train: Dataset,
    changed: list[Dataset],
    form: Form,
    watched: Watched,
) -> Tensor:
    """Returns the fall of the mean cosine of the proponents of b points, (transformations, b).

    Transformed points are scored against those rows alone that are among the strongest of a point.

    Args:
        model: the final one.
        train: the n training rows.
        changed: the points after each transformation.
        form: of the gradients.
        watched: the proponents.
    """
    near, place = watched.rows.unique(return_inverse=True)
    after = dot_products(model, train.take(near), join(changed), form)
    each = after.view(len(changed), len(place), len(near))
    kept = each.gather(2, place.expand(len(changed), -1, -1))
    return (watched.cosines - kept).mean(2)
