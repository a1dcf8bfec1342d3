"""Results to tables: what is shown, and in which order."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from experiments.evaluation.names import RowNames
from experiments.evaluation.poisoning import budget_told
from experiments.evaluation.rows import Row
from experiments.evaluation.summary import Fault, Summary
from experiments.evaluation.views.failures import by_reason
from experiments.evaluation.views.headings import scenes_told, seeds_told
from experiments.plan.kinds import SHOWN
from experiments.report.defense_tables import (
    certificate_table,
    identification_table,
    mitigation_table,
)
from experiments.report.kind_table import kind_table
from experiments.report.paired_table import difference_table
from experiments.report.point_table import point_tables
from experiments.report.table import SECONDS, Cells, Table

USES = "In brackets behind a method: what it takes beyond the victim."
PEAK = ".1f"  # MiB
PLAIN = ("auroc_matched", "auprc", "tpr_at_0.01", "tpr_at_0.05", "flag_tpr", "flag_fpr")

# tables that need more than their kind's columns; all others come from the table of kinds
DEFENSES: dict[str, Callable[[Sequence[Row]], Table]] = {
    "filters": identification_table,
    "mitigations": mitigation_table,
    "certificates": certificate_table,
}


def tables(summary: Summary) -> list[Table]:
    """Returns the tables that have rows: victims, detection, other defenses, costs, faults."""
    victims = summary.rows["victims"]
    detections = summary.rows["detections"]
    costs = summary.rows["costs"]
    names = RowNames.of([*victims, *detections, *costs])
    made = [
        _measured_on(victims, _victims(victims, names)),
        _measured_on(detections, _detection([*detections, *summary.means], names)),
        _measured_on(
            summary.differences,
            difference_table(summary.differences, summary.against, names),
        ),
    ]
    made += point_tables(summary.points)
    for name, table in DEFENSES.items():
        rows = summary.rows.get(name, [])
        made.append(_measured_on(rows, table(rows)))
    for kind in SHOWN:
        rows = summary.rows.get(kind.rows, [])
        made.append(_measured_on(rows, kind_table(kind, rows)))
    made += [
        _measured_on(costs, _costs(costs, names)),
        _faults(
            "FAILED",
            "Stages that failed: run again with --retry-failed.",
            summary.failures,
        ),
        _faults("DAMAGED", "Logs that cannot be read.", summary.damaged),
    ]
    return [table for table in made if table.rows]


def _measured_on(rows: Sequence[Row], table: Table) -> Table:
    """The table with what its rows were measured on, and whether on one seed alone."""
    legend = f"{table.legend} {seeds_told(rows)}".strip()
    return replace(table, scenes=scenes_told(rows), legend=legend)


def _victims(rows: Sequence[Row], names: RowNames) -> Table:
    cells = Cells()
    body = []
    for row in rows:
        line = [names.attack(row), budget_told(row.poisoned)]
        line += cells.row(row.metrics["clean_accuracy"], row.metrics["asr"])
        line.append(str(row.counts["targets"]))
        line.append(str(len(row.seeds)))
        line += cells.row(
            row.metrics["attack_seconds"], row.metrics["train_seconds"], form=SECONDS
        )
        body.append(line)
    head = (
        *("attack", "budget", "clean accuracy", "attack success"),
        *("points", "seeds", "attack s", "train s"),
    )
    legend = (
        "What each attack did to the model trained on its poison. budget: the share of "
        "training rows that the attack was to poison, and how many it did. attack success: "
        "share of the attacked test points (their number: points) predicted as the attacker "
        "wants. Means over the seeds, [95 % interval]; s: seconds."
    )
    return Table("VICTIMS", legend, head, body, 2, cells.notes())


def _detection(rows: Sequence[Row], names: RowNames) -> Table:
    cells = Cells()
    body = []
    for row in rows:
        metrics = [row.metrics["auroc"]]
        metrics += [replace(row.metrics[key], interval=None) for key in PLAIN]
        line = list(names.all(row))
        line += cells.row(*metrics)
        line.append(str(len(row.seeds)))
        body.append(line)
    head = (
        *("attack", "estimator", "detector"),
        *(
            "AUROC [95 %]",
            "matched",
            "AUPRC",
            "TPR@1%",
            "TPR@5%",
            "flags",
            "false",
            "seeds",
        ),
    )
    legend = (
        "How well each detector tells successfully attacked test points from clean ones "
        "(controls). matched: AUROC against the controls predicted as a label that the "
        "attacker wants. TPR@1%, TPR@5%: attacked points found at 1 % and 5 % false alarms. "
        f"flags, false: attacked points and controls above the calibrated threshold. {USES}"
    )
    return Table("DETECTION", legend, head, body, 3, cells.notes(), grouped=True)


def _costs(rows: Sequence[Row], names: RowNames) -> Table:
    cells = Cells()
    body = []
    for row in rows:
        peak = row.metrics["peak_bytes"]
        if peak.value is not None:
            peak = replace(peak, value=peak.value / 2**20)
        seconds = [row.metrics["fit_seconds"], row.metrics["score_seconds"]]
        line = [names.method(row, "estimator"), names.attack(row)]
        line += cells.row(*seconds, form=SECONDS)
        line += cells.row(peak, form=PEAK)
        line.append(str(row.scenes))
        body.append(line)
    head = ("estimator", "scenes", "fit s", "score s", "peak MiB", "n")
    legend = (
        "What the influence estimators took: mean seconds to prepare (fit) and to score the "
        "test points, and the largest peak of memory, over n scenes (attack x seed)."
    )
    return Table("COSTS", legend, head, body, 2, cells.notes())


def _faults(title: str, legend: str, faults: Sequence[Fault]) -> Table:
    failed = by_reason((fault.path, fault.reason) for fault in faults)
    body = [(one.counted, one.reason) for one in failed]
    return Table(title, legend, ("file", "reason"), body, 2, grouped=True)
