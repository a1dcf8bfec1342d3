"""Range checks of hyperparameters: each names the field, the rule and the value.

All have one form, `check_RULE(name, value, *limits)`: they raise ValueError or return nothing.
What is not a number (nan) keeps to no rule. The messages are written here alone.

`check_fraction` (0, 1); `check_part` (0, 1]; `check_share` [0, 1); `check_unit` [0, 1];
`check_between` [low, high]; `check_positive` (0, inf); `check_not_negative` [0, inf);
`check_at_least` [least, inf], None passes; `check_choice`: one of several names;
`check_different`: two classes that must not be the same. Three raise TypeError instead:
`check_type`, `check_whole` (a whole number), `check_number`.
"""

from collections.abc import Iterable
from numbers import Integral, Real

INFINITE = float("inf")


def _require(kept: bool, name: str, rule: str, value: object) -> None:
    if not kept:
        raise ValueError(f"{name} must {rule}, got {value}")


def check_fraction(name: str, value: float) -> None:
    """Raises ValueError unless `value` lies in (0, 1)."""
    _require(0 < value < 1, name, "lie in (0, 1)", value)


def check_part(name: str, value: float) -> None:
    """Raises ValueError unless `value` lies in (0, 1]."""
    _require(0 < value <= 1, name, "lie in (0, 1]", value)


def check_share(name: str, value: float) -> None:
    """Raises ValueError unless `value` lies in [0, 1)."""
    _require(0 <= value < 1, name, "lie in [0, 1)", value)


def check_unit(name: str, value: float) -> None:
    """Raises ValueError unless `value` lies in [0, 1]."""
    check_between(name, value, 0, 1)


def check_between(name: str, value: float, low: float, high: float) -> None:
    """Raises ValueError unless `value` lies in [low, high]."""
    _require(low <= value <= high, name, f"lie in [{low}, {high}]", value)


def check_positive(name: str, value: float) -> None:
    """Raises ValueError unless `value` is positive and finite."""
    _require(0 < value < INFINITE, name, "be positive and finite", value)


def check_not_negative(name: str, value: float) -> None:
    """Raises ValueError unless `value` is zero or positive, and finite."""
    _require(0 <= value < INFINITE, name, "be non-negative and finite", value)


def check_at_least(name: str, value: float | None, least: float) -> None:
    """Raises ValueError unless `value` is `least` or more; None passes."""
    if value is not None:
        _require(value >= least, name, f"be at least {least}", value)


def check_choice(name: str, value: str, known: Iterable[str]) -> None:
    """Raises ValueError unless `value` is one of `known`."""
    names = list(known)
    _require(value in names, name, f"be one of {', '.join(names)}", repr(value))


def check_different(
    name: str, value: int | None, other_name: str, other: int | None
) -> None:
    """Raises ValueError if two classes are the same one; None is a class left open and passes."""
    if value is not None and value == other:
        raise ValueError(f"{name} and {other_name} must differ, got {value} for both")


def check_type(name: str, value: object, kind: type, wanted: str) -> None:
    """Raises TypeError unless `value` is a `kind`; `wanted` says what that is, in words."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {wanted}, got {_described(value)}")


def check_whole(name: str, value: object) -> None:
    """Raises TypeError unless `value` is a whole number; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be a whole number, got {_described(value)}")


def check_number(name: str, value: object) -> None:
    """Raises TypeError unless `value` is a real number; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {_described(value)}")


def _described(value: object) -> str:
    kind = type(value).__name__
    if value is None:
        return "None"
    if isinstance(value, str | int | float):
        return f"{kind} {value!r}"
    return f"a value of type {kind}"
