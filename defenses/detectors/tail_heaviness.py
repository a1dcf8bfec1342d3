"""Tail heaviness of the influences: few rows far above the rest.

Source: FIT (Hammoudeh & Lowd, CCS 2022, arXiv 2201.10055).

Cost: O(m n log n) for the scale; no gradient and no training.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from defenses.kit.evidence import once, sound_influence, trusted_points
from defenses.kit.scale import Scale
from defenses.kit.tails import (
    Spread,
    check_tail,
    label_spread,
    label_tails,
    spread_by,
    standardised,
    standardised_by,
    tail_place,
    tails,
)
from poisonbench.checks import check_choice, check_unit
from poisonbench.contracts.scope import Scope, check_scope
from poisonbench.contracts.values import Evidence

Standardise = Literal["row", "two-way", "reference"]


@dataclass(frozen=True)
class TailHeaviness:
    """The k-th largest robustly standardised influence of a probe point.

    That is a_(k) with a_i = (v_i - median v) / scale(v). The paper's tail is over all training
    rows. With many classes the whole class of a clean point is its heavy tail, so the default looks
    at the rows of the predicted label alone.

    Attributes:
        k: which of the largest; at most the size of the smallest poison set to be found.
        scale: "qn" (the paper's) or "mad".
        scope: "label": training rows whose label is the predicted one; "all": every row, the
            paper's form.
        standardise: "row", or "two-way": first every training row's influences are centred and
            scaled (median, MAD) over the probe points, so that rows influential for everybody do
            not count. That makes a score depend on the other points. "reference": the same over the
            trusted points alone, so that a score depends on no other point under judgement.
        share: of the rows in scope; k rises to it where that is more: a poison set grows with the
            training set.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    k: int = 10
    scale: Scale = "qn"
    scope: Scope = "label"
    standardise: Standardise = "row"
    share: float = 0.0

    def __post_init__(self) -> None:
        check_tail(self.k, self.scale)
        check_scope(self.scope)
        check_choice("standardise", self.standardise, get_args(Standardise))
        check_unit("share", self.share)

    @property
    def uses(self) -> tuple[str, ...]:
        """What it reads."""
        if self.standardise == "two-way":
            return ("influence", "probe")
        if self.standardise == "reference":
            return ("influence", "reference")
        return ("influence",)

    @property
    def reads(self) -> Scope:
        """Of which training rows it reads the influence."""
        if self.standardise == "row":
            return self.scope
        return "all"

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,): larger = a heavier tail.

        NaN where an influence is not finite or its label has fewer than k rows.
        """
        influence, sound = sound_influence(evidence, self.reads)
        scores = influence.new_full((len(influence),), torch.nan)
        if not bool(sound.any()):
            return scores
        rows = self._by_column(evidence, influence, sound)
        # the same for every k
        key = (*self._read(evidence), self.scale, self.scope, self.standardise)
        spread = once(evidence, key, lambda: self._spread(evidence, rows, sound))
        if self.scope == "all":
            place = tail_place(self.k, self.share, rows.shape[1])
            scores[sound] = tails(rows, place, spread)
            return scores
        scores[sound] = label_tails(
            values=rows,
            labels=evidence.test.y[sound],
            train_labels=evidence.trace.train.y,
            k=self.k,
            spread=spread,
            share=self.share,
        )
        return scores

    def _read(self, evidence: Evidence) -> tuple[object, ...]:
        """Returns what the spread is computed from."""
        return (
            "spread",
            evidence.trace,
            evidence.test,
            evidence.influence,
            evidence.trusted,
        )

    def _spread(self, evidence: Evidence, rows: Tensor, sound: Tensor) -> Spread:
        """Returns the spread of the sound points' influences among the rows in scope."""
        if self.scope == "all":
            return spread_by(rows, rows, self.scale)
        labels = evidence.test.y[sound]
        return label_spread(rows, labels, evidence.trace.train.y, self.scale)

    def _by_column(
        self, evidence: Evidence, influence: Tensor, sound: Tensor
    ) -> Tensor:
        """Returns the influences of the sound points, standardised over points or not, (r, n)."""
        rows = influence[sound]
        if self.standardise == "row":
            return rows
        if self.standardise == "two-way":
            return standardised(rows.T, "mad").T
        trusted = trusted_points(evidence, 2)
        known = trusted[sound[trusted]]
        if len(known) < 2:
            told = f"got {len(known)}: a larger calibration"
            raise ValueError(f"at least 2 trusted points need finite influence, {told}")
        return standardised_by(rows.T, influence[known].T, "mad").T
