"""The table of a kind of stage whose columns stand in the table of kinds."""

from collections.abc import Sequence

from experiments.evaluation.names import RowNames
from experiments.evaluation.rows import Row
from experiments.plan.kind import Kind
from experiments.report.table import Cells, Table


def kind_table(kind: Kind, rows: Sequence[Row]) -> Table:
    """Returns the rows over seeds of a kind that says what is shown."""
    shown = kind.shown
    assert shown is not None, kind.name
    parts = (kind.part,) if kind.estimators == "none" else ("estimator", kind.part)
    names = RowNames.of(rows, parts)
    cells = Cells()
    body = []
    for row in rows:
        numbers = []
        for column in shown.columns:
            numbers += cells.row(row.metrics[column.metric], form=column.form)
        counts = [str(row.counts[name]) for name in shown.counts]
        body.append((*names.all(row), *numbers, *counts, str(len(row.seeds))))
    heads = [column.head for column in shown.columns]
    head = ("attack", *parts, *heads, *shown.counts, "seeds")
    return Table(
        shown.title,
        shown.legend,
        head,
        body,
        1 + len(parts),
        cells.notes(),
        grouped=True,
    )
