"""The adapter of dattri: its sign and its scale, where its formulas are known ones."""

import pytest
import torch
from conftest import random_data
from torch import Tensor

from estimators.influence_functions import InfluenceFunctions
from estimators.tracin import TracIn
from poisonbench.data import Dataset
from poisonbench.training import Recipe, train
from poisonbench.training.trace import Trace

pytest.importorskip("dattri")

from experiments.bench.peers.dattri_peer import Dattri

LARGE = 1e6  # beside which the factors are nothing


@pytest.fixture(scope="module")
def trace() -> Trace:
    data = random_data(40, (1, 4, 4), 3, dtype=torch.float32)
    return train(data, Recipe("mlp", epochs=3, batch_size=8, lr=0.1, checkpoints=3), 0)


@pytest.fixture(scope="module")
def points() -> Dataset:
    return random_data(5, (1, 4, 4), 3, seed=1, dtype=torch.float32)


def dots(trace: Trace, points: Dataset) -> Tensor:
    """The products of the gradients at the final model, (m, n)."""
    only = Trace.of(trace.model(), trace.train, [(trace.model().state_dict(), 1.0)])
    return TracIn().fit(only)(points)


def test_its_tracin_is_ours(trace: Trace, points: Dataset):
    got = Dattri("tracin").fit(trace)(points)
    torch.testing.assert_close(got, TracIn().fit(trace)(points), rtol=1e-3, atol=1e-5)


def test_where_damping_is_all_its_ekfac_is_a_product_of_gradients(
    trace: Trace, points: Dataset
):
    got = LARGE * Dattri("ekfac", regularization=LARGE).fit(trace)(points)
    torch.testing.assert_close(got, dots(trace, points), rtol=1e-2, atol=1e-4)


def test_its_conjugate_gradients_solve_what_ours_solve(trace: Trace, points: Dataset):
    got = Dattri("cg", regularization=1.0).fit(trace)(points)
    ours = InfluenceFunctions(curvature="hessian", damping=1.0, tolerance=1e-4)
    want = 40 * ours.fit(trace)(points)  # it leaves out 1 / n
    torch.testing.assert_close(got, want, rtol=0.01, atol=1e-3)


@pytest.mark.parametrize("models", [1, 2])
def test_its_trak_takes_the_models_of_ours(models: int, trace: Trace, points: Dataset):
    got = Dattri("trak", models=models, dimensions=8).fit(trace)(points)
    assert got.shape == (5, 40)
    assert bool(got.isfinite().all())


def test_other_kinds_are_refused():
    with pytest.raises(ValueError, match="kind"):
        Dattri("lissa")
