"""The rows that a prediction rests on, and what they have in common with those of another.

Only training rows that carry the predicted label are looked at.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from defenses.kit.blocks import in_blocks
from defenses.kit.evidence import sound_influence, trusted_points
from defenses.kit.scope import among
from defenses.kit.tails import tail_place
from poisonbench.contracts.values import Evidence
from poisonbench.seeding import generator
from poisonbench.training.trace import Trace

REPEATS = 3  # random removals of a label


@dataclass(frozen=True, eq=False)
class OfLabel:
    """The points that are predicted as one label, and the trusted ones.

    Attributes:
        points: (b,) int64, test points with finite influence.
        values: (b, r), the influence on them of the r training rows that carry the label.
        trusted: (t, r), that of the same rows on the trusted points of any label.
        against: (b, t) bool, the trusted points that a point is held against: those of its label,
            or all where there is none, itself left out.
    """

    points: Tensor
    values: Tensor
    trusted: Tensor
    against: Tensor

    def mean(self, likeness: Tensor) -> Tensor:
        """Returns the mean of `likeness` (b, t) over what each point is held against, (b,)."""
        counts = self.against.sum(1)
        kept = likeness.masked_fill(~self.against, 0.0)
        return kept.sum(1) / counts

    def largest(self, likeness: Tensor) -> Tensor:
        """Returns the largest of `likeness` (b, t) among what each point is held against, (b,)."""
        kept = likeness.masked_fill(~self.against, -torch.inf)
        found = kept.amax(1)
        alone = ~self.against.any(1)
        return found.masked_fill(alone, torch.nan)


def by_label(evidence: Evidence) -> Iterator[OfLabel]:
    """Yields the labels of the test points with finite influence, ascending.

    Raises:
        TypeError: it is no Evidence.
        ValueError: there is no influence or no trusted point, or they are not (m, n) and (m,).
    """
    influence, sound = sound_influence(evidence)
    known = trusted_points(evidence)
    known = known[sound[known]]
    labels = evidence.test.y
    for label in labels[sound].unique():
        points = (sound & (labels == label)).nonzero().squeeze(1)
        rows = (evidence.trace.train.y == label).nonzero().squeeze(1)
        if not len(known):
            continue
        yield OfLabel(
            points=points,
            values=among(influence, points, rows),
            trusted=among(influence, known, rows),
            against=_against(
                points=points,
                known=known,
                own=labels[known] == label,
            ),
        )


def _against(
    points: Tensor,
    known: Tensor,
    own: Tensor,
) -> Tensor:
    """Returns which of the trusted points `known` (t,) each point is held against, (b, t).

    Args:
        points: (b,) int64, of one label.
        known: (t,) int64.
        own: (t,) bool, the trusted points that have the label.
    """
    others = points[:, None] != known
    of_label = others & own
    none = ~of_label.any(1, keepdim=True)
    return torch.where(none, others, of_label)


def overlaps(
    values: Tensor,
    others: Tensor,
    k: int,
    share: float,
) -> Tensor:
    """Returns the share of its strongest rows that each point has in common with others, (b, t).

    The strongest are the k of largest influence, or a share of the r rows where that is more; at
    most r. 0 without rows.

    Args:
        values: (b, r).
        others: (t, r).
        k: rows.
        share: of the r rows.
    """
    r = values.shape[1]
    count = min(r, tail_place(k, share, r))
    theirs = _largest(others, count)
    common = values.new_empty(len(values), len(others))
    places = torch.arange(len(values), device=values.device)
    for part in in_blocks(places, r):
        common[part] = _largest(values[part], count) @ theirs.T
    return common / max(1, count)


def _largest(values: Tensor, count: int) -> Tensor:
    """Returns 1 where a value is among the `count` largest of its row, else 0, (b, r)."""
    largest = values.topk(count).indices
    return torch.zeros_like(values).scatter(1, largest, 1.0)


def strongest(influence: Tensor, points: Tensor, own: Tensor, count: int) -> Tensor:
    """Returns which `count` of the rows `own` (r,) are most influential on points (b,), (b, count).

    Args:
        influence: (m, n).
        points: (b,) int64, which of the m.
        own: (r,) int64, which of the n.
        count: at most r.
    """
    found = own.new_empty(len(points), count)
    places = torch.arange(len(points), device=points.device)
    for part in in_blocks(places, len(own)):
        helps = among(influence, points[part], own)
        found[part] = own[helps.topk(count).indices]
    return found


def random_masks(trace: Trace, own: Tensor, count: int) -> Tensor:
    """Returns the rows that stay without `count` random ones of `own` (r,), (3, n) bool."""
    masks = torch.ones(REPEATS, len(trace.train), dtype=torch.bool)
    for repeat in range(REPEATS):
        g = generator(trace.seed, "random removal", int(own[0]), repeat)
        order = torch.randperm(len(own), generator=g)
        masks[repeat, own[order[:count]]] = False
    return masks
