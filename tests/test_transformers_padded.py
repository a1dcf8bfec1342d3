"""Transformers of PyTorch with a padding mask, which it evaluates by nested tensors."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from defenses import DETECTORS
from estimators.gas import GAS
from estimators.tracin import TracIn
from poisonbench.api import Guard
from poisonbench.data import Dataset, Layout
from poisonbench.models import build, predict
from poisonbench.models.head import body_of
from poisonbench.models.inner import inner_of
from poisonbench.training.trace import Trace

WORDS = tuple(f"word{i}" for i in range(12))
CLASSES = 3
LENGTH = 6
RATE = 0.5


class Reader(nn.Module):
    """A classifier of sentences as its author would write it."""

    def __init__(self, masked_mean: bool = True, norm_first: bool = False):
        super().__init__()
        self.words = nn.Embedding(len(WORDS), 8, padding_idx=0)
        layer = nn.TransformerEncoderLayer(
            8, 2, 12, batch_first=True, norm_first=norm_first
        )
        # nothing is nested where norms come first, of which PyTorch would warn
        self.encoder = nn.TransformerEncoder(
            layer, 2, enable_nested_tensor=not norm_first
        )
        self.out = nn.Linear(8, CLASSES)
        self.masked_mean = masked_mean

    def forward(self, x: Tensor) -> Tensor:
        seen = self.encoder(self.words(x), src_key_padding_mask=x == 0)
        if not self.masked_mean:
            return self.out(seen.mean(1))
        weight = (x != 0).to(seen.dtype)[..., None]
        return self.out((seen * weight).sum(1) / weight.sum(1))


class Attended(nn.Module):
    """Attention without an encoder around it."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(len(WORDS), 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.words(x)
        h, _ = self.attention(h, h, h, key_padding_mask=x == 0, need_weights=False)
        return self.out(h[:, 0])


MODELS = {
    "encoder": Reader,
    "encoder whose padding is read": lambda: Reader(masked_mean=False),
    "encoder with norms first": lambda: Reader(norm_first=True),
    "attention": Attended,
}


def reader(shape: tuple[int, ...], classes: int) -> nn.Module:
    return Reader()


def sentences(rows: int = 12, first: int = 2) -> Dataset:
    """Sentences of several lengths that begin with the same word."""
    g = torch.Generator().manual_seed(0)
    x = torch.randint(2, len(WORDS), (rows, LENGTH), generator=g)
    x[:, 0] = first
    lengths = torch.arange(rows) % (LENGTH - 1) + 2
    x = x.masked_fill(torch.arange(LENGTH) >= lengths[:, None], 0)
    y = torch.arange(rows) % CLASSES
    return Dataset(x, y, CLASSES, vocabulary=WORDS, precision=torch.float64)


def made(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MODELS[name]().double().eval()


def jacobian(model: nn.Module, data: Dataset, margin: bool) -> Tensor:
    """The gradient of the loss, or less that of the margin, one backward pass an instance."""
    rows = []
    for i in range(len(data)):
        out = model(data.x[i : i + 1])
        loss = F.cross_entropy(out, data.y[i : i + 1])
        if margin:
            own = out[0, data.y[i]]
            others = torch.cat([out[0, : data.y[i]], out[0, data.y[i] + 1 :]])
            loss = others.logsumexp(0) - own
        found = torch.autograd.grad(
            loss, list(model.parameters()), allow_unused=True, materialize_grads=True
        )
        rows.append(torch.cat([g.flatten() for g in found]))
    return torch.stack(rows)


def assert_near(found: Tensor, wanted: Tensor) -> None:
    atol = 1e-9 * float(wanted.abs().max())
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=atol)


@pytest.mark.parametrize("name", MODELS)
def test_scores_of_padded_transformers_are_those_of_autograd(name: str):
    model, data = made(name), sentences()
    run = Trace.of(model, data, [(model.state_dict(), RATE)])
    assert run.given.head == "out"
    loss = jacobian(model, data, margin=False)
    assert_near(TracIn().fit(run)(data), RATE * loss @ loss.T)
    unit = F.normalize(jacobian(model, data, margin=True), dim=1)
    assert_near(GAS().fit(run)(data), RATE * unit @ unit.T)


@pytest.mark.parametrize("name", MODELS)
def test_padded_transformers_predict_as_they_are_differentiated(name: str):
    model, data = made(name), sentences()
    run = Trace.of(model, data)
    wanted = model(data.x).detach()
    assert_near(predict(run.model(), data.x), wanted)
    assert_near(run.model()(data.x).detach(), wanted)
    body = body_of(run.model())
    features = predict(body, data.x)
    assert_near(features @ model.out.weight.T + model.out.bias, wanted)
    inner = predict(inner_of(body), data.x)
    assert not inner.is_nested
    assert len(inner) == len(data)


def test_the_callers_transformer_stays_as_it_is():
    model = made("encoder")
    Trace.of(model, sentences())
    assert model.encoder.use_nested_tensor


def test_a_grid_builds_a_padded_transformer():
    layout = Layout((LENGTH,), CLASSES, "tokens", len(WORDS))
    model = build("test_transformers_padded:reader", layout, 0)
    assert predict(model, sentences().x).shape == (12, CLASSES)


@pytest.mark.parametrize("detector", ["foreign-or-fragile", "influence-collapse"])
def test_a_guard_judges_by_a_padded_transformer(detector: str):
    assert detector in DETECTORS
    model, data = made("encoder"), sentences(60)
    run = Trace.of(model, data, [(model.state_dict(), RATE)])
    trusted = sentences(40, first=3).x
    verdict = Guard(run, trusted, detector)(data.x[:4])
    assert bool(verdict.suspicion.isfinite().all())
