"""Test points, each with the training instances that helped and hurt its prediction most."""

from collections.abc import Iterator, Mapping, Sequence
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


@dataclass(frozen=True, eq=False)
class Ranked:
    """The training rows that matter most to a test point by one estimator.

    Attributes:
        point: row of the probe.
        estimator: its name.
        values: (n,) influence of every training row.
        helpful: the most helpful rows, the most helpful first.
        harmful: the most harmful ones, the most harmful first.
    """

    point: int
    estimator: str
    values: NDArray[Any]
    helpful: tuple[int, ...]
    harmful: tuple[int, ...]


def check_probe(scene: Record) -> None:
    """Raises LogError unless a log of kind "scene" has an instance and a label for each point."""
    size = len(scene.data[names.PROBE_GROUP])
    for key in (names.PROBE_X, names.PROBE_Y):
        if key not in scene.data or scene.data[key].shape[:1] != (size,):
            raise LogError(scene.path, f"has not {key!r} of each probe point")
    if scene.data[names.PROBE_Y].ndim != 1:
        raise LogError(scene.path, f"{names.PROBE_Y!r} is no vector")


def ranked_rows(
    scene: Record, influence: Record, points: Sequence[int]
) -> Iterator[Ranked]:
    """Yields the rows that matter most to some points of a scene by one estimator.

    Args:
        scene: log of kind "scene".
        influence: log of kind "influence" of that scene, of which these points are read.
        points: k rows of the probe, ascending.

    Raises:
        LogError: the logs do not fit each other.
    """
    every = influence.data[names.INFLUENCE]
    wanted = (len(points), len(scene.data[names.POISON_ROLE]))
    if every.shape != wanted:
        what = f"its influence on some points is of shape {every.shape}, not {wanted}"
        raise LogError(influence.path, what)
    for point, values in zip(points, every, strict=True):
        yield Ranked(
            point=point,
            estimator=str(influence.config["estimator"]["name"]),
            values=values,
            helpful=tuple(most_helpful(values, HELPFUL).tolist()),
            harmful=tuple(most_harmful(values, HARMFUL).tolist()),
        )


def strips(
    scene: Record, ranked: Sequence[Ranked], train: Instances, rows: Sequence[int]
) -> list[Strip]:
    """Returns the strips of some points of a scene.

    Args:
        scene: log of kind "scene", read whole.
        ranked: points and what matters to them.
        train: training instances, with the poison.
        rows: their rows, among them all that matter.

    Raises:
        LogError: the log does not fit the training set.
    """
    size = len(scene.data[names.PROBE_GROUP])
    if scene.data[names.PROBE_X].shape != (size, *train.x.shape[1:]):
        what = f"{names.PROBE_X!r} does not hold such instances as the training set"
        raise LogError(scene.path, what)
    places = {row: place for place, row in enumerate(rows)}
    return [_strip(scene, one, train, places) for one in ranked]


def _strip(
    scene: Record, ranked: Ranked, train: Instances, places: Mapping[int, int]
) -> Strip:
    role = scene.data[names.POISON_ROLE]
    point = ranked.point
    values = ranked.values
    told = f"influence by {ranked.estimator}"
    group = int(scene.data[names.PROBE_GROUP][point])
    if group != JUDGED:
        poison = int((role[list(ranked.helpful)] == POISON).sum())
        told += f": {poison} of the {len(ranked.helpful)} most helpful are poison"
    lost = int((~np.isfinite(values)).sum())
    if lost:
        told += f"; {lost} values are not finite and left out"

    def shown(row: int) -> Shown:
        x = train.x[places[row]]
        return Shown(
            image=_image(x, train),
            words=_words(x, train),
            label=f"label {int(train.y[places[row]])}",
            influence=f"{values[row]:+.3g}",
            role=ROLES.get(int(role[row]), ""),
            row=row,
        )

    return Strip(
        title=_title(scene, point),
        told=told,
        point=_point(scene, point, train),
        helpful=tuple(shown(row) for row in ranked.helpful),
        harmful=tuple(shown(row) for row in ranked.harmful),
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
