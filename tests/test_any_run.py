"""Runs that were made elsewhere: read as they were, and scored as our own."""

import copy

import pytest
import torch
from conftest import random_data
from torch import Tensor, nn
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import TensorDataset

from estimators.downsampling import Downsampling
from estimators.gas import GAS
from estimators.group import GroupInfluence
from estimators.hydra import HyDRA
from estimators.influence_functions import InfluenceFunctions
from estimators.leave_one_out import LeaveOneOut
from estimators.representer_point import RepresenterPoint
from estimators.shapley.shapley import Shapley
from estimators.tracin import TracIn
from estimators.trak import TRAK
from poisonbench.contracts.protocols import Estimator
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.training import Recipe, Trace, train

DECAY = 1e-2
RECIPE = Recipe("cnn", epochs=2, batch_size=8, checkpoints=3, weight_decay=DECAY)
ESTIMATORS: list[Estimator] = [
    TracIn(),
    TracIn(layers="last"),
    GAS(),
    GAS(layerwise=True),
    InfluenceFunctions(),
    RepresenterPoint(l2=DECAY),
    TRAK(dimensions=32),
    TRAK(models=2, source="checkpoints", dimensions=32),
]


def own_run() -> Trace:
    return train(random_data(24, classes=3, dtype=torch.float32), RECIPE, 0)


def as_given(run: Trace) -> Trace:
    """The same run as one of someone else's: a module, arrays, states and learning rates."""
    checkpoints = [(c.state, c.lr) for c in run.checkpoints]
    arrays = (run.train.x.numpy(), run.train.y.numpy())
    return Trace.of(run.model(), arrays, checkpoints, weight_decay=DECAY)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_a_run_of_ours_given_as_anothers_has_the_same_scores(estimator: Estimator):
    run = own_run()
    given = as_given(run)
    test = random_data(5, classes=3, seed=1, dtype=torch.float32)
    want = estimator.fit(run)(test)
    assert torch.equal(estimator.fit(given)(test), want)
    assert bool(want.any())


class Pairs(TorchDataset[tuple[Tensor, int]]):
    """Instances and labels one by one, as torchvision gives them."""

    def __init__(self, data: Dataset) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        if row >= len(self):
            raise IndexError(row)
        return self.data.x[row], int(self.data.y[row])


@pytest.mark.parametrize(
    "form",
    [
        lambda data: data,
        lambda data: TensorDataset(data.x, data.y),
        Pairs,
        lambda data: (data.x, data.y),
        lambda data: (data.x.numpy(), data.y.numpy().astype("int32")),
        lambda data: [data.x.double(), data.y],
    ],
)
def test_a_training_set_in_every_form_is_the_same(form):
    run = own_run()
    given = Trace.of(run.model(), form(run.train))
    assert torch.equal(given.train.x, run.train.x)
    assert torch.equal(given.train.y, run.train.y)
    assert given.train.classes == 3


def test_the_callers_model_stays_as_it_is_and_is_not_followed():
    run = own_run()
    model = run.model().train()
    given = Trace.of(model, run.train)
    assert model.training
    want = copy.deepcopy(given.model().state_dict())
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    for name, value in given.model().state_dict().items():
        assert torch.equal(value, want[name])
    assert not given.model().training


UNMET = [
    (TracIn(), "TracIn needs checkpoints"),
    (GAS(), "GAS needs checkpoints"),
    (TracIn("steps"), "TracIn needs the batch and the learning rate of every step"),
    (HyDRA(), "HyDRA needs the batch and the learning rate of every step"),
    (LeaveOneOut(), "LeaveOneOut needs a way to train again"),
    (Downsampling(4), "Downsampling needs a way to train again"),
    (Shapley(), "Shapley needs a way to train again"),
    (Shapley("knn"), "Shapley needs a last linear layer"),
    (RepresenterPoint(), "RepresenterPoint needs a last linear layer"),
    (InfluenceFunctions(layers="last"), "InfluenceFunctions needs a last linear"),
    (GroupInfluence(layers="last"), "GroupInfluence needs a last linear layer"),
]


@pytest.mark.parametrize(("method", "told"), UNMET, ids=lambda value: repr(value)[:40])
def test_an_unmet_need_is_told_before_any_work(method, told):
    data = random_data(4, (1, 8, 8), classes=3, dtype=torch.float32)
    run = Trace.of(Headless(), data)
    more = (
        [torch.eye(4, dtype=torch.bool)] if isinstance(method, GroupInfluence) else []
    )
    with pytest.raises(ConfigError, match=told) as caught:
        method.fit(run, *more)
    assert caught.value.hint


class Headless(nn.Module):
    """Logits without a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :3] * self.scale


def test_a_run_offers_what_it_was_given():
    run = own_run()
    model = run.model()
    state = model.state_dict()
    assert run.offers == {"final model", "checkpoints", "steps", "retraining", "head"}
    assert Trace.of(model, run.train).offers == {"final model", "head"}
    rated = Trace.of(model, run.train, [(state, 0.1)])
    assert rated.offers == {"final model", "checkpoints", "head"}
    headless = nn.Sequential(nn.Flatten(), nn.Linear(128, 3), nn.Identity())
    assert "checkpoints" in Trace.of(headless, run.train, lr=0.1).offers


def headless(shape: tuple[int, ...], classes: int) -> nn.Module:
    """A model for a recipe, without a linear layer."""
    assert len(shape) == classes
    return Headless()


def test_a_recipes_model_without_a_linear_layer_offers_no_head():
    run = train(random_data(4, classes=3), Recipe("test_any_run:headless", epochs=1), 0)
    assert run.offers == {"final model", "checkpoints", "steps", "retraining"}
    with pytest.raises(ConfigError, match="needs a last linear layer"):
        RepresenterPoint().fit(run)
