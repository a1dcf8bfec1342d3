"""Colours and line styles of all plots, and how a figure is saved."""

from pathlib import Path

from matplotlib.figure import Figure

# Okabe and Ito's palette without its yellow; line styles tell methods apart in print too
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7F7F7F")


STYLES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))


def save(figure: Figure, path: Path) -> Path:
    """Writes a figure in the format of the suffix (.png, .pdf, .svg) and returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    undated = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    figure.savefig(path, dpi=200, metadata=undated.get(path.suffix))
    return path
