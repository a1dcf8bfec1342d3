"""What detectors ask of the influence before they judge it."""

import warnings

import torch
from torch import Tensor

from poisonbench.contracts.values import Evidence
from poisonbench.errors import ConfigError


def sound_influence(evidence: Evidence) -> tuple[Tensor, Tensor]:
    """Returns the influence (m, n) and which probe points (m,) have nothing but finite values there; warns of the others.

    Raises:
        ValueError: there is no influence, or its shape is not (m, n).
    """
    influence = evidence.influence
    if influence is None:
        raise ValueError("this detector needs the influence of the training rows (m, n), got None")
    shape = (len(evidence.test), len(evidence.trace.train))
    if tuple(influence.shape) != shape:
        raise ValueError(
            f"influence must have shape (m, n) = {shape}, got {tuple(influence.shape)}"
        )
    sound = influence.isfinite().all(1)
    if not bool(sound.all()):
        bad = int((~sound).sum())
        warnings.warn(
            f"{bad} of {len(sound)} probe points have an influence that is not finite: no score",
            stacklevel=3,
        )
    return influence, sound


def trusted_points(evidence: Evidence, least: int = 1) -> Tensor:
    """Returns the indices of the trusted probe points, (r,) int64.

    Raises:
        ValueError: there are none such, fewer than `least`, or the mask is not (m,) bool.
    """
    mask, m = evidence.trusted, len(evidence.test)
    if mask is None:
        raise ValueError("this detector needs probe points known to be clean (m,), got None")
    if mask.dtype != torch.bool or tuple(mask.shape) != (m,):
        raise ValueError(
            f"trusted must be a bool mask of shape ({m},), got {mask.dtype} of shape {tuple(mask.shape)}"
        )
    found = mask.nonzero().squeeze(1)
    if len(found) < least:
        raise ValueError(
            f"this detector needs at least {least} trusted probe points, got {len(found)}: a larger calibration"
        )
    return found


def check_images(evidence: Evidence, what: str) -> None:
    """Raises ConfigError unless the instances are images (channels, height, width); `what` the detector does with them."""
    if len(evidence.test.shape) != 3:
        found = f"{what} (channels, height, width), got instances of shape {evidence.test.shape}"
        raise ConfigError([found], "choose an image data set, or another detector")
