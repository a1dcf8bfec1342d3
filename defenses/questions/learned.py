"""Questions with weights that were learned: the log odds of poison."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses.kit.evidence import sound_influence, trusted_points
from defenses.questions.cross_fit import among_labels, crossed
from defenses.questions.question import (
    NEUTRAL,
    Answers,
    Question,
    answers,
    side_names,
    surprises,
)
from defenses.rehearsal.weights import centred
from poisonbench.contracts.values import Evidence
from poisonbench.log import names
from poisonbench.notes import attach, note

TRUSTED = 10
SELDOM = 3.0  # -log of one in twenty
STREAM = 0.5  # weight of what lies beyond it, in a stream


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

    unit: ClassVar[bool] = True

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
        attach(names.WEIGHTS, weights)
        attach(names.SURPRISES, seen)
        attach(names.ANSWERS, said.scores)
        return scores.masked_fill(~sound, torch.nan).to(influence.dtype)

    def _surprises(self, said: Answers, known: Tensor) -> Tensor:
        """Returns the surprises of all points among the known ones, (f, m)."""
        if not self.cross_fits:
            return surprises(said, known)
        return crossed(lambda some: surprises(said, some), known)
