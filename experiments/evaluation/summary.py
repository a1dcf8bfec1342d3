"""All rows of a run: of single scenes, over seeds, over attacks, and compared with one detector."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from experiments.evaluation.evaluations import EVALUATED, rows_of
from experiments.evaluation.kinds.points import JudgedPoint, judged_points
from experiments.evaluation.load import Results
from experiments.evaluation.means import aggregate
from experiments.evaluation.names import in_order
from experiments.evaluation.paired import differences, means_over_attacks, paired
from experiments.evaluation.rows import Row
from experiments.evaluation.views.regroup import check_keys, mean_by
from experiments.evaluation.views.sorting import sort_tables
from poisonbench.errors import LogError

# tables that an export has even when they are empty, in its order
ALWAYS = ("victims", "detections", "means", "costs")


@dataclass(frozen=True)
class Fault:
    """A log without results.

    Attributes:
        path: below the run's folder.
        reason: why.
    """

    path: str
    reason: str


@dataclass(frozen=True, eq=False)
class Summary:
    """The results of a run.

    Attributes:
        rows: over seeds, by what they are called: "victims", "detections", "costs", "filters", ...
        means: of detections over the attacks.
        scenes: the rows of single scenes, by what they are called.
        failures: stages that failed.
        damaged: logs that cannot be read.
        points: of audits.
        differences: of detections to the detector `against`.
        against: its name, empty if there is none.
    """

    rows: Mapping[str, Sequence[Row]]
    means: Sequence[Row]
    scenes: Mapping[str, Sequence[Row]]
    failures: Sequence[Fault]
    damaged: Sequence[Fault]
    points: Sequence[JudgedPoint] = field(default_factory=list)
    differences: Sequence[Row] = field(default_factory=list)
    against: str = ""

    def sorted_by(self, metric: str, ascending: bool = False) -> "Summary":
        """Returns the summary with the rows of each table sorted by a metric, see `sort_tables`."""
        tables = {**self.rows, "means": self.means, "differences": self.differences}
        found = dict(sort_tables(tables, metric, ascending))
        means = found.pop("means")
        compared = found.pop("differences")
        return replace(self, rows=found, means=means, differences=compared)

    def tables(self) -> dict[str, Sequence[Row]]:
        """Returns all rows by table, those of single scenes as `scene-...`."""
        found: dict[str, Sequence[Row]] = dict.fromkeys(ALWAYS, ())
        found["means"] = self.means
        if self.against:
            found["differences"] = self.differences
        found |= self.rows
        for name, rows in self.scenes.items():
            found[f"scene-{name}"] = rows
        return found


def summarise(
    results: Results, against: str | None = None, by: Sequence[str] = ()
) -> Summary:
    """Returns all rows of the results, those over seeds sorted by name.

    Args:
        results: of a run.
        against: a detector with which the others are compared, as the tables call it.
        by: keys; the rows are then means over all else, and none of the means over attacks.

    Raises:
        ConfigError: `against` names no detector of the results, or several; or a key is none of
            their settings.
    """
    scenes: dict[str, list[Row]] = {}
    merged: dict[str, list[Row]] = {}
    for kind in EVALUATED:
        found = rows_of(results, kind.name)
        if found or kind.rows in ALWAYS:
            scenes[kind.rows] = found
            merged[kind.rows] = in_order(_merged(found, kind.over, by))
    if by:
        check_keys([row for rows in scenes.values() for row in rows], by)
    judged = judged_points(results)
    return Summary(
        rows=merged,
        means=[] if by else means_over_attacks(merged["detections"]),
        scenes=scenes,
        failures=_failures(results),
        damaged=[
            *_damaged(results, results.damaged),
            *_damaged(results, judged.damaged),
        ],
        points=judged.points,
        differences=_differences(scenes["detections"], against, by),
        against=against or "",
    )


def _merged(rows: Sequence[Row], over: Sequence[str], by: Sequence[str]) -> list[Row]:
    """Means over the seeds, or over all but some keys."""
    if by:
        return mean_by(rows, by)
    return aggregate(rows, drop=over)


def _differences(
    detections: Sequence[Row], against: str | None, by: Sequence[str]
) -> list[Row]:
    """The differences to a detector, over seeds and attacks, or over all but some keys."""
    if not against:
        return []
    if by:
        return in_order(mean_by(paired(detections, against), by))
    return differences(detections, against)


def _failures(results: Results) -> list[Fault]:
    faults = []
    for record in results.of("failure"):
        path = record.path.relative_to(results.folder)
        faults.append(Fault(str(path), record.text("reason")))
    return faults


def _damaged(results: Results, errors: Sequence[LogError]) -> list[Fault]:
    faults = []
    for error in errors:
        path = error.path.relative_to(results.folder)
        faults.append(Fault(str(path), error.reason))
    return faults
