"""Questions: what detectors score, asked together, weighed by surprise among trusted points.

Which score tells a poisoned prediction from a clean one depends on the data and on the attack. As
questions of one form they can be combined: each is a score of the test points, and what it says is
how seldom a trusted point scores so high (`defenses.kit.tail_probability`).
"""

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from defenses.kit.evidence import Shared, check_points, shared
from defenses.kit.tail_probability import surprise_among
from poisonbench.checks import check_type
from poisonbench.contracts.protocols import Detector
from poisonbench.contracts.values import Evidence
from poisonbench.data import kinds_of
from poisonbench.errors import ConfigError, ModelError
from poisonbench.training.needs import unmet

NEUTRAL = 1.0  # the mean of -log p over clean points: p is uniform
MOST = 12.0  # -log p; some tens of trusted points cannot tell apart what is seldomer
LOW = ", low"
_READ = {
    "influence": "influence",
    "reference": "trusted",
    "oracle": "role",
    "retraining": "means",
}


@dataclass(frozen=True)
class Question:
    """A score of test points.

    Attributes:
        name: under which its answers are known, and its weight is kept.
        score: a detector.
        both: low scores can be suspicious, too: it gives two surprises, `name` and `name, low`.

    Raises:
        TypeError: `score` is no detector.
    """

    name: str
    score: Detector
    both: bool = False

    def __post_init__(self) -> None:
        check_type(
            "score", self.score, Detector, "a detector: uses, __call__(evidence)"
        )

    @property
    def uses(self) -> tuple[str, ...]:
        """What it reads, as of a detector."""
        return self.score.uses

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of data on which it has a meaning."""
        return kinds_of(self.score)

    @property
    def needs(self) -> tuple[str, ...]:
        """What it needs of the training run, keys of `poisonbench.training.needs.NEEDS`."""
        return tuple(getattr(self.score, "needs", ()))

    @property
    def sides(self) -> tuple[str, ...]:
        """The names of its surprises."""
        if self.both:
            return (self.name, self.name + LOW)
        return (self.name,)

    def lacks(self, evidence: Evidence) -> str:
        """Returns why it has no answer on such evidence, "" if it has one."""
        if evidence.test.kind not in self.kinds:
            return f"has no meaning for data of kind {evidence.test.kind}"
        for need in unmet(evidence.trace.offers, self.needs):
            return f"the run does not offer {need}"
        for use, part in _READ.items():
            if use in self.uses and getattr(evidence, part, None) is None:
                return f"there is no {use}"
        return ""


@dataclass(frozen=True, eq=False)
class Answers:
    """What questions say of m points.

    Attributes:
        questions: the q questions.
        scores: (q, m) float64; NaN where a question has no answer.
        seconds: what each took. What several share counts for the first of them.
        reasons: why a question has no answer to any point, "" where it has.
    """

    questions: tuple[Question, ...]
    scores: Tensor
    seconds: tuple[float, ...]
    reasons: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the questions."""
        return tuple(question.name for question in self.questions)


def answers(evidence: Evidence, questions: Sequence[Question]) -> Answers:
    """Asks all questions; what several of them compute is computed once.

    A question without an answer gives NaN, and its reason is told.

    Args:
        evidence: all that any of the questions may see.
        questions: q of them.

    Raises:
        TypeError: it is no Evidence.
        ValueError: there are no training rows, or no test points.
    """
    check_points(evidence)
    common = shared(evidence)
    scores: dict[int, Tensor] = {}
    seconds: dict[int, float] = {}
    reasons: dict[int, str] = {}
    places = range(len(questions))
    # gradients first: the features that others ask for are seen on the way
    for place in sorted(places, key=lambda k: "gradients" not in questions[k].uses):
        start = time.perf_counter()
        scores[place], reasons[place] = _asked(questions[place], common)
        seconds[place] = time.perf_counter() - start
    return Answers(
        questions=tuple(questions),
        scores=torch.stack([scores[place] for place in places]),
        seconds=tuple(seconds[place] for place in places),
        reasons=tuple(reasons[place] for place in places),
    )


def _asked(question: Question, evidence: Shared) -> tuple[Tensor, str]:
    """Returns the answer (m,), and why there is none."""
    nothing = torch.full_like(evidence.test.y, torch.nan, dtype=torch.float64)
    reason = question.lacks(evidence)
    if reason:
        return nothing, reason
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # what it does not tell is told by its reason
            said = question.score(evidence).double()
    except (ConfigError, ModelError) as error:
        return nothing, str(error)
    if not bool(said.isfinite().any()):
        return nothing, "no score is finite"
    return said, ""


def side_names(questions: Sequence[Question]) -> tuple[str, ...]:
    """Returns the names of the f surprises of questions, in the order of `surprises`."""
    names: list[str] = []
    for question in questions:
        names.extend(question.sides)
    return tuple(names)


def surprises(said: Answers, trusted: Tensor) -> Tensor:
    """Returns -log p of every answer among the trusted points, (f, m) in [0, 12].

    One row for each of `side_names`; 1, what a clean point has on the mean, where there is no
    answer.

    Args:
        said: about m points.
        trusted: (m,) bool, the points that the others are held against.
    """
    rows = []
    for question, scores in zip(said.questions, said.scores, strict=True):
        rows.append(surprise_among(scores, trusted))
        if question.both:
            rows.append(surprise_among(-scores, trusted))
    found = torch.stack(rows)
    return found.nan_to_num(NEUTRAL, MOST, 0.0).clamp(0, MOST)
