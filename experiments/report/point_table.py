"""The tables of audits: points by suspicion, and the training rows that each rests on."""

from collections.abc import Sequence
from math import floor, inf, log10

from experiments.evaluation.kinds.points import JudgedPoint
from experiments.evaluation.names import ShortNames
from experiments.report.table import Table

MOST_DECIMALS = 8
MOST = 20  # points of a table, and all that are flagged
HEAD = ("estimator", "detector", "point", "label", "suspicion", "p", "flag", "rests on")
LEGEND = (
    "The points that were to be judged, the most suspicious first. label: that the model predicts. "
    "p: how seldom a trusted point scores so high. flag: above the threshold that the trusted "
    "points set. rests on: the training rows that help the prediction most."
)


def point_tables(points: Sequence[JudgedPoint]) -> list[Table]:
    """Returns a table of the points of audits, none where there are none."""
    estimators = ShortNames.of(point.estimator for point in points)
    detectors = ShortNames.of(point.detector for point in points)
    groups: dict[tuple[str, ...], list[JudgedPoint]] = {}
    audits = dict.fromkeys(point.audit for point in points)
    for point in points:
        audit = [point.audit] if len(audits) > 1 else []
        method = (estimators.name(point.estimator), detectors.name(point.detector))
        names = (*audit, *method)
        groups.setdefault(names, []).append(point)
    body = []
    notes = []
    for names, group in groups.items():
        shown = [p for i, p in enumerate(group) if p.flag or i < MOST]
        form = _form(group)
        body += [[*names, *_cells(point, form)] for point in shown]
        flags = sum(point.flag for point in group)
        told = f"{', '.join(names)}: {flags} of {len(group)} points flagged"
        if len(shown) < len(group):
            told += f", {len(group) - len(shown)} not flagged are left out"
        notes.append(told)
    if not body:
        return []
    head = ("audit", *HEAD) if len(audits) > 1 else HEAD
    named = len(head) - len(HEAD) + 2
    return [Table("POINTS", LEGEND, head, body, named, tuple(notes))]


def _form(group: Sequence[JudgedPoint]) -> str:
    """The format of the suspicions of a group: as many decimals, four digits of the largest."""
    largest = max(abs(point.suspicion) for point in group)
    if not 0 < largest < inf:
        return ".3f"
    decimals = max(0, 3 - floor(log10(largest)))
    return f".{decimals}f" if decimals <= MOST_DECIMALS else ".3g"


def _cells(point: JudgedPoint, form: str) -> list[str]:
    """The cells of a point, its suspicion in this format."""
    rows = " ".join(map(str, point.proponents))
    return [
        str(point.point),
        str(point.label),
        f"{point.suspicion:{form}}",
        f"{point.p_value:.3f}",
        "FLAG" if point.flag else "-",
        rows or "-",
    ]
