"""What a reader wants to know first, in words."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean

from experiments.evaluation.kinds.points import JudgedPoint
from experiments.evaluation.names import RowNames, ShortNames
from experiments.evaluation.rows import Row
from experiments.evaluation.summary import Summary
from experiments.evaluation.views.headings import scenes_told
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
    trained = sum(row.scenes for row in victims)
    seeds = {seed for row in victims for seed in row.seeds}
    yield (
        f"{_count(trained, 'victim')} on {'; '.join(scenes_told(victims))}: "
        f"{_count(len(victims), 'setting')} of attack and data, {_count(len(seeds), 'seed')}."
    )
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
        told = f"Of {best.of} detectors, {called(row, names)} has the largest AUROC, "
        told += f"{value}, {where}"
    worst = row.metrics.get("auroc_worst")
    if worst is not None and worst.value is not None:
        told += f"; {worst.value:.3f} on the attack that it finds worst"
    if best.of > 1:
        told += ". It was chosen on these points: on others it will do less well"
    yield f"{told}."


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


# rows -> part, metric, whether larger is better, what is said of the best
OTHERS = {
    "filters": ("filter", "auprc", True, "ranks the poison rows best, AUPRC"),
    "mitigations": ("mitigation", "asr_after", False, "leaves an attack success of"),
    "certificates": (
        "certifier",
        "certified_8",
        True,
        "certifies, under any 8 changed rows, a share of",
    ),
}


def _others(summary: Summary) -> Iterator[str]:
    """The best of the other defenses, by the mean over the attacks."""
    for name, (part, metric, larger, words) in OTHERS.items():
        values = _values_by_method(summary.rows.get(name, []), part, metric)
        if not values:
            continue
        means = {method: fmean(found) for method, found in values.items()}
        order = sorted(means, key=means.__getitem__, reverse=larger)
        best = order[0]
        found = values[best]
        worst = min(found) if larger else max(found)
        told = f"Of {_count(len(means), part)}, {best} {words} {means[best]:.3f}"
        yield f"{told}, mean over {_count(len(found), 'attack')}; worst {worst:.3f}."


def _values_by_method(
    rows: Sequence[Row], part: str, metric: str
) -> dict[str, list[float]]:
    """The defined values of a metric by method and estimator, without those that use the truth."""
    names = RowNames.of(rows, ("estimator", "detector", "filter", part))
    found: dict[str, list[float]] = {}
    for row in rows:
        value = row.metrics[metric].value
        if value is None or TRUTH in row.uses:
            continue
        words = [names.method(row, part)]
        for other in ("detector", "filter", "estimator"):
            if other != part and row.settings.get(other):
                words += ["on", names.method(row, other)]
        found.setdefault(" ".join(words), []).append(value)
    return found
