"""What a reader wants to know first, in words."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from experiments.evaluation.kinds.points import JudgedPoint
from experiments.evaluation.names import RowNames, ShortNames, scene_config
from experiments.evaluation.rows import Row
from experiments.evaluation.summary import Summary
from experiments.report.html.glance import TRUTH, best_of, called
from experiments.report.html.undone import Undone
from experiments.report.table import Cells

SUCCESS = 0.5  # attack success from which an attack is said to succeed


def sentences(summary: Summary, lacks: Undone) -> list[str]:
    """Returns what a reader wants to know first, the failures before the rest."""
    told = [*_lacking(lacks)]
    told += _attacks(summary)
    told += _detectors(summary)
    told += _points(summary.points)
    told += _costs(summary)
    told += _others(summary)
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
    scenes = {str(scene_config(row)["name"]) for row in victims}
    trained = sum(row.scenes for row in victims)
    seeds = {seed for row in victims for seed in row.seeds}
    yield (
        f"{_count(trained, 'victim')} on {', '.join(sorted(scenes))}: {len(victims)} kinds of "
        f"training set (attack, budget, data), {_count(len(seeds), 'seed')}."
    )
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
    told = f"Of {_count(best.of, 'detector')}, {called(row, names)} has the largest AUROC, "
    told += f"{value}, {where}"
    worst = row.metrics.get("auroc_worst")
    if worst is not None and worst.value is not None:
        told += f"; {worst.value:.3f} on the attack that it finds worst"
    yield f"{told}. It was chosen on these points: on others it will do less well."


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
        words = ", ".join(f"{name} {seconds:.3g} s" for seconds, name in sorted(told))
        yield f"Influence on the test points of one victim takes: {words}."


def _points(points: Sequence[JudgedPoint]) -> Iterator[str]:
    """What the detectors of an audit flag."""
    if not points:
        return
    shown = ShortNames.of(point.detector for point in points)
    estimators = ShortNames.of(point.estimator for point in points)
    groups: dict[str, list[JudgedPoint]] = {}
    for point in points:
        name = shown.name(point.detector)
        if point.estimator:
            name += f" on {estimators.name(point.estimator)}"
        groups.setdefault(name, []).append(point)
    yield "An audit: nobody told which points are attacked, so there is no rate of success."
    for name, group in groups.items():
        flagged = sum(point.flag for point in group)
        told = f"{name} flags {flagged} of {_count(len(group), 'point')}"
        first = group[0]
        yield f"{told}; the most suspicious is point {first.point}, p = {first.p_value:.3f}."


# rows -> metric, whether larger is better, what is said of the best
OTHERS = {
    "filters": ("auprc", True, "ranks the poison rows best, AUPRC"),
    "mitigations": ("asr_after", False, "leaves the least attack success,"),
    "certificates": ("certified_8", True, "certifies most under 8 changed rows,"),
}
PARTS = {
    "filters": "filter",
    "mitigations": "mitigation",
    "certificates": "certifier",
}


def _others(summary: Summary) -> Iterator[str]:
    """The best of the other defenses."""
    for name, (metric, larger, words) in OTHERS.items():
        rows = [
            row
            for row in summary.rows.get(name, [])
            if row.metrics[metric].value is not None and TRUTH not in row.uses
        ]
        if not rows:
            continue
        part = PARTS[name]
        shown = RowNames.of(rows, (part,))

        def value(row: Row, metric: str = metric) -> float:
            return row.metrics[metric].value or 0.0

        row = max(rows, key=value) if larger else min(rows, key=value)
        told = f"{shown.method(row, part)} {words} {value(row):.3f}, on {shown.attack(row)}"
        yield f"Of {_count(len(rows), part)} (each with an attack), {told}."
