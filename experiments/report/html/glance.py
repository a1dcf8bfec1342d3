"""A line for each attack: what it did, and which detector finds it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from experiments.evaluation.metrics import Metric
from experiments.evaluation.names import RowNames, scene_config
from experiments.evaluation.poisoning import budget_told
from experiments.evaluation.rows import Row
from experiments.evaluation.summary import Summary
from experiments.report.table import Cells, Table

TRUTH = "oracle"  # a detector that uses it says nothing about use


@dataclass(frozen=True, eq=False)
class Found:
    """The detector of largest AUROC of an attack.

    Attributes:
        row: its row.
        of: detectors that were compared.
    """

    row: Row
    of: int


def at_a_glance(summary: Summary) -> Table:
    """Returns a table with a line for each attack: what it did, and which detector finds it."""
    victims = summary.rows["victims"]
    detections = summary.rows["detections"]
    costs = summary.rows["costs"]
    names = RowNames.of([*victims, *detections, *costs])
    cells = Cells()
    body = []
    for row in victims:
        attack = names.attack(row)
        line = [attack, budget_told(row.poisoned)]
        line += cells.row(row.metrics["asr"])
        line += cells.row(replace(row.metrics["clean_accuracy"], interval=None))
        best = best_of([one for one in detections if names.attack(one) == attack])
        line += _found(best, names, costs, cells)
        body.append(line)
    head = (
        *("attack", "budget", "attack success [95 %]", "clean accuracy"),
        *("best detector", "AUROC [95 %]", "flags", "false", "s", "of"),
    )
    legend = (
        "One line for each attack, means over the seeds. best detector: that of the largest "
        "AUROC among as many as the last column says, chosen on the same points, so its figures "
        "flatter it. flags, false: attacked points and clean ones above its threshold. s: "
        "seconds of its estimator and its own, of one scene. In brackets: what it takes beyond "
        "the victim."
    )
    return Table("AT A GLANCE", legend, head, body, 2, cells.notes())


def best_of(rows: Sequence[Row]) -> Found | None:
    """Returns the row of the largest AUROC that uses no ground truth; None if none is defined."""
    able = [row for row in rows if _is_able(row)]
    if not able:
        return None
    return Found(max(able, key=auroc), len(able))


def _is_able(row: Row) -> bool:
    return row.metrics["auroc"].value is not None and TRUTH not in row.uses


def auroc(row: Row) -> float:
    """Returns a sort key: the AUROC, which is defined."""
    return row.metrics["auroc"].value or 0.0


def _found(
    best: Found | None, names: RowNames, costs: Sequence[Row], cells: Cells
) -> list[str]:
    """The cells of the best detector."""
    if best is None:
        return ["-", "-", "-", "-", "-", "0"]
    row = best.row
    line = [called(row, names)]
    line += cells.row(row.metrics["auroc"])
    rates = [row.metrics["flag_tpr"], row.metrics["flag_fpr"]]
    line += cells.row(*[replace(rate, interval=None) for rate in rates])
    line += cells.row(_seconds(row, costs), form=".3g")
    line.append(str(best.of))
    return line


def called(row: Row, names: RowNames) -> str:
    """Returns the name of a detector with its estimator, and what it uses."""
    told = names.method(row, "detector")
    if row.settings.get("estimator"):
        told += f" on {names.method(row, 'estimator')}"
    if row.uses:
        told += f" [{row.uses}]"
    return told


def _seconds(row: Row, costs: Sequence[Row]) -> Metric:
    """What a detector and its estimator take in one scene."""
    parts = [row.metrics["seconds"]]
    if row.settings.get("estimator"):
        for cost in costs:
            same = cost.settings.get("estimator") == row.settings["estimator"]
            if same and scene_config(cost) == scene_config(row):
                parts += [cost.metrics["fit_seconds"], cost.metrics["score_seconds"]]
    values = [part.value for part in parts if part.value is not None]
    if len(values) < len(parts):
        return Metric(None, "seconds were not measured")
    return Metric(sum(values))
