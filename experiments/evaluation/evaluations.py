"""The table of evaluations: for each kind of stage the function that turns its log into a row.

A new kind is a file of `kinds/` and a row here.
"""

from collections.abc import Callable
from dataclasses import dataclass

from experiments.evaluation.kinds.certificates import certificate
from experiments.evaluation.kinds.detection import detection
from experiments.evaluation.kinds.filters import identification
from experiments.evaluation.kinds.mitigations import mitigation
from experiments.evaluation.kinds.scenes import cost, victim
from experiments.evaluation.load import Results
from experiments.evaluation.rows import Row
from poisonbench.log import Record


@dataclass(frozen=True)
class Evaluation:
    """How the logs of one kind become rows.

    Attributes:
        rows: what the rows are called in exports.
        evaluate: from a log, and the log of its scene, to a row.
        over: settings over which the rows are averaged, besides the seeds.
    """

    rows: str
    evaluate: Callable[[Record, Record], Row]
    over: tuple[str, ...] = ()


EVALUATIONS = {
    "scene": Evaluation("victims", victim),
    "detect": Evaluation("detections", detection),
    "influence": Evaluation("costs", cost, over=("attack",)),
    "filter": Evaluation("filters", identification),
    "mitigate": Evaluation("mitigations", mitigation),
    "certify": Evaluation("certificates", certificate),
}


def rows_of(results: Results, kind: str) -> list[Row]:
    """Returns one row for each log of a kind: "scene", "detect", ..."""
    scenes = {record.path.parent: record for record in results.of("scene")}
    evaluation = EVALUATIONS[kind]
    return [evaluation.evaluate(record, scenes[record.path.parent]) for record in results.of(kind)]
