"""Attacked and clean test points, each beside the training instances of largest influence.

Images and spectrograms are drawn; sentences and vectors are written, see `influence_lines`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from experiments.report.explanation.instances import Instances
from experiments.report.explanation.matrix import Matrix
from experiments.report.pictures.influence_block import (
    PLAIN,
    ROLES,
    Block,
    block_of,
    choose_points,
)
from experiments.report.pictures.influence_lines import lines_figure
from experiments.report.pictures.look import save
from poisonbench.log import Record

THIN = 1.2

NARROWEST = 7.5  # inches, in which the longest title fits


@dataclass(frozen=True)
class Frame:
    """What stands around an image."""

    text: str
    colour: str
    width: float


def influence_figure(
    scene: Record,
    influence: Matrix,
    train: Instances,
    top: int = 10,
    points: Sequence[int] | None = None,
) -> Figure:
    """Draws test points, and beside each the training instances that helped it most.

    Args:
        scene: log of kind "scene", with its probe and the roles of the training rows.
        influence: matrix of that scene, (m, n).
        train: the poisoned training set.
        top: training instances of each point.
        points: rows of the probe; None: an attacked and a clean one, see `choose_points`.
    """
    chosen = choose_points(scene) if points is None else points
    blocks = [block_of(scene, influence, train, point, top) for point in chosen]
    return _figure_of(blocks, train, top)


def explanation_figure(
    scene: Record,
    influences: Sequence[Matrix],
    train: Instances,
    point: int,
    top: int,
) -> Figure:
    """Draws what helped a prediction and what worked against it, by each estimator.

    Args:
        scene: log of kind "scene", with its probe and the roles of the training rows.
        influences: matrices of that scene, (m, n).
        train: the poisoned training instances, at least those that are shown.
        point: row of the probe.
        top: training instances of each list.
    """
    blocks = []
    for matrix in influences:
        blocks.append(block_of(scene, matrix, train, point, top))
        against = block_of(scene, matrix, train, point, top, helped=False)
        if len(against.rows):
            blocks.append(against)
    return _figure_of(blocks, train, top)


def _figure_of(blocks: Sequence[Block], train: Instances, top: int) -> Figure:
    if not blocks:
        figure = Figure(figsize=(_width(top), 1.95))
        text = "no attack succeeded, and no control is predicted correctly"
        figure.text(0.5, 0.5, text, ha="center", va="center")
        return figure
    if not train.are_pictures:
        return lines_figure(blocks, train)
    size = (_width(top), 1.95 * len(blocks))
    figure = Figure(
        figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.05)
    )
    parts = np.atleast_1d(np.array(figure.subfigures(len(blocks), 1)))
    for part, block in zip(parts, blocks, strict=True):
        _draw_block(part, block, train, top)
    return figure


def _width(top: int) -> float:
    """Inches: for `top` images, and for the title where they are few."""
    return max(NARROWEST, 1.9 + 0.98 * top)


def _draw_block(part: SubFigure, block: Block, train: Instances, top: int) -> None:
    """Draws one test point, and in a row its at most `top` training images."""
    part.suptitle(block.title, fontsize=10, x=0.006, ha="left")
    widths = [1.35, 0.18] + [1.0] * top
    axes = part.subplots(1, len(widths), width_ratios=widths)
    for ax in axes:
        ax.set(xticks=[], yticks=[])
    below = f"true {block.true}\npredicted {block.predicted}"
    if block.true < 0:
        below = f"predicted {block.predicted}"
    _draw_image(axes[0], block.x, train, Frame(below, "black", THIN))
    axes[1].set_axis_off()
    for ax in axes[2 + len(block.rows) :]:
        ax.set_axis_off()
    for place, row in enumerate(block.rows):
        ax = axes[2 + place]
        word, colour, width = ROLES.get(int(block.roles[place]), PLAIN)
        text = f"label {int(train.y[row])}\n{block.values[place]:+.3g}"
        _draw_image(ax, train.x[row], train, Frame(text, colour, width))
        ax.set_title(word, fontsize=8, color=colour, fontweight="bold", pad=4)


def _draw_image(ax: Axes, x: NDArray[Any], train: Instances, frame: Frame) -> None:
    """Shows one image (c, h, w), or spectrogram (c, f, t), in a frame, with a text below."""
    pixels = np.asarray(x, dtype=np.float64).clip(0, 1)
    pixels = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    is_sound = train.kind == "spectrogram"
    ax.imshow(
        pixels,
        cmap="magma" if is_sound else "gray",
        vmin=0,
        vmax=1,
        interpolation="nearest",
        origin="lower" if is_sound else "upper",  # low frequencies below
        aspect="auto" if is_sound else "equal",
    )
    ax.set_xlabel(frame.text, fontsize=8.5, labelpad=5)
    for spine in ax.spines.values():
        spine.set(edgecolor=frame.colour, linewidth=frame.width)


def influence_panel(
    scene: Record,
    influence: Matrix,
    train: Instances,
    path: Path,
    top: int = 10,
    points: Sequence[int] | None = None,
) -> Path:
    """Saves `influence_figure`."""
    return save(influence_figure(scene, influence, train, top, points), path)
