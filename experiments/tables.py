"""Results to tables: what is shown, and in which order."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from experiments.defense_tables import defense_tables
from experiments.evaluate import Row, aggregate, defense_rows, mean_over, scene_rows
from experiments.naming import Cells, Table, in_order, naming
from experiments.paired import difference_table, differences
from experiments.results import Results

Names = Callable[[Row], tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class Summary:
    """The results as rows over seeds, with the failures and damaged files as (path, reason)."""

    victims: list[Row]
    detections: list[Row]
    means: list[Row]
    costs: list[Row]
    defenses: dict[str, list[Row]]
    scenes: dict[str, list[Row]]
    failures: list[tuple[str, str]]
    damaged: list[tuple[str, str]]
    differences: list[Row] = field(default_factory=list)
    against: str = ""

    def rows(self) -> dict[str, list[Row]]:
        """All rows by table: over seeds, over attacks, and of single scenes."""
        merged = {"victims": self.victims, "detections": self.detections, "means": self.means, "costs": self.costs}
        merged |= {"differences": self.differences} if self.against else {}
        return merged | self.defenses | {f"scene-{name}": rows for name, rows in self.scenes.items()}


def summarise(results: Results, against: str | None = None) -> Summary:
    """Returns all rows of the results, those over seeds sorted by name; the means are over the attacks with a defined AUROC.

    Raises:
        ConfigError: `against` names no detector of the results, or several.
    """
    victims, detections, costs = scene_rows(results)
    merged = in_order(aggregate(detections))
    able = [json.dumps(row.settings["attack"]) for row in merged if row.metrics["auroc"].value is not None]
    several = len(set(able)) > 1
    means = mean_over([row for row in merged if json.dumps(row.settings["attack"]) in able]) if several else []
    root = results.folder
    failures = [(str(r.path.relative_to(root)), r.text("reason")) for r in results.of("failure")]
    damaged = [(str(e.path.relative_to(root)), e.reason) for e in results.damaged]
    defenses = {name: rows for name, rows in defense_rows(results).items() if rows}
    scenes = {"victims": victims, "detections": detections, "costs": costs, **defenses}
    over_all = in_order(aggregate(costs, drop=("attack",)))
    over_seeds = {name: in_order(aggregate(rows)) for name, rows in defenses.items()}
    held = differences(detections, against) if against else []
    return Summary(
        in_order(aggregate(victims)), merged, means, over_all, over_seeds, scenes, failures, damaged, held, against or ""
    )


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
        Table("FAILED", "These stages failed; each may be run again.", faults, summary.failures, 2, grouped=True),
        Table("DAMAGED", "Not read:", faults, summary.damaged, 2, grouped=True),
    ]
    return [table for table in made if table.rows]


def _victims(rows: list[Row], names: Names) -> Table:
    cell, body = Cells(), list[tuple[str, ...]]()
    for row in rows:
        rates = cell(row.metrics["clean_accuracy"], row.metrics["asr"])
        seconds = cell(row.metrics["attack_seconds"], row.metrics["train_seconds"], form=".2g")
        body.append((names(row)[0], *rates, str(row.counts["targets"]), str(len(row.seeds)), *seconds))
    head = ("attack", "clean accuracy", "attack success rate", "n", "seeds", "attack s", "train s")
    return Table("VICTIMS", "[95 % interval]; n: attacked test points", head, body, 1, cell.notes())


def _detection(rows: list[Row], names: Names) -> Table:
    cell, body = Cells(), list[tuple[str, ...]]()
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


def _costs(rows: list[Row], names: Names) -> Table:
    cell, body = Cells(), list[tuple[str, ...]]()
    for row in rows:
        peak = row.metrics["peak_bytes"]
        mebibytes = replace(peak, value=peak.value if peak.value is None else peak.value / 2**20)
        cells = cell(row.metrics["fit_seconds"], row.metrics["score_seconds"], mebibytes, form=".3g")
        body.append((names(row)[1], names(row)[0], *cells, str(row.scenes)))
    head = ("estimator", "scenes", "fit s", "score s", "peak MiB", "n")
    return Table("COSTS", "Mean seconds and largest peak of memory over n scenes.", head, body, 2, cell.notes())
