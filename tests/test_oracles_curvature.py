"""Curvature of models whose layers do not do what their type says, against double backward passes.

A new model is a row of MODELS. Each is held by products of both matrices, and by EK-FAC's blocks,
the eigenvalues of which sum to the trace of the block whatever the basis: a wrong gradient changes
it.
"""

from collections.abc import Callable

import pytest
import torch
from conftest import random_data
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

from poisonbench.data import Dataset
from poisonbench.gradients.curvature import ekfac, gauss_newton_product, hessian_product

IMAGES = (1, 4, 4)
VECTORS = (6,)
SEQUENCES = (5, 4)


class Standardised(nn.Conv2d):
    """Weight standardisation: the weight that acts is another one."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / w.std((1, 2, 3), keepdim=True)
        return F.conv2d(x, w, self.bias)


class CosineHead(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 4 * F.linear(
            F.normalize(x, dim=1), F.normalize(self.weight, dim=1), self.bias
        )


class LowRank(nn.Linear):
    """LoRA: a trained product of two matrices beside the frozen weight."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.weight.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(2, inputs))
        self.up = nn.Parameter(torch.randn(outputs, 2))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x @ self.down.T @ self.up.T


class Twice(nn.Module):
    """A module that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.inner(torch.tanh(self.inner(x)))))


class TwoNames(Twice):
    """One module under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.again = self.inner

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.again(x)))


class Tied(nn.Module):
    """The head's weight is also that of the first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 3)
        self.middle = nn.Linear(3, 6)
        self.head = nn.Linear(6, 3)
        self.head.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.middle(torch.tanh(self.first(x)))))


class ReadElsewhere(nn.Module):
    """A weight that acts a second time outside its layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.first(x)) + x @ self.first.weight.T.square())


class Keyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(input=torch.tanh(self.first(input=x)))


class Merged(nn.Module):
    """Rows and positions in one axis."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        inside = torch.tanh(self.first(x.reshape(-1, 4)))
        return self.head(inside.view(len(x), -1, 4).mean(1))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 3, batch_first=True)
        self.head = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class Transformer(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.layer = nn.TransformerEncoderLayer(4, 2, 6, batch_first=batch_first)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.batch_first:
            return self.head(self.layer(x).mean(1))
        return self.head(self.layer(x.transpose(0, 1)).mean(0))


class Hooked(nn.Module):
    """A forward hook that scales what a layer returns."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 5)
        self.head = nn.Linear(5, 3)
        self.first.register_forward_hook(lambda _, args, out: 2 * out)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.first(x)))


class Words(nn.Module):
    """A table that is large beside the six words of an instance; some stand there twice."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(60, 2)
        self.head = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(6, dtype=x.dtype) + 1
        found = torch.tanh(self.table((x * 4).long())) * places[:, None]
        return self.head(found.mean(1))


def mlp(first: nn.Module) -> nn.Module:
    return nn.Sequential(first, nn.Tanh(), nn.Linear(5, 3))


def pruned() -> nn.Module:
    layer = nn.Linear(6, 5)
    mask = torch.rand(5, 6) > 0.4
    prune.custom_from_mask(layer, "weight", mask)
    return mlp(layer)


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "plain": (lambda: mlp(nn.Linear(6, 5)), VECTORS),
    "plain images": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 2, 2), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(18, 3)
        ),
        IMAGES,
    ),
    "weight norm": (
        lambda: mlp(parametrizations.weight_norm(nn.Linear(6, 5))),
        VECTORS,
    ),
    "spectral norm": (
        lambda: mlp(parametrizations.spectral_norm(nn.Linear(6, 5))),
        VECTORS,
    ),
    "pruned": (pruned, VECTORS),
    "weight standardisation": (
        lambda: nn.Sequential(
            Standardised(1, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(18, 3)
        ),
        IMAGES,
    ),
    "cosine head": (
        lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), CosineHead(5, 3)),
        VECTORS,
    ),
    "low rank": (lambda: mlp(LowRank(6, 5)), VECTORS),
    "module run twice": (Twice, VECTORS),
    "module of two names": (TwoNames, VECTORS),
    "tied weights": (Tied, VECTORS),
    "weight read elsewhere": (ReadElsewhere, VECTORS),
    "keyword call": (Keyword, VECTORS),
    "merged axes": (Merged, SEQUENCES),
    "lstm": (Recurrent, SEQUENCES),
    "transformer, rows first": (lambda: Transformer(True), SEQUENCES),
    "transformer, positions first": (lambda: Transformer(False), SEQUENCES),
    "scaling hook": (Hooked, VECTORS),
    "embedding": (Words, VECTORS),
}
each = pytest.mark.parametrize("name", list(MODELS))


def build(name: str) -> tuple[nn.Module, Dataset]:
    make, shape = MODELS[name]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return make().double().eval(), random_data(4, shape, 3)


def trained(model: nn.Module) -> list[Tensor]:
    return [p for p in model.parameters() if p.requires_grad]


def flat(gradients: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([g.flatten() for g in gradients])


def dense_gauss_newton(model: nn.Module, data: Dataset) -> Tensor:
    """(1/n) sum_i sum_c p_ic g_ic g_ic^T, a backward pass for each instance and class."""
    rows = []
    for x in data.x:
        p = model(x[None]).detach().softmax(1)[0]
        for c in range(data.classes):
            loss = F.cross_entropy(model(x[None]), torch.tensor([c]))
            found = torch.autograd.grad(loss, trained(model), materialize_grads=True)
            rows.append((p[c] / len(data)).sqrt() * flat(found))
    stacked = torch.stack(rows)
    return stacked.T @ stacked


def dense_hessian(model: nn.Module, data: Dataset) -> Tensor:
    """A second backward pass for each parameter."""
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        loss = F.cross_entropy(model(data.x), data.y)
        first = torch.autograd.grad(loss, trained(model), create_graph=True)
        rows = []
        for entry in flat(first):
            again = torch.autograd.grad(
                entry, trained(model), retain_graph=True, materialize_grads=True
            )
            rows.append(flat(again))
    return torch.stack(rows)


@each
def test_gauss_newton_products_equal_autograd_one_row_at_a_time(name: str):
    model, data = build(name)
    want = dense_gauss_newton(model, data)
    eye = torch.eye(len(want), dtype=torch.float64)
    for rows in (eye, eye[:1]):  # the number of vectors decides the form of a layer
        got = gauss_newton_product(model, data, rows, 0.5)
        torch.testing.assert_close(
            got, want[: len(rows)] + 0.5 * rows, rtol=1e-8, atol=1e-10
        )


@each
def test_hessian_products_equal_double_backward(name: str):
    model, data = build(name)
    want = dense_hessian(model, data)
    eye = torch.eye(len(want), dtype=torch.float64)
    got = hessian_product(model, data, eye, 0.5)
    torch.testing.assert_close(got, want + 0.5 * eye, rtol=1e-8, atol=1e-10)


@each
def test_ekfac_keeps_the_trace_of_every_block_and_covers_all_parameters(name: str):
    model, data = build(name)
    diagonal = dense_gauss_newton(model, data).diag()
    found = ekfac.blocks(model, data)
    for block in found:
        want = diagonal[block.index]
        torch.testing.assert_close(
            block.values.sum(), want.sum(), rtol=1e-8, atol=1e-12
        )
        if block.bases is None:
            torch.testing.assert_close(block.values, want, rtol=1e-8, atol=1e-12)
    covered = torch.cat([block.index for block in found]).sort().values
    assert torch.equal(covered, torch.arange(len(diagonal)))
