"""What a reader wants to know first of filters, mitigations and certifiers, in words."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from experiments.evaluation.kinds.certificates import RADII
from experiments.evaluation.names import RowNames
from experiments.evaluation.rows import Row
from experiments.evaluation.summary import Summary
from experiments.report.html.glance import TRUTH

# rows -> part, metric, whether larger is better, what is said of the best
OTHERS = {
    "filters": ("filter", "auprc", True, "ranks the poison rows best, AUPRC"),
    "mitigations": ("mitigation", "asr_after", False, "leaves an attack success of"),
}


def other_defenses(summary: Summary) -> Iterator[str]:
    """Yields the best of the other defenses, by the mean over the attacks."""
    for name, (part, metric, larger, words) in OTHERS.items():
        values = _values_by_method(summary.rows.get(name, []), part, metric)
        if values:
            yield _best_mean(values, part, larger, words)
    yield from _certified(summary.rows.get("certificates", []))


def _certified(rows: Sequence[Row]) -> Iterator[str]:
    """The best certifier at the largest radius at which one of them certifies anything."""
    part = "certifier"
    for radius in reversed(RADII[1:]):
        values = _values_by_method(rows, part, f"certified_{radius}")
        if any(max(found) > 0 for found in values.values()):
            changed = "1 changed row" if radius == 1 else f"{radius} changed rows"
            words = f"certifies, under any {changed}, a share of"
            yield _best_mean(values, part, True, words)
            return
    if rows:
        yield "No certifier certifies a test point under a changed row."


def _best_mean(
    values: Mapping[str, list[float]], part: str, larger: bool, words: str
) -> str:
    """The method of the best mean over the attacks.

    Args:
        values: by method, one for each attack.
        part: what the methods are.
        larger: whether larger is better.
        words: what is said of the mean.
    """
    means = {method: fmean(found) for method, found in values.items()}
    order = sorted(means, key=means.__getitem__, reverse=larger)
    best = order[0]
    found = values[best]
    worst = min(found) if larger else max(found)
    of = f"Of {len(means)} {part}s, " if len(means) > 1 else ""
    told = f"{of}{best} {words} {means[best]:.3f}"
    if len(found) == 1:
        return f"{told}, on one attack."
    return f"{told}, mean over {len(found)} attacks; worst {worst:.3f}."


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
