"""Removal by retraining: without its proponents a triggered prediction loses its lead.

The rows of the predicted label that influence names leave, the model is trained again, and the fall
of the margin is held against that without as many other rows of the label. Removal and retraining
as the proof of influence: Koh & Liang, ICML 2017, arXiv 1703.04730; of many rows at once, Ilyas et
al., ICML 2022, arXiv 2202.00622.

A model for every point is dear: by default a least-squares head on the victim's features is
refitted, exactly (`defenses.kit.refitted_head`).

Needs: influence, and features of the training set and of the probe, or a way to train again.

Cost: a forward pass over the n + m instances, O(n W^2 + W^3) in W <= 512 features, and O(m q^2 W)
for q rows that leave. "retraining": m trainings, and 3 for each label.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from defenses.kit.blocks import in_blocks
from defenses.kit.evidence import once, sound_influence
from defenses.kit.features import (
    Layer,
    check_layer,
    narrowed,
    point_features,
    row_features,
)
from defenses.kit.head.fit import Head, fit_head
from defenses.kit.proponents import REPEATS, random_masks, strongest
from defenses.kit.refitted_head import Candidates, Pool, candidates, lead
from defenses.kit.removal import nested
from defenses.kit.tails import tail_place
from poisonbench.checks import check_at_least, check_choice, check_positive, check_unit
from poisonbench.contracts.values import Evidence
from poisonbench.data import Dataset
from poisonbench.objectives import margins
from poisonbench.training.many.train_many import train_many
from poisonbench.training.trace import Trace, check_trace

By = Literal["head", "retraining"]
WIDTH = 512  # features of the head
_BLOCK = 1 << 22  # numbers at a time


@dataclass(frozen=True)
class RemovalByRetraining:
    """Fall of the margin without the most influential rows of the label, less that without others.

    Attributes:
        k: rows that leave.
        share: of the rows of the label, to which k rises.
        by: "head": a least-squares head on the victim's features is refitted; its margin is the
            lead of the label's vote over the next, and as many other rows count by their mean to
            first order. "retraining": the victim is trained again, by its recipe and seed, for
            every point, and for three random removals of the label.
        layer: whose features the head works on, see `defenses.kit.features.encoder`; of more than
            512, as many random projections (Johnson & Lindenstrauss 1984).
        l2: regulariser of the head.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    k: int = 2
    share: float = 0.1
    by: By = "head"
    layer: Layer = "inner"
    l2: float = 1e-2

    def __post_init__(self) -> None:
        check_at_least("k", self.k, 1)
        check_unit("share", self.share)
        check_choice("by", self.by, get_args(By))
        check_layer(self.layer)
        check_positive("l2", self.l2)

    @property
    def uses(self) -> tuple[str, ...]:
        """What it reads."""
        if self.by == "head":
            return ("influence", "features")
        return ("influence", "retraining")

    @property
    def needs(self) -> tuple[str, ...]:
        """What it needs of the training run."""
        if self.by == "head":
            return ()
        return ("retraining",)

    def rows(self, count: int) -> int:
        """Returns how many of the `count` rows of a label leave."""
        return min(count, tail_place(self.k, self.share, count))

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,): larger = the margin falls more.

        NaN where an influence is not finite, or no training row bears the predicted label.

        Raises:
            ConfigError: the run cannot be made again, for "retraining".
        """
        influence, sound = sound_influence(evidence)
        check_trace(evidence.trace, self)
        scores = torch.full_like(influence[:, 0], torch.nan)
        points = sound.nonzero().squeeze(1)
        counts = evidence.trace.train.y.bincount(minlength=evidence.test.classes)
        points = points[counts[evidence.test.y[points]] > 0]
        if not len(points):
            return scores
        if self.by == "head":
            falls = self._by_head(evidence, influence, points)
        else:
            falls = self._by_retraining(evidence, influence, points)
        scores[points] = falls.to(scores.dtype)
        return scores

    def _by_head(self, evidence: Evidence, influence: Tensor, points: Tensor) -> Tensor:
        """Returns the falls of the refitted head's lead at the given points, (p,)."""
        test = evidence.test
        key = ("head", evidence.trace, test, self.layer, self.l2)
        head = once(evidence, key, lambda: self._head(evidence))
        falls = head.votes.new_zeros(len(test))
        for label in test.y[points].unique():
            of_label = points[test.y[points] == label]
            own = (evidence.trace.train.y == label).nonzero().squeeze(1)
            count = self.rows(len(own))
            gone = strongest(influence, of_label, own, count)
            total = head.points[of_label] @ head.pull(own)
            pool = Pool.of(head, gone)
            places = torch.arange(len(of_label), device=own.device)
            for part in in_blocks(places, count * count, _BLOCK):
                case = candidates(
                    head=head,
                    points=of_label[part],
                    y=label.expand(len(part)),
                    rows=gone[part],
                    pool=pool,
                )
                each = total[part] / len(own)
                falls[of_label[part]] = _fall(case, each)
        return falls[points]

    def _head(self, evidence: Evidence) -> Head:
        """Returns the head fitted to all rows."""
        rows, points = narrowed(
            row_features(evidence, self.layer),
            point_features(evidence, self.layer),
            WIDTH,
        )
        return fit_head(
            rows=rows,
            points=points,
            train=evidence.trace.train,
            l2=self.l2,
        )

    def _by_retraining(
        self, evidence: Evidence, influence: Tensor, points: Tensor
    ) -> Tensor:
        """Returns the falls of the retrained victims' margins at the given points, (p,)."""
        trace = evidence.trace
        test = evidence.test.take(points)
        labels, place = test.y.unique(return_inverse=True)
        keep = torch.ones(len(points), len(trace.train), dtype=torch.bool)
        others = []
        for label in labels:
            own = (trace.train.y == label).nonzero().squeeze(1)
            count = self.rows(len(own))
            for point in (test.y == label).nonzero().squeeze(1):
                gone = strongest(influence, points[point, None], own, count)
                keep[point, gone[0].cpu()] = False
            others.append(random_masks(trace, own.cpu(), count))
        masks = torch.cat([keep, *others])
        margin = _margins(trace, masks, test)
        own_margin = margin[: len(points)].diagonal()
        random = margin[len(points) :].view(len(labels), REPEATS, len(points)).mean(1)
        return random.gather(0, place[None]).squeeze(0) - own_margin


def _fall(case: Candidates, each: Tensor) -> Tensor:
    """Returns the lead without average rows of the label, less that without the given ones, (b,).

    Args:
        case: all of whose q candidates leave.
        each: (b, C), what an average row of the label is worth.
    """
    without = nested(case, "newton")[:, -1]
    count = case.along.shape[1]
    votes = case.votes - count * each
    average, _ = lead(votes, case.y)
    return average - without


def _margins(trace: Trace, masks: Tensor, points: Dataset) -> Tensor:
    """Returns the margin at p points of K victims trained on other rows, (K, p)."""
    ensemble = train_many(
        trace.train,
        masks,
        trace.by_recipe,
        [trace.seed] * len(masks),
        batches="full",
        points=points,
        scratch=trace.scratch,
    )
    return torch.stack([margins(logits, points.y) for logits in ensemble.logits()])
