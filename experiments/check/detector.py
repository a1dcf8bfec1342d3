"""The checks of a detector, on a planted example.

Some test points rest on a few rows with a foreign label.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from experiments.check.method import METHOD, Subject
from experiments.check.planted import ATTACKED, POISONED, planted, triggered
from experiments.check.verdict import Check, FindingError, require, skip, untouched
from poisonbench.contracts.values import Evidence
from poisonbench.data.kind import kinds_of
from poisonbench.errors import ConfigError

USEFUL = 0.75  # AUROC below which a detector is to be looked at
USES = (
    "influence",
    "probe",
    "reference",
    "features",
    "gradients",
    "retraining",
    "oracle",
)


@dataclass(frozen=True)
class DetectorSubject(Subject):
    """A detector."""

    @cached_property
    def evidence(self) -> Evidence:
        """The planted example, one per subject: a detector may change it.

        Images for a detector that refuses anything else, sentences for one that takes them alone.
        """
        if kinds_of(self.value) == ("tokens",):
            return planted("tokens")
        try:
            self.value(planted())
        except Exception as error:  # it may raise anything; the checks tell
            return triggered() if isinstance(error, ConfigError) else planted()
        return planted()

    def scores(self, evidence: Evidence | None = None) -> Tensor:
        """Returns its scores of the planted example, or of other evidence."""
        scores: Tensor = self.value(self.evidence if evidence is None else evidence)
        return scores


def _uses(s: DetectorSubject) -> str:
    uses = getattr(s.value, "uses", None)
    require(isinstance(uses, tuple), f"`uses` is {uses!r}, no tuple of names")
    unknown = [name for name in s.value.uses if name not in USES]
    named = ", ".join(map(repr, unknown))
    require(not unknown, f"`uses` names {named}; known: {', '.join(USES)}")
    return ", ".join(s.value.uses) or "nothing beyond the victim"


def _runs(s: DetectorSubject) -> str:
    scores = s.scores()
    require(
        isinstance(scores, Tensor), f"it returned {type(scores).__name__}, no tensor"
    )
    m = len(s.evidence.test)
    shape = tuple(scores.shape)
    require(shape == (m,), f"scores have shape {shape}, not (m,) = ({m},)")
    bad = int((~scores.isfinite()).sum())
    require(not bad, f"{bad} of {m} scores are not finite")
    return f"{m} finite scores"


def _deterministic(s: DetectorSubject) -> str:
    require(torch.equal(s.scores(), s.scores()), "two calls on one evidence differ")
    return "two calls agree bit for bit"


def _untouched(s: DetectorSubject) -> str:
    untouched(s.scores, {"evidence": s.evidence})
    return "evidence and the process's global state are as they were"


def _honest(s: DetectorSubject) -> str:
    if "influence" in getattr(s.value, "uses", ()):
        raise skip("it declares that it reads influence")
    without = s.scores(replace(s.evidence, influence=None))
    require(torch.equal(without, s.scores()), "its scores change with the influence")
    return "it does not read influence, as it declares"


def _meaning(s: DetectorSubject) -> str:
    scores = s.scores()
    attacked = scores[:ATTACKED].unsqueeze(1)
    others = scores[ATTACKED:]
    won = (attacked > others).double().mean()
    tied = (attacked == others).double().mean()
    auroc = float(won + 0.5 * tied)
    told = f"AUROC {auroc:.2f} on points that rest on {POISONED} planted rows"
    if auroc < USEFUL:
        raise FindingError("warn", told)
    return told


DETECTOR: dict[str, Check] = {
    **METHOD,
    "uses": Check(
        "`uses` is a tuple that names what it reads beyond the victim", _uses
    ),
    "runs": Check("detector(evidence) returns a finite score per probe point", _runs),
    "determinism": Check("equal evidence gives equal scores", _deterministic),
    "untouched": Check(
        "it leaves the evidence and the global state as they were", _untouched
    ),
    "honest": Check("what it does not declare, it does not read", _honest),
    "meaning": Check(
        "larger = the prediction rests on fewer, more influential instances", _meaning
    ),
}
