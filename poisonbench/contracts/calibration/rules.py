"""The rules by which clean points set a detector's threshold, in a grid and in a guard."""

import warnings
from collections.abc import Iterable
from math import ceil

import torch
from torch import Tensor

from poisonbench.contracts.protocols import Detector
from poisonbench.data import Dataset, kinds_of
from poisonbench.data.dataset import among
from poisonbench.errors import CalibrationWarning, ConfigError

UNREADABLE = {  # what a detector may read in a grid alone
    "probe": "the other points of a batch",
    "oracle": "the ground truth of an attack",
}
PLACES = 9  # decimals to which shares are compared
ROUNDING = 1e-5  # of a score's size: that of longer sums in single precision
USUAL = 0.9  # share of the clean scores whose size is usual
SEEN = 0.1  # share of the trusted points that may repeat training rows by chance
WAY = "choose another: `poisonbench list detectors` says what each reads"


def reference_half(clean: Tensor) -> Tensor:
    """Returns the clean points that a detector may be fitted to, (m,) bool: their first half.

    Args:
        clean: (m,) bool, points known to be clean, in random order.
    """
    half = int(clean.sum()) // 2
    return clean & (clean.cumsum(0) <= half)


def reference_of(method: object, clean: Tensor) -> Tensor:
    """Returns the clean points that a method may be fitted to, (m,) bool.

    None where it does not declare in `uses` that it reads "reference"; all of them where it
    cross-fits; else their first half.

    Args:
        method: a detector or another defense.
        clean: (m,) bool, points known to be clean, in random order.
    """
    if "reference" not in getattr(method, "uses", ()):
        return torch.zeros_like(clean)
    if getattr(method, "cross_fits", False):
        return clean
    return reference_half(clean)


def unseen_by(detector: object, clean: Tensor) -> Tensor:
    """Returns the clean points whose scores set a detector's threshold, (m,) bool.

    Those that it was not fitted to; all where it cross-fits: it judges each of its trusted points
    as if that were none.

    Args:
        detector: that was fitted to `reference_of`.
        clean: (m,) bool, points known to be clean, in random order.
    """
    if getattr(detector, "cross_fits", False):
        return clean
    return clean & ~reference_of(detector, clean)


def alarm_threshold(clean: Tensor, alarm: float) -> float:
    """Returns the score above which a point is flagged: its p-value is `alarm` at most there.

    It is the k-th lowest of the r finite scores of clean points, k the least whole number from
    (1 - alarm) (r + 1) on; infinity where that is more than r, as of fewer than 19 for 5 %.

    Args:
        clean: (r,) scores of clean points that the detector was not fitted to.
        alarm: share in (0, 1).
    """
    finite = clean[clean.isfinite()].sort().values
    place = ceil(round((1 - alarm) * (len(finite) + 1), PLACES))
    return torch.inf if place > len(finite) else float(finite[max(place, 1) - 1])


def flagged(p: Tensor, alarm: float) -> Tensor:
    """Returns which points are flagged, (m,) bool: of clean ones a share `alarm` at most is.

    Args:
        p: (m,) of `p_values`.
        alarm: share in (0, 1).
    """
    return p.double() <= alarm + 10.0**-PLACES


def p_values(scores: Tensor, clean: Tensor) -> Tensor:
    """Returns how seldom a clean point scores so high, (m,) in (0, 1]; NaN of NaN.

    That is (1 + c) / (1 + r), where c of the r finite scores in `clean` are at or above the score:
    for a clean point it is at most p with a probability of at most p (conformal prediction, Vovk et
    al. 2005). Scores that differ by rounding tie.

    Args:
        scores: (m,).
        clean: (r,) scores of clean points that the detector was not fitted to.
    """
    known = clean[clean.isfinite()].sort().values
    slack = ROUNDING * sizes(scores, known)
    below = torch.searchsorted(known, scores.contiguous() - slack)
    at_or_above = len(known) - below
    p = (1 + at_or_above).to(scores.dtype) / (1 + len(known))
    return p.masked_fill(scores.isnan(), torch.nan)


def sizes(scores: Tensor, clean: Tensor) -> Tensor:
    """Returns of what size each score is, (m,) >= 0, of which its rounding is a part.

    That is its own, or that which nine in ten clean scores do not exceed, where this is more: a sum
    near 0 rounds as its terms do. The largest clean score may be a million times the others.

    Args:
        scores: (m,); one that is not finite has the size of the clean ones.
        clean: (r,) finite scores of clean points.
    """
    own = scores.abs().nan_to_num(0.0, 0.0, 0.0)
    if not len(clean):
        return own
    usual = clean.abs().sort().values[ceil(USUAL * len(clean)) - 1]
    return torch.maximum(own, usual.to(own))


def check_readable(detector: Detector, kind: str) -> None:
    """Raises ConfigError if a detector reads what is there in a grid alone, or no such data.

    Args:
        detector: that is to judge.
        kind: of the data.
    """
    if kind not in kinds_of(detector):
        taken = " or ".join(kinds_of(detector))
        told = f"{detector!r} takes data of kind {taken}, the run's are of kind {kind}"
        raise ConfigError([told], WAY)
    for use, what in UNREADABLE.items():
        if use in detector.uses:
            told = f"{detector!r} reads {what}: it can judge no point by itself"
            raise ConfigError([told], WAY)


def too_few(method: object, count: int) -> str:
    """Returns why clean points are too few for a method that reads "reference", "" if they are not.

    It needs `least_trusted` of them, one where it does not say, and gets half of all unless it
    cross-fits.

    Args:
        method: a detector or another defense.
        count: points known to be clean.
    """
    if "reference" not in getattr(method, "uses", ()):
        return ""
    least: int = getattr(method, "least_trusted", 1)
    whose = ""
    if not getattr(method, "cross_fits", False):
        least = 2 * least
        whose = ", of which it is given half"
    if count >= least:
        return ""
    return f"needs at least {least} points known to be clean{whose}, got {count}"


def check_trusted(count: int, alarm: float, detectors: Iterable[Detector] = ()) -> None:
    """Refuses to calibrate on too few points; warns of too few for an alarm rate.

    Args:
        count: points known to be clean.
        alarm: share in (0, 1).
        detectors: that are to be calibrated.

    Raises:
        ConfigError: fewer than 2 points, or than a detector needs.
    """
    enough = ceil(2 / alarm)
    if count < 2:
        told = f"{count} trusted points: none to calibrate the detector on"
        way = (
            f"give {enough} or more that are known to be clean and were not trained on"
        )
        raise ConfigError([told], way)
    for detector in detectors:
        why = too_few(detector, count)
        if why:
            raise ConfigError([f"{detector!r} {why}"], "give more, or another detector")
    if count < enough:
        warnings.warn(
            f"{count} trusted points are few for alarm {alarm:g}: give {enough} or more",
            CalibrationWarning,
            stacklevel=3,
        )


def check_unseen(trusted: Dataset, train: Dataset) -> None:
    """Refuses trusted points that were trained on: a model is surer of them than of any others.

    Tables and short sentences repeat themselves by chance: of few it warns.

    Args:
        trusted: points known to be clean.
        train: the training set.

    Raises:
        ConfigError: more than a tenth of them are training rows.
    """
    count = int(among(trusted, train).sum())
    told = f"{count} of {len(trusted)} trusted points are rows of the training set"
    if count > SEEN * len(trusted):
        raise ConfigError([told], "give points that the model was not trained on")
    if count:
        warnings.warn(told, CalibrationWarning, stacklevel=3)
