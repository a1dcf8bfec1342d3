"""The numbers of all scenes, kept in a file, and their means over the seeds."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.study.means import Mean, mean

TRAINED = "training points"
TEST = "test points"
MODEL = "model"


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
    """

    model: str
    share: float
    seed: int
    source: str
    points: str
    name: str
    value: float


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
    drawn: dict[float, list[float]] = {}
    for value in values:
        if (
            value.model,
            value.source,
            value.points,
            value.name,
        ) == wanted:
            drawn.setdefault(value.share, []).append(value.value)
    return {share: mean(drawn[share]) for share in sorted(drawn)}
