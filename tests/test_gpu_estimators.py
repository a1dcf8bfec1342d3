"""Every estimator on the device as on the CPU."""

import pytest
import torch
from conftest import random_data
from on_device import agree, gpu, moved

from estimators import ESTIMATORS as TABLE
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
from poisonbench.data import Dataset
from poisonbench.training import Recipe, train

pytestmark = gpu

RECIPE = Recipe(
    model="cnn", epochs=3, batch_size=16, lr=0.02, momentum=0.5, checkpoints=3
)
ESTIMATORS: list[Estimator] = [
    TracIn(),
    TracIn(layers="last"),
    TracIn(renormalize=True),
    TracIn(projection=32),
    GAS(),
    GAS(layerwise=True),
    # of all rows, as which are left out may differ
    Screened(top=60, dimensions=16),
    RepresenterPoint(),
    RepresenterPoint(renormalize=True),
    InfluenceFunctions(tolerance=1e-5),
    InfluenceFunctions(damping=0.1, tolerance=1e-5),
    InfluenceFunctions(damping=0.1, renormalize=True, tolerance=1e-5),
    InfluenceFunctions(solver="ekfac", samples=0),
    Shapley(permutations=6, measure="margin"),
    Shapley(permutations=6, stride=20, tolerance=0.1, measure="loss"),
    Shapley("knn"),
    TRAK(dimensions=64),
    TRAK(dimensions=64, models=3),
    Shapley("banzhaf", models=10, measure="margin"),
    Shapley("beta", models=10, measure="margin"),
]


REPLAYS: list[Estimator] = [
    TracIn(mode="steps"),
    HyDRA(),
    HyDRA(hessian=True),
    HyDRA(renormalize=True),
]
RETRAIN: list[Estimator] = [
    LeaveOneOut(repeats=1, candidates=(3, 14, 15)),
    Downsampling(models=16),
]


def add_others() -> None:
    """Gives the estimators of the table that have no row one with their defaults."""
    known = {type(row) for row in [*ESTIMATORS, *REPLAYS, *RETRAIN]}
    for one in TABLE.values():
        if one in known:
            continue
        row = one()
        rows = REPLAYS if "steps" in row.needs else ESTIMATORS
        rows = RETRAIN if "retraining" in row.needs else rows
        rows.append(row)


add_others()


def digits_like(n: int, seed: int) -> Dataset:
    return random_data(n, seed=seed, dtype=torch.float32)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_an_estimator_on_the_device_equals_itself_on_the_cpu(estimator: Estimator):
    trace, test = train(digits_like(60, 0), RECIPE, 0), digits_like(7, 1)
    want = estimator.fit(trace)(test)
    got = estimator.fit(moved(trace))(test.to("cuda"))
    assert got.is_cuda
    agree(got, want, rtol=1e-4)


@pytest.mark.parametrize("method", [TracIn, GAS])
def test_scores_of_bfloat16_on_the_device_are_near_those_of_float32(method: type):
    trace, test = train(digits_like(60, 0), RECIPE, 0), digits_like(7, 1)
    want = method().fit(trace)(test)
    got = method(precision="bf16").fit(moved(trace))(test.to("cuda"))
    assert got.is_cuda
    assert got.dtype == torch.float32
    error = float((got.cpu() - want).norm() / want.norm())
    assert 1e-5 < error < 0.05


@pytest.mark.parametrize("estimator", REPLAYS, ids=repr)
def test_an_estimator_that_replays_a_run_of_the_device_equals_that_of_the_cpu(
    estimator: Estimator,
):
    """A run is replayed where it was trained, to the last bit: so there is one on each device."""
    data, test = random_data(60), random_data(7, seed=1)
    want = estimator.fit(train(data, RECIPE, 0))(test)
    got = estimator.fit(train(data.to("cuda"), RECIPE, 0))(test.to("cuda"))
    assert got.is_cuda
    agree(got, want)


@pytest.mark.parametrize("estimator", RETRAIN, ids=repr)
def test_an_estimator_that_retrains_on_the_device_equals_itself_on_the_cpu(
    estimator: Estimator,
):
    """In float64, as rounding grows along a run."""
    trace, test = train(random_data(60), RECIPE, 0), random_data(7, seed=1)
    got = estimator.fit(moved(trace))(test.to("cuda"))
    assert got.is_cuda
    agree(got, estimator.fit(trace)(test))
