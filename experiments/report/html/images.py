"""Pictures inside the page: images of the data as PNG, figures as SVG or PNG, as data URIs."""

import base64
import io
import warnings
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imsave
from numpy.typing import NDArray

LARGEST = 96  # pixels of a side; of larger images every k-th pixel is shown
MOST_SVG = 1 << 20  # bytes, above which a figure becomes a PNG
DPI = 110
# text as outlines, as the reader may lack the font; equal figures give equal files
STYLE: Any = {"svg.hashsalt": "poisonbench", "svg.fonttype": "path"}


def data_uri(content: bytes, kind: str) -> str:
    """Returns what an address in the page needs to be to hold the content itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def image_uri(x: NDArray[Any], is_sound: bool) -> str:
    """Returns an image or a spectrogram as the address of a PNG; "" if it is neither.

    Args:
        x: (channels, height, width) in [0, 1], with 1 or 3 channels; of a spectrogram (channels,
            frequency, time), of which the first channel is shown, low frequencies below.
        is_sound: whether it is a spectrogram.
    """
    if x.ndim != 3 or not x.size:
        return ""
    step = -(-max(x.shape[1:]) // LARGEST)
    pixels = np.nan_to_num(x[:, ::step, ::step].astype(np.float64)).clip(0, 1)
    out = io.BytesIO()
    about: dict[str, Any] = {"format": "png", "metadata": {"Software": None}}
    if is_sound:
        imsave(out, pixels[0], cmap="magma", vmin=0, vmax=1, origin="lower", **about)
    elif len(pixels) == 3:
        imsave(out, pixels.transpose(1, 2, 0), **about)
    else:
        imsave(out, pixels[0], cmap="gray", vmin=0, vmax=1, **about)
    return data_uri(out.getvalue(), "image/png")


def figure_uri(draw: Callable[[], Figure]) -> str:
    """Returns a figure as the address of an SVG, or of a PNG where that would be too large."""
    out = io.BytesIO()
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        # a name may be of any letters and any length
        warnings.simplefilter("ignore", UserWarning)
        figure = draw()
        figure.savefig(out, format="svg", metadata={"Date": None}, transparent=True)
        if out.tell() <= MOST_SVG:
            return data_uri(out.getvalue(), "image/svg+xml")
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=DPI, metadata={"Software": None})
    return data_uri(out.getvalue(), "image/png")
