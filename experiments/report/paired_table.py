"""The table of paired differences between detectors."""

from collections.abc import Sequence

from experiments.evaluation.names import RowNames
from experiments.evaluation.rows import Row
from experiments.evaluation.samples import RESAMPLED
from experiments.report.table import Cells, Table


def difference_table(rows: Sequence[Row], name: str, names: RowNames) -> Table:
    """Returns the rows of `differences` to the detector `name` as a table."""
    cells = Cells()
    body = []
    for row in rows:
        metrics = [row.metrics[key] for key in RESAMPLED]
        line = list(names.all(row))
        line += cells.row(*metrics, form="+.3f")
        line.append(str(row.scenes))
        body.append(line)
    head = (
        "attack",
        "estimator",
        "detector",
        "AUROC [95 %]",
        "matched [95 %]",
        "scenes",
    )
    legend = (
        f"AUROC minus that of {name} on the same points of the same scenes (attack x seed), "
        "with paired intervals: against all clean controls, and (matched) against those "
        "predicted as a label that the attacker wants. In brackets behind a method: what it "
        "takes beyond the victim."
    )
    return Table("DIFFERENCES", legend, head, body, 3, cells.notes(), grouped=True)
