"""What is said of values outside [0, 1]: how they come into it."""

from torch import Tensor

from poisonbench.data.dataset import Dataset

LEVELS = (
    "by the least and largest value of the training set, in both sets: "
    "((x - least) / (largest - least)).clamp(0, 1)"
)
OVERSHOOT = 0.05  # beyond [0, 1]: what interpolation leaves, not another scale


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
    """The mean and deviation per channel that undo a normalisation (x - mean) / deviation.

    Where black and white both occur in a channel, its least value is -mean / deviation and its
    largest (1 - mean) / deviation, which gives both.
    """
    per_channel = x.transpose(0, 1).flatten(1).double()
    low = per_channel.amin(1)
    span = per_channel.amax(1) - low
    deviation = 1 / span.clamp(min=1e-12)
    mean = -low * deviation
    return (
        "normalisation is the model's first layer here, so undo that of the data: "
        f"x * deviation + mean per channel, with deviation {_listed(deviation)} and mean "
        f"{_listed(mean)} if black and white occur in every channel"
    )


def _listed(values: Tensor) -> str:
    shown = [f"{value:.4f}" for value in values.tolist()]
    return "(" + ", ".join(shown) + ")"
