"""Tail heaviness of the influences: few rows far above the rest.

Source: FIT (Hammoudeh & Lowd, CCS 2022, arXiv 2201.10055).

Cost: O(m n log n) for the scale; no gradient and no training.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from defenses.kit.blocks import in_blocks
from defenses.kit.evidence import once, sound_influence, trusted_points
from defenses.kit.scale import Scale
from defenses.kit.scope import among
from defenses.kit.tails import Scoped, check_tail, standardised_by
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

    least_trusted: ClassVar[int] = 2  # where it reads any

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
        scoped = self._scoped(evidence, influence, sound)
        # the same for every k
        key = (*self._read(evidence), self.scale, self.scope, self.standardise)
        spread = once(evidence, key, lambda: scoped.spread(self.scale))
        scores[sound] = scoped.tails(self.k, spread, self.share)
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

    def _scoped(self, evidence: Evidence, influence: Tensor, sound: Tensor) -> Scoped:
        """Returns the influences of the sound points, standardised over points or not."""
        points = sound.nonzero().squeeze(1)
        labels = evidence.test.y[points]
        if self.standardise != "row":
            known = self._known(evidence, sound, points)
            influence = _by_column(influence, points, known)
            points = torch.arange(len(points), device=points.device)
        return Scoped(
            values=influence,
            points=points,
            labels=labels,
            train_labels=evidence.trace.train.y,
            scope=self.scope,
        )

    def _known(self, evidence: Evidence, sound: Tensor, points: Tensor) -> Tensor:
        """Returns the points (t,) int64 over which each training row is standardised."""
        if self.standardise == "two-way":
            return points
        trusted = trusted_points(evidence, self.least_trusted)
        known = trusted[sound[trusted]]
        if len(known) < 2:
            told = f"got {len(known)}: a larger calibration"
            raise ValueError(f"at least 2 trusted points need finite influence, {told}")
        return known


def _by_column(influence: Tensor, points: Tensor, known: Tensor) -> Tensor:
    """Returns the influences of some points, each column standardised over known ones, (k, n).

    Args:
        influence: (m, n).
        points: (k,) int64.
        known: (t,) int64.
    """
    n = influence.shape[1]
    found = influence.new_empty(len(points), n)
    columns = torch.arange(n, device=points.device)
    for part in in_blocks(columns, len(influence)):
        of_points = among(influence, points, part)
        of_known = among(influence, known, part)
        found[:, part] = standardised_by(of_points.T, of_known.T, "mad").T
    return found
