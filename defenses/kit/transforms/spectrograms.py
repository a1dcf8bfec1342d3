"""Spectrograms: moved in time, without bands; one sound over another.

Time shift and frequency mask after Park et al., Interspeech 2019, arXiv 1904.08779. They are never
mirrored.
"""

import torch
from torch import Tensor

BANDS = 8


def later(x: Tensor) -> Tensor:
    """Returns the spectrograms (m, c, f, t) moved on by an eighth of their time.

    The first moment fills the gap.
    """
    times = x.shape[-1]
    shift = max(1, round(times / 8))
    source = torch.arange(times, device=x.device) - shift
    return x[..., source.clamp(min=0)]


def without_bands(x: Tensor, first: int) -> Tensor:
    """Returns the spectrograms with every other eighth of the frequencies at their mean.

    Args:
        x: (m, c, f, t); the mean is over f and t.
        first: 0 or 1, the band that goes first.
    """
    frequencies = x.shape[-2]
    band = torch.arange(frequencies, device=x.device) * BANDS // frequencies
    gone = band % 2 == first
    mean = x.mean((-2, -1), keepdim=True)
    return torch.where(gone[:, None], mean, x)


def perturbed(x: Tensor, _train: Tensor) -> list[Tensor]:
    """Returns them moved, without the even bands, and without the odd ones."""
    return [later(x), without_bands(x, 0), without_bands(x, 1)]


def added(x: Tensor, other: Tensor) -> list[Tensor]:
    """Returns both sounds at once: in each band and moment the louder of the two.

    Values are logarithms, and that of a sum of two energies is within 3 dB of the larger one's.
    """
    return [torch.maximum(x, other)]
