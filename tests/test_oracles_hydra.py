"""HyDRA against autograd through unrolled training.

Also reweighted retraining, influence functions and the vector recursion.
"""

from dataclasses import replace

import pytest
import torch
from conftest import random_data
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from estimators.hydra import HyDRA
from estimators.kit import adjoint as _adjoint
from estimators.kit.adjoint import adjoint_scores
from estimators.kit.descent.modes import changing_layers
from estimators.kit.hessian import hvps
from estimators.kit.trajectory import record, rows_of
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError, ReplayError
from poisonbench.memory import CPU as _CPU
from poisonbench.objectives import margins
from poisonbench.training import Recipe, replay, train
from poisonbench.training.trace import Trace


class Tiny(nn.Module):
    """12 inputs, 6 smooth hidden units, 3 classes: finite differences meet no kink."""

    def __init__(self, shape: tuple[int, ...], classes: int):
        super().__init__()
        self.features, self.head = (
            nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.Tanh()),
            nn.Linear(6, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class Moody(Tiny):
    def __init__(self, shape: tuple[int, ...], classes: int):
        super().__init__(shape, classes)
        self.features.append(nn.BatchNorm1d(6)).append(nn.Dropout(0.3))


SETTINGS = [
    {"momentum": 0.0, "weight_decay": 0.0, "schedule": "constant"},
    {"momentum": 0.0, "weight_decay": 0.02, "schedule": "cosine"},
    {"momentum": 0.9, "weight_decay": 0.0, "schedule": "cosine"},
    {"momentum": 0.9, "weight_decay": 0.02, "schedule": "one-cycle"},
    {"momentum": 0.8, "weight_decay": 0.02, "schedule": "constant", "nesterov": True},
    {"momentum": 0.9, "weight_decay": 0.01, "schedule": "one-cycle", "nesterov": True},
]


def setting(**changes: object) -> Recipe:
    return Recipe(
        **(
            {
                "model": "test_oracles_hydra:Tiny",
                "epochs": 4,
                "batch_size": 5,
                "lr": 0.3,
                "checkpoints": 1,
            }
            | changes
        )
    )


def run(recipe: Recipe, n: int = 12) -> tuple[Trace, Dataset]:
    """A run on 12 instances: 12 steps, the last of every epoch on a batch of 2."""
    return train(random_data(n, (12,), 3), recipe, 3), random_data(4, (12,), 3, seed=9)


def unrolled(
    trace: Trace, weights: Tensor, renormalize: bool = False
) -> dict[str, Tensor]:
    """The parameters that training reaches, differentiable by the weights of the instances.

    The loss of every instance is multiplied by its weight.
    """
    recipe, data, model = trace.recipe, trace.train, trace.initial()
    theta = {
        k: v.detach().clone() for k, v in model.named_parameters() if v.requires_grad
    }
    buffers = {k: torch.zeros_like(v) for k, v in theta.items()}
    for t, rate in enumerate(trace.lr.tolist()):
        rows = rows_of(trace, t)
        if not weights.requires_grad or t == 0:
            theta = {k: v.requires_grad_() for k, v in theta.items()}
        losses = F.cross_entropy(
            functional_call(model, theta, (data.x[rows],)),
            data.y[rows],
            reduction="none",
        )
        grads = torch.autograd.grad(
            (losses * weights[rows]).sum() / len(rows),
            list(theta.values()),
            create_graph=True,
        )
        for (k, p), g in zip(list(theta.items()), grads, strict=True):
            g = g + recipe.weight_decay * p
            buffers[k] = recipe.momentum * buffers[k] + g
            theta[k] = p - rate * (
                g + recipe.momentum * buffers[k] if recipe.nesterov else buffers[k]
            )
        if not weights.requires_grad:
            theta, buffers = (
                {k: v.detach() for k, v in part.items()} for part in (theta, buffers)
            )
    return theta


def losses_at(trace: Trace, theta: dict[str, Tensor], test: Dataset) -> Tensor:
    return F.cross_entropy(
        functional_call(trace.model(), theta, (test.x,)), test.y, reduction="none"
    )


def autograd_scores(trace: Trace, test: Dataset) -> Tensor:
    weights = torch.ones(len(trace.train), dtype=torch.float64, requires_grad=True)
    losses = losses_at(trace, unrolled(trace, weights), test)
    return torch.stack(
        [-torch.autograd.grad(loss, weights, retain_graph=True)[0] for loss in losses]
    )


@pytest.mark.parametrize("changes", SETTINGS, ids=repr)
@pytest.mark.parametrize("model", ["test_oracles_hydra:Tiny", "mlp"])
def test_exact_scores_are_minus_the_gradient_through_unrolled_training(
    changes: dict, model: str
):
    trace, test = run(setting(model=model, **changes))
    got = HyDRA(hessian=True).fit(trace)(test)
    torch.testing.assert_close(got, autograd_scores(trace, test), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("channels", [1, 3])
def test_exact_scores_of_a_cnn_are_minus_the_gradient_through_unrolled_training(
    channels: int,
):
    """Images of several channels lie otherwise in memory while a model is trained."""
    shape = (channels, 8, 8)
    data = random_data(8, shape, classes=4)
    test = random_data(2, shape, classes=4, seed=9)
    trace = train(data, setting(model="cnn", epochs=3, batch_size=3, **SETTINGS[5]), 0)
    torch.testing.assert_close(
        HyDRA(hessian=True).fit(trace)(test),
        autograd_scores(trace, test),
        rtol=1e-9,
        atol=1e-12,
    )


@pytest.mark.parametrize("changes", [SETTINGS[1], SETTINGS[5]], ids=repr)
def test_exact_scores_are_the_slope_of_retraining_with_other_weights(changes: dict):
    trace, test = run(setting(**changes))
    got = HyDRA(hessian=True).fit(trace)(test)
    for i in range(12):
        step = 1e-5 * F.one_hot(torch.tensor(i), 12).double()
        up, down = (
            losses_at(trace, unrolled(trace, 1 + s * step), test) for s in (1, -1)
        )
        torch.testing.assert_close(got[:, i], (down - up) / 2e-5, rtol=1e-4, atol=1e-9)


def test_exact_scores_approximate_the_loss_without_minus_the_loss_with_an_instance():
    trace, test = run(setting(lr=0.02, **SETTINGS[2]))
    got = HyDRA(hessian=True).fit(trace)(test)
    whole = losses_at(trace, unrolled(trace, torch.ones(12, dtype=torch.float64)), test)
    without = [
        losses_at(
            trace, unrolled(trace, 1 - F.one_hot(torch.tensor(i), 12).double()), test
        )
        for i in range(12)
    ]
    difference = torch.stack(without, 1) - whole[:, None]
    assert float((got - difference).norm() / difference.norm()) < 0.05


def test_at_the_end_of_full_batch_descent_exact_scores_are_influence_functions():
    data, test = random_data(12, (4,), 3), random_data(4, (4,), 3, seed=9)
    recipe = Recipe(
        model="linear",
        epochs=400,
        batch_size=12,
        lr=1.5,
        momentum=0.5,
        weight_decay=0.1,
        schedule="constant",
        checkpoints=1,
    )
    trace = train(data, recipe, 0)
    model, names = trace.model(), ["head.weight", "head.bias"]
    point = torch.cat([trace.checkpoints[-1].state[k].flatten() for k in names])

    def losses(flat: Tensor, part: Dataset) -> Tensor:
        theta = {"head.weight": flat[:12].view(3, 4), "head.bias": flat[12:]}
        return F.cross_entropy(
            functional_call(model, theta, (part.x,)), part.y, reduction="none"
        )

    def objective(flat: Tensor) -> Tensor:
        return losses(flat, data).mean() + recipe.weight_decay / 2 * (flat @ flat)

    assert float(torch.func.grad(objective)(point).norm()) < 1e-12
    g, v = (jacrev(losses)(point, part) for part in (data, test))
    want = v @ torch.linalg.solve(jacrev(jacrev(objective))(point), g.T) / len(data)
    torch.testing.assert_close(
        HyDRA(hessian=True).fit(trace)(test), want, rtol=1e-6, atol=1e-10
    )


def per_instance(
    trace: Trace, theta: dict[str, Tensor], data: Dataset, renormalize: bool
) -> Tensor:
    """Loss gradients (k, p), or margin gradients divided by their norms.

    The latter are turned to the direction of the loss gradients.
    """
    model = trace.model()

    def loss(theta: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        logits = functional_call(model, theta, (x[None],))
        return (
            -margins(logits, y[None])[0]
            if renormalize
            else F.cross_entropy(logits, y[None])
        )

    grads = vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(theta, data.x, data.y)
    flat = torch.cat([grads[k].flatten(1) for k in theta], 1)
    return flat / flat.norm(dim=1, keepdim=True) if renormalize else flat


def forward_recursion(
    trace: Trace, test: Dataset, curved: bool, renormalize: bool
) -> Tensor:
    """One vector h_i = d theta / d w_i and one velocity an instance.

    They are stepped along the run as in the paper.
    """
    recipe, data = trace.recipe, trace.train
    size = sum(p.numel() for p in trace.initial().parameters())
    h, velocity = (torch.zeros(len(data), size, dtype=torch.float64) for _ in range(2))
    for step in replay(trace):
        theta = {k: p.detach().clone() for k, p in step.model.named_parameters()}
        batch = data.take(step.rows)
        d = recipe.weight_decay * h
        d[step.rows] += per_instance(trace, theta, batch, renormalize) / len(step.rows)
        if curved:
            pieces = h.split([p.numel() for p in theta.values()], 1)
            rows = {
                k: piece.view(-1, *p.shape)
                for (k, p), piece in zip(theta.items(), pieces, strict=True)
            }
            d += torch.cat(
                [x.flatten(1) for x in hvps(step.model, theta, batch, rows).values()], 1
            )
        velocity = recipe.momentum * velocity + d
        h = h - step.lr * (
            d + recipe.momentum * velocity if recipe.nesterov else velocity
        )
    final = {k: p.detach() for k, p in trace.model().named_parameters()}
    return -per_instance(trace, final, test, renormalize) @ h.T


@pytest.mark.parametrize("changes", SETTINGS, ids=repr)
@pytest.mark.parametrize("renormalize", [False, True])
def test_fast_scores_are_the_recursion_on_vectors_without_the_hessian(
    changes: dict, renormalize: bool
):
    trace, test = run(setting(**changes))
    want = forward_recursion(trace, test, curved=False, renormalize=renormalize)
    torch.testing.assert_close(
        HyDRA(False, renormalize).fit(trace)(test), want, rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("changes", [SETTINGS[3], SETTINGS[5]], ids=repr)
def test_renormalised_exact_scores_are_the_recursion_with_unit_gradients_and_the_whole_hessian(
    changes: dict,
):
    trace, test = run(setting(**changes))
    want = forward_recursion(trace, test, curved=True, renormalize=True)
    torch.testing.assert_close(
        HyDRA(True, True).fit(trace)(test), want, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("changes", SETTINGS, ids=repr)
@pytest.mark.parametrize("renormalize", [False, True])
def test_exact_scores_with_the_hessian_dropped_are_the_fast_ones(
    changes: dict, renormalize: bool, monkeypatch
):
    trace, test = run(setting(**changes))
    monkeypatch.setattr(
        _adjoint,
        "hvps",
        lambda m, theta, batch, vectors, _: {k: v * 0 for k, v in vectors.items()},
    )
    exact, fast = (
        HyDRA(hessian, renormalize).fit(trace)(test) for hessian in (True, False)
    )
    torch.testing.assert_close(exact, fast, rtol=1e-12, atol=1e-14)


def test_without_momentum_and_decay_on_one_step_fast_and_exact_are_the_plain_gradient_step():
    trace, test = run(setting(epochs=1, batch_size=12, **SETTINGS[0]))
    final, start = (
        {k: p.detach() for k, p in m.named_parameters()}
        for m in (trace.model(), trace.initial())
    )
    want = (
        0.3
        / 12
        * per_instance(trace, final, test, False)
        @ per_instance(trace, start, trace.train, False).T
    )
    for hessian_kept in (False, True):
        torch.testing.assert_close(
            HyDRA(hessian_kept).fit(trace)(test), want, rtol=1e-10, atol=1e-14
        )


# ---- the run walked backwards ----


@pytest.mark.parametrize("changes", SETTINGS, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_recorded_states_are_those_of_the_run_bit_for_bit(
    changes: dict, dtype: torch.dtype
):
    trace = train(random_data(12, (12,), 3, dtype=dtype), setting(**changes), 3)
    trajectory, thetas = record(trace), {}
    for step in replay(trace):
        thetas[step.index] = {
            k: p.detach().clone() for k, p in step.model.named_parameters()
        }
    seen = []
    for t, state in trajectory.backwards(trace.initial()):
        seen.append(t)
        assert all(torch.equal(v, thetas[t][k]) for k, v in state.theta.items())
    assert seen == list(range(12))[::-1]


@pytest.mark.parametrize("every", [1, 2, 5, 11, 12])
def test_recomputing_segments_does_not_change_a_score(every: int):
    trace, test = run(setting(**SETTINGS[5]))
    scores = [
        adjoint_scores(record(trace, k), test, renormalize=False) for k in (every, 12)
    ]
    assert torch.equal(*scores)


def test_a_run_that_cannot_be_repeated_is_refused():
    trace, test = run(setting())
    off = {k: v + 0.01 for k, v in trace.checkpoints[-1].state.items()}
    broken = replace(trace, checkpoints=(replace(trace.checkpoints[-1], state=off),))
    for hessian in (True, False):
        with pytest.raises(
            ReplayError, match=r"does not end at .* 'features.1.weight' is off by"
        ):
            HyDRA(hessian).fit(broken)(test)


def test_a_run_that_amplifies_small_changes_is_reported():
    # at the saddle of two inner weights near 0 the curvature is negative:
    # descent amplifies every change of the start
    trace, test = run(
        setting(
            model="test_oracles_hydra:Deep",
            epochs=40,
            batch_size=12,
            lr=1.0,
            **SETTINGS[0],
        )
    )
    with pytest.warns(
        UserWarning, match=r"amplifies a small change of its start \d+-fold"
    ):
        scores = HyDRA(hessian=True).fit(trace)(test)
    torch.testing.assert_close(
        scores, autograd_scores(trace, test), rtol=1e-9, atol=1e-12
    )


def growth_of(trace: Trace, test: Dataset) -> float:
    """The median over the points of |dL / d theta_0| / |dL / d theta_T|.

    By autograd through the run.
    """
    start = [p.detach().requires_grad_() for p in trace.initial().parameters()]
    names = [name for name, _ in trace.initial().named_parameters()]
    theta = dict(zip(names, start, strict=True))
    for t, rate in enumerate(trace.lr.tolist()):
        batch = trace.train.take(rows_of(trace, t))
        loss = F.cross_entropy(
            functional_call(trace.model(), theta, (batch.x,)), batch.y
        )
        grads = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
        theta = {
            k: p - rate * g for (k, p), g in zip(theta.items(), grads, strict=True)
        }
    ratios = []
    for loss in losses_at(trace, theta, test):
        first = torch.autograd.grad(loss, start, retain_graph=True)
        last = torch.autograd.grad(loss, list(theta.values()), retain_graph=True)
        ratios.append(
            torch.cat([g.flatten() for g in first]).norm()
            / torch.cat([g.flatten() for g in last]).norm()
        )
    return float(torch.stack(ratios).median())


def test_the_growth_that_is_reported_is_that_of_autograd_through_the_run():
    trace, test = run(
        setting(
            model="test_oracles_hydra:Deep",
            epochs=40,
            batch_size=12,
            lr=1.0,
            **SETTINGS[0],
        )
    )
    growth = growth_of(trace, test)
    with pytest.warns(UserWarning, match=f"of its start {growth:.0f}-fold"):
        HyDRA(hessian=True).fit(trace)(test)


@pytest.mark.parametrize(
    ("growth", "told"), [([1.0, 9.5, 30.0], False), ([0.1, 10.5, 11.0], True)]
)
def test_a_run_is_reported_from_a_tenfold_median_growth_on(
    growth: list[float], told: bool, recwarn: pytest.WarningsRecorder
):
    _adjoint._tell_amplified(torch.tensor(growth))
    assert bool(len(recwarn)) == told


class Deep(Tiny):
    """Starts near a saddle: small weights in two layers."""

    def __init__(self, shape: tuple[int, ...], classes: int):
        super().__init__(shape, classes)
        with torch.no_grad():
            for p in self.parameters():
                p.mul_(0.05)


class Largest(TorchDispatchMode):
    """The sizes of all tensors that come out of an operation in its block."""

    def __init__(self):
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.sizes += [
            leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, Tensor)
        ]
        return out


def test_memory_of_the_exact_form_does_not_grow_with_the_training_set():
    states, largest = [], []
    for n, epochs in ((12, 8), (48, 2), (96, 1)):  # 24 steps each
        trace, test = run(setting(epochs=epochs, batch_size=4, **SETTINGS[3]), n)
        trajectory = record(trace)
        states.append(
            sum(
                v.numel()
                for s in trajectory.kept
                for part in (s.theta, s.buffer)
                for v in part.values()
            )
        )
        with Largest() as seen:
            scores = adjoint_scores(trajectory, test, renormalize=False)
        assert len(trajectory.kept) == 4
        largest.append(max(size for size in seen.sizes if size != scores.numel()))
    assert len(set(states)) == 1
    assert len(set(largest)) == 1


@pytest.mark.parametrize("exact", [False, True])
def test_blocks_of_test_points_and_of_directions_do_not_change_a_score(
    exact: bool, monkeypatch
):
    trace, test = run(setting(**SETTINGS[5]))
    whole = HyDRA(hessian=exact).fit(trace)(test)
    monkeypatch.setattr("poisonbench.memory.CPU", replace(_CPU, memory=20 * 100 * 8))
    monkeypatch.setattr(_adjoint, "BLOCK", 3)
    monkeypatch.setattr("estimators.kit.hessian.DIRECTIONS_CPU", 1)
    torch.testing.assert_close(
        HyDRA(hessian=exact).fit(trace)(test), whole, rtol=1e-10, atol=1e-14
    )
    assert HyDRA(hessian=exact).fit(trace)(
        test.take(torch.tensor([], dtype=torch.int64))
    ).shape == (0, 12)


def test_hessian_products_of_many_directions_are_those_of_the_whole_hessian():
    trace, _ = run(setting())
    model, theta = (
        trace.model(),
        {k: p.detach() for k, p in trace.model().named_parameters()},
    )
    vectors = {
        k: torch.randn(
            20, *v.shape, dtype=v.dtype, generator=torch.Generator().manual_seed(1)
        )
        for k, v in theta.items()
    }
    whole = jacrev(
        jacrev(
            lambda p: F.cross_entropy(
                functional_call(model, p, (trace.train.x,)), trace.train.y
            )
        )
    )(theta)
    for k, got in hvps(model, theta, trace.train, vectors).items():
        want = sum(
            v.flatten(1) @ whole[k][other].reshape(theta[k].numel(), -1).T
            for other, v in vectors.items()
        )
        torch.testing.assert_close(got.flatten(1), want, rtol=1e-10, atol=1e-12)


class Sure(Tiny):
    """Starts with margins of tens to hundreds."""

    def __init__(self, shape: tuple[int, ...], classes: int):
        super().__init__(shape, classes)
        with torch.no_grad():
            self.head.weight *= 300


@pytest.mark.parametrize("exact", [False, True])
def test_renormalised_scores_in_float32_are_right_where_the_loss_gradients_are_lost(
    exact: bool,
):
    recipe = setting(model="test_oracles_hydra:Sure", epochs=1, lr=1e-6, **SETTINGS[0])
    scores = []
    for dtype in (torch.float32, torch.float64):
        data = random_data(12, (12,), 3, dtype=dtype)
        with torch.no_grad():
            logits = train(data, recipe, 3).initial()(data.x)
        data = data.relabel(logits.argmax(1))
        assert float(margins(logits, data.y).median()) > 17
        scores.append(
            HyDRA(exact, renormalize=True).fit(train(data, recipe, 3))(data).double()
        )
    torch.testing.assert_close(
        *scores, rtol=1e-3, atol=1e-3 * float(scores[1].abs().max())
    )


# ---- models whose training mode differs ----


def test_layers_that_train_otherwise_are_named():
    trace = train(
        random_data(12, (12,), 3), setting(model="test_oracles_hydra:Moody"), 3
    )
    assert changing_layers(trace) == [
        "features.3 (BatchNorm1d)",
        "features.4 (Dropout)",
    ]
    with pytest.raises(
        ConfigError, match=r"features.3 \(BatchNorm1d\), features.4 \(Dropout\)"
    ):
        HyDRA(hessian=True).fit(trace)
    with pytest.warns(UserWarning, match="gradients are those of evaluation mode"):
        scores = HyDRA().fit(trace)(random_data(2, (12,), 3, seed=4))
    assert scores.shape == (2, 12)


def test_frozen_parameters_are_left_out_and_do_not_move():
    trace, test = run(setting(model="test_oracles_hydra:Frozen", **SETTINGS[4]))
    assert record(trace).kept[0].theta.keys() == {"head.weight", "head.bias"}
    got = HyDRA(hessian=True).fit(trace)(test)
    torch.testing.assert_close(got, autograd_scores(trace, test), rtol=1e-9, atol=1e-12)


class Frozen(Tiny):
    def __init__(self, shape: tuple[int, ...], classes: int):
        super().__init__(shape, classes)
        self.features.requires_grad_(False)
