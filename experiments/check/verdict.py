"""Verdicts: what a check says of a rule."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Outcome = Literal["ok", "fail", "warn", "skip"]


@dataclass(frozen=True)
class Verdict:
    """What was found of a rule.

    Attributes:
        rule: its name.
        outcome: "ok", "fail" (the contract is broken), "warn" (it is kept, but look), "skip" (it does not apply, or not here).
        told: what was found, with figures.
        words: the rule in words.
    """

    rule: str
    outcome: Outcome
    told: str
    words: str


class FindingError(Exception):
    """Raised by a check that is not simply met."""

    def __init__(self, outcome: Outcome, told: str) -> None:
        super().__init__(told)
        self.outcome: Outcome = outcome
        self.told = told


@dataclass(frozen=True)
class Check:
    """A rule, and the function that returns what it found where the rule is met, and raises `FindingError` elsewhere."""

    words: str
    look: Callable[[Any], str]


def require(met: bool, told: str) -> None:
    """Raises a `FindingError` that fails unless `met`."""
    if not met:
        raise FindingError("fail", told)


def skip(why: str) -> FindingError:
    """Returns the finding that a rule does not apply."""
    return FindingError("skip", why)


def judge(checks: Mapping[str, Check], subject: object) -> Iterator[Verdict]:
    """Yields a verdict a rule, as soon as it is known."""
    for rule, check in checks.items():
        outcome: Outcome = "ok"
        try:
            told = check.look(subject)
        except FindingError as finding:
            outcome, told = finding.outcome, finding.told
        except Exception as error:  # a method under test may raise anything
            outcome, told = "fail", f"raised {type(error).__name__}: {' '.join(str(error).split())}"
        yield Verdict(rule, outcome, told, check.words)
