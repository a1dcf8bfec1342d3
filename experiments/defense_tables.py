"""The tables of the defenses that judge training rows, certify, or undo."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from experiments.naming import Cells, Table, naming
from experiments.rows import Row


def defense_tables(rows: Mapping[str, Sequence[Row]]) -> list[Table]:
    """Returns a table for each kind of rows over seeds that there is."""
    made = {"filters": _identification}
    return [table(rows[name]) for name, table in made.items() if rows.get(name)]


def _identification(rows: Sequence[Row]) -> Table:
    names, cell, body = naming(rows, ("estimator", "filter")), Cells(), list[tuple[str, ...]]()
    for row in rows:
        plain = {"auroc": replace(row.metrics["auroc"], interval=None)}
        metrics = cell(*(plain.get(key, row.metrics[key]) for key in ("auprc", "auroc", "recall", "ties")))
        seconds = cell(row.metrics["seconds"], form=".3g")
        body.append((*names(row), *metrics, *seconds, str(row.counts["poison"]), str(row.counts["cover"]), str(len(row.seeds))))
    head = (
        "attack",
        "estimator",
        "filter",
        "AUPRC [95 %]",
        "AUROC",
        "recall [95 %]",
        "ties",
        "s",
        "poison",
        "cover",
        "seeds",
    )
    legend = (
        "Poison rows among the clean training rows. recall: the share of the poison in as many of the top rows; ties: share of "
        "rows whose score another has. Cover rows enter no metric. [...]: what a method takes beyond the victim."
    )
    return Table("IDENTIFICATION", legend, head, body, 3, cell.notes(), grouped=True)
