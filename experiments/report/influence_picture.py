"""Pictures of attacked and clean test points, each beside its most influential training images."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from experiments.report.style import save
from poisonbench.log import Record

Images = tuple[NDArray[Any], NDArray[Any]]


ROLES = {1: ("POISON", "#D00000"), 2: ("COVER", "#E07B00")}


GREY = "#9A9A9A"


def choose_points(scene: Record) -> list[int]:
    """Returns rows of the probe: the first successful attacked point, and a correctly predicted control, as alike as there is.

    A matched control of the same predicted label comes before other matched ones, those before random ones.
    """
    data = scene.data
    group, predicted = data["probe/group"], data["probe/predicted"]
    won = np.flatnonzero((group == 0) & (predicted == data["probe/wanted"]))
    controls = np.flatnonzero(((group == 1) | (group == 2)) & (predicted == data["probe/y"]))
    label = predicted[won[0]] if len(won) else -1
    order = np.lexsort((controls, group[controls], predicted[controls] != label))
    return [*map(int, won[:1]), *map(int, controls[order[:1]])]


def influence_figure(scene: Record, influence: Record, train: Images, top: int = 10) -> Figure:
    """Draws an attacked and a clean test point, and beside each the `top` training images of largest influence.

    Args:
        scene: log of kind "scene", with its probe and the roles of the training rows.
        influence: log of kind "influence" of that scene, (m, n).
        train: the poisoned training set: images (n, c, h, w) in [0, 1] and labels (n,).
        top: training images in a row.
    """
    points = choose_points(scene)
    size = 1.9 + 0.98 * top, 1.95 * max(1, len(points))
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.05))
    if not points:
        figure.text(
            0.5,
            0.5,
            "no attack succeeded, and no control is predicted correctly",
            ha="center",
            va="center",
        )
        return figure
    for part, point in zip(
        np.atleast_1d(np.array(figure.subfigures(len(points), 1))), points, strict=True
    ):
        _influence_row(part, scene, influence.data["influence"][point], train, point, top)
    return figure


def _influence_row(
    part: SubFigure, scene: Record, values: NDArray[Any], train: Images, point: int, top: int
) -> None:
    data = scene.data
    finite = np.flatnonzero(np.isfinite(values))
    rows = finite[np.argsort(-values[finite], kind="stable")[:top]]
    roles = data["poison/role"][rows]
    kind = "Attacked test point" if data["probe/group"][point] == 0 else "Clean test point"
    title = f"{kind}: {int((roles == 1).sum())} of its {len(rows)} most influential training images are poison"
    if lost := len(values) - len(finite):
        title += f" ({lost} non-finite values left out)"
    part.suptitle(title, fontsize=10, x=0.006, ha="left")
    axes = part.subplots(1, top + 2, width_ratios=[1.35, 0.18, *[1] * top])
    for ax in axes:
        ax.set(xticks=[], yticks=[])
    y, predicted = int(data["probe/y"][point]), int(data["probe/predicted"][point])
    _image(axes[0], data["probe/x"][point], f"true {y}\npredicted {predicted}", "black", 1.2)
    for ax in [axes[1], *axes[2 + len(rows) :]]:
        ax.set_axis_off()
    for ax, row, role in zip(axes[2:], rows, roles, strict=False):
        word, colour = ROLES.get(int(role), ("", GREY))
        _image(
            ax,
            train[0][row],
            f"label {int(train[1][row])}\n{values[row]:+.3g}",
            colour,
            3.0 if word else 0.8,
        )
        ax.set_title(word, fontsize=8, color=colour, fontweight="bold", pad=4)


def _image(ax: Axes, x: NDArray[Any], text: str, frame: str, width: float) -> None:
    """Shows one image (c, h, w) in a frame, with a text below."""
    pixels = np.clip(np.asarray(x, dtype=np.float64), 0, 1)
    ax.imshow(
        pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0),
        cmap="gray",
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )
    ax.set_xlabel(text, fontsize=8.5, labelpad=5)
    for spine in ax.spines.values():
        spine.set(edgecolor=frame, linewidth=width)


def influence_panel(
    scene: Record, influence: Record, train: Images, path: Path, top: int = 10
) -> Path:
    """Saves `influence_figure`."""
    return save(influence_figure(scene, influence, train, top), path)
