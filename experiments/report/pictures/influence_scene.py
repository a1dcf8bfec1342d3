"""Whose influences are shown: a scene, its estimators, an attacked test point and a clean one.

Of an audit, where nobody told which points are attacked: the most suspicious point.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.evaluation.kinds.points import is_audit
from experiments.evaluation.load import Results, settings
from experiments.evaluation.names import ShortNames
from experiments.report.pictures.influence_block import choose_points
from poisonbench import log
from poisonbench.log import Record, names
from poisonbench.roles import ATTACKED, JUDGED

ESTIMATORS = 4  # panels in a line
KEYS = (
    names.PROBE_GROUP,
    names.PROBE_PREDICTED,
    names.PROBE_WANTED,
    names.PROBE_Y,
    names.POISON_ROLE,
)


@dataclass(frozen=True, eq=False)
class Chosen:
    """A scene, the estimators and the test points that are shown.

    Attributes:
        scene: log of kind "scene", with its probe and the roles of the training rows.
        influences: logs of kind "influence" of that scene, with the (k, n) scores of its points.
        labels: of the estimators.
        title: which scene it is.
        points: k rows of the probe, ascending; of an audit the most suspicious one.
    """

    scene: Record
    influences: Sequence[Record]
    labels: Sequence[str]
    title: str
    points: Sequence[int]


def chosen(results: Results) -> Chosen | None:
    """Returns the first scene with influence in which an attack succeeded, or else the first.

    None where no scene has influence. Of more estimators than panels the first are taken.
    """
    by_scene: dict[Path, list[Record]] = {}
    for record in results.of("influence"):
        by_scene.setdefault(record.path.parent, []).append(record)
    scene = _first_attacked(_scenes(results, by_scene))
    if scene is None:
        return None
    records = by_scene[scene.path.parent]
    short_names = ShortNames.of(record.config["estimator"] for record in records)
    taken = records[:ESTIMATORS]
    labels = [short_names.name(record.config["estimator"]) for record in taken]
    keys = (names.INFLUENCE,)
    points = sorted(_points(scene, results))
    some = []
    for record in taken:
        of_points = log.read(record.path, "influence", keys=keys, rows=points)
        some.append(of_points)
    return Chosen(scene, some, labels, _title(results, scene), points)


def most_suspicious(scene: Record, results: Results) -> list[int]:
    """Returns the rows of the judged points in the probe, by the scores of the first detector."""
    judged = np.flatnonzero(scene.data[names.PROBE_GROUP] == JUDGED)
    for record in results.of("detect"):
        if record.path.parent == scene.path.parent:
            scores = np.nan_to_num(record.data[names.SCORE][judged], nan=-np.inf)
            judged = judged[np.argsort(-scores, kind="stable")]
            break
    return [int(point) for point in judged]


def _points(scene: Record, results: Results) -> list[int]:
    """The rows of the probe that are shown, at least one."""
    if is_audit(scene):
        return most_suspicious(scene, results)[:1]
    return choose_points(scene) or [0]


def _scenes(results: Results, able: dict[Path, list[Record]]) -> Iterator[Record]:
    """The scenes that are able, each with what is shown of it."""
    for head in results.of("scene"):
        if head.path.parent in able:
            yield log.read(head.path, "scene", keys=KEYS)


def _first_attacked(scenes: Iterator[Record]) -> Record | None:
    """The first scene with a successfully attacked point; the first where none has one."""
    first = None
    for scene in scenes:
        if first is None:
            first = scene
        points = choose_points(scene)
        if points and scene.data[names.PROBE_GROUP][points[0]] == ATTACKED:
            return scene
    return first


def _title(results: Results, scene: Record) -> str:
    """Which scene it is: data set, attack and seed."""
    attacks = ShortNames.of(head.config.get("attack") for head in results.of("scene"))
    config, seed = settings(scene)
    if is_audit(scene):
        return f"audit, {config.get('dataset', {}).get('name', '?')}"
    attack = attacks.name(config["attack"])
    dataset = config.get("dataset", {}).get("name", "?")
    return f"{dataset}, {attack}, seed {seed}"
