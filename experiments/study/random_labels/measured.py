"""What is measured of a scene whose labels were drawn: errors, and rows of influence."""

from collections.abc import Iterator
from itertools import combinations

import torch
from torch import Tensor

from experiments.evaluation.names import ShortNames
from experiments.plan.paths import Place
from experiments.plan.spec import Grid, Scene
from experiments.scene.victim import Victim, make_victim
from experiments.study.random_labels import statistics
from experiments.study.random_labels.series import MODEL, TEST, TRAINED, Value
from poisonbench import log
from poisonbench.data import Dataset
from poisonbench.log import names
from poisonbench.models import predict
from poisonbench.seeding import generator
from poisonbench.training.trace import Trace

HEAVY = (
    "tail heaviness",
    "next by own",
)  # statistics of which few points are most of a mean


def measured(
    grid: Grid,
    place: Place,
    points: int,
) -> Iterator[Value]:
    """Yields all numbers of all scenes of a finished run.

    Args:
        grid: of the run.
        place: of its logs.
        points: training points of a scene whose influence on themselves is looked at.
    """
    called = ShortNames.of(method.config for method in grid.methods("estimator"))
    for scene in grid.scenes:
        victim = make_victim(scene, place)
        for name, where, value in _errors(victim):
            yield _value(
                scene,
                MODEL,
                where,
                name,
                value,
            )
        own = _sample(len(victim.trace.train), points, scene.seed)
        rows_of_test = {}
        for method in grid.methods("estimator"):
            source = called.name(method.config)
            influence = log.read(place.influence(scene, method), "influence")
            of_test = torch.as_tensor(influence.data[names.INFLUENCE]).double()
            rows_of_test[source] = of_test
            for name, value in of_test_points(of_test, victim.test, victim.trace):
                yield _value(
                    scene,
                    source,
                    TEST,
                    name,
                    value,
                )
            trained = victim.trace.train.take(own)
            of_trained = method.value.fit(victim.trace)(trained).double()
            for name, value in of_training_points(of_trained, own):
                yield _value(
                    scene,
                    source,
                    TRAINED,
                    name,
                    value,
                )
        for one, other in combinations(rows_of_test, 2):
            alike = statistics.agreement(rows_of_test[one], rows_of_test[other])
            pair = f"{one}, {other}"
            yield _value(
                scene,
                pair,
                TEST,
                "agreement",
                alike,
            )


def of_test_points(
    rows: Tensor, test: Dataset, trace: Trace
) -> Iterator[tuple[str, Tensor]]:
    """Yields the statistics of influence on test points at the predicted labels, (m,) each."""
    yield ("tail heaviness", statistics.heaviness(rows, test.y, trace.train.y))
    yield "proponents", statistics.proponents(rows)
    yield "positive share", statistics.positive_share(rows)


def of_training_points(
    rows: Tensor,
    own: Tensor,
) -> Iterator[tuple[str, Tensor]]:
    """Yields the statistics of influence on training points at the labels learned, (m,) each."""
    yield "own share", statistics.own_share(rows, own)
    yield "own first", statistics.own_first(rows, own)
    yield "next by own", statistics.next_by_own(rows, own)
    yield "proponents", statistics.proponents(rows)


def _errors(victim: Victim) -> Iterator[tuple[str, str, Tensor]]:
    """Yields the shares of wrong predictions: of the labels learned, and of true ones."""
    model = victim.trace.model()
    for where, data in ((TRAINED, victim.trace.train), (TEST, victim.clean.test)):
        wrong = predict(model, data.x).argmax(1) != data.y
        yield "error", where, wrong.double()


def _sample(
    n: int,
    points: int,
    seed: int,
) -> Tensor:
    """Draws training points."""
    order = torch.randperm(n, generator=generator(seed, "random labels"))
    return order[:points]


def _value(
    scene: Scene,
    source: str,
    points: str,
    name: str,
    values: Tensor,
) -> Value:
    """Returns the mean over the points where it is known, the median of heavy tails."""
    share = 0.0
    if scene.attack.name != "none":
        share = float(scene.attack.value.budget)
    known = values.double()
    summary = known.nanmean()
    if name in HEAVY:
        summary = known.nanmedian()
    return Value(
        model=scene.recipe.model,
        share=share,
        seed=scene.seed,
        source=source,
        points=points,
        name=name,
        value=float(summary),
        known=int(known.isfinite().sum()),
    )
