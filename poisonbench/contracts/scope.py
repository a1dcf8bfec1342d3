"""Which influences an estimator gives, and which of them a method reads: compared before any work.

An estimator that leaves scores out says in `gives` which are there, and has NaN for the others; a
method that reads influence and does not need all of it says in `reads` what it looks at.
"""

from typing import Any, Literal, get_args

from poisonbench.checks import check_choice
from poisonbench.errors import ConfigError
from poisonbench.training.trace import Trace

Scope = Literal["label", "all"]

MEANING = {
    "all": "every training row",
    "label": "the training rows that carry a point's label",
    "top": "the most influential training rows of a point",
}
WAY = "take an estimator that gives every row, or a method that reads no more than is there"


def check_scope(scope: str) -> None:
    """Raises ValueError for an unknown scope."""
    check_choice("scope", scope, get_args(Scope))


def misfit(estimator: Any, method: Any) -> str:
    """Returns why a method cannot work on the scores of an estimator; "" if it can."""
    if "influence" not in getattr(method, "uses", ()):
        return ""
    given = getattr(estimator, "gives", "all")
    read = getattr(method, "reads", "all")
    if given in ("all", read):
        return ""
    name = type(estimator).__name__
    reader = type(method).__name__
    there = MEANING.get(given, given)
    asked = MEANING.get(read, read)
    return f"{reader} reads the influence of {asked}, and {name} gives that of {there}"


def per_cosine(estimator: Any, trace: Trace) -> float | None:
    """Returns what a cosine of gradients at the final model counts in an estimator's scores.

    None where the scores are no such cosines, as of an estimator that does not say.
    """
    told = getattr(estimator, "per_cosine", None)
    count = None if told is None else told(trace)
    return count if count is not None and count > 0 else None


def check_scopes(estimator: Any, method: Any) -> None:
    """Raises ConfigError where a method needs scores that the estimator leaves out."""
    why = misfit(estimator, method)
    if why:
        raise ConfigError([why], WAY)
