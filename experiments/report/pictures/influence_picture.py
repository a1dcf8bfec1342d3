"""Pictures of attacked and clean test points, each beside its most influential training images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from experiments.report.pictures.look import save
from poisonbench.log import Record, names
from poisonbench.roles import ATTACKED, COVER, MATCHED, POISON, RANDOM

Images = tuple[NDArray[Any], NDArray[Any]]
GREY = "#9A9A9A"
THIN = 1.2
ROLES = {  # word, colour and width of the frame
    POISON: ("POISON", "#D00000", 3.0),
    COVER: ("COVER", "#E07B00", 3.0),
}
PLAIN = ("", GREY, 0.8)


@dataclass(frozen=True)
class Frame:
    """What stands around an image."""

    text: str
    colour: str
    width: float


def choose_points(scene: Record) -> list[int]:
    """Returns rows of the probe: the first successful attacked point, and a control like it.

    The control is predicted rightly. A matched control of the same predicted label comes before
    other matched ones, those before random ones.
    """
    data = scene.data
    group = data[names.PROBE_GROUP]
    predicted = data[names.PROBE_PREDICTED]
    hit = predicted == data[names.PROBE_WANTED]
    right = predicted == data[names.PROBE_Y]
    is_control = np.isin(group, (MATCHED, RANDOM))
    won = np.flatnonzero((group == ATTACKED) & hit)
    controls = np.flatnonzero(is_control & right)
    chosen = [int(point) for point in won[:1]]
    label = predicted[chosen[0]] if chosen else -1
    other_label = predicted[controls] != label
    order = np.lexsort((controls, group[controls], other_label))
    if len(controls):
        chosen.append(int(controls[order[0]]))
    return chosen


def influence_figure(
    scene: Record, influence: Record, train: Images, top: int = 10
) -> Figure:
    """Draws an attacked and a clean test point, and beside each its most influential images.

    Args:
        scene: log of kind "scene", with its probe and the roles of the training rows.
        influence: log of kind "influence" of that scene, (m, n).
        train: the poisoned training set: images (n, c, h, w) in [0, 1] and labels (n,).
        top: training images in a row.
    """
    points = choose_points(scene)
    size = (1.9 + 0.98 * top, 1.95 * max(1, len(points)))
    figure = Figure(
        figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.05)
    )
    if not points:
        text = "no attack succeeded, and no control is predicted correctly"
        figure.text(0.5, 0.5, text, ha="center", va="center")
        return figure
    parts = np.atleast_1d(np.array(figure.subfigures(len(points), 1)))
    for part, point in zip(parts, points, strict=True):
        values = influence.data[names.INFLUENCE][point]
        _draw_row(part, scene, values, train, point, top)
    return figure


def _draw_row(
    part: SubFigure,
    scene: Record,
    values: NDArray[Any],
    train: Images,
    point: int,
    top: int,
) -> None:
    """Draws one test point and the `top` training images of largest influence `values` (n,)."""
    data = scene.data
    images, labels = train
    finite = np.flatnonzero(np.isfinite(values))
    descending = np.argsort(-values[finite], kind="stable")
    rows = finite[descending[:top]]
    roles = data[names.POISON_ROLE][rows]
    title = _title(scene, point, roles, lost=len(values) - len(finite))
    part.suptitle(title, fontsize=10, x=0.006, ha="left")
    widths = [1.35, 0.18] + [1.0] * top
    axes = part.subplots(1, len(widths), width_ratios=widths)
    for ax in axes:
        ax.set(xticks=[], yticks=[])
    true = int(data[names.PROBE_Y][point])
    predicted = int(data[names.PROBE_PREDICTED][point])
    frame = Frame(f"true {true}\npredicted {predicted}", "black", THIN)
    _draw_image(axes[0], data[names.PROBE_X][point], frame)
    axes[1].set_axis_off()
    for ax in axes[2 + len(rows) :]:
        ax.set_axis_off()
    for ax, row, role in zip(axes[2:], rows, roles, strict=False):
        word, colour, width = ROLES.get(int(role), PLAIN)
        text = f"label {int(labels[row])}\n{values[row]:+.3g}"
        _draw_image(ax, images[row], Frame(text, colour, width))
        ax.set_title(word, fontsize=8, color=colour, fontweight="bold", pad=4)


def _title(scene: Record, point: int, roles: NDArray[Any], lost: int) -> str:
    attacked = scene.data[names.PROBE_GROUP][point] == ATTACKED
    kind = "Attacked test point" if attacked else "Clean test point"
    poison = int((roles == POISON).sum())
    title = f"{kind}: {poison} of its {len(roles)} most influential training images are poison"
    if lost:
        title += f" ({lost} non-finite values left out)"
    return title


def _draw_image(ax: Axes, x: NDArray[Any], frame: Frame) -> None:
    """Shows one image (c, h, w) in a frame, with a text below."""
    pixels = np.asarray(x, dtype=np.float64).clip(0, 1)
    pixels = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    ax.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_xlabel(frame.text, fontsize=8.5, labelpad=5)
    for spine in ax.spines.values():
        spine.set(edgecolor=frame.colour, linewidth=frame.width)


def influence_panel(
    scene: Record, influence: Record, train: Images, path: Path, top: int = 10
) -> Path:
    """Saves `influence_figure`."""
    return save(influence_figure(scene, influence, train, top), path)
