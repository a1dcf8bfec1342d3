"""Unhelpful rows: their influence on points known to be clean is negative, again and again.

Removal of the rows with the lowest influence on a held-out set: Ghorbani & Zou, ICML 2019, arXiv
1904.02868, for Shapley values; Koh & Liang, ICML 2017, arXiv 1703.04730, for influence functions.
The sign is held against parts of the held-out points, so that no few of them decide.

Needs: influence, and points known to be clean.

Cost: O(m n).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses.kit.blocks import in_blocks
from defenses.kit.evidence import check_rows, sound_influence, trusted_points
from defenses.kit.scope import among
from poisonbench.checks import check_at_least
from poisonbench.contracts.values import Evidence
from poisonbench.log import names
from poisonbench.notes import attach


@dataclass(frozen=True)
class Unhelpful:
    """Minus the mean influence on the trusted points, times the share of parts that agree in sign.

    A row is a suspect if its mean influence is negative over all trusted points and in each part.

    Attributes:
        parts: into which the trusted points are divided, each with points of every label; fewer
            where there are fewer points.

    Raises:
        ValueError: fewer than two parts.
    """

    uses: ClassVar[tuple[str, ...]] = ("influence", "reference")

    parts: int = 5

    def __post_init__(self) -> None:
        check_at_least("parts", self.parts, 2)

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (n,).

        Raises:
            ValueError: no influence, or no trusted points with finite influence.
        """
        check_rows(evidence)
        influence, sound = sound_influence(evidence)
        trusted = trusted_points(evidence)
        rows = trusted[sound[trusted]]
        if not len(rows):
            raise ValueError("no trusted point has an influence that is finite")
        labels = evidence.test.y[rows]
        mean = torch.empty_like(influence[0])
        agreement = torch.empty_like(mean)
        columns = torch.arange(len(mean), device=mean.device)
        for part in in_blocks(columns, len(rows)):
            found = among(influence, rows, part)
            mean[part] = found.mean(0)
            of_parts = part_means(found, labels, self.parts)
            agreement[part] = agreeing(of_parts, mean[part])
        attach(names.MEAN_INFLUENCE, mean)
        attach(names.AGREEMENT, agreement)
        hurts = mean < 0
        always = agreement == 1
        attach(names.SUSPECT, hurts & always)
        return -mean * agreement


def part_means(influence: Tensor, labels: Tensor, parts: int) -> Tensor:
    """Returns the mean influence of every row on each part of the points, (parts, n).

    Points go to the parts in turn, in the order of their labels.

    Args:
        influence: (r, n).
        labels: (r,) of the points.
        parts: at most; no more than there are points.
    """
    count = min(parts, len(labels))
    order = labels.argsort(stable=True)
    means = []
    for first in range(count):
        own = order[first::count]
        of_part = influence[own]
        means.append(of_part.mean(0))
    return torch.stack(means)


def agreeing(of_parts: Tensor, mean: Tensor) -> Tensor:
    """Returns the share of parts whose mean has the sign of the mean over all, (n,)."""
    same = of_parts.sign() == mean.sign()
    return same.to(mean.dtype).mean(0)
