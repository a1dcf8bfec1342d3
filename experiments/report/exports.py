"""Results for programs: CSV and JSON, with every row, every metric and full precision."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any

from experiments.evaluation.kinds.points import JudgedPoint
from experiments.evaluation.rows import Row
from experiments.evaluation.summary import Summary
from experiments.evaluation.views.flat import budget, named_columns
from experiments.report.text import printable


def to_json(summary: Summary) -> str:
    """Returns all rows, over seeds and of single scenes; undefined is null, never NaN."""
    content: dict[str, Any] = {}
    for name, rows in summary.tables().items():
        content[name] = [_row(row) for row in rows]
    if summary.points:
        content["points"] = [_point(point) for point in summary.points]
    content["failures"] = [asdict(fault) for fault in summary.failures]
    content["damaged"] = [asdict(fault) for fault in summary.damaged]
    # a hyperparameter may be infinite, which is no JSON
    finite = json.loads(json.dumps(content), parse_constant=str)
    return json.dumps(finite, indent=1, allow_nan=False)


def _point(point: JudgedPoint) -> dict[str, Any]:
    """The fields of a point of an audit; a score that is not finite is null."""
    found = asdict(point)
    for key in ("suspicion", "p_value"):
        if not isfinite(found[key]):
            found[key] = None
    return found


def _row(row: Row) -> dict[str, Any]:
    return {
        "settings": row.settings,
        "seeds": row.seeds,
        "scenes": row.scenes,
        "uses": row.uses,
        "budget": budget(row.poisoned),
        "counts": row.counts,
        "metrics": {key: asdict(metric) for key, metric in row.metrics.items()},
    }


def to_csv(summary: Summary) -> str:
    """Returns one line for every row and fault; undefined is empty.

    The column `table` tells what a line is, `SETTING.FIELD` are settings, `budget...` what was to
    be poisoned and what was, `n.NAME` are counts. Each metric has columns for its interval and
    reason.
    """
    lines = []
    for name, rows in summary.tables().items():
        lines += [{"table": name, **_csv_row(row)} for row in rows]
    lines += [{"table": "points", **_csv_point(point)} for point in summary.points]
    lines += [{"table": "failures", **asdict(fault)} for fault in summary.failures]
    lines += [{"table": "damaged", **asdict(fault)} for fault in summary.damaged]
    out = io.StringIO()
    lines = [_printable(line) for line in lines]
    columns = _filled_columns(lines)
    writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue().rstrip("\n")


def _csv_point(point: JudgedPoint) -> dict[str, Any]:
    line = _point(point)
    for part in ("estimator", "detector"):
        for key, value in (line.pop(part) or {}).items():
            line[f"{part}.{key}"] = value
    line["proponents"] = " ".join(map(str, point.proponents))
    return line


def _printable(line: dict[str, Any]) -> dict[str, Any]:
    """The line without characters that steer a terminal: its texts may be anyone's."""
    found = {}
    for key, value in line.items():
        found[printable(key)] = printable(value) if isinstance(value, str) else value
    return found


def _filled_columns(lines: Sequence[dict[str, Any]]) -> list[str]:
    """The columns that are not empty in every line, in the order of their first value."""
    used: dict[str, None] = {}
    for line in lines:
        for key, value in line.items():
            if value not in (None, ""):
                used[key] = None
    return list(used) or ["table"]


def _csv_row(row: Row) -> dict[str, Any]:
    line = named_columns(row)
    for key, metric in row.metrics.items():
        low, high = metric.interval or (None, None)
        line[key] = metric.value
        line[f"{key}.low"] = low
        line[f"{key}.high"] = high
        line[f"{key}.reason"] = metric.reason
    return line
