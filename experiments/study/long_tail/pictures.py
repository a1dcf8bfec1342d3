"""The most memorised rows of each class beside rows that are not memorised at all."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from experiments.report.pictures.look import save
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError

MOST = 8  # memorised rows of a class
LEAST = 3  # rows that are not
CELL = 0.95  # inches
STEP = 1.2  # of a line, in cells
GAP = 1  # empty cells between the two


def most_memorised(
    data: Dataset,
    scores: Tensor,
    path: Path,
) -> None:
    """Saves the page: a line for each class, the score under each picture.

    Args:
        data: n images.
        scores: (n,) their memorisation.
        path: .png, .pdf or .svg.

    Raises:
        ConfigError: the rows are no images.
    """
    check_images(data)
    columns = MOST + GAP + LEAST
    size = (CELL * columns, CELL * STEP * data.classes)
    with mpl.rc_context({"font.size": 7}):
        figure = Figure(figsize=size, layout="constrained")
        panel = figure.subplots()
        panel.set_axis_off()
        for label in range(data.classes):
            top = -STEP * label
            rows = chosen_rows(data.y == label, scores)
            for column, row in enumerate(rows):
                if row is not None:
                    score = float(scores[row])
                    _show(panel, data, row, score, column, top)
            panel.text(-0.15, top - 0.5, str(label), fontsize=10, ha="right")
        panel.set_xlim(-0.4, columns)
        panel.set_ylim(-STEP * data.classes, 0)
        panel.set_title(
            f"the {MOST} most memorised rows of each label; right, {LEAST} that are not",
            fontsize=9,
        )
        save(figure, path)


def check_images(data: Dataset) -> None:
    """Raises ConfigError unless the rows are images."""
    if data.kind != "image":
        told = f"pictures are of images, and the rows are of kind {data.kind}"
        raise ConfigError([told], "leave out --pictures")


def chosen_rows(members: Tensor, scores: Tensor) -> list[int | None]:
    """Returns the rows of a line, None for an empty place.

    Args:
        members: (n,) bool, the rows of a class.
        scores: (n,).
    """
    rows = members.nonzero().squeeze(1)
    order = scores[rows].argsort(descending=True, stable=True)
    ranked: list[int] = rows[order].tolist()
    most = ranked[:MOST]
    rest = ranked[len(most) :]
    by_size = sorted(rest, key=lambda row: abs(float(scores[row])))
    least = by_size[:LEAST]
    line: list[int | None] = [*most]
    line += [None] * (MOST + GAP - len(most))
    line += [*least]
    line += [None] * (LEAST - len(least))
    return line


def _show(
    panel: Axes,
    data: Dataset,
    row: int,
    score: float,
    column: int,
    top: float,
) -> None:
    """Draws a row of the data with its upper left corner at (column, top)."""
    pixels = data.x[row].cpu()
    image = pixels.movedim(0, 2).squeeze(2)
    panel.imshow(
        image.numpy(),
        cmap="gray_r",
        vmin=0,
        vmax=1,
        interpolation="nearest",
        extent=(column + 0.05, column + 0.95, top - 0.95, top - 0.05),
    )
    panel.text(
        column + 0.5,
        top - 0.97,
        f"{score:.2f}",
        ha="center",
        va="top",
    )
