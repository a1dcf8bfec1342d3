"""Influence collapse: a transformed trigger loses its proponents.

Source: Delta-Influence (Li et al. 2024, arXiv 2411.13731).

Needs: the final model; it scores transformed points itself, so it reads no influence matrix.

Cost: the dot products of gradients of one checkpoint within the labels of the m points, and those
of 2 m or 3 m transformed points with the proponents alone, at most k m rows.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from defenses.kit.evidence import Shared, check_points, once
from defenses.kit.features import Passing, knows_rows
from defenses.kit.transforms.table import transforms_of
from poisonbench.checks import check_at_least
from poisonbench.contracts.values import Evidence
from poisonbench.data import Dataset
from poisonbench.data.dataset import join
from poisonbench.gradients import Form, dot_products
from poisonbench.gradients.products import SeenRows


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
    training rows: they are seen on the way.
    """
    key = ("falls", evidence.trace, evidence.test, k)
    return once(evidence, key, lambda: _falls(evidence, k))


def _falls(evidence: Evidence, k: int) -> Tensor:
    if not isinstance(evidence, Shared) or knows_rows(evidence):
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
        own = train.take(rows)
        changed = [test.rows(x[points], test.y[points]) for x in versions]
        lost[:, points] = _lost(
            model=model,
            rows=own,
            points=test.take(points),
            changed=changed,
            form=form,
            k=k,
            seen=None if passing is None else partial(passing.seen, rows),
        )
    return lost


def _lost(
    model: nn.Module,
    rows: Dataset,
    points: Dataset,
    changed: list[Dataset],
    form: Form,
    k: int,
    seen: SeenRows | None,
) -> Tensor:
    """Returns the fall of the mean cosine of the k strongest of some rows, (transformations, b).

    Transformed points are scored against those rows alone that are among the strongest of a point;
    NaN without rows.

    Args:
        model: the final one.
        rows: r training rows of one label.
        points: b points with that label.
        changed: the points after each transformation.
        form: of the gradients.
        k: proponents, at most the r rows.
        seen: is shown the inputs of layers as the rows pass.
    """
    if not len(rows):
        return points.zeros(len(changed), len(points)) + torch.nan
    before = dot_products(model, rows, points, form, seen=seen)
    strongest = before.topk(min(k, len(rows)))
    near, place = strongest.indices.unique(return_inverse=True)
    after = dot_products(model, rows.take(near), join(changed), form)
    each = after.view(len(changed), len(points), len(near))
    kept = each.gather(2, place.expand(len(changed), -1, -1))
    return (strongest.values - kept).mean(2)
