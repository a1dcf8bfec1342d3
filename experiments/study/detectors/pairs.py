"""Detectors over several runs: a row for each pair of data set and attack, and means over pairs.

From the logs alone. A pair counts where its attack succeeds; a pair is a mean over its seeds, and
the means weigh every pair alike.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import click

from experiments.cli.options import SHARE
from experiments.evaluation.means import aggregate, mean_over
from experiments.evaluation.metrics import Metric
from experiments.evaluation.names import RowNames, in_order
from experiments.evaluation.paired import differences
from experiments.evaluation.rows import Row
from experiments.study.detectors.runs import FOLDERS, LEAST, attack_of, counting, read


@click.command()
@FOLDERS
@click.option("--against", default="rehearsed", help="compared with all others, paired")
@click.option(
    "--without", multiple=True, metavar="PAIR", help="pairs that do not count, either"
)
@click.option("--every", is_flag=True, help="a line for every detector of every pair")
@click.option(
    "--least", type=SHARE, default=LEAST, help="success of the attacks that count"
)
def pairs(
    folders: tuple[Path, ...],
    against: str,
    without: tuple[str, ...],
    every: bool,
    least: float,
) -> None:
    """Show how well the detectors of the runs in FOLDERS do, over pairs of data set and attack."""
    victims, detections = read(folders)
    counted = counting(victims, least) - set(without)
    chosen = [row for row in detections if attack_of(row) in counted]
    click.echo(_means(chosen))
    click.echo("\n" + _pairs(chosen, victims, None if every else against))
    click.echo("\n" + _against(chosen, against))
    click.echo("\n" + _alarms(detections))


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(metric: Metric) -> str:
    if metric.value is None:
        return "-"
    text = f"{metric.value:.3f}"
    if metric.interval:
        low, high = metric.interval
        text += f" [{low:.3f}, {high:.3f}]"
    return text


def _plain(row: Row, key: str) -> str:
    return _shown(replace(row.metrics[key], interval=None))


def _seconds(row: Row) -> str:
    return f"{row.metrics['seconds'].value or 0:.1f}"


def _means(rows: Sequence[Row]) -> str:
    """Means over the pairs that count."""
    merged = mean_over(in_order(aggregate(rows)))
    names = RowNames.of(merged)

    def best_first(row: Row) -> float:
        return -(row.metrics["auroc"].value or 0.0)

    body = []
    for row in sorted(merged, key=best_first):
        line = [
            names.method(row, "estimator"),
            names.method(row, "detector"),
            _shown(row.metrics["auroc"]),
            _plain(row, "auroc_worst"),
            _shown(row.metrics["auroc_matched"]),
            _plain(row, "auroc_matched_worst"),
            _plain(row, "tpr_at_0.01"),
            _plain(row, "flag_tpr"),
            _plain(row, "flag_fpr"),
            _plain(row, "flag_fpr_stream"),
            _seconds(row),
            row.settings["attack"]["name"].split()[2],
        ]
        body.append(line)
    head = (
        "estimator",
        "detector",
        "AUROC",
        "worst",
        "matched",
        "worst",
        "TPR@1%",
        "flags",
        "false",
        "stream",
        "s",
        "pairs",
    )
    return _table(head, body)


def _pairs(rows: Sequence[Row], victims: Sequence[Row], only: str | None) -> str:
    """Every pair, with its victims; of one detector, or of all."""
    merged = in_order(aggregate(rows))
    names = RowNames.of(merged)
    victim = {attack_of(row): row for row in aggregate(victims)}
    body = []
    for row in merged:
        config = row.settings["detector"]
        if only is not None and config["name"] != only:
            continue
        its = victim[attack_of(row)]
        line = [
            attack_of(row),
            names.method(row, "detector"),
            _plain(its, "clean_accuracy"),
            _plain(its, "asr"),
            _plain(row, "auroc"),
            _plain(row, "auroc_matched"),
            _plain(row, "tpr_at_0.01"),
            _plain(row, "flag_fpr"),
            _plain(row, "flag_fpr_stream"),
            _seconds(row),
            str(len(row.seeds)),
        ]
        body.append(line)
    head = (
        "pair",
        "detector",
        "clean accuracy",
        "success",
        "AUROC",
        "matched",
        "TPR@1%",
        "false",
        "stream",
        "s",
        "seeds",
    )
    return _table(head, body)


def _against(rows: Sequence[Row], name: str) -> str:
    """Means over the pairs of the paired differences of one detector to each other one."""
    names = RowNames.of(rows)
    own = [row for row in rows if row.settings["detector"]["name"] == name]
    rivals: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.settings["detector"]["name"] != name:
            key = (names.method(row, "estimator"), names.method(row, "detector"))
            rivals.setdefault(key, []).append(row)
    body = []
    for key, theirs in rivals.items():
        rival = theirs[0].settings["detector"]["name"]
        for row in _means_of(differences([*own, *theirs], rival)):
            line = [
                names.method(row, "detector"),
                *key,
                _signed(row.metrics["auroc"]),
                _signed(row.metrics["auroc_matched"]),
            ]
            body.append(line)
    head = ("detector", "estimator", "above", "AUROC", "matched")
    return _table(head, sorted(body))


def _means_of(rows: Sequence[Row]) -> list[Row]:
    """Of the rows, those that are means over pairs."""
    return [row for row in rows if attack_of(row).startswith("mean of ")]


def _signed(metric: Metric) -> str:
    text = _shown(metric)
    if metric.value is None or not metric.interval:
        return text
    low, high = metric.interval
    return f"{metric.value:+.3f} [{low:+.3f}, {high:+.3f}]"


def _alarms(rows: Sequence[Row]) -> str:
    """Flags among the controls of clean victims."""
    clean = [row for row in rows if attack_of(row).endswith(": none")]
    merged = in_order(aggregate(clean))
    names = RowNames.of(merged)
    columns = list(dict.fromkeys(attack_of(row) for row in merged))
    found: dict[tuple[str, str], dict[str, float]] = {}
    for row in merged:
        key = (names.method(row, "estimator"), names.method(row, "detector"))
        value = row.metrics["flag_fpr"].value
        if value is not None:
            found.setdefault(key, {})[attack_of(row)] = value
    body = []
    for key, values in found.items():
        told = {column: f"{value:.3f}" for column, value in values.items()}
        cells = [told.get(column, "-") for column in columns]
        mean = sum(values.values()) / len(values)
        body.append([*key, *cells, f"{mean:.3f}"])
    heads = [column.removesuffix(": none") for column in columns]
    return _table(("estimator", "detector", *heads, "mean"), body)
