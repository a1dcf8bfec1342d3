"""The table of paired differences between detectors."""

from collections.abc import Callable, Sequence

from experiments.evaluation.rows import RESAMPLED, Row
from experiments.report.table import Cells, Table


def difference_table(
    rows: Sequence[Row], name: str, names: Callable[[Row], tuple[str, ...]]
) -> Table:
    """Returns the rows of `differences` as a table."""
    cell, body = Cells(), list[tuple[str, ...]]()
    for row in rows:
        body.append(
            (
                *names(row),
                *cell(*(row.metrics[key] for key in RESAMPLED), form="+.3f", ends="+.3f"),
                str(row.scenes),
            )
        )
    head = ("attack", "estimator", "detector", "AUROC [95 %]", "matched [95 %]", "scenes")
    legend = (
        f"AUROC minus that of {name} on the same points of the same scenes, with paired intervals: all clean controls, and those "
        "predicted as a label an attacker wants. [...]: what a method takes beyond the victim."
    )
    return Table("DIFFERENCES", legend, head, body, 3, cell.notes(), grouped=True)
