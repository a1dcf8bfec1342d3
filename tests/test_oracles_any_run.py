"""A user's run, Adam and BatchNorm, against autograd row by row; our own run against the grid."""

import copy
import warnings
from pathlib import Path

import pytest
import torch
from conftest import random_data
from loops_of_others import RATE, Net, adam, net
from torch import Tensor, nn
from torch.func import functional_call, jacrev
from torch.nn import functional as F

from estimators.gas import GAS
from estimators.influence_functions import InfluenceFunctions
from estimators.representer_point import RepresenterPoint
from estimators.tracin import TracIn
from experiments.plan.parse import parse
from experiments.plan.paths import Place
from experiments.runner.run import Options, run
from experiments.scene.victim import make_victim
from poisonbench import log
from poisonbench.contracts.protocols import Estimator
from poisonbench.data import Dataset
from poisonbench.training import Trace

DECAY = 0.05
DAMPING = 0.1
State = dict[str, Tensor]


def case() -> tuple[Trace, list[State], Dataset, Dataset]:
    """A run of someone else's, its states, its data and points, float64."""
    train = random_data(16, classes=3)
    test = random_data(4, classes=3, seed=1)
    model = net(train)
    entries = [copy.deepcopy(entry) for entry in adam(model.train(), train, 0)]
    states = [state for _, _, state in entries]
    pairs = [(state, RATE * (k + 1)) for k, state in enumerate(states)]
    arrays = (train.x.numpy(), train.y.numpy())
    trace = Trace.of(model, arrays, pairs, weight_decay=DECAY)
    return trace, states, train, test


def live(state: State) -> Net:
    """The user's own model with a state, as the user evaluates it."""
    model = net(random_data(2, classes=3))
    model.load_state_dict(state)
    return model.eval()


def gradients(model: nn.Module, data: Dataset) -> Tensor:
    """The gradients of cross entropy of each row alone, (n, p)."""
    rows = []
    for x, y in zip(data.x, data.y, strict=True):
        loss = F.cross_entropy(model(x[None]), y[None])
        parts = torch.autograd.grad(loss, list(model.parameters()))
        rows.append(torch.cat([part.flatten() for part in parts]))
    return torch.stack(rows)


def assert_close(got: Tensor, want: Tensor) -> None:
    assert torch.allclose(got, want, rtol=1e-6, atol=1e-6 * float(want.abs().max()))
    assert float(want.abs().max()) > 0


def test_tracin_and_gas_are_sums_over_the_states_as_given():
    trace, states, train, test = case()
    products = torch.zeros(4, 16, dtype=torch.float64)
    cosines = torch.zeros_like(products)
    for k, state in enumerate(states):
        model = live(state)
        rate = RATE * (k + 1)
        one = gradients(model, test)
        other = gradients(model, train)
        products += rate * one @ other.T
        cosines += rate * F.normalize(one) @ F.normalize(other).T
    assert_close(TracIn().fit(trace)(test), products)
    assert_close(GAS().fit(trace)(test), cosines)


def flat_loss(model: nn.Module, data: Dataset, flat: Tensor) -> Tensor:
    """The mean cross entropy at a vector of parameters."""
    return F.cross_entropy(flat_logits(model, data, flat), data.y)


def flat_logits(model: nn.Module, data: Dataset, flat: Tensor) -> Tensor:
    state = {}
    first = 0
    for name, p in model.named_parameters():
        state[name] = flat[first : first + p.numel()].view_as(p)
        first += p.numel()
    out: Tensor = functional_call(model, state, (data.x,))
    return out


def gauss_newton(model: nn.Module, data: Dataset, flat: Tensor) -> Tensor:
    """The mean of J^T (diag p - p p^T) J, with J the derivatives of the logits."""
    jacobian = jacrev(lambda theta: flat_logits(model, data, theta))(flat)
    p = flat_logits(model, data, flat).softmax(1)
    inner = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    return torch.einsum("ncp,ncd,ndq->pq", jacobian, inner, jacobian) / len(data)


@pytest.mark.parametrize("kind", ["gauss-newton", "hessian"])
def test_influence_functions_are_those_of_the_final_state(kind):
    trace, states, train, test = case()
    model = live(states[-1])
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    if kind == "hessian":
        curvature = jacrev(jacrev(lambda theta: flat_loss(model, train, theta)))(flat)
        damping = 1.0 - float(torch.linalg.eigvalsh(curvature).min())
    else:
        curvature = gauss_newton(model, train, flat)
        damping = DAMPING
    whole = curvature + (DECAY + damping) * torch.eye(len(flat), dtype=flat.dtype)
    solved = torch.linalg.solve(whole, gradients(model, train).T)
    want = gradients(model, test) @ solved / len(train)
    method = InfluenceFunctions("explicit", curvature=kind, damping=damping)
    assert_close(method.fit(trace)(test), want)


def test_representer_points_are_those_of_the_head_that_a_pass_finds():
    trace, states, train, test = case()
    model = live(states[-1])
    seen: list[Tensor] = []
    model.fc.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    model(train.x)
    model(test.x)
    inputs = torch.cat([seen[0], torch.ones(16, 1, dtype=torch.float64)], 1)
    points = torch.cat([seen[1], torch.ones(4, 1, dtype=torch.float64)], 1)

    def objective(w: Tensor) -> Tensor:
        loss = F.cross_entropy(inputs @ w.view(3, -1).T, train.y)
        return loss + DECAY * w.square().sum()

    w = torch.zeros(3 * inputs.shape[1], dtype=torch.float64)
    for _ in range(30):
        slope = jacrev(objective)(w)
        w = w - torch.linalg.solve(jacrev(jacrev(objective))(w), slope)
    assert float(jacrev(objective)(w).norm()) < 1e-12
    p = (inputs @ w.view(3, -1).T).softmax(1)
    alpha = (F.one_hot(train.y, 3) - p) / (2 * DECAY * 16)
    want = (points @ inputs.T) * alpha.T[test.y]
    assert_close(RepresenterPoint(l2=DECAY).fit(trace)(test), want)


def test_captum_says_the_same_of_the_same_model():
    TracInCP = pytest.importorskip("captum.influence").TracInCP
    trace, states, train, test = case()

    def load(model: nn.Module, k: int) -> float:
        model.load_state_dict(states[k])
        return RATE * (k + 1)

    peer = TracInCP(
        live(states[-1]),
        torch.utils.data.TensorDataset(train.x, train.y),
        checkpoints=[0, 1],
        checkpoints_load_func=load,
        loss_fn=nn.CrossEntropyLoss(reduction="none"),
        batch_size=8,
        sample_wise_grads_per_batch=False,  # the other form leaves BatchNorm out
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum tells what it does to its inputs
        want = peer.influence((test.x, test.y)).detach()
    assert torch.allclose(TracIn().fit(trace)(test), want, rtol=1e-5)


GRID = {
    "dataset": {"name": "digits", "train": 120, "test": 100},
    "recipe": {"model": "cnn", "epochs": 6, "batch_size": 8, "checkpoints": 2},
    "attack": [{"name": "patch", "budget": 0.1}],
    "probe": {"attacked": 4, "controls": 4, "calibration": 4},
    "estimator": [
        {"name": "tracin"},
        {"name": "gas"},
        {"name": "influence-functions"},
        {"name": "representer-point"},
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("grid")
    assert run(parse(GRID), Place(path), Options(workers=0)).failed == []
    return path


@pytest.mark.parametrize(
    ("name", "estimator"),
    [
        ("tracin", TracIn()),
        ("gas", GAS()),
        ("influence-functions", InfluenceFunctions()),
        ("representer-point", RepresenterPoint()),
    ],
)
def test_a_victim_of_a_grid_given_as_anothers_run_scores_as_in_the_grid(
    name: str, estimator: Estimator, folder: Path
):
    scene = parse(GRID).scenes[0]
    victim = make_victim(scene, Place(folder))
    own = victim.trace
    pairs = [(c.state, c.lr) for c in own.checkpoints]
    given = Trace.of(
        own.model(), (own.train.x, own.train.y), pairs, weight_decay=own.weight_decay
    )
    [path] = folder.glob(f"scenes/*/influence-{name}-*.h5")
    logged = torch.as_tensor(log.read(path, "influence").data["influence"])
    assert torch.equal(estimator.fit(given)(victim.test), logged)
