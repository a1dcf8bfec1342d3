"""Range checks of hyperparameters: each names the field, the rule and the value."""

from collections.abc import Iterable


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


def check_positive(name: str, value: float) -> None:
    """Raises ValueError unless `value` is positive and finite."""
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} must be positive and finite, got {value}")


def check_at_least(name: str, value: int | None, least: int) -> None:
    """Raises ValueError if `value` is below `least`; None passes."""
    if value is not None and value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def check_choice(name: str, value: str, known: Iterable[str]) -> None:
    """Raises ValueError unless `value` is one of `known`."""
    names = list(known)
    if value not in names:
        raise ValueError(f"{name} must be one of {', '.join(names)}, got {value!r}")


def check_unit(name: str, value: float) -> None:
    """Raises ValueError unless `value` lies in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie in [0, 1], got {value}")
