"""Removal support: how many influential rows would have to go for a prediction to change?

Few = it rests on few. After the most influential set of Broderick, Giordano & Meager 2020, arXiv
2011.14999: the rows of largest influence, whose worth is the sum. Rows that stand in for one
another are worth more together (`defenses.kit.removal`): so the rows leave one after another, and
what the others are worth is estimated anew each time.

Needs: influence, and features of the training set and of the probe; influence in units of the loss
or of the margin for "sum".

Cost: a forward pass over the n + m instances and a least-squares fit in D features; for m points,
O(m q (q D + most^2)), where q = min(rows of the label, 4 most). Memory: the features, O(D^2), and
the candidates of one label. "sum": a forward pass over the m points, and O(m n log n).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from defenses.kit.blocks import in_blocks
from defenses.kit.crossing import crossing, needed
from defenses.kit.evidence import sound_influence
from defenses.kit.features import Layer, check_layer, point_features, row_features
from defenses.kit.head.fit import Head, fit_head
from defenses.kit.refitted_head import Candidates, Pool, candidates, lead
from defenses.kit.removal import adaptive, nested
from defenses.kit.scope import among
from poisonbench.checks import check_at_least, check_choice, check_positive
from poisonbench.contracts.values import Evidence
from poisonbench.losses import check_cross_entropy
from poisonbench.models import predict
from poisonbench.objectives import margins

Order = Literal["sum", "first", "second", "newton", "adaptive"]
Units = Literal["loss", "margin"]
_POOL = 4  # candidates for every row that may leave
_BLOCK = 1 << 22  # numbers at a time


@dataclass(frozen=True)
class RemovalSupport:
    """Minus the smallest k for which the prediction changes without k influential rows, over n.

    All orders but "sum" judge the removal by a least-squares head on the victim's features,
    refitted without the rows.

    Attributes:
        order: how the k rows are chosen and what they are worth together. "adaptive": of the rows
            of the predicted label the one for which influence times what its removal takes from the
            refitted head's lead is largest, then the next, given that the first is gone; "newton":
            these rows by influence, the head refitted without them (for its loss one Newton step);
            "second", "first": the same by the second- and first-order estimates of that step;
            "sum": rows of any label by influence, which sum to the model's lead; additive, so too
            many where rows stand in for one another.
        most: rows that may leave; best not below the size of the poison set to be found. Of no
            meaning for "sum".
        layer: whose features the head works on, see `defenses.kit.features.encoder`. Behind the
            last hidden layer a triggered point keeps its label even when every poisoned row is
            gone.
        l2: regulariser of the head.
        units: of the influence, for "sum": "loss": a change d of the loss is one of
            d / sigmoid(-margin) of the margin, as loss = softplus(-margin); "margin": as it is (GAS
            has no units, but ranks).
        scale: factor on the influence, for "sum" with an estimator that is right up to one.

    Raises:
        ValueError: a value out of its range.
    """

    uses: ClassVar[tuple[str, ...]] = ("influence", "features")

    order: Order = "adaptive"
    most: int = 128
    layer: Layer = "inner"
    l2: float = 1e-2
    units: Units = "loss"
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_choice("order", self.order, get_args(Order))
        check_choice("units", self.units, get_args(Units))
        check_positive("l2", self.l2)
        check_positive("scale", self.scale)
        check_at_least("most", self.most, 1)
        check_layer(self.layer)

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,) in [-2, 1]; NaN where an influence is not finite.

        Below -1: the rows that may leave do not suffice, by far. Above 0: the refitted head, with
        all rows, takes the other side.
        """
        influence, sound = sound_influence(evidence)
        finite = influence.nan_to_num(0.0, 0.0, 0.0)
        count = self._count(evidence, finite).to(influence.dtype)
        scores = -count / influence.shape[1]
        return scores.masked_fill(~sound, torch.nan)

    def _count(self, evidence: Evidence, influence: Tensor) -> Tensor:
        """Returns how many rows have to go, (m,), for finite influence (m, n)."""
        if self.order == "sum":
            return self._summed(evidence, influence)
        return self._refitted(evidence, influence)

    def _summed(self, evidence: Evidence, influence: Tensor) -> Tensor:
        """Returns how many rows sum to the model's lead, (m,)."""
        labels = evidence.test.y
        model = evidence.trace.model()
        logits = predict(model, evidence.test.x)
        logits = logits.to(influence.dtype)
        helps = influence.clamp(min=0) * self.scale
        if self.units == "loss":
            check_cross_entropy(evidence.trace.loss, "removal-support of losses")
            slope = torch.sigmoid(-margins(logits, labels))
            smallest = torch.finfo(helps.dtype).tiny
            slope = slope.clamp(min=smallest)
            helps = helps / slope[:, None]
        ahead, _ = lead(logits, labels)
        return needed(helps, ahead.clamp(min=0))

    def _refitted(self, evidence: Evidence, influence: Tensor) -> Tensor:
        """Returns how many rows leave until the refitted head changes its mind, (m,)."""
        train = evidence.trace.train
        labels = evidence.test.y
        head = fit_head(
            rows=row_features(evidence, self.layer),
            points=point_features(evidence, self.layer),
            train=train,
            l2=self.l2,
        )
        counts = torch.zeros_like(head.votes[:, 0])
        for label in labels.unique():
            points = (labels == label).nonzero().squeeze(1)
            own = (train.y == label).nonzero().squeeze(1)
            leads = self._leads(head, points, label, own, influence)
            counts[points] = crossing(leads, len(train))
        return counts

    def _leads(
        self,
        head: Head,
        points: Tensor,
        label: Tensor,
        own: Tensor,
        influence: Tensor,
    ) -> Tensor:
        """Returns the leads of the points of one label without their first k rows, (b, K + 1).

        Args:
            head: of all points.
            points: (b,) int64, which they are.
            label: (), int64.
            own: (r,) int64, the rows that carry it.
            influence: (m, n), on all points.
        """
        room = self.most * _POOL if self.order == "adaptive" else self.most
        size = min(room, len(own))
        top = among(influence, points, own).topk(size)
        rows = own[top.indices]
        pool = Pool.of(head, rows)
        classes = head.votes.shape[1]
        each = size * (size + self.most + classes)
        found = []
        for part in in_blocks(
            torch.arange(len(points), device=own.device), each, _BLOCK
        ):
            case = candidates(
                head=head,
                points=points[part],
                y=label.expand(len(part)),
                rows=rows[part],
                pool=pool,
            )
            found.append(self._left(case, top.values[part]))
        return torch.cat(found)

    def _left(self, case: Candidates, worth: Tensor) -> Tensor:
        """Returns the leads without the first k candidates, (b, K + 1), of influence (b, q)."""
        if self.order == "adaptive":
            most = min(self.most, worth.shape[1])
            return adaptive(case, worth.double(), most)
        assert self.order != "sum"
        return nested(case, self.order)
