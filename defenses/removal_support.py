"""Removal support: how many of the most influential rows would have to go for a prediction to change? Few = it rests on few.

After the most influential set of Broderick, Giordano & Meager 2020, arXiv 2011.14999: the rows of largest summed influence.

Needs: influence in units of the loss or of the margin.

Cost: a forward pass over the m points, and O(m n log n).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from defenses.evidence import sound_influence
from poisonbench.contracts import Evidence
from poisonbench.objectives import margins
from poisonbench.training import predict

Units = Literal["loss", "margin"]


@dataclass(frozen=True)
class RemovalSupport:
    """Minus the smallest k, as a fraction of n, for which the k largest influences sum to the lead over the next class.

    The sum is the first-order estimate of what the group is worth. It is additive; of rows that stand in for one another the
    group is worth more than the sum (`estimators/group.py`), so k is too large rather than too small there.

    Attributes:
        units: of the influence: "loss": a change d of the loss is one of d / sigmoid(-margin) of the margin, as loss =
            softplus(-margin); "margin": as it is (GAS has no units, but ranks).
        scale: factor on the influence, for an estimator that is right up to one.

    Raises:
        ValueError: a value out of its range.
    """

    uses: ClassVar[tuple[str, ...]] = ("influence",)

    units: Units = "loss"
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.units not in get_args(Units):
            raise ValueError(f"units must be 'loss' or 'margin', got {self.units!r}")
        if not self.scale > 0:
            raise ValueError(f"scale must be positive, got {self.scale}")

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,) in [-2, 0]; NaN where an influence is not finite. Below -1: all rows that help do not suffice, by far."""
        influence, sound = sound_influence(evidence)
        logits = predict(evidence.trace.model(), evidence.test.x).to(influence.dtype)
        lead = logits.gather(1, evidence.test.y[:, None]).squeeze(1) - runner_up(logits, evidence.test.y)
        helps = influence.nan_to_num(0.0, 0.0, 0.0).clamp(min=0) * self.scale
        if self.units == "loss":
            helps = helps / torch.sigmoid(-margins(logits, evidence.test.y)).clamp(min=torch.finfo(helps.dtype).tiny)[:, None]
        return torch.where(sound, -needed(helps, lead.clamp(min=0)) / influence.shape[1], torch.nan)


def runner_up(logits: Tensor, y: Tensor) -> Tensor:
    """Returns the largest logit but for that of y, (m,)."""
    return logits.scatter(1, y[:, None], -torch.inf).amax(1)


def needed(helps: Tensor, lead: Tensor) -> Tensor:
    """Returns how many of the largest values of each row of `helps` (m, n) >= 0 sum to `lead` (m,) >= 0, (m,) in [0, 2n].

    Continuous: of the last one the share that is needed. Where all do not suffice: n, and up to n more the larger the rest is.
    """
    ordered = helps.sort(1, descending=True).values
    total = torch.cat([torch.zeros_like(lead)[:, None], ordered.cumsum(1)], 1)
    n = helps.shape[1]
    whole = (total[:, 1:] < lead[:, None]).sum(1)  # values that are used up
    last = whole.clamp(max=n - 1)[:, None]
    rest = (lead[:, None] - total.gather(1, last)) / ordered.gather(1, last).clamp(min=torch.finfo(helps.dtype).tiny)
    missing = 1 - total[:, -1] / lead.clamp(min=torch.finfo(helps.dtype).tiny)
    return torch.where(whole < n, whole + rest.squeeze(1).clamp(0, 1), n * (1 + missing.clamp(0, 1)))
