"""What is known of an estimator once it was held against the truth: its rows and its cost."""

from dataclasses import dataclass

from experiments.evaluation.evaluations import rows_of
from experiments.evaluation.load import Results
from experiments.evaluation.means import aggregate
from experiments.evaluation.metrics import Metric
from experiments.evaluation.names import RowNames, scene_config
from experiments.evaluation.rows import Row
from experiments.study.truth.figure import Placed

SUBSETS = "datamodeling"
LEFT_OUT = "left-out"
COST = ("fit_seconds", "score_seconds")


@dataclass(frozen=True, eq=False)
class Judged:
    """One estimator on one kind of scene.

    Attributes:
        name: of the estimator, with the settings that tell it apart.
        truths: its rows, by what they were held against: "datamodeling", "random 10", ...
        cost: seconds to prepare, and to score the probe.
    """

    name: str
    truths: dict[str, Row]
    cost: tuple[float, float]

    def metric(self, truth: str, name: str) -> Metric:
        """Returns a metric, undefined where it was not held against that."""
        row = self.truths.get(truth)
        return Metric(None) if row is None else row.metrics[name]

    @property
    def placed(self) -> Placed:
        """What the figure shows of it."""
        return Placed(self.name, self.metric(SUBSETS, "score"), sum(self.cost))


def judged(results: Results) -> dict[str, list[Judged]]:
    """Returns the estimators of each kind of scene, the best first, means over the seeds."""
    truths = aggregate(rows_of(results, "truth"))
    costs = aggregate(rows_of(results, "influence"))
    names = RowNames.of([*truths, *costs], ("estimator",))
    found: dict[str, dict[str, dict[str, Row]]] = {}
    for row in truths:
        of_scene = found.setdefault(_scene(names, row), {})
        own = of_scene.setdefault(_called(names, row), {})
        own[against(row)] = row
    seconds = {}
    for row in costs:
        place = (_scene(names, row), _called(names, row))
        fit, score = [row.metrics[name].value or 0.0 for name in COST]
        seconds[place] = (fit, score)
    judged_by_scene = {}
    for scene, of_scene in found.items():
        estimators = [
            Judged(name, own, seconds[scene, name]) for name, own in of_scene.items()
        ]
        judged_by_scene[scene] = sorted(estimators, key=_worst_last)
    return judged_by_scene


def _scene(names: RowNames, row: Row) -> str:
    return names.scenes.name(scene_config(row))


def _called(names: RowNames, row: Row) -> str:
    """The name of the estimator; of one from outside the tables, of its class."""
    name = names.method(row, "estimator")
    return name.rpartition(":")[2]


def against(row: Row) -> str:
    """Returns what an estimator was held against, in words."""
    config = row.settings["truth"]
    if config["name"] == LEFT_OUT:
        return f"{config['choice']} {config['size']}"
    return str(config["name"])


def _worst_last(one: Judged) -> float:
    value = one.metric(SUBSETS, "score").value
    return float("inf") if value is None else -value
