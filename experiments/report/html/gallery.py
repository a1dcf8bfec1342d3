"""Which points of which scenes are shown with their training instances, and what is left out."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from experiments.evaluation.kinds.points import is_audit
from experiments.evaluation.load import Results, settings
from experiments.evaluation.names import ShortNames, natural
from experiments.report.explanation.instances import Instances
from experiments.report.html.strips import (
    Ranked,
    Strip,
    check_probe,
    ranked_rows,
    strips,
)
from experiments.report.pictures.influence_block import choose_points
from experiments.report.pictures.influence_scene import most_suspicious
from poisonbench import log
from poisonbench.errors import PoisonbenchError
from poisonbench.log import Record, names
from poisonbench.roles import ATTACKED, JUDGED

MOST_SCENES = 8
MOST_ESTIMATORS = 3  # of a scene
MOST_ATTACKED = 2  # points of a scene, with one clean point beside them
MOST_JUDGED = 5  # points of an audit

# from a log of kind "scene", read whole, and rows to the training instances in these rows
TrainingRows = Callable[[Record, Sequence[int]], Instances]


@dataclass(frozen=True)
class Exhibit:
    """The points of a scene.

    Attributes:
        title: its attack and seed.
        points: of each its strips, one for each estimator.
    """

    title: str
    points: tuple[tuple[Strip, ...], ...]


@dataclass
class Gallery:
    """All that is shown.

    Attributes:
        exhibits: one for each scene.
        left_out: what is not shown, and why.
    """

    exhibits: list[Exhibit] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def leave_out(self, told: str) -> None:
        """Adds what is not shown, once."""
        if told not in self.left_out:
            self.left_out.append(told)


def gallery(results: Results, training_rows: TrainingRows) -> Gallery:
    """Returns attacked or judged points of some scenes, and clean ones beside them.

    Args:
        results: of a run.
        training_rows: gives rows of the poisoned training set of a scene; it may raise
            PoisonbenchError.
    """
    found = Gallery()
    scenes = list(_scenes(results))
    for title, scene in scenes[:MOST_SCENES]:
        try:
            exhibit = _exhibit(title, scene, results, training_rows, found)
        except PoisonbenchError as error:
            found.leave_out(error.message)
            continue
        if exhibit.points:
            found.exhibits.append(exhibit)
    if scenes[MOST_SCENES:]:
        left = f"{len(scenes) - MOST_SCENES} of {len(scenes)} attacks: only the first"
        found.leave_out(f"{left} {MOST_SCENES} are shown")
    return found


def _scenes(results: Results) -> Iterator[tuple[str, Record]]:
    """One scene of each attack, by name: the first seed in which a shown attack succeeded."""
    with_influence = {record.path.parent for record in results.of("influence")}
    groups: dict[str, list[Record]] = {}
    for scene in results.of("scene"):
        has_points = np.isin(scene.data[names.PROBE_GROUP], (ATTACKED, JUDGED)).any()
        if has_points and scene.path.parent in with_influence:
            key = json.dumps(settings(scene)[0], sort_keys=True)
            groups.setdefault(key, []).append(scene)
    short = ShortNames.of(group[0].config["attack"] for group in groups.values())
    chosen = []
    for group in groups.values():
        scene = max(group, key=_has_success)
        chosen.append((_title(scene, short), scene))
    yield from sorted(chosen, key=lambda pair: natural(pair[0]))


def _has_success(scene: Record) -> bool:
    """A sort key."""
    return bool(len(_successful(scene)))


def _successful(scene: Record) -> Sequence[int]:
    """The attacked points that the victim predicts as the attacker wants."""
    data = scene.data
    hit = data[names.PROBE_PREDICTED] == data[names.PROBE_WANTED]
    found = np.flatnonzero((data[names.PROBE_GROUP] == ATTACKED) & hit)
    return [int(point) for point in found]


def _title(scene: Record, short: ShortNames) -> str:
    named, seed = settings(scene)
    dataset = (named.get("dataset") or {}).get("name", "?")
    if is_audit(scene):
        return f"audit, {dataset}"
    return f"{short.name(scene.config['attack'])}, {dataset}, seed {seed}"


def _exhibit(
    title: str,
    known: Record,
    results: Results,
    training_rows: TrainingRows,
    found: Gallery,
) -> Exhibit:
    """The points of a scene by its first estimators.

    Raises:
        PoisonbenchError: the scene or its training set cannot be read.
    """
    folder = known.path.parent
    influences = [
        record for record in results.of("influence") if record.path.parent == folder
    ]
    scene = log.read(known.path, "scene")
    check_probe(scene)
    points = _points(scene, results)
    ascending = sorted(points)
    keys = (names.INFLUENCE,)
    ranked: list[Ranked] = []
    for known_log in influences[:MOST_ESTIMATORS]:
        record = log.read(known_log.path, "influence", keys=keys, rows=ascending)
        ranked += ranked_rows(scene, record, ascending)
    rows = sorted({row for one in ranked for row in (*one.helpful, *one.harmful)})
    made = strips(scene, ranked, training_rows(scene, rows), rows)
    if influences[MOST_ESTIMATORS:]:
        left = len(influences) - MOST_ESTIMATORS
        found.leave_out(f"{title}: {left} further estimators")
    by_point = []
    for point in points:
        of_point = tuple(strip for strip in made if strip.point.row == point)
        if of_point:
            by_point.append(of_point)
    return Exhibit(title, tuple(by_point))


def _points(scene: Record, results: Results) -> list[int]:
    """The rows of the probe that are shown."""
    if is_audit(scene):
        return most_suspicious(scene, results)[:MOST_JUDGED]
    won = list(_successful(scene))[:MOST_ATTACKED]
    if not won:
        attacked = np.flatnonzero(scene.data[names.PROBE_GROUP] == ATTACKED)
        won = [int(point) for point in attacked[:1]]
    controls = [point for point in choose_points(scene) if point not in won]
    return [*won, *controls[-1:]]
