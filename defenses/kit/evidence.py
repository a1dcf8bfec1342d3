"""Validates what a defense is given, and reads it: the influence, the trusted points, the kind."""

import warnings
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import torch
from torch import Tensor

from defenses.kit.blocks import in_blocks
from poisonbench.checks import check_type
from poisonbench.contracts.kinds import check_range
from poisonbench.contracts.scope import Scope
from poisonbench.contracts.values import Evidence
from poisonbench.errors import ConfigError

Kept = TypeVar("Kept")
_AT_ONCE = 1 << 20  # values of an influence matrix, 4 MiB
WANTED = "an Evidence(trace, test), with the predicted labels in test.y"


@dataclass(frozen=True, eq=False)
class Shared(Evidence):
    """Evidence on which several detectors work: what one computes the next one finds.

    Attributes:
        kept: what `once` was asked for, by its key. It lasts as long as this object.
    """

    kept: dict[Hashable, Any] = field(default_factory=dict)


def shared(evidence: Evidence) -> Shared:
    """Returns the same evidence, on which nothing is computed twice from now on.

    Raises:
        TypeError: it is no Evidence.
    """
    check_type("evidence", evidence, Evidence, WANTED)
    if isinstance(evidence, Shared):
        return evidence
    values = {part.name: getattr(evidence, part.name) for part in fields(Evidence)}
    return Shared(**values)


def once(evidence: Evidence, key: Hashable, compute: Callable[[], Kept]) -> Kept:
    """Returns what `compute` does; of shared evidence it is computed the first time alone.

    The result must not be changed in place.

    Args:
        evidence: that `compute` reads.
        key: tells what is computed, by which settings. It should hold the objects that `compute`
            reads (a trace, a data set), not numbers that stand for them.
        compute: takes nothing.
    """
    if not isinstance(evidence, Shared):
        return compute()
    if key not in evidence.kept:
        evidence.kept[key] = compute()
    found: Kept = evidence.kept[key]
    return found


def check_rows(evidence: Evidence) -> None:
    """Validates the input of a defense that judges training rows.

    Raises:
        TypeError: it is no Evidence.
        ValueError: there are no training rows.
    """
    check_type("evidence", evidence, Evidence, WANTED)
    if not len(evidence.trace.train):
        raise ValueError(
            "a defense needs at least 1 training row, got 0: train on some"
        )


def check_points(evidence: Evidence) -> None:
    """Validates the input of a defense that judges test points.

    Raises:
        TypeError: it is no Evidence.
        ValueError: there are no training rows, or no test points.
    """
    check_rows(evidence)
    if not len(evidence.test):
        raise ValueError(
            "a detector needs at least 1 test point, got 0: a larger probe"
        )


def check_kind(evidence: Evidence, what: str, kinds: tuple[str, ...]) -> None:
    """Raises ConfigError unless the instances are of one of the kinds.

    Args:
        evidence: whose test points are looked at.
        what: the detector does, for the message.
        kinds: keys of `poisonbench.data.KINDS`.
    """
    kind = evidence.test.kind
    if kind not in kinds:
        allowed = ", ".join(kinds)
        found = f"{what}, which has a meaning for the kinds {allowed}, got {kind!r}"
        raise ConfigError([found], "choose another data set, or another detector")


def check_unit(evidence: Evidence, detector: object) -> None:
    """Raises ConfigError where a detector takes pictures in [0, 1] alone and sees others."""
    parts = {
        "the training set": evidence.trace.train,
        "the probe": evidence.test,
    }
    check_range(detector, parts)


def sound_influence(evidence: Evidence, reads: Scope = "all") -> tuple[Tensor, Tensor]:
    """Returns the influence (m, n), and which test points (m,) have only finite values there.

    Warns of the other points.

    Args:
        evidence: of a defense that reads influence.
        reads: where the values must be finite: in every training row, or in those of the label.

    Raises:
        TypeError: it is no Evidence.
        ValueError: there are no rows or points, there is no influence, or it is not (m, n).
    """
    check_points(evidence)
    influence = evidence.influence
    if influence is None:
        raise ValueError(
            "this detector needs the influence of the training rows (m, n), got None"
        )
    n = len(evidence.trace.train)
    m = len(evidence.test)
    wanted = (m, n)
    found = tuple(influence.shape)
    if found != wanted:
        raise ValueError(f"influence must have shape (m, n) = {wanted}, got {found}")
    sound = _are_finite(evidence, influence, reads)
    bad = int((~sound).sum())
    if bad:
        warnings.warn(
            f"{bad} of {len(sound)} probe points have an influence that is not finite: no score",
            stacklevel=3,
        )
    return influence, sound


def _are_finite(evidence: Evidence, influence: Tensor, reads: Scope) -> Tensor:
    """Returns which points have finite values alone, (m,) bool; some points at a time."""
    m, n = influence.shape
    points = torch.arange(m, device=influence.device)
    sound = torch.empty_like(points, dtype=torch.bool)
    for part in in_blocks(points, n, _AT_ONCE):
        finite = influence[part].isfinite()
        if reads == "label":
            finite |= evidence.trace.train.y != evidence.test.y[part, None]
        sound[part] = finite.all(1)
    return sound


def trusted_points(evidence: Evidence, least: int = 1) -> Tensor:
    """Returns the indices of the trusted test points, (r,) int64.

    Raises:
        ValueError: there are fewer than `least`, or the mask is not (m,) bool.
    """
    mask = evidence.trusted
    m = len(evidence.test)
    if mask is None:
        raise ValueError(
            "this detector needs probe points known to be clean (m,), got None"
        )
    shape = tuple(mask.shape)
    if mask.dtype != torch.bool or shape != (m,):
        told = f"got {mask.dtype} of shape {shape}"
        raise ValueError(f"trusted must be a bool mask of shape ({m},), {told}")
    found = mask.nonzero().squeeze(1)
    if len(found) < least:
        told = f"got {len(found)}: a larger calibration"
        raise ValueError(
            f"this detector needs at least {least} trusted probe points, {told}"
        )
    return found
