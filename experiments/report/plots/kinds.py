"""The kinds of plots: one row each. What a folder lacks is told, and which stage gives it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from experiments.evaluation.load import Results
from experiments.evaluation.rows import Row
from experiments.evaluation.summary import Summary
from experiments.evaluation.views.agreement import agreement
from experiments.report.pictures.influence_scene import chosen
from experiments.report.plots.agreement import agreement_figure
from experiments.report.plots.auc_by_attack import map_figure
from experiments.report.plots.auc_by_cost import cost_figure
from experiments.report.plots.auc_by_success import success_figure
from experiments.report.plots.certified import certified_figure
from experiments.report.plots.curve import curve_figure
from experiments.report.plots.influence import distribution_figure
from experiments.report.plots.roc import roc_figure
from poisonbench.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Source:
    """What a plot is drawn from.

    Attributes:
        results: the logs of a run, or some of them.
        summary: the rows made from them.
        axis: of a curve: a numeric hyperparameter of the attacks.
    """

    results: Results
    summary: Summary
    axis: str = "budget"

    def rows(self, name: str, stage: str) -> Sequence[Row]:
        """Returns the rows over seeds of a name.

        Args:
            name: "victims", "detections", "costs", ...
            stage: of a grid file, which gives such rows.

        Raises:
            ConfigError: there are none.
        """
        found = self.summary.rows.get(name, ())
        if not found:
            raise self.lacks(name, stage)
        return found

    def lacks(self, what: str, stage: str) -> ConfigError:
        """Returns the error of a plot that needs what is not there, or what failed."""
        told = f"{self.results.folder} has no {what} that this plot could show"
        failed = len(self.summary.failures)
        if failed:
            cells = "1 cell" if failed == 1 else f"{failed} cells"
            hint = f"{cells} failed, see: poisonbench status {self.results.folder}"
            return ConfigError([told], hint)
        return ConfigError([told], f"a grid gives them by {stage}")


def _roc(source: Source) -> Figure:
    return roc_figure(source.rows("detections", "[[detector]]"))


def _auc_by_attack(source: Source) -> Figure:
    return map_figure(source.rows("detections", "[[detector]]"))


def _auc_by_success(source: Source) -> Figure:
    detections = source.rows("detections", "[[detector]]")
    return success_figure(detections, source.rows("victims", "[[attack]]"))


def _auc_by_cost(source: Source) -> Figure:
    costs = source.rows("costs", "[[estimator]]")
    detections = source.rows("detections", "[[detector]]")
    return cost_figure(source.summary.means or detections, costs)


def _curve(source: Source) -> Figure:
    return curve_figure(source.rows("victims", "[[attack]]"), source.axis)


def _certified(source: Source) -> Figure:
    records = source.results.of("certify")
    if not records:
        raise source.lacks("logs of certifiers", "[[certifier]]")
    return certified_figure(records)


def _influence(source: Source) -> Figure:
    shown = chosen(source.results)
    if shown is None:
        raise source.lacks("influence scores", "[[estimator]]")
    return distribution_figure(shown)


def _agreement(source: Source) -> Figure:
    found = agreement(source.results)
    groups = source.summary.rows.get("groups", ())
    if found is None and not groups:
        raise source.lacks(
            "scene with two estimators", "two or more [[estimator]], or by [[group]]"
        )
    return agreement_figure(found, groups)


# each raises ConfigError where the source lacks what it needs
DRAWN: dict[str, Callable[[Source], Figure]] = {
    "roc": _roc,
    "auc-by-attack": _auc_by_attack,
    "auc-by-success": _auc_by_success,
    "auc-by-cost": _auc_by_cost,
    "influence": _influence,
    "curve": _curve,
    "certified": _certified,
    "agreement": _agreement,
}
