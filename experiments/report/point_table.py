"""The tables of audits: points by suspicion, and the training rows that each rests on."""

from collections.abc import Sequence

from experiments.evaluation.kinds.points import JudgedPoint
from experiments.evaluation.names import ShortNames
from experiments.report.table import Table

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
    groups: dict[tuple[str, str], list[JudgedPoint]] = {}
    for point in points:
        names = (estimators.name(point.estimator), detectors.name(point.detector))
        groups.setdefault(names, []).append(point)
    body = []
    notes = []
    for (estimator, detector), group in groups.items():
        shown = [p for i, p in enumerate(group) if p.flag or i < MOST]
        body += [[estimator, detector, *_cells(point)] for point in shown]
        flags = sum(point.flag for point in group)
        told = f"{estimator}, {detector}: {flags} of {len(group)} points flagged"
        if len(shown) < len(group):
            told += f", {len(group) - len(shown)} not flagged are left out"
        notes.append(told)
    if not body:
        return []
    return [Table("POINTS", LEGEND, HEAD, body, 2, tuple(notes))]


def _cells(point: JudgedPoint) -> list[str]:
    """The cells of a point."""
    rows = " ".join(map(str, point.proponents))
    return [
        str(point.point),
        str(point.label),
        f"{point.suspicion:.3g}",
        f"{point.p_value:.3f}",
        "FLAG" if point.flag else "-",
        rows or "-",
    ]
