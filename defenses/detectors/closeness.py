"""Closeness: does a prediction rest on the same rows as trusted predictions of its label?

Influence rows say which training rows a prediction rests on; clean points of a class rest on much
the same, and so their rows point the same way. Those of a triggered point lie among the poison.
Cosines compare two predictions by their training rows, as Hanawa et al., ICLR 2021, arXiv
2006.04528, compare instances by their gradients; trusted points stand for their class, as in the
prototypes of Snell et al., NeurIPS 2017, arXiv 1703.05175.

Needs: influence, and probe points known to be clean.

Cost: O(m r n / C) for r trusted points and C labels; no gradient and no training.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from defenses.kit.blocks import in_blocks
from defenses.kit.evidence import check_points
from defenses.kit.proponents import OfLabel, by_label
from poisonbench.checks import check_choice
from poisonbench.contracts.values import Evidence

Summary = Literal["largest", "mean"]
SUMMARIES = {"largest": OfLabel.largest, "mean": OfLabel.mean}


@dataclass(frozen=True)
class Closeness:
    """Minus the cosine of a point's influence row to those of the trusted points of its label.

    Over the training rows of the label. A trusted point is not held against itself. Where no
    trusted point has the label, all of them are asked.

    Attributes:
        summary: of the cosines to several trusted points: "largest" or "mean".
        centred: whether each influence row is first shifted to mean 0: what all rows of the label
            have in common then does not count.

    Raises:
        ValueError: an unknown summary.
    """

    uses: ClassVar[tuple[str, ...]] = ("influence", "reference")

    summary: Summary = "largest"
    centred: bool = False

    def __post_init__(self) -> None:
        check_choice("summary", self.summary, get_args(Summary))

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,) in [-1, 1].

        NaN where an influence is not finite, or there is no other trusted point.

        Raises:
            ValueError: there is no trusted point.
        """
        check_points(evidence)
        scores = evidence.test.zeros(len(evidence.test)) + torch.nan
        for part in by_label(evidence):
            cosines = self._cosines(part.values, part.trusted)
            summarise = SUMMARIES[self.summary]
            scores[part.points] = -summarise(part, cosines).to(scores.dtype)
        return scores

    def _cosines(self, values: Tensor, trusted: Tensor) -> Tensor:
        """Returns the cosines of values (b, r) and trusted ones (t, r), (b, t)."""
        theirs = self._unit(trusted)
        cosines = values.new_empty(len(values), len(trusted))
        places = torch.arange(len(values), device=values.device)
        for part in in_blocks(places, values.shape[1]):
            cosines[part] = self._unit(values[part]) @ theirs.T
        return cosines

    def _unit(self, values: Tensor) -> Tensor:
        """Returns the rows of values (b, r) at length 1; 0 stays 0."""
        if not values.shape[1]:
            return values
        # squares of small and of large values leave the range of floats, those of shares do not
        tiny = torch.finfo(values.dtype).tiny
        largest = values.abs().amax(1, keepdim=True)
        shares = values / largest.clamp(min=tiny)
        if self.centred:
            shares = shares - shares.mean(1, keepdim=True)
        return F.normalize(shares, eps=tiny)
