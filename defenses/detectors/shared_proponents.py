"""Shared proponents: many points of a stream rest on the same rows, and trusted ones do not.

Attacked points come in numbers, and all rest on the poison. As Khaddaj et al., ICML 2023, arXiv
2307.10163, look for training rows that support one another, this looks for predictions that have
their support in common.

Needs: influence, the other points under judgement, and points known to be clean.

Cost: O(m n log n + m^2 n / C^2) for C labels; no gradient and no training.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses.kit.evidence import sound_influence, trusted_points
from defenses.kit.proponents import overlaps
from defenses.kit.scope import among
from poisonbench.checks import check_at_least, check_unit
from poisonbench.contracts.values import Evidence


@dataclass(frozen=True)
class SharedProponents:
    """Share of its proponents in common with points under judgement, minus with trusted ones.

    The mean over all points under judgement, minus that over all trusted ones, itself left out; a
    point of another label has nothing in common. Proponents are the most influential rows of the
    label. That mean also rises where many points under judgement get one label, which a few points
    with very much in common do not need: see `closest`.

    Attributes:
        k: how many.
        share: of the rows of the label, to which k rises.
        closest: which of the largest shares counts, of points under judgement and of trusted ones,
            in the place of the means; 0 for the means.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    uses: ClassVar[tuple[str, ...]] = ("influence", "probe", "reference")

    k: int = 10
    share: float = 0.0
    closest: int = 0

    def __post_init__(self) -> None:
        check_at_least("k", self.k, 1)
        check_unit("share", self.share)
        check_at_least("closest", self.closest, 0)

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,) in [-1, 1]; NaN where an influence is not finite.

        Raises:
            ValueError: there is no trusted point.
        """
        influence, sound = sound_influence(evidence)
        known = torch.zeros_like(sound)
        known[trusted_points(evidence)] = True
        judged = sound & ~known
        known = sound & known
        labels = evidence.test.y
        scores = torch.full_like(influence[:, 0], torch.nan)
        for label in labels[sound].unique():
            points = (sound & (labels == label)).nonzero().squeeze(1)
            rows = (evidence.trace.train.y == label).nonzero().squeeze(1)
            values = among(influence, points, rows)
            common = overlaps(values, values, self.k, self.share)
            common.fill_diagonal_(0.0)
            if self.closest:
                with_judged = _ranked(common, judged[points], self.closest)
                with_trusted = _ranked(common, known[points], self.closest)
            else:
                with_judged = _mean(common, judged[points], int(judged.sum()))
                with_trusted = _mean(common, known[points], int(known.sum()))
            scores[points] = with_judged - with_trusted
        return scores


def _mean(common: Tensor, group: Tensor, size: int) -> Tensor:
    """Returns the mean overlap of each of b points with the others of a group, (b,).

    Args:
        common: (b, b), 0 on the diagonal.
        group: (b,) bool, which of the points are of the group.
        size: of the group, with its points of other labels.
    """
    others = size - group.long()
    return common[:, group].sum(1) / others.clamp(min=1)


def _ranked(common: Tensor, group: Tensor, rank: int) -> Tensor:
    """Returns the rank-th largest overlap of each of b points with a group, (b,).

    0 where the group has fewer points, or one that is the point itself.
    """
    overlap = common[:, group]
    if overlap.shape[1] < rank:
        return torch.zeros_like(common[:, 0])
    return overlap.topk(rank, 1).values[:, -1]
