"""Rows to text: aligned for the terminal, Markdown and LaTeX to be read; CSV and JSON with everything in full precision.

A method is called by its name and by those hyperparameters alone in which it differs from others of that name in the results.
"""

import csv
import io
import json
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby, zip_longest
from typing import Any

from experiments.evaluate import Metric, Results, Row, aggregate, mean_over, scene_rows

WIDTH = 110  # columns of the terminal
Config = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """What the readable formats share. The first `names` columns may wrap; if `grouped`, the first heads groups of rows."""

    title: str
    legend: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    names: int
    notes: tuple[str, ...] = ()
    grouped: bool = False


@dataclass(frozen=True, eq=False)
class Summary:
    """The results as rows over seeds, with the failures and damaged files as (path, reason)."""

    victims: list[Row]
    detections: list[Row]
    means: list[Row]
    costs: list[Row]
    scenes: dict[str, list[Row]]
    failures: list[tuple[str, str]]
    damaged: list[tuple[str, str]]

    def rows(self) -> dict[str, list[Row]]:
        """All rows by table: over seeds, over attacks, and of single scenes."""
        merged = {"victims": self.victims, "detections": self.detections, "means": self.means, "costs": self.costs}
        return merged | {f"scene-{name}": rows for name, rows in self.scenes.items()}


def short_names(configs: Iterable[Config | None]) -> Callable[[Config | None], str]:
    """Returns a function from a method's configuration to its name and those fields that vary among `configs` of that name."""
    values: dict[str, dict[str, set[str]]] = {}
    known = [config for config in configs if config]
    for config in known:
        fields = values.setdefault(str(config.get("name")), {})
        for field in {field for other in known if other.get("name") == config.get("name") for field in other}:
            fields.setdefault(field, set()).add(json.dumps(config.get(field), sort_keys=True))

    def name(config: Config | None) -> str:
        if not config:
            return "none"
        varying = [field for field, found in values.get(str(config.get("name")), {}).items() if len(found) > 1]
        shown = [f"{field}={_short(config[field])}" for field in config if field in varying]
        return " ".join([str(config.get("name")), *shown])

    return name


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)


def scene_config(row: Row) -> dict[str, Any]:
    """Returns the data set, recipe and probe of a row as one configuration named by the data set and the model."""
    parts = {part: row.settings.get(part) or {} for part in ("dataset", "recipe", "probe")}
    fields = {key: value for part in parts.values() for key, value in part.items() if key not in ("name", "model")}
    return {"name": f"{parts['dataset'].get('name', '?')} {parts['recipe'].get('model', '')}".strip(), **fields}


def summarise(results: Results) -> Summary:
    """Returns all rows of the results, those over seeds sorted by name; the means are over the attacks with a defined AUROC."""
    victims, detections, costs = scene_rows(results)
    merged = in_order(aggregate(detections))
    able = [json.dumps(row.settings["attack"]) for row in merged if row.metrics["auroc"].value is not None]
    several = len(set(able)) > 1
    means = mean_over([row for row in merged if json.dumps(row.settings["attack"]) in able]) if several else []
    root = results.folder
    failures = [(str(r.path.relative_to(root)), r.text("reason")) for r in results.of("failure")]
    damaged = [(str(e.path.relative_to(root)), e.reason) for e in results.damaged]
    scenes = {"victims": victims, "detections": detections, "costs": costs}
    over_all = in_order(aggregate(costs, drop=("attack",)))
    return Summary(in_order(aggregate(victims)), merged, means, over_all, scenes, failures, damaged)


def in_order(rows: list[Row]) -> list[Row]:
    """Returns the rows sorted by their names, numbers in them by value."""
    names = naming(rows)

    def natural(row: Row) -> list[list[tuple[float, str]]]:  # numbers within names by value
        parts = [re.split(r"(\d+(?:\.\d+)?(?:e-?\d+)?)", text) for text in names(row)]
        return [[(float(p), "") if i % 2 else (0.0, p) for i, p in enumerate(part)] for part in parts]

    return sorted(rows, key=natural)


def naming(rows: Iterable[Row]) -> Callable[[Row], tuple[str, str, str]]:
    """Returns a function from a row to the short names of its attack (with its scene, if several occur), estimator, detector."""
    rows = list(rows)
    scene = short_names(scene_config(row) for row in rows)
    one_scene = len({scene(scene_config(row)) for row in rows}) == 1
    by_part = {part: short_names(row.settings.get(part) for row in rows) for part in ("attack", "estimator", "detector")}

    def names(row: Row) -> tuple[str, str, str]:
        attack, estimator, detector = (name(row.settings.get(part)) for part, name in by_part.items())
        where = [] if one_scene else [scene(scene_config(row))]
        what = [attack] if "attack" in row.settings else []
        return ", ".join(what + where) or "all", estimator, detector + (f" [{row.uses}]" if row.uses else "")

    return names


class _Cells:
    """Formats metrics and numbers the reasons why they, or a part of them, are undefined: once in each row."""

    def __init__(self) -> None:
        self.reasons: dict[str, int] = {}

    def __call__(self, *metrics: Metric, form: str = ".3f") -> list[str]:
        marked: set[str] = {""}
        cells = []
        for metric in metrics:
            ends = [f"{end:.2f}".removeprefix("0").replace("1.00", "1.0") for end in metric.interval or ()]
            value = "-" if metric.value is None else f"{metric.value:{form}}"
            number = self.reasons.setdefault(metric.reason, len(self.reasons) + 1) if metric.reason else 0
            cells.append(value + f" [{', '.join(ends)}]" * bool(ends) + f" ({number})" * (metric.reason not in marked))
            marked.add(metric.reason)
        return cells

    def notes(self) -> tuple[str, ...]:
        """The reasons under their numbers."""
        return tuple(f"({number}) {reason}" for reason, number in self.reasons.items())


def tables(summary: Summary) -> list[Table]:
    """Returns the tables of victims, detection and costs, those that have rows."""
    names = naming([*summary.victims, *summary.detections, *summary.costs])
    made = [
        _victims(summary.victims, names),
        _detection([*summary.detections, *summary.means], names),
        _costs(summary.costs, names),
    ]
    return [table for table in made if table.rows]


def _victims(rows: list[Row], names: Callable[[Row], tuple[str, str, str]]) -> Table:
    cell, body = _Cells(), list[tuple[str, ...]]()
    for row in rows:
        rates = cell(row.metrics["clean_accuracy"], row.metrics["asr"])
        body.append((names(row)[0], *rates, str(row.counts["targets"]), str(len(row.seeds))))
    head = ("attack", "clean accuracy", "attack success rate", "n", "seeds")
    return Table("VICTIMS", "[95 % interval]; n: attacked test points", head, body, 1, cell.notes())


def _detection(rows: list[Row], names: Callable[[Row], tuple[str, str, str]]) -> Table:
    cell, body = _Cells(), list[tuple[str, ...]]()
    for row in rows:
        keys = ("auroc", "auroc_matched", "auprc", "tpr_at_0.01", "tpr_at_0.05", "flag_tpr", "flag_fpr")
        metrics = [replace(row.metrics[key], interval=row.metrics[key].interval if key == "auroc" else None) for key in keys]
        body.append((*names(row), *cell(*metrics), str(len(row.seeds))))
    head = (
        *("attack", "estimator", "detector"),
        *("AUROC [95 %]", "matched", "AUPRC", "TPR@1%", "TPR@5%", "flags", "false", "seeds"),
    )
    legend = (
        "Successful attacks against all clean controls; matched: AUROC against those predicted as a label an attacker wants. "
        "TPR at 1 % and 5 % false positives; flags, false: TPR and FPR at the calibrated threshold. [...]: what a method takes "
        "beyond the victim."
    )
    return Table("DETECTION", legend, head, body, 3, cell.notes(), grouped=True)


def _costs(rows: list[Row], names: Callable[[Row], tuple[str, str, str]]) -> Table:
    cell, body = _Cells(), list[tuple[str, ...]]()
    for row in rows:
        peak = row.metrics["peak_bytes"]
        mebibytes = replace(peak, value=peak.value if peak.value is None else peak.value / 2**20)
        cells = cell(row.metrics["fit_seconds"], row.metrics["score_seconds"], mebibytes, form=".3g")
        body.append((names(row)[1], names(row)[0], *cells, str(row.scenes)))
    head = ("estimator", "scenes", "fit s", "score s", "peak MiB", "n")
    return Table("COSTS", "Mean seconds and largest peak of memory over n scenes.", head, body, 2, cell.notes())


def _plain(text: str) -> str:
    """Names come from logs: nothing in them may steer a terminal or break a line."""
    return "".join(c if c.isprintable() else " " for c in text)


def _pieces(text: str, hyphens: bool) -> list[str]:
    return re.findall(r"[^\s-]*-+|[^\s-]+" if hyphens else r"\S+", text) or [""]


def _widths(columns: Sequence[Sequence[str]], names: int, room: int) -> list[int]:
    """Width of every column; the first `names` shrink, the widest first, until all fit or only whole words are left."""
    widths = [max(map(len, column)) for column in columns]
    least = [max(len(piece) for cell in columns[i] for piece in _pieces(cell, i < names - 1)) for i in range(names)]
    while sum(widths) + 2 * (len(widths) - 1) > room and (able := [i for i in range(names) if widths[i] > least[i]]):
        widths[max(able, key=widths.__getitem__)] -= 1
    return widths


def to_text(table: Table, width: int = WIDTH) -> str:
    """Aligns a table for the terminal; names wrap where it would be wider than `width`, the last of them only at spaces."""
    first, names = int(table.grouped), table.names - int(table.grouped)
    cells = [[_plain(cell) for cell in row] for row in (table.head, *table.rows)]
    columns = list(zip(*[row[first:] for row in cells], strict=True))
    numbers = [all(cell.isdigit() for cell in column[1:]) for column in columns]
    widths = _widths(columns, names, width - 2 * first)

    def lines(row: Sequence[str]) -> list[str]:
        wrapped = [
            textwrap.wrap(cell, w, break_on_hyphens=i < names - 1, break_long_words=False) or [""]
            for i, (cell, w) in enumerate(zip(row[first:], widths, strict=True))
        ]
        parts = zip_longest(*wrapped, fillvalue="")
        padded = [[c.rjust(w) if n else c.ljust(w) for c, w, n in zip(p, widths, numbers, strict=True)] for p in parts]
        return [(" " * 2 * first + "  ".join(part)).rstrip() for part in padded]

    out = [table.title, *textwrap.wrap(table.legend, width), "", *lines(cells[0])]
    for group, rows in groupby(cells[1:], key=lambda row: row[0] if first else None):
        out += ["", group] if group else []
        out += [line for row in rows for line in lines(row)]
    return "\n".join([*out, *["" for _ in table.notes[:1] if first], *(_plain(note) for note in table.notes)])


def to_markdown(table: Table) -> str:
    """Returns a pipe table; what Markdown or HTML would read as markup is escaped."""

    def escape(text: str) -> str:
        text = re.sub(r"([\\`*_{}\[\]#|~$])", r"\\\1", _plain(text))
        return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

    rows = [table.head, ("---",) * len(table.head), *[tuple(map(escape, row)) for row in table.rows]]
    lines = [f"### {table.title.capitalize()}", "", escape(table.legend), "", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join([*lines, *(f"\n{escape(note)}" for note in table.notes)])


_LATEX = {**{c: f"\\{c}" for c in "&%$#_{}"}, "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "[": "{[}", "]": "{]}"}


def to_latex(table: Table) -> str:
    """Returns a booktabs table; every special character is escaped, and a `[` cannot become an argument of the line end."""

    def escape(text: str) -> str:
        return "".join(_LATEX.get(c, c) for c in _plain(text))

    rows = [" & ".join(map(escape, row)) + r" \\" for row in (table.head, *table.rows)]
    columns = "l" * len(table.head)
    caption = rf"\caption{{{escape(table.title.capitalize())}. {escape(table.legend)}}}"
    lines = [r"\begin{table}", caption, rf"\begin{{tabular}}{{{columns}}}", r"\toprule", rows[0], r"\midrule", *rows[1:]]
    notes = [rf"\par\footnotesize {escape(note)}" for note in table.notes]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *notes, r"\end{table}"])


def _faults(summary: Summary) -> list[Table]:
    lists = (
        ("FAILED", "These stages failed; each may be run again.", summary.failures),
        ("DAMAGED", "Not read:", summary.damaged),
    )
    return [Table(title, legend, ("file", "reason"), list(found), 2) for title, legend, found in lists if found]


def to_json(summary: Summary) -> str:
    """Returns all rows, over seeds and of single scenes, with intervals and reasons; undefined is null, never NaN."""

    def row(r: Row) -> dict[str, Any]:
        metrics = {key: asdict(metric) for key, metric in r.metrics.items()}
        plain = {"settings": r.settings, "seeds": r.seeds, "scenes": r.scenes, "uses": r.uses}
        return {**plain, "counts": r.counts, "metrics": metrics}

    merged = {name: [row(r) for r in rows] for name, rows in summary.rows().items()}
    faults = {name: [{"path": p, "reason": why} for p, why in getattr(summary, name)] for name in ("failures", "damaged")}
    clean = json.loads(json.dumps({**merged, **faults}), parse_constant=str)  # a hyperparameter may be infinite
    return json.dumps(clean, indent=1, allow_nan=False)


def to_csv(summary: Summary) -> str:
    """Returns one line for every row and fault, told apart by the column `table`; undefined is empty."""
    lines: list[dict[str, Any]] = []
    for name, rows in summary.rows().items():
        for row in rows:
            line: dict[str, Any] = {"table": name, "seeds": " ".join(map(str, row.seeds)), "scenes": row.scenes, "uses": row.uses}
            for part, config in row.settings.items():
                line |= {
                    f"{part}.{key}": _short(value) if not isinstance(value, float) else value
                    for key, value in (config or {}).items()
                }
            line |= {f"n.{key}": count for key, count in row.counts.items()}
            for key, metric in row.metrics.items():
                low, high = metric.interval or (None, None)
                line |= {key: metric.value, f"{key}.low": low, f"{key}.high": high, f"{key}.reason": metric.reason}
            lines.append(line)
    for name in ("failures", "damaged"):
        lines += [{"table": name, "path": path, "reason": why} for path, why in getattr(summary, name)]
    out = io.StringIO()
    used = dict.fromkeys(key for line in lines for key, value in line.items() if value not in (None, ""))
    writer = csv.DictWriter(out, list(used) or ["table"], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue().rstrip("\n")


def render(results: Results, form: str = "table") -> str:
    """Returns the results as `form`: "table" (for the terminal), "markdown", "latex", "csv" or "json".

    Raises:
        ValueError: there is no such form.
    """
    forms = {"table": to_text, "markdown": to_markdown, "latex": to_latex}
    summary = summarise(results)
    if form in ("csv", "json"):
        return to_csv(summary) if form == "csv" else to_json(summary)
    if form not in forms:
        raise ValueError(f"form must be one of {', '.join([*forms, 'csv', 'json'])}, got {form!r}")
    made = [*tables(summary), *_faults(summary)]
    return "\n\n".join(forms[form](table) for table in made) or "No results yet."
