"""The axes of success curves: ticks at the values of the hyperparameter, shares in per cent."""

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from experiments.report.pictures.look import plain_axes

SHARES = ("budget", "cover")  # fractions of the training set, shown in per cent
LABELS = {"budget": "poison rows achieved (% of the training rows)"}


def shown(value: float, axis: str) -> str:
    """Returns a value of the axis as its ticks show it."""
    scale = 100 if axis in SHARES else 1
    return f"{scale * value:.3g}"


def scale(upper: Axes, lower: Axes, axis: str, used: set[float]) -> None:
    """Labels both panels and puts a tick at each value of the hyperparameter that is used."""
    places = sorted(used)
    least = places[0]
    largest = places[-1]
    if least > 0 and largest >= 10 * least:
        lower.set_xscale("log")
    lower.xaxis.set_major_locator(FixedLocator(places))
    lower.xaxis.set_minor_locator(NullLocator())
    lower.xaxis.set_major_formatter(FuncFormatter(lambda x, _: shown(x, axis)))
    unit = " (% of the training rows)" if axis in SHARES else ""
    lower.set_xlabel(LABELS.get(axis, f"{axis}{unit}"), fontsize=9)
    upper.set_ylabel("attack success rate", fontsize=9)
    lower.set_ylabel("clean accuracy", fontsize=9)
    upper.set_ylim(-0.02, 1.02)
    plain_axes(upper)
    plain_axes(lower)
