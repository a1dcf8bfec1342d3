"""How the logs of each kind of stage become rows: as the table of kinds says."""

from experiments.evaluation.kinds.points import is_audit
from experiments.evaluation.load import Results
from experiments.evaluation.rows import Row
from experiments.plan.kind import named
from experiments.plan.kinds import KINDS, kind_named

EVALUATED = tuple(kind for kind in KINDS if kind.evaluate)


def rows_of(results: Results, kind: str) -> list[Row]:
    """Returns one row for each log of a kind: "scene", "detect", ...

    Of audits, of which nobody knows the truth, only what the estimators took has a row.
    """
    scenes = {record.path.parent: record for record in results.of("scene")}
    evaluate = named(kind_named(kind).evaluate)
    rows = []
    for record in results.of(kind):
        scene = scenes[record.path.parent]
        if kind == "influence" or not is_audit(scene):
            rows.append(evaluate(record, scene))
    return rows
