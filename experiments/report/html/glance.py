"""A line for each attack: what it did, and which detector finds it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from experiments.evaluation.metrics import Metric, undefined
from experiments.evaluation.names import RowNames, scene_config
from experiments.evaluation.poisoning import budget_told
from experiments.evaluation.rows import Row
from experiments.evaluation.summary import Summary
from experiments.evaluation.views.headings import seeds_told
from experiments.report.table import SECONDS, Cells, Table

TRUTH = "oracle"  # a detector that uses it says nothing about use


@dataclass(frozen=True, eq=False)
class Found:
    """The detector of largest AUROC of an attack.

    Attributes:
        row: its row.
        of: detectors that were compared, each with each of its estimators.
        detectors: different ones among them.
        bare: the best of those without influence; None if there is none.
    """

    row: Row
    of: int
    detectors: int
    bare: Row | None


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
        judged = [one for one in detections if names.attack(one) == attack]
        line += _found(judged, names, costs, cells)
        body.append(line)
    head = (
        *("attack", "budget", "success [95 %]", "accuracy"),
        *("best detector", "AUROC [95 %]", "flags", "false", "s", "compared"),
    )
    legend = (
        "One line for each attack, means over the seeds. success, accuracy: of the attack, and on "
        "clean test points. best detector: that of the largest AUROC, chosen on the same points, "
        "so its figures flatter it. flags, false: attacked points and clean ones above its "
        "threshold. s: seconds of its estimator and its own, of one scene. compared: pairs of "
        "estimator and detector. In brackets: what it takes beyond the victim."
    )
    legend = f"{legend} {seeds_told(victims)}".strip()
    return Table("AT A GLANCE", legend, head, body, 2, cells.notes())


def best_of(rows: Sequence[Row]) -> Found | None:
    """Returns the row of the largest AUROC that uses no ground truth; None if none is defined."""
    able = [row for row in rows if _is_able(row)]
    if not able:
        return None
    detectors = {repr(row.settings.get("detector")) for row in able}
    bare = [row for row in able if not row.settings.get("estimator")]
    return Found(
        row=max(able, key=auroc),
        of=len(able),
        detectors=len(detectors),
        bare=max(bare, key=auroc, default=None),
    )


def _is_able(row: Row) -> bool:
    return row.metrics["auroc"].value is not None and TRUTH not in row.uses


def auroc(row: Row) -> float:
    """Returns a sort key: the AUROC, which is defined."""
    return row.metrics["auroc"].value or 0.0


def _found(
    judged: Sequence[Row], names: RowNames, costs: Sequence[Row], cells: Cells
) -> list[str]:
    """The cells of the best detector of an attack, or why there is none."""
    best = best_of(judged)
    if best is None:
        reasons = [row.metrics["auroc"].reason for row in judged]
        why = undefined(reasons[0] if reasons else "no detector judged it")
        return ["-", *cells.row(why), "-", "-", "-", "0"]
    row = best.row
    line = [called(row, names)]
    line += cells.row(row.metrics["auroc"])
    rates = [row.metrics["flag_tpr"], row.metrics["flag_fpr"]]
    line += cells.row(*[replace(rate, interval=None) for rate in rates])
    line += cells.row(_seconds(row, costs), form=SECONDS)
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
