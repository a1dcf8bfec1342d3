"""What a reader wants to know first, in words."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from experiments.evaluation.kinds.points import JudgedPoint
from experiments.evaluation.names import RowNames, ShortNames
from experiments.evaluation.rows import Row
from experiments.evaluation.summary import Summary
from experiments.evaluation.views.headings import scenes_told, seeds_told
from experiments.report.html.glance import Found, auroc, best_of, called
from experiments.report.html.other_defenses import other_defenses
from experiments.report.html.undone import Undone
from experiments.report.table import SECONDS, Cells, written

SUCCESS = 0.5  # attack success from which an attack is said to succeed


def sentences(summary: Summary, lacks: Undone) -> list[str]:
    """Returns what a reader wants to know first, the failures before the rest."""
    told = [*_lacking(lacks)]
    told += _attacks(summary)
    told += _detectors(summary)
    told += _points(summary.points)
    told += _costs(summary)
    told += other_defenses(summary)
    return told


def _lacking(lacks: Undone) -> Iterator[str]:
    if lacks.nothing:
        if lacks.planned:
            yield f"All {lacks.planned} planned cells are there; none failed."
        return
    parts = []
    if lacks.failed:
        parts.append(f"{_count(lacks.failed, 'cell')} failed")
    if lacks.diverged:
        parts[-1] += f" ({lacks.diverged} of them: the training diverged)"
    if lacks.missing:
        parts.append(f"{lacks.missing} of {lacks.planned} planned cells are missing")
    if lacks.damaged:
        parts.append(f"{_count(len(lacks.damaged), 'file')} cannot be read")
    yield f"Incomplete: {'; '.join(parts)}. What follows is of the others."


def _count(number: int, noun: str) -> str:
    return f"1 {noun}" if number == 1 else f"{number} {noun}s"


def _attacks(summary: Summary) -> Iterator[str]:
    """What was attacked, and how well."""
    victims = summary.rows["victims"]
    if not victims:
        return
    names = RowNames.of(victims)
    trained = sum(row.scenes for row in victims)
    seeds = {seed for row in victims for seed in row.seeds}
    yield (
        f"{_count(trained, 'victim')} on {'; '.join(scenes_told(victims))}: "
        f"{_count(len(victims), 'setting')} of attack and data, {_count(len(seeds), 'seed')}."
    )
    alone = seeds_told(victims)
    if alone:
        yield alone
    yield from _weak(summary)
    able = [row for row in victims if row.metrics["asr"].value is not None]
    if not able:
        yield "No victim has attacked test points."
        return
    strong = [row for row in able if _rate(row) > SUCCESS]
    best = max(able, key=_rate)
    [success] = Cells().row(replace(best.metrics["asr"], reason=""))
    yield (
        f"{len(strong)} of {len(able)} attacks turn more than half of their points; the "
        f"strongest is {names.attack(best)}, success {success}."
    )


def _weak(summary: Summary) -> Iterator[str]:
    """Victims that are too weak to judge detectors on."""
    scenes = summary.scenes["victims"]
    told: Counter[str] = Counter()
    for row in scenes:
        accuracy = row.metrics["clean_accuracy"]
        if accuracy.value is not None and accuracy.reason:
            told[accuracy.reason] += 1
    for reason, count in told.items():
        yield f"{count} of {_count(len(scenes), 'victim')}: {reason}."


def _rate(row: Row) -> float:
    """A sort key."""
    return row.metrics["asr"].value or 0.0


def _detectors(summary: Summary) -> Iterator[str]:
    """Which detector finds the attacks, and which it misses most."""
    detections = summary.rows["detections"]
    names = RowNames.of(detections)
    best = best_of(summary.means)
    if best is None:
        best = best_of(detections)
    if best is None:
        if detections:
            yield "No detector has a defined AUROC."
        return
    row = best.row
    [value] = Cells().row(replace(row.metrics["auroc"], reason=""))
    where = f"on {names.attack(row)}"
    if row not in detections:
        where = f"as {row.settings['attack']['name']}"
    told = f"{called(row, names)} has an AUROC of {value} {where}"
    if best.of > 1:
        told = f"Of {_compared(best)}, {called(row, names)} has the largest AUROC, "
        told += f"{value}, {where}"
    worst = row.metrics.get("auroc_worst")
    if worst is not None and worst.value is not None:
        told += f"; {worst.value:.3f} on the attack that it finds worst"
    if best.of > 1:
        told += (
            ". It was chosen on these points: on others it is likely to do less well"
        )
    yield f"{told}."
    if best.bare is not None and _is_within(best.bare, row):
        [bare] = Cells().row(
            replace(best.bare.metrics["auroc"], interval=None, reason="")
        )
        yield (
            f"Without influence, {called(best.bare, names)} has {bare}: inside the interval of "
            "the largest."
        )


def _compared(best: Found) -> str:
    """How many detectors the best one was chosen from."""
    if best.detectors == best.of:
        return f"{best.of} detectors"
    pairs = f"{best.of} pairs of detector and estimator"
    return f"{pairs} ({_count(best.detectors, 'detector')})"


def _is_within(bare: Row, best: Row) -> bool:
    """Whether the AUROC of a row is inside the interval of the best one, another row."""
    interval = best.metrics["auroc"].interval
    if bare is best or interval is None:
        return False
    return auroc(bare) >= interval[0]


def _costs(summary: Summary) -> Iterator[str]:
    """What each estimator takes."""
    costs = summary.rows["costs"]
    names = RowNames.of(costs)
    told = []
    for row in costs:
        parts = [row.metrics["fit_seconds"].value, row.metrics["score_seconds"].value]
        seconds = [part for part in parts if part is not None]
        if len(seconds) == len(parts):
            told.append((sum(seconds), names.method(row, "estimator")))
    if told:
        words = ", ".join(
            f"{name} {written(seconds, SECONDS)} s" for seconds, name in sorted(told)
        )
        yield f"Influence on the test points of one victim takes: {words}."


def _points(points: Sequence[JudgedPoint]) -> Iterator[str]:
    """What the detectors of an audit flag."""
    if not points:
        return
    shown = ShortNames.of(point.detector for point in points)
    estimators = ShortNames.of(point.estimator for point in points)
    groups: dict[str, list[JudgedPoint]] = {}
    several = len({point.audit for point in points}) > 1
    for point in points:
        name = shown.name(point.detector)
        if point.estimator:
            name += f" on {estimators.name(point.estimator)}"
        if several:
            name = f"{point.audit}: {name}"
        groups.setdefault(name, []).append(point)
    yield "An audit: nobody told which points are attacked, so there is no rate of success."
    for name, group in groups.items():
        flagged = sum(point.flag for point in group)
        told = f"{name} flags {flagged} of {_count(len(group), 'point')}"
        first = group[0]
        yield f"{told}; the most suspicious is point {first.point}, p = {first.p_value:.3f}."
