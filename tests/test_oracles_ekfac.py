"""EK-FAC against its definition as dense matrices.

Also relative damping, drawn labels, singular factors.
"""

import pytest
import torch
from conftest import random_data
from scipy.stats import spearmanr
from test_oracles_influence import dense_curvature, small, trace_of
from torch import Tensor, nn
from torch.nn import functional as F

from estimators.influence_functions import InfluenceFunctions
from poisonbench.data import Dataset, Layout
from poisonbench.gradients import RAW, project
from poisonbench.gradients.backprop import gradient_vectors
from poisonbench.gradients.curvature import ekfac, flatten, unflatten
from poisonbench.gradients.curvature.kronecker import eigenvectors
from poisonbench.gradients.curvature.labels import labelled
from poisonbench.models import build
from poisonbench.training import Recipe, train
from poisonbench.training.trace import Trace


class Net(nn.Module):
    """Two convolutions, a norm, and a head: 4 blocks and one diagonal.

    One convolution is without bias and with a stride.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 2, 2, padding=1),
            nn.Tanh(),
            nn.GroupNorm(1, 2),
            nn.Conv2d(2, 3, 2, stride=2, bias=False),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(12, 4),
            nn.Tanh(),
        )
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def net() -> tuple[nn.Module, Dataset]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Net().double().eval(), random_data(25, (1, 4, 4), 3)


def places(module: nn.Module, a: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs (L, i) and output gradients (L, o) of one instance.

    The inputs have a 1 where there is a bias.
    """
    if isinstance(module, nn.Conv2d):
        a = F.unfold(
            a, module.kernel_size, padding=module.padding, stride=module.stride
        )[0].T
        d = d[0].flatten(1).T
    if module.bias is not None:
        a = torch.cat([a, torch.ones_like(a[:, :1])], 1)
    return a, d


def dense_ekfac(
    model: nn.Module, data: Dataset, shift: float, relative: float
) -> Tensor:
    """The damped matrix (p, p), by a loop over instances and classes.

    By autograd and nothing of ours.
    """
    parameters = dict(model.named_parameters())
    size = sum(p.numel() for p in parameters.values())
    position = {}
    start = 0
    for name, p in parameters.items():
        position[name] = torch.arange(start, start + p.numel()).view(p.shape)
        start += p.numel()
    modules = {
        k: m for k, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)
    }
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    for name, module in modules.items():
        module.register_forward_hook(
            lambda _, args, out, name=name: seen.update({name: (args[0], out)})
        )
    a_factor = dict.fromkeys(modules, 0.0)
    d_factor = dict.fromkeys(modules, 0.0)
    gradients = []
    for x in data.x:
        logits = model(x[None])
        p = logits.detach().softmax(1)[0]
        for c in range(data.classes):
            loss = F.cross_entropy(logits, torch.tensor([c]))
            weight = p[c] / len(data)
            found = torch.autograd.grad(
                loss, list(parameters.values()), retain_graph=True
            )
            gradients.append(weight.sqrt() * torch.cat([g.flatten() for g in found]))
            for name, module in modules.items():
                a, out = seen[name]
                (d,) = torch.autograd.grad(loss, out, retain_graph=True)
                a, d = places(module, a.detach(), d)
                a_factor[name] = a_factor[name] + weight * a.T @ a
                d_factor[name] = d_factor[name] + weight * d.T @ d
    rows = torch.stack(gradients)
    want = torch.zeros(size, size, dtype=torch.float64)
    covered = torch.zeros(size, dtype=torch.bool)
    for name, module in modules.items():
        index = position[f"{name}.weight"].flatten(1)
        if module.bias is not None:
            index = torch.cat([index, position[f"{name}.bias"][:, None]], 1)
        index = index.flatten()
        basis = torch.kron(
            torch.linalg.eigh(d_factor[name]).eigenvectors,
            torch.linalg.eigh(a_factor[name]).eigenvectors,
        )
        values = (rows[:, index] @ basis).square().sum(0)
        damped = values + shift + relative * values.mean()
        want[index[:, None], index] = basis @ damped.diag() @ basis.T
        covered[index] = True
    for name, module in model.named_modules():
        if isinstance(module, nn.GroupNorm):
            index = torch.cat([position[f"{name}.weight"], position[f"{name}.bias"]])
            values = rows[:, index].square().sum(0)
            want[index, index] = values + shift + relative * values.mean()
            covered[index] = True
    assert bool(covered.all())
    return want


@pytest.mark.parametrize(("shift", "relative"), [(0.02, 0.0), (0.0, 0.1), (0.01, 0.3)])
def test_the_solve_is_the_inverse_of_the_matrix_built_from_the_definition(
    shift: float, relative: float
):
    model, data = net()
    want = torch.linalg.inv(dense_ekfac(model, data, shift, relative))
    model, data = net()  # without the hooks
    eye = torch.eye(len(want), dtype=torch.float64)
    got = ekfac.solve(ekfac.blocks(model, data), eye, shift, relative)
    torch.testing.assert_close(
        got, want, rtol=1e-8, atol=1e-8 * float(want.abs().max())
    )


def test_batches_do_not_show(monkeypatch: pytest.MonkeyPatch):
    model, data = net()
    eye = torch.eye(sum(p.numel() for p in model.parameters()), dtype=torch.float64)
    want = ekfac.solve(ekfac.blocks(model, data), eye, 0.01)
    monkeypatch.setattr(
        "poisonbench.gradients.curvature.ekfac.room", lambda *_, **__: (4, 4)
    )
    got = ekfac.solve(ekfac.blocks(model, data), eye, 0.01)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_relative_damping_is_a_part_of_the_mean_eigenvalue_of_each_block():
    model, data = net()
    diagonal = dense_curvature(model, data, "gauss-newton").diag()
    eye = torch.eye(len(diagonal), dtype=torch.float64)
    found = ekfac.blocks(model, data)
    damped = torch.linalg.inv(ekfac.solve(found, eye, 0.0, 0.25))
    more = torch.linalg.inv(ekfac.solve(found, eye, 0.0, 0.75))
    added = (more - damped).diag()
    for block in found:
        mean = diagonal[block.index].mean()  # the trace is the sum of the eigenvalues
        torch.testing.assert_close(
            added[block.index], (0.5 * mean).expand(len(block.index))
        )


def test_scale_of_a_layer_does_not_change_what_relative_damping_leaves_of_it():
    """Twice the eigenvalues, half the inverse, exactly: no absolute part is hidden in it."""
    model, data = net()
    found = ekfac.blocks(model, data)
    twice = [ekfac.Block(b.index, b.bases, 2 * b.values) for b in found]
    v = torch.randn(3, sum(len(b.index) for b in found), dtype=torch.float64)
    torch.testing.assert_close(
        ekfac.solve(twice, v, 0.0, 0.1), ekfac.solve(found, v, 0.0, 0.1) / 2
    )


def estimator_scores(
    trace: Trace, test: Dataset, shift: float, relative: float
) -> Tensor:
    model = trace.model()
    vectors = gradient_vectors(model, test, "loss")
    solved = ekfac.solve(
        ekfac.blocks(model, trace.train), flatten(vectors), shift, relative
    )
    return project(
        model, trace.train, unflatten(model, tuple(vectors), solved), RAW
    ) / len(trace.train)


@pytest.mark.parametrize(
    ("fields", "shift", "relative"),
    [
        ({}, 0.0, 0.1),
        ({"relative_damping": 0.4}, 0.0, 0.4),
        ({"damping": 0.2}, 0.2 + 0.03, 0.0),
        ({"damping": 0.0, "relative_damping": 0.4}, 0.03, 0.0),
    ],
)
def test_the_estimator_damps_as_its_fields_say(
    fields: dict[str, float], shift: float, relative: float
):
    data, test = random_data(20, (6,), 3), random_data(4, (6,), 3, seed=1)
    trace = trace_of(
        build("mlp", Layout((6,), 3, "vector"), 0).double(), data, "mlp", decay=0.03
    )
    got = InfluenceFunctions("ekfac", **fields).fit(trace)(test)
    want = estimator_scores(trace, test, shift, relative)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-15)


# ---- labels ----


def test_eigenvalues_have_labels_of_their_own():
    """With one instance the basis holds the direction of the gradient at the drawn label: with that
    label again, one eigenvalue would be all there is.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4)).double().eval()
    data = random_data(1, (3,), 4)
    several = 0
    for seed in range(20):
        (block,) = ekfac.blocks(model, data, samples=1, seed=seed)
        several += int((block.values > 1e-9 * block.values.max()).sum()) > 1
    assert several > 5, "of 20 pairs of draws from 4 labels"


def test_drawn_labels_are_the_models_and_many_come_near_the_expectation():
    model, data = net()
    exact, drawn = (ekfac.blocks(model, data, samples=s, seed=1) for s in (0, 300))
    for a, b in zip(exact, drawn, strict=True):
        assert float(b.values.sum() / a.values.sum()) == pytest.approx(1, abs=0.1)


def test_the_weights_of_an_expectation_sum_to_one():
    model, data = net()
    g = torch.Generator().manual_seed(0)
    for samples in (1, 3):
        parts = labelled(model, data, samples, g)
        assert float(sum(part.weight.sum() for part in parts)) == pytest.approx(1)


@pytest.mark.parametrize("samples", [0, 3])
def test_labels_of_the_data_do_not_matter_and_a_seed_repeats_itself(samples: int):
    model, data = net()
    other = data.relabel((data.y + 1) % 3)
    for a, b in zip(
        ekfac.blocks(model, data, samples, 5),
        ekfac.blocks(model, other, samples, 5),
        strict=True,
    ):
        assert torch.equal(a.values, b.values)


# ---- decompositions ----


@pytest.mark.parametrize("rank", [0, 1, 7])
def test_a_singular_factor_in_float32_is_decomposed(rank: int):
    g = torch.Generator().manual_seed(0)
    root = torch.randn(300, rank, generator=g) * 1e-3
    factor = root @ root.T
    vectors = eigenvectors(factor)
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(300), rtol=0, atol=1e-5)
    inside = vectors.T @ factor @ vectors
    off = inside - inside.diag().diag()
    assert float(off.abs().max()) <= 1e-6 * float(factor.norm())


def test_decompositions_are_made_in_float64(monkeypatch: pytest.MonkeyPatch):
    """The solver of float32 fails on factors of whole nets, which are too large for a test."""
    real = torch.linalg.eigh

    def narrow_fails(a: Tensor):
        if a.dtype == torch.float32:
            raise torch.linalg.LinAlgError("failed to converge")
        return real(a)

    monkeypatch.setattr(torch.linalg, "eigh", narrow_fails)
    model, data = net()
    found = ekfac.blocks(model.float(), data.to(dtype=torch.float32))
    assert all(block.values.dtype == torch.float32 for block in found)


def test_directions_without_curvature_and_damping_are_left_out():
    block = ekfac.Block(torch.arange(3), None, torch.tensor([2.0, 0.0, 4.0]))
    got = ekfac.solve([block], torch.ones(1, 3), 0.0)
    assert got.tolist() == [[0.5, 0.0, 0.25]]


def test_gradients_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="Kronecker factor is not finite"):
        eigenvectors(torch.full((2, 2), torch.inf))


# ---- what it approximates ----


def test_ekfac_is_exact_for_one_instance_and_a_linear_layer():
    data, test = random_data(1, (5,), 4), random_data(6, (5,), 4, seed=1)
    trace = trace_of(
        build("linear", Layout((5,), 4, "vector"), 0).double(), data, "linear"
    )
    want = InfluenceFunctions("explicit", damping=0.01).fit(trace)(test)
    got = InfluenceFunctions("ekfac", damping=0.01).fit(trace)(test)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-13)


def test_ekfac_keeps_the_trace_of_every_block():
    model, data = small("narrow9")
    matrix = dense_curvature(model, data, "gauss-newton")
    found = ekfac.blocks(model, data)
    for block in found:
        torch.testing.assert_close(
            block.values.sum(), matrix.diag()[block.index].sum(), rtol=1e-9, atol=0
        )
    # the norm; the grouped convolution with the raw parameter
    assert sum(block.bases is None for block in found) == 2
    covered = torch.cat([block.index for block in found])
    assert torch.equal(covered.sort().values, torch.arange(len(matrix)))


def test_ekfac_inverts_its_own_matrix():
    model, data = small("narrow9")
    found = ekfac.blocks(model, data, samples=2)
    eye = torch.eye(sum(p.numel() for p in model.parameters()), dtype=torch.float64)
    inverse = ekfac.solve(found, eye, 0.1)
    twice = ekfac.solve(found, eye, 0.2)
    apart = torch.linalg.inv(twice) - torch.linalg.inv(inverse)  # (M + .2) - (M + .1)
    torch.testing.assert_close(apart, 0.1 * eye, rtol=0, atol=1e-9)


@pytest.fixture(scope="module")
def trained() -> tuple[Trace, Dataset]:
    data = random_data(120, (1, 8, 8), 4, seed=3)
    data.y.copy_((data.x.flatten(1)[:, :2] > 0.5).long() @ torch.tensor([1, 2]))
    trace = train(data, Recipe("cnn", epochs=5, batch_size=20, lr=0.05), 0)
    return trace, random_data(8, (1, 8, 8), 4, seed=4)


@pytest.mark.parametrize("samples", [0, 1])
def test_ekfac_ranks_as_the_exact_solve_does(
    trained: tuple[Trace, Dataset], samples: int
):
    trace, test = trained
    want = InfluenceFunctions("cg", damping=0.1).fit(trace)(test)
    got = InfluenceFunctions("ekfac", damping=0.1, samples=samples).fit(trace)(test)
    assert (
        sum(spearmanr(a, b).statistic for a, b in zip(got, want, strict=True))
        / len(test)
        > 0.7
    )
