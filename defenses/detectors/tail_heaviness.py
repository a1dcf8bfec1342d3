"""Tail heaviness of the influences (FIT: Hammoudeh & Lowd, CCS 2022, arXiv 2201.10055): few rows far above the rest.

Cost: O(m n log n) for the scale; no gradient and no training.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from defenses.kit.evidence import sound_influence, trusted_points
from defenses.kit.scale import mad
from defenses.kit.tails import Scale, check_tail, label_tails, standardised, tails
from poisonbench.contracts.values import Evidence


@dataclass(frozen=True)
class TailHeaviness:
    """The k-th largest robustly standardised influence of a probe point, a_(k) with a_i = (v_i - median v) / scale(v).

    The paper's tail is over all training rows. With many classes the whole class of a clean point is its heavy tail, so the
    default looks at the rows of the predicted label alone.

    Attributes:
        k: which of the largest; at most the size of the smallest poison set to be found.
        scale: "qn" (the paper's) or "mad".
        scope: "label": training rows whose label is the predicted one; "all": every row, the paper's form.
        standardise: "row", or "two-way": first every training row's influences are centred and scaled (median, MAD) over the
            probe points, so that rows influential for everybody do not count. That makes a score depend on the other points.
            "reference": the same over the trusted points alone, so that a score depends on no other point under judgement.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    k: int = 10
    scale: Scale = "qn"
    scope: Literal["label", "all"] = "label"
    standardise: Literal["row", "two-way", "reference"] = "row"

    def __post_init__(self) -> None:
        check_tail(self.k, self.scale)
        if self.scope not in ("label", "all"):
            raise ValueError(f"scope must be 'label' or 'all', got {self.scope!r}")
        if self.standardise not in ("row", "two-way", "reference"):
            raise ValueError(
                f"standardise must be 'row', 'two-way' or 'reference', got {self.standardise!r}"
            )

    @property
    def uses(self) -> tuple[str, ...]:
        """What it reads."""
        beyond = {"row": (), "two-way": ("probe",), "reference": ("reference",)}
        return ("influence", *beyond[self.standardise])

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,): larger = a heavier tail; NaN where an influence is not finite or its label has fewer than k rows."""
        influence, sound = sound_influence(evidence)
        scores = influence.new_full((len(influence),), torch.nan)
        if not bool(sound.any()):
            return scores
        rows = influence[sound]
        if self.standardise == "two-way":
            rows = standardised(rows.T, mad).T
        elif self.standardise == "reference":
            index = trusted_points(evidence, 2)
            rows = standardised(rows.T, mad, influence[index[sound[index]]].T).T
        if self.scope == "all":
            scores[sound] = tails(rows, self.k, self.scale)
        else:
            scores[sound] = label_tails(
                rows, evidence.test.y[sound], evidence.trace.train.y, self.k, self.scale
            )
        return scores
