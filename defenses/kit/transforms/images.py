"""Images: blurred, flipped, cropped; laid over each other; brighter.

Superpositions: Gao et al., ACSAC 2019, arXiv 1902.06531.
"""

from torch import Tensor
from torch.nn import functional as F


def blur(x: Tensor) -> Tensor:
    """Returns the mean of each pixel and its neighbours in a square of 3, edges repeated.

    Args:
        x: (m, c, h, w); the shape stays.
    """
    padded = F.pad(x, (1, 1, 1, 1), "replicate")
    return F.avg_pool2d(padded, 3, 1)


def flip(x: Tensor) -> Tensor:
    """Returns the images with left and right exchanged."""
    return x.flip(-1)


def crop(x: Tensor) -> Tensor:
    """Returns the images less an eighth of every side (at least a pixel), at their old size."""
    height = x.shape[-2]
    width = x.shape[-1]
    top = max(1, round(height / 8))
    left = max(1, round(width / 8))
    bottom = height - top
    right = width - left
    inside = x[..., top:bottom, left:right]
    return F.interpolate(
        inside,
        size=(height, width),
        mode="bilinear",
        align_corners=False,
    )


def perturbed(x: Tensor, _train: Tensor) -> list[Tensor]:
    """Returns the images (m, c, h, w) blurred, flipped and cropped."""
    return [blur(x), flip(x), crop(x)]


def added(x: Tensor, other: Tensor) -> list[Tensor]:
    """Returns the images under another, (c, h, w), clipped: a bright trigger stays as it is."""
    return [(x + other).clamp(max=1)]


def averaged(x: Tensor, other: Tensor) -> list[Tensor]:
    """Returns the mean of each instance and another."""
    return [(x + other) / 2]


def amplified(x: Tensor, factor: float) -> Tensor:
    """Returns the images with pixels times a factor, cut at 1."""
    return (factor * x).clamp(0, 1)
