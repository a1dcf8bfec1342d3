"""The numbers of all scenes, kept in a file, and their means over the seeds."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path

from experiments.study.means import Mean, mean, mean_rate

TRAINED = "training points"
TEST = "test points"
MODEL = "model"
RATES = ("error", "own first")  # shares of the points
RANGES = {
    "own share": (0.0, 1.0),
    "positive share": (0.0, 1.0),
    "proponents": (1.0, inf),
    "agreement": (-1.0, 1.0),
}


@dataclass(frozen=True)
class Value:
    """A number of one scene.

    Attributes:
        model: of the recipe.
        share: of the rows whose label was drawn.
        seed: of the scene.
        source: an estimator, or a pair of them; `MODEL` for errors.
        points: `TRAINED` or `TEST`.
        name: of the statistic.
        value: the mean over the points, or the median.
        known: points that were summed up.
    """

    model: str
    share: float
    seed: int
    source: str
    points: str
    name: str
    value: float
    known: int


def save(
    values: Iterable[Value],
    path: Path,
) -> None:
    """Writes the values as JSON."""
    rows = [asdict(value) for value in values]
    path.write_text(json.dumps(rows), encoding="utf-8")


def read(path: Path) -> list[Value]:
    """Reads what `save` wrote."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [Value(**row) for row in rows]


def models(values: Sequence[Value]) -> list[str]:
    """Returns the models, in their order."""
    return list(dict.fromkeys(value.model for value in values))


def sources(
    values: Sequence[Value],
    name: str,
) -> list[str]:
    """Returns the estimators, or their pairs, of which a statistic is known."""
    own = [value.source for value in values if value.name == name]
    return list(dict.fromkeys(own))


def series(
    values: Sequence[Value], model: str, source: str, points: str, name: str
) -> dict[float, Mean]:
    """Returns the mean of a statistic over the seeds for each share, ascending."""
    wanted = (
        model,
        source,
        points,
        name,
    )
    drawn: dict[float, list[Value]] = {}
    for value in values:
        if (
            value.model,
            value.source,
            value.points,
            value.name,
        ) == wanted:
            drawn.setdefault(value.share, []).append(value)
    return {share: of_seeds(drawn[share]) for share in sorted(drawn)}


def of_seeds(values: Sequence[Value]) -> Mean:
    """Returns the mean of a statistic over the seeds, with an interval within its range."""
    name = values[0].name
    numbers = [value.value for value in values]
    if name in RATES:
        return mean_rate(numbers, sum(value.known for value in values))
    least, most = RANGES.get(name, (-inf, inf))
    return mean(numbers).within(least, most)
