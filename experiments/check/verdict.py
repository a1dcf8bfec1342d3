"""Verdicts: what a check says of a rule."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from poisonbench.contracts.untouched import Untouched
from poisonbench.errors import ChangedError
from poisonbench.seeding import restore

Outcome = Literal["ok", "fail", "warn", "skip"]


@dataclass(frozen=True)
class Verdict:
    """What was found of a rule.

    Attributes:
        rule: its name.
        outcome: "ok", "fail" (the contract is broken), "warn" (it is kept, but look), "skip" (it
            does not apply, or not here).
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
    """A rule in words, and its test.

    Attributes:
        words: the rule.
        look: returns what it found where the rule is met, and raises `FindingError` elsewhere.
    """

    words: str
    look: Callable[[Any], str]


def require(met: bool, told: str) -> None:
    """Raises a `FindingError` that fails unless `met`."""
    if not met:
        raise FindingError("fail", told)


def untouched(run: Callable[[], object], values: Mapping[str, object]) -> None:
    """Raises a `FindingError` if a run changes a tensor in `values` or the process's state."""
    before = Untouched.now(values)
    try:
        run()
    except BaseException:
        restore(before.state)
        raise
    try:
        before.check()
    except ChangedError as error:
        raise FindingError("fail", error.message) from error


def skip(why: str) -> FindingError:
    """Returns the finding that a rule does not apply."""
    return FindingError("skip", why)


def judge(checks: Mapping[str, Check], subject: object) -> Iterator[Verdict]:
    """Yields a verdict per rule, as soon as it is known."""
    for rule, check in checks.items():
        yield _verdict(rule, check, subject)


def _verdict(rule: str, check: Check, subject: object) -> Verdict:
    try:
        told = check.look(subject)
    except FindingError as finding:
        return Verdict(rule, finding.outcome, finding.told, check.words)
    except Exception as error:  # a method under test may raise anything
        text = " ".join(str(error).split())
        told = f"raised {type(error).__name__}: {text}"
        return Verdict(rule, "fail", told, check.words)
    return Verdict(rule, "ok", told, check.words)
