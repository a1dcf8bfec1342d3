"""The results of a run as a tidy table of pandas: one line a cell and metric."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.evaluation.load import load_results
from experiments.evaluation.rows import Row
from experiments.evaluation.summary import summarise
from experiments.evaluation.views.flat import named_columns
from experiments.evaluation.views.where import where
from poisonbench.errors import ConfigError

if TYPE_CHECKING:
    import pandas

SCENE = "scene-"  # what the tables of single scenes begin with


def tidy(
    folder: Path | str,
    conditions: Sequence[str] = (),
    by: Sequence[str] = (),
    over_seeds: bool = False,
) -> "pandas.DataFrame":
    """Returns the metrics of a run, see `experiments.evaluation.frame`."""
    try:
        import pandas
    except ImportError as error:
        hint = "pip install 'poisonbench[frame]'"
        raise ConfigError(["a frame needs pandas, which is not here"], hint) from error
    summary = summarise(where(load_results(folder), conditions), by=by)
    lines = []
    for table, rows in summary.tables().items():
        is_single = table.startswith(SCENE)
        if is_single != (over_seeds or bool(by)):
            name = table.removeprefix(SCENE)
            lines += [line for row in rows for line in _lines(name, row)]
    frame = pandas.DataFrame(lines)
    return frame.dropna(axis="columns", how="all")


def _lines(table: str, row: Row) -> list[dict[str, Any]]:
    """A line for each metric of a row."""
    of_row = {"table": table, **named_columns(row)}
    found = []
    for name, metric in row.metrics.items():
        low, high = metric.interval or (None, None)
        of_metric = {
            "metric": name,
            "value": _number(metric.value),
            "low": _number(low),
            "high": _number(high),
            "defined": metric.defined,
            "reason": metric.reason,
        }
        found.append({**of_row, **of_metric})
    return found


def _number(value: float | None) -> float:
    """A number, nan for none: so that a column of them is of numbers."""
    return float("nan") if value is None else value
