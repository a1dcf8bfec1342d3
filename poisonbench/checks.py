"""Range checks of hyperparameters: each names the field, the rule and the value.

All have one form, `check_RULE(name, value, *limits)`: they raise ValueError or return nothing. What
is not a number (nan) keeps to no rule. The messages are written here alone; a missing rule is added.

`check_fraction` (0, 1); `check_part` (0, 1]; `check_share` [0, 1); `check_unit` [0, 1];
`check_between` [low, high]; `check_positive` (0, inf); `check_not_negative` [0, inf);
`check_at_least` [least, inf], None passes; `check_choice`: one of several names;
`check_different`: two classes that must not be the same. Three raise TypeError instead:
`check_type`, `check_whole` (a whole number), `check_number`.
"""

from collections.abc import Iterable
from numbers import Integral, Real

INFINITE = float("inf")


def check_fraction(name: str, value: float) -> None:
    """Raises ValueError unless `value` lies in (0, 1)."""
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie in (0, 1), got {value}")


def check_part(name: str, value: float) -> None:
    """Raises ValueError unless `value` lies in (0, 1]."""
    if not 0 < value <= 1:
        raise ValueError(f"{name} must lie in (0, 1], got {value}")


def check_share(name: str, value: float) -> None:
    """Raises ValueError unless `value` lies in [0, 1)."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} must lie in [0, 1), got {value}")


def check_unit(name: str, value: float) -> None:
    """Raises ValueError unless `value` lies in [0, 1]."""
    check_between(name, value, 0, 1)


def check_between(name: str, value: float, low: float, high: float) -> None:
    """Raises ValueError unless `value` lies in [low, high]."""
    if not low <= value <= high:
        raise ValueError(f"{name} must lie in [{low}, {high}], got {value}")


def check_positive(name: str, value: float) -> None:
    """Raises ValueError unless `value` is positive and finite."""
    if not 0 < value < INFINITE:
        raise ValueError(f"{name} must be positive and finite, got {value}")


def check_not_negative(name: str, value: float) -> None:
    """Raises ValueError unless `value` is zero or positive, and finite."""
    if not 0 <= value < INFINITE:
        raise ValueError(f"{name} must be non-negative and finite, got {value}")


def check_at_least(name: str, value: float | None, least: float) -> None:
    """Raises ValueError unless `value` is `least` or more; None passes."""
    if value is not None and not value >= least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def check_choice(name: str, value: str, known: Iterable[str]) -> None:
    """Raises ValueError unless `value` is one of `known`."""
    names = list(known)
    if value not in names:
        raise ValueError(f"{name} must be one of {', '.join(names)}, got {value!r}")


def check_different(name: str, value: int | None, other_name: str, other: int | None) -> None:
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
    if isinstance(value, str | int | float | None):
        return f"{kind} {value!r}"
    return f"a value of type {kind}"
