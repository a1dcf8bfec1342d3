"""Removal support: how many of the most influential rows would have to go for a prediction to change? Few = it rests on few.

After the most influential set of Broderick, Giordano & Meager 2020, arXiv 2011.14999: the rows of largest influence, whose worth
is the sum. Rows that stand in for one another are worth more together (`defenses/removal.py`): so the rows leave one after
another, and what the others are worth is estimated anew each time.

Needs: influence, and features of the training set and of the probe; influence in units of the loss or of the margin for "sum".

Cost: a forward pass over the n + m instances and a least-squares fit in D features; for m points, O(m q (q D + most^2)), where
q = min(rows of the label, 4 most). "sum": a forward pass over the m points, and O(m n log n).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from defenses.kit.evidence import sound_influence
from defenses.kit.features import Layer, check_layer
from defenses.kit.refitted_head import Head, adaptive, candidates, fit_head, in_blocks, lead, nested
from poisonbench.checks import check_at_least
from poisonbench.contracts.values import Evidence
from poisonbench.models import predict
from poisonbench.objectives import margins

Order = Literal["sum", "first", "second", "newton", "adaptive"]
Units = Literal["loss", "margin"]
_POOL = 4  # candidates for every row that may leave


@dataclass(frozen=True)
class RemovalSupport:
    """Minus the smallest k, as a fraction of n, for which the prediction changes without the k most influential rows.

    All orders but "sum" judge the removal by a least-squares head on the victim's features, refitted without the rows.

    Attributes:
        order: how the k rows are chosen and what they are worth together. "adaptive": of the rows of the predicted label the one
            for which influence times what its removal takes from the refitted head's lead is largest, then the next, given that
            the first is gone; "newton": these rows by influence, the head refitted without them (for its loss one Newton step);
            "second", "first": the same by the second- and first-order estimates of that step; "sum": rows of any label by
            influence, which sum to the model's lead; additive, so too many where rows stand in for one another.
        most: rows that may leave; best not below the size of the poison set to be found. Of no meaning for "sum".
        layer: whose features the head works on, see `defenses.features.encoder`. Behind the last hidden layer a triggered point
            keeps its label even when every poisoned row is gone.
        l2: regulariser of the head.
        units: of the influence, for "sum": "loss": a change d of the loss is one of d / sigmoid(-margin) of the margin, as loss =
            softplus(-margin); "margin": as it is (GAS has no units, but ranks).
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
        if self.order not in get_args(Order):
            raise ValueError(
                f"order must be one of {', '.join(get_args(Order))}, got {self.order!r}"
            )
        if self.units not in get_args(Units):
            raise ValueError(f"units must be 'loss' or 'margin', got {self.units!r}")
        for name in ("l2", "scale"):
            if not (value := getattr(self, name)) > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        check_at_least("most", self.most, 1)
        check_layer(self.layer)

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,) in [-2, 1]; NaN where an influence is not finite.

        Below -1: the rows that may leave do not suffice, by far. Above 0: the refitted head, with all rows, takes the other side.
        """
        influence, sound = sound_influence(evidence)
        finite = influence.nan_to_num(0.0, 0.0, 0.0)
        rows = (
            self._summed(evidence, finite)
            if self.order == "sum"
            else self._refitted(evidence, finite.double())
        )
        return torch.where(sound, -rows.to(influence.dtype) / influence.shape[1], torch.nan)

    def _summed(self, evidence: Evidence, influence: Tensor) -> Tensor:
        logits = predict(evidence.trace.model(), evidence.test.x).to(influence.dtype)
        helps = influence.clamp(min=0) * self.scale
        if self.units == "loss":
            helps = (
                helps
                / torch.sigmoid(-margins(logits, evidence.test.y)).clamp(
                    min=torch.finfo(helps.dtype).tiny
                )[:, None]
            )
        return needed(helps, lead(logits, evidence.test.y)[0].clamp(min=0))

    def _refitted(self, evidence: Evidence, influence: Tensor) -> Tensor:
        train, test = evidence.trace.train, evidence.test
        head = fit_head(evidence.trace, test, self.layer, self.l2)
        own = (
            int(torch.bincount(train.y, minlength=train.classes)[test.y].max()) if len(test) else 0
        )
        pool = min(own, _POOL * self.most if self.order == "adaptive" else self.most)

        def score(point: Tensor) -> Tensor:
            return crossing(
                self._leads(head, point, test.y[point], train.y, influence[point], pool), len(train)
            )

        width = pool * (pool + head.rows.shape[1] + self.most + 2 * train.classes)
        return in_blocks(score, torch.arange(len(test), device=test.y.device), max(1, width))

    def _leads(
        self, head: Head, point: Tensor, y: Tensor, labels: Tensor, influence: Tensor, pool: int
    ) -> Tensor:
        """Returns the leads of some points without their first k rows, (b, K + 1)."""
        ranked = influence.masked_fill(labels != y[:, None], -torch.inf).topk(pool)
        case = candidates(head, point, y, ranked.indices)
        if self.order == "adaptive":
            return adaptive(case, ranked.values, min(self.most, pool))
        leads = nested(case, self.order)  # type: ignore[arg-type]
        spent = torch.cat(
            [torch.zeros_like(leads[:, :1], dtype=torch.bool), ranked.values == -torch.inf], 1
        )
        return leads.masked_fill(spent, torch.inf)  # rows of other labels stay


def crossing(leads: Tensor, n: int) -> Tensor:
    """Returns at how many rows the lead is used up, (b,), for leads (b, K + 1) without the first k rows; linear in between.

    A lead that is negative with all rows counts as it is; one never used up as n, and up to n more the more is left of it.
    """
    over = leads <= 0
    k = over.to(leads.dtype).argmax(1)[:, None]
    before, after = leads.gather(1, (k - 1).clamp(min=0)), leads.gather(1, k)
    part = (k - 1 + before / (before - after)).squeeze(1)
    left = (leads.amin(1) / leads[:, 0]).clamp(0, 1)
    return torch.where(over[:, 0], leads[:, 0], torch.where(over.any(1), part, n * (1 + left)))


def needed(helps: Tensor, lead: Tensor) -> Tensor:
    """Returns how many of the largest values of each row of `helps` (m, n) >= 0 sum to `lead` (m,) >= 0, (m,) in [0, 2n].

    Continuous: of the last one the share that is needed. Where all do not suffice: n, and up to n more the larger the rest is.
    """
    ordered = helps.sort(1, descending=True).values
    total = torch.cat([torch.zeros_like(lead)[:, None], ordered.cumsum(1)], 1)
    n = helps.shape[1]
    whole = (total[:, 1:] < lead[:, None]).sum(1)  # values that are used up
    last = whole.clamp(max=n - 1)[:, None]
    rest = (lead[:, None] - total.gather(1, last)) / ordered.gather(1, last).clamp(
        min=torch.finfo(helps.dtype).tiny
    )
    missing = 1 - total[:, -1] / lead.clamp(min=torch.finfo(helps.dtype).tiny)
    return torch.where(
        whole < n, whole + rest.squeeze(1).clamp(0, 1), n * (1 + missing.clamp(0, 1))
    )
