"""Test points, each with the training instances that helped and hurt its prediction most."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.report.explanation.instances import Instances
from experiments.report.explanation.ranked import most_harmful, most_helpful
from experiments.report.html.images import image_uri
from poisonbench.errors import LogError
from poisonbench.log import Record, names
from poisonbench.roles import ATTACKED, COVER, JUDGED, POISON

ROLES = {POISON: "poison", COVER: "cover"}
HELPFUL = 8
HARMFUL = 3
MOST_LETTERS = 400  # of an instance in words


@dataclass(frozen=True)
class Shown:
    """An instance.

    Attributes:
        image: its address, which holds it; empty for one that is told in words.
        words: the instance in words.
        label: what is known of its label.
        influence: of a training instance; empty for a test point.
        role: "poison", "cover" or "".
        row: of the training set, or of the probe.
    """

    image: str
    words: str
    label: str
    influence: str
    role: str
    row: int


@dataclass(frozen=True)
class Strip:
    """The training instances behind a test point by one estimator.

    Attributes:
        title: what the point is.
        told: the estimator, and how many of the most helpful instances are poison.
        point: the test point.
        helpful: the most helpful instances, the most helpful first.
        harmful: the most harmful ones, the most harmful first.
    """

    title: str
    told: str
    point: Shown
    helpful: tuple[Shown, ...]
    harmful: tuple[Shown, ...]


def strips(
    scene: Record, influence: Record, train: Instances, points: Sequence[int]
) -> Iterator[Strip]:
    """Yields the strips of some points of a scene by one estimator.

    Args:
        scene: log of kind "scene", read whole.
        influence: log of kind "influence" of that scene.
        train: the n training instances, with the poison.
        points: rows of the probe.

    Raises:
        LogError: the logs do not fit each other, or the training set.
    """
    values = influence.data[names.INFLUENCE]
    role = scene.data[names.POISON_ROLE]
    wanted = (len(scene.data[names.PROBE_GROUP]), len(role))
    if values.shape != wanted or len(train.x) != len(role):
        what = f"its influence is of shape {values.shape}, not {wanted}"
        raise LogError(influence.path, what)
    if scene.data[names.PROBE_X].shape != (wanted[0], *train.x.shape[1:]):
        what = f"{names.PROBE_X!r} does not hold such instances as the training set"
        raise LogError(scene.path, what)
    if scene.data[names.PROBE_Y].shape != (wanted[0],):
        what = f"{names.PROBE_Y!r} has not a label for each probe point"
        raise LogError(scene.path, what)
    estimator = str(influence.config["estimator"]["name"])
    for point in points:
        yield _strip(scene, values[point], train, point, estimator)


def _strip(
    scene: Record, values: NDArray[Any], train: Instances, point: int, estimator: str
) -> Strip:
    role = scene.data[names.POISON_ROLE]
    helpful = most_helpful(values, HELPFUL)
    harmful = most_harmful(values, HARMFUL)
    told = f"influence by {estimator}"
    group = int(scene.data[names.PROBE_GROUP][point])
    if group != JUDGED:
        poison = int((role[helpful] == POISON).sum())
        told += f": {poison} of the {len(helpful)} most helpful are poison"
    lost = int((~np.isfinite(values)).sum())
    if lost:
        told += f"; {lost} values are not finite and left out"

    def shown(row: int) -> Shown:
        return Shown(
            image=_image(train.x[row], train),
            words=_words(train.x[row], train),
            label=f"label {int(train.y[row])}",
            influence=f"{values[row]:+.3g}",
            role=ROLES.get(int(role[row]), ""),
            row=row,
        )

    return Strip(
        title=_title(scene, point),
        told=told,
        point=_point(scene, point, train),
        helpful=tuple(shown(int(row)) for row in helpful),
        harmful=tuple(shown(int(row)) for row in harmful),
    )


def _title(scene: Record, point: int) -> str:
    data = scene.data
    group = int(data[names.PROBE_GROUP][point])
    if group == JUDGED:
        return f"Point {point}"
    if group != ATTACKED:
        return f"Clean test point {point}"
    hit = data[names.PROBE_PREDICTED][point] == data[names.PROBE_WANTED][point]
    outcome = "successful" if hit else "failed"
    return f"Attacked test point {point} ({outcome})"


def _point(scene: Record, point: int, train: Instances) -> Shown:
    x = scene.data[names.PROBE_X][point]
    true = int(scene.data[names.PROBE_Y][point])
    label = f"predicted {int(scene.data[names.PROBE_PREDICTED][point])}"
    if true >= 0:
        label = f"true {true}, {label}"
    return Shown(
        image=_image(x, train),
        words=_words(x, train),
        label=label,
        influence="",
        role="",
        row=point,
    )


def _image(x: NDArray[Any], train: Instances) -> str:
    if not train.are_pictures:
        return ""
    return image_uri(x, train.kind == "spectrogram")


def _words(x: NDArray[Any], train: Instances) -> str:
    words = train.at(x)
    if len(words) > MOST_LETTERS:
        return f"{words[:MOST_LETTERS]} ..."
    return words
