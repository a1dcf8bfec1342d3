"""What detectors ask of the influence before they judge it."""

import warnings

from torch import Tensor

from poisonbench.contracts import Evidence


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
        raise ValueError(f"influence must have shape (m, n) = {shape}, got {tuple(influence.shape)}")
    sound = influence.isfinite().all(1)
    if not bool(sound.all()):
        bad = int((~sound).sum())
        warnings.warn(f"{bad} of {len(sound)} probe points have an influence that is not finite: no score", stacklevel=3)
    return influence, sound
