"""Removal support: how many influential rows would have to go for a prediction to change?

Few = it rests on few. After the most influential set of Broderick, Giordano & Meager 2020, arXiv
2011.14999: the rows of largest influence, whose worth is the sum. Rows that stand in for one
another are worth more together (`defenses.kit.removal`): so the rows leave one after another, and
what the others are worth is estimated anew each time.

Needs: influence, and features of the training set and of the probe; influence in units of the loss
or of the margin for "sum".

Cost: a forward pass over the n + m instances and a least-squares fit in D features; for m points,
O(m q (q D + most^2)), where q = min(rows of the label, 4 most). "sum": a forward pass over the m
points, and O(m n log n).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from defenses.kit.blocks import in_blocks
from defenses.kit.crossing import crossing, needed
from defenses.kit.evidence import sound_influence
from defenses.kit.features import Layer, check_layer, point_features, row_features
from defenses.kit.refitted_head import Head, candidates, fit_head, lead
from defenses.kit.removal import adaptive, nested
from poisonbench.checks import check_at_least, check_choice, check_positive
from poisonbench.contracts.values import Evidence
from poisonbench.data import Dataset
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
        return self._refitted(evidence, influence.double())

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
        pool = self._pool(train, labels)
        features = head.rows.shape[1]
        each = pool + features + self.most + 2 * train.classes
        points = torch.arange(len(labels), device=labels.device)
        counts = []
        for index in in_blocks(points, pool * each, _BLOCK):
            foreign = train.y != labels[index, None]
            ranked = influence[index].masked_fill(foreign, -torch.inf)
            leads = self._leads(
                head=head,
                index=index,
                y=labels[index],
                ranked=ranked,
                pool=pool,
            )
            counts.append(crossing(leads, len(train)))
        return torch.cat(counts)

    def _pool(self, train: Dataset, labels: Tensor) -> int:
        """Returns how many rows of a label are candidates, at most."""
        counts = train.y.bincount(minlength=train.classes)
        frequent = int(counts[labels].max())
        if self.order == "adaptive":
            return min(frequent, _POOL * self.most)
        return min(frequent, self.most)

    def _leads(
        self,
        head: Head,
        index: Tensor,
        y: Tensor,
        ranked: Tensor,
        pool: int,
    ) -> Tensor:
        """Returns the leads of some points without their first k rows, (b, K + 1).

        Args:
            head: of all points.
            index: (b,) int64, which points.
            y: (b,) int64, their labels.
            ranked: (b, n), their influence, -inf for rows that stay.
            pool: candidates a point.
        """
        top = ranked.topk(pool)
        case = candidates(
            head=head,
            points=index,
            y=y,
            rows=top.indices,
        )
        if self.order == "adaptive":
            most = min(self.most, pool)
            return adaptive(case, top.values, most)
        assert self.order != "sum"
        leads = nested(case, self.order)
        stays = top.values == -torch.inf  # rows of other labels
        leads[:, 1:].masked_fill_(stays, torch.inf)
        return leads
