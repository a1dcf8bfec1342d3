"""What is said of pictures outside [0, 1], or of another scale than a training set.

Each says how they come into it.
"""

import warnings

from torch import Tensor

from poisonbench.data.dataset import Dataset
from poisonbench.data.form import agreeing
from poisonbench.data.kind import KINDS
from poisonbench.errors import DataError, RunWarning

LEVELS = (
    "by the least and largest value of the training set, in both sets: "
    "((x - least) / (largest - least)).clamp(0, 1)"
)
OVERSHOOT = 0.05  # beyond [0, 1]: what interpolation leaves, not another scale
ROUNDING = 1e-5  # beyond [0, 1]: what arithmetic leaves
BEYOND = 0.5  # of the span of a training set, beyond which points lie on another scale
LARGE = 10.0  # of a training set: beyond it, points below 1 are shares of white beside levels
AS_TRAINED = "prepare them as the training set was, by the same division and the same normalisation"


def into_unit_interval(data: Dataset, lowest: float, highest: float) -> str:
    """Says how images or spectrograms come into [0, 1]: by which constants.

    Args:
        data: instances (n, channels, height, width).
        lowest: their least value.
        highest: their largest value.
    """
    if lowest >= -OVERSHOOT and highest <= 1 + OVERSHOOT:
        return "what a resizing leaves beyond the ends: x.clamp(0, 1)"
    if lowest >= 0:
        return f"divide by {_full_scale(highest):g}"
    if data.kind == "spectrogram":
        return LEVELS
    return _undo_normalisation(data.x)


def _full_scale(highest: float) -> float:
    """The white of images that start at 0: of 8 or 16 bits, or else the largest value."""
    if 100 < highest <= 255:
        return 255.0
    if 10_000 < highest <= 65_535:
        return 65_535.0
    return highest


def _undo_normalisation(x: Tensor) -> str:
    """The mean and deviation per channel that undo a normalisation (x - mean) / deviation."""
    mean, deviation = _scale_of_channels(x)
    return (
        "normalisation is the model's first layer here, so undo that of the data: "
        f"x * deviation + mean per channel, with deviation {deviation} and mean "
        f"{mean} if black and white occur in every channel"
    )


def _scale_of_channels(x: Tensor) -> tuple[str, str]:
    """Returns mean and deviation per channel that bring (x - mean) / deviation into [0, 1].

    Where black and white both occur in a channel, its least value is -mean / deviation and its
    largest (1 - mean) / deviation, which gives both.
    """
    per_channel = x.transpose(0, 1).flatten(1).double()
    low = per_channel.amin(1)
    span = per_channel.amax(1) - low
    deviation = 1 / span.clamp(min=1e-12)
    return _listed(-low * deviation), _listed(deviation)


def _listed(values: Tensor) -> str:
    shown = [f"{value:.4f}" for value in values.tolist()]
    return "(" + ", ".join(shown) + ")"


def outside_unit(data: Dataset, what: str) -> str:
    """Says that images or spectrograms lie outside [0, 1]; "" where they do not, or others may.

    Args:
        data: any number of instances.
        what: names them, e.g. "the training set".
    """
    if not KINDS[str(data.kind)].unit:
        return ""
    lowest, highest = data.extent
    if lowest >= -ROUNDING and highest <= 1 + ROUNDING:
        return ""
    return f"{agreeing(what, 'has')} pixels from {lowest:.4g} to {highest:.4g}"


def into_model(data: Dataset) -> str:
    """Says how a run whose pictures lie outside [0, 1] becomes one whose pictures lie there."""
    lowest, highest = data.extent
    if lowest >= -OVERSHOOT and highest <= 1 + OVERSHOOT:
        return into_unit_interval(data, lowest, highest)
    mean, std = _scale_of_channels(data.x)
    if lowest >= 0:
        mean, std = "0", f"1 / {_full_scale(highest):g}"
    return (
        f"give {data.kind}s in [0, 1], x * std + mean per channel, and the model as "
        "nn.Sequential(torchvision.transforms.Normalize(mean, std), model), by the mean and std "
        f"of its own normalisation; from these values: mean {mean}, std {std}"
    )


def check_scale(points: Dataset, train: Dataset, what: str) -> None:
    """Refuses pictures that lie on another scale than a training set: bytes beside shares of white.

    It warns of points in [0, 1] beside a training set with negative values.

    Args:
        points: the m instances.
        train: the training set.
        what: names the points.

    Raises:
        DataError: they reach half of its span beyond it and [0, 1], or are shares of white beside
            levels, such as those to 255.
    """
    if not KINDS[str(train.kind)].unit or points.shape != train.shape:
        return
    if not len(points) or not len(train):
        return
    lowest, highest = points.extent
    least, most = train.extent
    low = min(least, 0.0)
    high = max(most, 1.0)
    room = BEYOND * (high - low)
    beyond = lowest < low - room or highest > high + room
    in_shares = lowest >= 0 and highest <= 1 and not _are_whole(points.x)
    tiny = in_shares and most > LARGE
    told = (
        f"{what} have pixels from {lowest:.4g} to {highest:.4g}, the training set from "
        f"{least:.4g} to {most:.4g}"
    )
    if beyond or tiny:
        raise DataError(told, AS_TRAINED)
    if in_shares and least < -OVERSHOOT:
        warnings.warn(f"{told}: {AS_TRAINED}", RunWarning, stacklevel=5)


def _are_whole(x: Tensor) -> bool:
    """Whether all values are whole numbers, as levels are; a black picture may be either."""
    return bool((x == x.round()).all())
