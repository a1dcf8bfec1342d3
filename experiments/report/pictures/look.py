"""The look that all pictures share, and how a figure is saved."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from poisonbench.errors import ConfigError

# Okabe and Ito's palette without its yellow; line styles tell methods apart in print too
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#000000",
    "#7F7F7F",
)
STYLES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
MARKERS = "osD^vPX*"
# what metadata would make equal pictures differ, by the suffixes that there are
UNDATED: dict[str, dict[str, None]] = {
    ".png": {},
    ".pdf": {"CreationDate": None},
    ".svg": {"Date": None},
}
# text stays text in a PDF; equal figures give equal SVG
PRINT: dict[Any, Any] = {"pdf.fonttype": 42, "svg.hashsalt": "poisonbench"}


@dataclass(frozen=True)
class Look:
    """How the line of one method is drawn."""

    colour: str
    style: str | tuple[float, tuple[float, ...]]
    marker: str

    @classmethod
    def number(cls, index: int) -> "Look":
        """Returns the look of the line of that index, the same in every picture."""
        return cls(
            colour=COLOURS[index % len(COLOURS)],
            style=STYLES[index % len(STYLES)],
            marker=MARKERS[index % len(MARKERS)],
        )


def plain(text: str) -> str:
    """Returns a text as a figure shows it: no formula, nothing unprintable, nothing hidden.

    Names come from logs. A dollar would begin a formula, and an underscore in front hides a line
    from the legend.
    """
    shown = "".join(c if c.isprintable() else " " for c in text)
    shown = shown.replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def plain_axes(ax: Axes) -> None:
    """Makes grid and frame faint, so that the data stand out."""
    ax.tick_params(labelsize=8, color="0.6", length=3)
    ax.grid(color="0.92", linewidth=0.7)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color("0.6")


def check_suffix(path: Path) -> None:
    """Raises ConfigError unless a picture can be saved in the format of the path's suffix."""
    if path.suffix not in UNDATED:
        told = f"a picture ends in {', '.join(UNDATED)}, got {path.name!r}"
        raise ConfigError([told], f"name it {path.stem or 'picture'}.pdf")


def save(figure: Figure, path: Path) -> Path:
    """Writes a figure in the format of the suffix (.png, .pdf, .svg) and returns the path.

    Raises:
        ConfigError: the suffix is none of these, or the file cannot be written.
    """
    check_suffix(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with rc_context(PRINT):
            figure.savefig(path, dpi=200, metadata=UNDATED[path.suffix])
    except OSError as error:
        told = f"{path} cannot be written: {error.strerror or error}"
        raise ConfigError([told], "name another file") from error
    return path
