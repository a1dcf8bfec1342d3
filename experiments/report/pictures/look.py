"""The look that all pictures share, and how a figure is saved."""

from dataclasses import dataclass
from pathlib import Path

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


def plain_axes(ax: Axes) -> None:
    """Makes grid and frame faint, so that the data stand out."""
    ax.tick_params(labelsize=8, color="0.6", length=3)
    ax.grid(color="0.92", linewidth=0.7)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color("0.6")


def save(figure: Figure, path: Path) -> Path:
    """Writes a figure in the format of the suffix (.png, .pdf, .svg) and returns the path.

    Raises:
        ConfigError: the file cannot be written.
    """
    undated = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=200, metadata=undated.get(path.suffix))
    except OSError as error:
        told = f"{path} cannot be written: {error.strerror or error}"
        raise ConfigError([told], "name another file: -o FILE") from error
    return path
