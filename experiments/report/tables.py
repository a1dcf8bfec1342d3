"""Results to tables: what is shown, and in which order."""

from collections.abc import Callable
from dataclasses import replace

from experiments.evaluation.names import naming
from experiments.evaluation.rows import Row
from experiments.evaluation.summary import Summary
from experiments.report.defense_tables import defense_tables
from experiments.report.paired_table import difference_table
from experiments.report.table import Cells, Table

Names = Callable[[Row], tuple[str, ...]]


def tables(summary: Summary) -> list[Table]:
    """Returns the tables of victims, detection, other defenses, costs, failures and damaged files, those that have rows."""
    names = naming([*summary.victims, *summary.detections, *summary.costs])
    faults = ("file", "reason")
    made = [
        _victims(summary.victims, names),
        _detection([*summary.detections, *summary.means], names),
        difference_table(summary.differences, summary.against, names),
        *defense_tables(summary.defenses),
        _costs(summary.costs, names),
        Table(
            "FAILED",
            "These stages failed; each may be run again.",
            faults,
            summary.failures,
            2,
            grouped=True,
        ),
        Table("DAMAGED", "Not read:", faults, summary.damaged, 2, grouped=True),
    ]
    return [table for table in made if table.rows]


def _victims(rows: list[Row], names: Names) -> Table:
    cell, body = Cells(), list[tuple[str, ...]]()
    for row in rows:
        rates = cell(row.metrics["clean_accuracy"], row.metrics["asr"])
        seconds = cell(row.metrics["attack_seconds"], row.metrics["train_seconds"], form=".2g")
        body.append(
            (names(row)[0], *rates, str(row.counts["targets"]), str(len(row.seeds)), *seconds)
        )
    head = ("attack", "clean accuracy", "attack success rate", "n", "seeds", "attack s", "train s")
    return Table("VICTIMS", "[95 % interval]; n: attacked test points", head, body, 1, cell.notes())


def _detection(rows: list[Row], names: Names) -> Table:
    cell, body = Cells(), list[tuple[str, ...]]()
    for row in rows:
        keys = (
            "auroc",
            "auroc_matched",
            "auprc",
            "tpr_at_0.01",
            "tpr_at_0.05",
            "flag_tpr",
            "flag_fpr",
        )
        metrics = [
            replace(
                row.metrics[key], interval=row.metrics[key].interval if key == "auroc" else None
            )
            for key in keys
        ]
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


def _costs(rows: list[Row], names: Names) -> Table:
    cell, body = Cells(), list[tuple[str, ...]]()
    for row in rows:
        peak = row.metrics["peak_bytes"]
        mebibytes = replace(peak, value=peak.value if peak.value is None else peak.value / 2**20)
        cells = cell(
            row.metrics["fit_seconds"], row.metrics["score_seconds"], mebibytes, form=".3g"
        )
        body.append((names(row)[1], names(row)[0], *cells, str(row.scenes)))
    head = ("estimator", "scenes", "fit s", "score s", "peak MiB", "n")
    return Table(
        "COSTS",
        "Mean seconds and largest peak of memory over n scenes.",
        head,
        body,
        2,
        cell.notes(),
    )
