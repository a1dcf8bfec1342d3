"""Rehearsed, the default: which questions tell a poisoned prediction is found out by rehearsal.

What gives poison away depends on the data, the model and the attack. A defender can learn it
without knowing the attack: it plants generic poison of its own in a copy of its training set,
trains the victim's recipe on it, and looks which scores tell its trusted points with a trigger from
those without. The weights are drawn to those which the package brings, learned in the same way on
public data sets; to others where the victim trains its head alone.

Needs: influence, features, probe points known to be clean, and a run that can be made again.

Cost: of each rehearsal a training, and the influence on the trusted points and at most 20 more for
each of five or six poisons, with all questions about them; then all questions about the points to
be judged.
"""

import warnings
from dataclasses import dataclass, field

import torch
from torch import Tensor

from defenses.kit.evidence import check_points, sound_influence, trusted_points
from defenses.questions.cross_fit import among_labels, crossed
from defenses.questions.question import (
    NEUTRAL,
    Answers,
    Question,
    answers,
    side_names,
    surprises,
)
from defenses.questions.table import QUESTIONS, STREAM_QUESTIONS
from defenses.rehearsal.prior import check_prior, prior_weights
from defenses.rehearsal.rehearse import Rehearsal, rehearse, seed_of
from defenses.rehearsal.table import FAMILIES
from defenses.rehearsal.weights import centred, learned
from poisonbench.checks import check_at_least, check_choice
from poisonbench.contracts.values import Evidence
from poisonbench.errors import ConfigError
from poisonbench.notes import attach, note

TRUSTED = 10
SELDOM = 3.0  # -log of one in twenty
STREAM = 0.5  # weight of what lies beyond it, in a stream
ENOUGH = 3  # poisons that must succeed for a rehearsal to be relied on
LATER = {"configured": "when changed"}


@dataclass(frozen=True)
class Rehearsed:
    """The log odds of poison by all questions, their weights learned by rehearsal.

    It knows neither the budget nor the target nor the trigger of the attack.

    Attributes:
        rehearsals: victims that are trained; None: one where the run can be made again, else none;
            0: the weights that the package brings.
        stream: asks also what depends on the other points under judgement. What is as likely as
            one in twenty on a clean point counts nothing; beyond, half of the surprise is added.
        prior: the weights to which those learned are drawn: "all", "without-NAME" learned without a
            data set, or "none".
        seed: of the poison that is planted.
        leave_out: families of generic poison that are not planted: to study an attack alike.
        cross_fit: holds each tenth of the trusted points against the rest, and every score against
            those of its label: fewer false alarms on a label that is poisoned, and all trusted
            points set the threshold. At least 20 of them.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    rehearsals: int | None = None
    stream: bool = False
    prior: str = "all"
    seed: int = 0
    leave_out: tuple[str, ...] = field(default=(), metadata=LATER)
    cross_fit: bool = field(default=False, metadata=LATER)

    def __post_init__(self) -> None:
        check_at_least("rehearsals", self.rehearsals, 0)
        check_prior(self.prior)
        for family in self.leave_out:
            check_choice("each of leave_out", family, FAMILIES)

    @property
    def uses(self) -> tuple[str, ...]:
        """What it reads."""
        named = ["influence", "features", "gradients", "reference"]
        if self.rehearsals != 0:
            named.append("retraining")
        if self.stream:
            named.append("probe")
        return tuple(named)

    @property
    def least_trusted(self) -> int:
        """How many trusted points it must be given."""
        return 2 * TRUSTED if self.cross_fit else TRUSTED

    @property
    def cross_fits(self) -> bool:
        """Whether it judges each trusted point as if it were none."""
        return self.cross_fit

    def fit(self, evidence: Evidence) -> "Learned":
        """Returns the detector with weights: rehearses, as often as it is to.

        The log tells the success of each poison; it warns where fewer than three succeed.

        Raises:
            ConfigError: it is to rehearse, and the run cannot be made again.
            ValueError: fewer than 10 trusted points, or 20 where they are cross-fitted.
        """
        check_points(evidence)
        trusted_points(evidence, self.least_trusted)
        done = []
        for number in range(self._times(evidence)):
            assert evidence.means is not None
            seed = seed_of(evidence, self.seed, number)
            rehearsal = rehearse(
                evidence, evidence.means, QUESTIONS, self.leave_out, seed
            )
            _tell(rehearsal, number)
            done.append(rehearsal)
        sides = side_names(QUESTIONS)
        prior = prior_weights(self.prior, evidence.trace, sides)
        fit = learned([rehearsal.lesson for rehearsal in done], prior)
        return Learned(
            questions=QUESTIONS,
            beside=STREAM_QUESTIONS if self.stream else (),
            weights=fit.weights,
            bias=fit.bias,
            uses=self.uses,
            cross_fits=self.cross_fit,
        )

    def _times(self, evidence: Evidence) -> int:
        """Returns how often it rehearses."""
        can = evidence.means is not None
        if self.rehearsals is None:
            return int(can)
        if self.rehearsals and not can:
            told = f"{self.rehearsals} rehearsals, but the run cannot be made again"
            way = "give the run a recipe or retrain=, or rehearsals=0"
            raise ConfigError([told], way)
        return self.rehearsals

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,); NaN where the influence is not finite.

        Raises:
            ConfigError: as `fit`.
            ValueError: as `fit`.
        """
        return self.fit(evidence)(evidence)


def _tell(rehearsal: Rehearsal, number: int) -> None:
    """Tells the log how a rehearsal went; warns where it taught little."""
    for family, share in rehearsal.success.items():
        note(f"success_{number}_{family}", share)
    if rehearsal.taught < ENOUGH:
        of = len(rehearsal.success)
        told = f"{rehearsal.taught} of {of} generic poisons succeeded"
        way = "its weights rest on the prior; more rehearsals may help"
        warnings.warn(f"{told} in rehearsal {number}: {way}", stacklevel=3)


@dataclass(frozen=True, eq=False)
class Learned:
    """Questions with their weights.

    Attributes:
        questions: what is asked of each point.
        beside: what is asked of it beside the others.
        weights: (f,) float64, of the surprises of `questions`.
        bias: of the log odds.
        uses: what it reads.
        cross_fits: whether it judges each trusted point as if it were none.
    """

    questions: tuple[Question, ...]
    beside: tuple[Question, ...]
    weights: Tensor
    bias: float
    uses: tuple[str, ...]
    cross_fits: bool

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,), the log odds; NaN where the influence is not finite.

        Where it cross-fits they are standardised among the trusted points with the label.

        The log gets the answers, their surprises and the weights, in the order of the questions and
        of their sides, which the note `questions` names.
        """
        influence, sound = sound_influence(evidence)
        said = answers(evidence, self.questions + self.beside)
        known = torch.zeros_like(sound)
        known[trusted_points(evidence, TRUSTED)] = True
        seen = self._surprises(said, known)
        of_stream = torch.full((len(side_names(self.beside)),), STREAM)
        weights = torch.cat([self.weights, of_stream.double()]).to(seen)
        alone = len(self.weights)
        beyond = (seen[alone:] - SELDOM).clamp(min=0)
        seen = torch.cat([seen[:alone], NEUTRAL + beyond])
        scores = centred(seen) @ weights + self.bias
        if self.cross_fits:
            scores = among_labels(scores, evidence.test.y, known & sound)
        note("questions", "\n".join(side_names(said.questions)))
        attach("weights", weights)
        attach("surprises", seen)
        attach("answers", said.scores)
        return scores.masked_fill(~sound, torch.nan).to(influence.dtype)

    def _surprises(self, said: Answers, known: Tensor) -> Tensor:
        """Returns the surprises of all points among the known ones, (f, m)."""
        if not self.cross_fits:
            return surprises(said, known)
        return crossed(lambda some: surprises(said, some), known)
