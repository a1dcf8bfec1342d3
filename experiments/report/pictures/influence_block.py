"""A test point with the training instances of largest influence: what every picture shows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.report.explanation.instances import Instances
from experiments.report.explanation.matrix import Matrix
from experiments.report.explanation.ranked import most_harmful, most_helpful
from poisonbench.log import Record, names
from poisonbench.roles import ATTACKED, COVER, JUDGED, MATCHED, POISON, RANDOM

GREY = "#9A9A9A"
ROLES = {  # word, colour and width of the frame
    POISON: ("POISON", "#D00000", 3.0),
    COVER: ("COVER", "#E07B00", 3.0),
}
PLAIN = ("", GREY, 0.8)


@dataclass(frozen=True, eq=False)
class Block:
    """A test point with the training instances that are shown with it.

    Attributes:
        title: what it is, and how many of the instances are poison.
        x: the point, (*shape).
        true: its label, -1 if nobody told.
        predicted: the victim's label.
        rows: (k,), training rows, the strongest first.
        values: (k,), their influence.
        roles: (k,), clean, poison or cover.
    """

    title: str
    x: NDArray[Any]
    true: int
    predicted: int
    rows: NDArray[Any]
    values: NDArray[Any]
    roles: NDArray[Any]


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


def block_of(
    scene: Record,
    influence: Matrix,
    train: Instances,
    point: int,
    top: int,
    helped: bool = True,
) -> Block:
    """Returns a row of the probe with the `top` training instances that helped most.

    Args:
        scene: log of kind "scene".
        influence: matrix of that scene, (m, n).
        train: the poisoned training instances, at least those that are shown.
        point: row of the probe.
        top: training instances.
        helped: False: those that worked against the prediction most.
    """
    data = scene.data
    values = influence.on(point)
    rows = most_helpful(values, top) if helped else most_harmful(values, top)
    roles = data[names.POISON_ROLE][rows]
    what = "helped most" if helped else "worked against it most"
    shown = f"the {len(rows)} {train.noun} that {what} ({influence.estimator})"
    kind = "Clean test point"
    if data[names.PROBE_GROUP][point] == ATTACKED:
        kind = "Attacked test point"
    title = f"{kind}: {int((roles == POISON).sum())} of {shown} are poison"
    if data[names.PROBE_GROUP][point] == JUDGED:
        title = f"Point {point} and {shown}"
    lost = int((~np.isfinite(values)).sum())
    if lost:
        title += f" ({lost} non-finite values left out)"
    return Block(
        title=title,
        x=data[names.PROBE_X][point],
        true=int(data[names.PROBE_Y][point]),
        predicted=int(data[names.PROBE_PREDICTED][point]),
        rows=rows,
        values=values[rows],
        roles=roles,
    )
