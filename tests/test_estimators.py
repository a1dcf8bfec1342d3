"""The contract of every estimator; a new one is a row.

Shapes, signs, invariances, and self-influence as the diagonal.
"""

from dataclasses import replace

import pytest
import torch
from conftest import random_data

from estimators import ESTIMATORS
from estimators.downsampling import Downsampling
from estimators.gas import GAS
from estimators.hydra import HyDRA
from estimators.influence_functions import InfluenceFunctions
from estimators.leave_one_out import LeaveOneOut
from estimators.representer_point import RepresenterPoint
from estimators.screening.screened import Screened
from estimators.shapley.shapley import Shapley
from estimators.tracin import TracIn
from estimators.trak import TRAK
from poisonbench.contracts.protocols import Estimator
from poisonbench.training import Recipe, train
from poisonbench.training.needs import NEEDS
from poisonbench.training.trace import Trace

ROWS: list[Estimator] = [
    TracIn(),
    TracIn(mode="steps"),
    TracIn(renormalize=True),
    TracIn(weights="balanced"),
    GAS(),
    GAS(layerwise=True),
    HyDRA(),
    HyDRA(renormalize=True),
    HyDRA(hessian=True),
    InfluenceFunctions(damping=0.1, tolerance=1e-12),
    InfluenceFunctions(solver="explicit", damping=0.1),
    InfluenceFunctions(solver="ekfac", damping=0.1),
    InfluenceFunctions(solver="explicit", damping=0.1, renormalize=True),
    LeaveOneOut(repeats=2),
    LeaveOneOut(repeats=1, convention="A", measure="margin"),
    Downsampling(models=60),
    Downsampling(models=60, fraction=0.7, sampling="bernoulli", measure="margin"),
    RepresenterPoint(),
    RepresenterPoint(renormalize=True),
    Shapley(permutations=100, precision=0.0, measure="loss"),
    Shapley(permutations=40, stride=5, measure="margin", tolerance=0.1),
    Shapley("knn"),
    Shapley("banzhaf", models=200, measure="loss"),
    Shapley("beta", models=300, measure="margin"),
    Screened(top=30, dimensions=16),
    Screened("tracin", top=30, dimensions=16),
    TRAK(dimensions=64),
    TRAK(dimensions=64, models=3),
    TRAK(dimensions=20, models=3, source="checkpoints", layers="last"),
]
rows = pytest.mark.parametrize("estimator", ROWS, ids=repr)


RUN = Recipe(
    model="mlp",
    epochs=3,
    batch_size=8,
    lr=0.02,
    momentum=0.5,
    weight_decay=0.01,
    checkpoints=3,
)


@pytest.fixture(scope="module")
def trace() -> Trace:
    return train(random_data(30, (6,), 3), RUN, 0)


@pytest.fixture(scope="module")
def small_trace() -> Trace:
    """A run of a model with 21 parameters, for what writes a matrix of parameters squared."""
    return train(random_data(30, (6,), 3), replace(RUN, model="linear"), 0)


@pytest.fixture
def run(estimator: Estimator, trace: Trace, small_trace: Trace) -> Trace:
    explicit = getattr(estimator, "solver", "") == "explicit"
    return small_trace if explicit else trace


@pytest.mark.parametrize("estimator", ROWS, ids=repr)
def test_an_estimator_declares_what_it_needs_of_a_run(estimator: Estimator, run: Trace):
    needs = estimator.needs
    assert needs
    assert run.offers >= set(needs)
    assert set(needs) <= set(NEEDS)


def test_every_estimator_of_the_table_has_a_row():
    assert {type(estimator) for estimator in ROWS} == set(ESTIMATORS.values())


@rows
def test_scores_are_m_by_n_deterministic_and_a_test_point_each(
    estimator: Estimator, run: Trace
):
    test = random_data(5, (6,), 3, seed=1)
    scorer = estimator.fit(run)
    scores = scorer(test)
    assert scores.shape == (5, 30)
    assert scores.dtype == torch.float64
    assert bool(scores.isfinite().all())
    assert torch.equal(estimator.fit(run)(test), scores)
    order = torch.tensor([3, 0, 4])
    torch.testing.assert_close(
        scorer(test.take(order)), scores[order], rtol=1e-8, atol=1e-10
    )
    assert scorer(test.take(order[:0])).shape == (0, 30)


@rows
def test_an_instance_helps_a_test_point_that_is_its_copy(
    estimator: Estimator, run: Trace
):
    """The sign: positive = helped, on average over instances.

    A single one may do without its copy.
    """
    scores = estimator.fit(run)(run.train)
    assert float(scores.diag().mean()) > float(scores.mean())
    assert float(scores.diag().mean()) > 0


@rows
def test_self_influence_is_the_diagonal(estimator: Estimator, run: Trace):
    if estimator == HyDRA(hessian=True):
        with pytest.raises(ValueError, match="hessian=False"):
            estimator.self_influence(run)
        return
    want = estimator.fit(run)(run.train).diag()
    torch.testing.assert_close(
        estimator.self_influence(run), want, rtol=1e-7, atol=1e-10
    )


@rows
def test_fitting_leaves_the_global_generator_and_the_trace_alone(
    estimator: Estimator, run: Trace
):
    state = torch.random.get_rng_state()
    before = {k: v.clone() for k, v in run.checkpoints[-1].state.items()}
    estimator.fit(run)(random_data(2, (6,), 3, seed=1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in run.checkpoints[-1].state.items())
