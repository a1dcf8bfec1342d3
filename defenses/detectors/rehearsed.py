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
from typing import ClassVar

from torch import Tensor

from defenses.kit.evidence import check_points, check_unit, trusted_points
from defenses.questions.learned import TRUSTED, Learned
from defenses.questions.question import side_names
from defenses.questions.table import QUESTIONS, STREAM_QUESTIONS
from defenses.rehearsal.prior import check_prior, prior_weights
from defenses.rehearsal.rehearse import Rehearsal, rehearse, seed_of
from defenses.rehearsal.table import FAMILIES
from defenses.rehearsal.weights import learned
from poisonbench.checks import check_at_least, check_choice
from poisonbench.contracts.values import Evidence
from poisonbench.errors import ConfigError
from poisonbench.notes import note

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

    unit: ClassVar[bool] = True

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
            ConfigError: it is to rehearse, and the run cannot be made again; or pictures lie
                outside [0, 1].
            ValueError: fewer than 10 trusted points, or 20 where they are cross-fitted.
        """
        check_points(evidence)
        check_unit(evidence, self)
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
