"""How well each estimator finds planted label noise among the training rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from experiments.evaluation.evaluations import rows_of
from experiments.evaluation.kinds.filters import identification
from experiments.evaluation.load import Results
from experiments.evaluation.means import aggregate
from experiments.evaluation.metrics import Metric
from experiments.evaluation.names import RowNames, scene_config
from experiments.evaluation.rows import Row
from poisonbench import log
from poisonbench.log import Record, names

NONE = Metric(None)


@dataclass(frozen=True, eq=False)
class Finder:
    """One estimator as a finder of wrong labels: areas under its two curves.

    Attributes:
        name: of the estimator, with the settings that tell it apart.
        held_out: by minus the mean influence of a row on the held-out points.
        own: by the influence of a row on itself; undefined where that was not asked for.
        poison: rows with a wrong label, of all seeds.
        seeds: of the scenes.
    """

    name: str
    held_out: Metric
    own: Metric
    poison: int
    seeds: tuple[int, ...]


def finders(results: Results) -> dict[str, list[Finder]]:
    """Returns the estimators of each kind of scene with poison, the best on held-out points first.

    Means over the seeds.
    """
    held_out = aggregate(_harms(results))
    own = aggregate(rows_of(results, "memorisation"))
    called = RowNames.of([*held_out, *own], ("estimator",))
    areas = {}
    for row in own:
        areas[_place(called, row)] = row.metrics["auroc"]
    found: dict[str, list[Finder]] = {}
    for row in held_out:
        place = _place(called, row)
        scene, name = place
        finder = Finder(
            name=name,
            held_out=row.metrics["auroc"],
            own=areas.get(place, NONE),
            poison=row.counts["poison"],
            seeds=row.seeds,
        )
        of_scene = found.setdefault(scene, [])
        of_scene.append(finder)
    for of_scene in found.values():
        of_scene.sort(key=_worst_last)
    return found


def _place(called: RowNames, row: Row) -> tuple[str, str]:
    scene = called.scenes.name(scene_config(row))
    name = called.method(row, "estimator")
    return scene, name.rpartition(":")[2]


def _worst_last(one: Finder) -> float:
    value = one.held_out.value
    return float("inf") if value is None else -value


def _harms(results: Results) -> Sequence[Row]:
    """Returns a row for each estimator of each scene that has poison."""
    scenes = {}
    for record in results.of("scene"):
        scenes[record.path.parent] = record
    rows = []
    for record in results.of("influence"):
        scene = scenes[record.path.parent]
        role = scene.data[names.POISON_ROLE]
        if role.any():
            row = _harm(record, scene)
            rows.append(row)
    return rows


def _harm(record: Record, scene: Record) -> Row:
    """Ranks the training rows by what they take from the held-out points on the mean."""
    read = log.read(record.path, "influence", keys=[names.INFLUENCE])
    influence = read.data[names.INFLUENCE]
    help_of = influence.astype(float).mean(0)
    data = {names.SCORE: -help_of}
    ranked = replace(record, data=data)
    return identification(ranked, scene)
