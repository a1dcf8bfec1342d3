"""Entry points on what they are not made for.

One line that says what is wanted and what was given, before any work.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from conftest import random_data
from test_estimators import ROWS
from torch import nn

from estimators.group import GroupInfluence, retrained
from estimators.hydra import HyDRA
from poisonbench.contracts.protocols import Estimator
from poisonbench.data import Dataset, Layout
from poisonbench.models import build
from poisonbench.training import Recipe, replay, train, train_many
from poisonbench.training.trace import Trace

DATA = random_data(12, (6,), 3)
NONE = DATA.take(torch.arange(0))
GROUPS = torch.arange(12)[None] < 3
RECIPE = Recipe("mlp", epochs=1, batch_size=4, checkpoints=1)


@pytest.fixture(scope="module")
def trace() -> Trace:
    return train(DATA, RECIPE, 0)


NO_TRACES = [
    nn.Linear(6, 3),
    build("mlp", Layout((6,), 3, "vector"), 0),
    DATA,
    RECIPE,
    None,
    "run/trace.h5",
    Trace,
]


@pytest.mark.parametrize("given", NO_TRACES, ids=lambda given: type(given).__name__)
@pytest.mark.parametrize("estimator", ROWS, ids=repr)
def test_an_estimator_asks_for_a_trace(estimator: Estimator, given: object):
    name = "None" if given is None else type(given).__name__
    wanted = rf"^trace must be a Trace: .*train.* got .*{name}"
    with pytest.raises(TypeError, match=wanted):
        estimator.fit(given)
    if estimator != HyDRA(hessian=True):
        with pytest.raises(TypeError, match=wanted):
            estimator.self_influence(given)


@pytest.mark.parametrize("given", NO_TRACES, ids=lambda given: type(given).__name__)
def test_a_replay_and_group_influence_ask_for_a_trace(given: object):
    for call in (
        lambda: replay(given),
        lambda: GroupInfluence().fit(given, GROUPS),
        lambda: retrained(given, GROUPS, DATA),
    ):
        with pytest.raises(TypeError, match="trace must be a Trace"):
            call()


NO_POINTS = [
    (DATA.x, TypeError, "points must be a .*Dataset, got a value of type Tensor"),
    (None, TypeError, "points must be a .*Dataset, got None"),
    ((DATA.x, DATA.y), TypeError, "got a value of type tuple"),
    (
        random_data(3, (5,), 3),
        ValueError,
        r"shape \(6,\) in 3 classes.*got .*shape \(5,\)",
    ),
    (
        random_data(3, (6,), 4),
        ValueError,
        r"in 3 classes.*got .*shape \(6,\) in 4 classes",
    ),
]


@pytest.mark.parametrize(
    "estimator", [r for r in ROWS if "models=" not in repr(r)], ids=repr
)
def test_a_scorer_asks_for_points_like_those_of_the_training_set(
    estimator: Estimator, trace: Trace, recwarn
):
    scorer = estimator.fit(trace)
    for given, kind, match in NO_POINTS:
        with pytest.raises(kind, match=match):
            scorer(given)


RUNS: list[tuple[Callable[[], object], type[Exception], str]] = [
    (
        lambda: train(DATA.x, RECIPE, 0),
        TypeError,
        "data must be a .*Dataset, got .*Tensor",
    ),
    (
        lambda: train(RECIPE, DATA, 0),
        TypeError,
        "data must be a .*Dataset, got .*Recipe",
    ),
    (
        lambda: train(DATA, "mlp", 0),
        TypeError,
        "recipe must be a .*Recipe, got str 'mlp'",
    ),
    (
        lambda: train(DATA, build("mlp", Layout((6,), 3, "vector"), 0), 0),
        TypeError,
        "recipe must .* Classifier",
    ),
    (
        lambda: train(DATA, RECIPE, 0.5),
        TypeError,
        r"seed must be a whole number, got float 0\.5",
    ),
    (
        lambda: train(DATA, RECIPE, None),
        TypeError,
        "seed must be a whole number, got None",
    ),
    (
        lambda: train(NONE, RECIPE, 0),
        ValueError,
        "at least 1 instance, got a data set of 0 rows",
    ),
    (
        lambda: train_many(NONE, torch.ones(2, 0, dtype=torch.bool), RECIPE, [0, 1]),
        ValueError,
        "at least 1 instance, got a data set of 0 rows",
    ),
    (
        lambda: train_many(DATA, np.ones((2, 12)), RECIPE, [0, 1]),
        TypeError,
        "masks must be a .*K",
    ),
    (
        lambda: train_many(DATA.x, GROUPS, RECIPE, [0]),
        TypeError,
        "data must be a .*Dataset",
    ),
    (
        lambda: train_many(DATA, GROUPS, None, [0]),
        TypeError,
        "recipe must be a .*Recipe",
    ),
    (
        lambda: train_many(DATA, GROUPS, RECIPE, 0),
        TypeError,
        "seeds must be K whole numbers",
    ),
    (lambda: train_many(DATA, GROUPS, RECIPE, ["a"]), TypeError, "seeds.* got str 'a'"),
    (
        lambda: train_many(DATA, GROUPS, RECIPE, [0], points=DATA.x),
        TypeError,
        "points must be a .*Dataset",
    ),
]


@pytest.mark.parametrize(("call", "kind", "match"), RUNS, ids=[row[2] for row in RUNS])
def test_training_asks_for_data_and_a_recipe(
    call: Callable[[], object], kind: type[Exception], match: str
):
    with pytest.raises(kind, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)


def of_class(shape: tuple[int, ...], classes: int) -> type:
    return nn.Linear


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("model", nn.Linear(2, 2), "a name of a model.*got a value of type Linear"),
        ("model", nn.Linear, "a name of a model.*got a value of type type"),
        ("model", build, "a name of a model.*got a value of type function"),
        ("model", None, "a name of a model.*got None"),
        ("epochs", 2.5, r"a whole number, got float 2\.5"),
        ("epochs", True, "a whole number, got bool True"),
        ("batch_size", "32", "a whole number, got str '32'"),
        ("checkpoints", None, "a whole number, got None"),
        ("lr", "0.1", "a number, got str"),
        ("lr", torch.tensor(0.1), "a number, got a value of type Tensor"),
        ("momentum", None, "a number, got None"),
        ("weight_decay", True, "a number, got bool True"),
        ("nesterov", 1, "True or False, got int 1"),
        ("start", {}, "a Start or None, got a value of type dict"),
    ],
)
def test_a_recipe_names_the_field_what_is_wanted_and_what_was_given(
    field: str, value: object, match: str
):
    with pytest.raises(TypeError, match=rf"^{field} must be {match}") as caught:
        Recipe(**{field: value})
    assert "\n" not in str(caught.value)


def test_numbers_of_numpy_are_numbers():
    recipe = Recipe("mlp", epochs=np.int64(1), lr=np.float32(0.1), checkpoints=1)
    assert len(train(DATA, recipe, np.int64(3)).lr) == 1


def test_a_function_in_the_place_of_a_models_instance_is_refused():
    with pytest.raises(TypeError, match=r"must give an nn\.Module, got type"):
        train(DATA, Recipe("test_entry_points:of_class"), 0)


def test_data_of_no_rows_has_no_scores():
    assert isinstance(NONE, Dataset)
    trace = train(DATA, RECIPE, 0)
    assert HyDRA().fit(trace)(NONE).shape == (0, 12)
