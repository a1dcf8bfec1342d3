"""TracIn and GAS in bfloat16: exact where nothing is rounded, else as near as 8 bits allow."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import pytest
import torch
from conftest import random_data
from test_text import sentences
from torch import Tensor, nn

from estimators.gas import GAS
from estimators.tracin import TracIn
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError, ModelError
from poisonbench.gradients.forms import Ghost, Scaled, magnitude
from poisonbench.gradients.sides import Renormalize, Side, join_sides
from poisonbench.memory import Budget
from poisonbench.seeding import generator
from poisonbench.training import Recipe, Trace, train

Method = TracIn | GAS
METHODS = [TracIn(), TracIn(layers="last"), GAS(), GAS(layerwise=True)]
LOW = "bf16"
# of numbers of 8 bits: rounded once in every one of a few layers, back and forth
NEAR = 0.05


def whole(size: tuple[int, ...], most: int, seed: int) -> Tensor:
    """Whole numbers from -most to most."""
    drawn = torch.randint(-most, most + 1, size, generator=generator(seed, "whole"))
    return drawn.float()


def whole_run(model: nn.Module, shape: tuple[int, ...], most: int) -> Trace:
    """A run whose numbers are all whole, and of 8 bits but for the sums of products."""
    state = {}
    for number, (name, p) in enumerate(model.state_dict().items()):
        state[name] = whole(tuple(p.shape), 1, number)
    data = Dataset(whole((9, *shape), most, 90), torch.arange(9) % 2, 2, kind="vector")
    return Trace.of(model, data, [(state, 0.5)], loss="mean-squared-error")


def vectors() -> Trace:
    return whole_run(nn.Linear(6, 2), (6,), 15)


def maps() -> Trace:
    layers = (nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
    return whole_run(nn.Sequential(*layers), (1, 3, 3), 2)


@pytest.mark.parametrize("make", [vectors, maps])
@pytest.mark.parametrize("points", [1, 9])
@pytest.mark.parametrize("method", [TracIn(), GAS(), GAS(layerwise=True)], ids=repr)
def test_whole_numbers_are_multiplied_without_any_error(
    make: Callable[[], Trace], points: int, method: Method
):
    trace = make()
    test = trace.train.take(torch.arange(points))
    full = method.fit(trace)(test)
    low = replace(method, precision=LOW).fit(trace)(test)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, full, rtol=1e-6, atol=1e-7)
    if method == TracIn() and points > 1:
        assert torch.equal(low, full)
        odd = full[full.to(torch.bfloat16) != full]
        assert len(odd), "sums of 8 bits would do"


PICTURES = ("mlp", "cnn", "cnn7", "resnet9")


def pictures(model: str) -> tuple[Trace, Dataset]:
    recipe = Recipe(model, epochs=2, batch_size=16, lr=0.05, checkpoints=2)
    data = random_data(40, (3, 8, 8), 3, dtype=torch.float32)
    test = random_data(12, (3, 8, 8), 3, seed=9, dtype=torch.float32)
    return train(data, recipe, 0), test


def words(model: str) -> tuple[Trace, Dataset]:
    recipe = Recipe(model, epochs=2, batch_size=16, lr=0.05, checkpoints=2)
    data = sentences(40).to(dtype=torch.float32)
    return train(data, recipe, 0), sentences(12, seed=9).to(dtype=torch.float32)


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize("model", [*PICTURES, "text-cnn", "transformer"])
def test_scores_are_near_those_of_float32_and_the_run_is_left_as_it_was(
    model: str, method: Method
):
    trace, test = pictures(model) if model in PICTURES else words(model)
    state = {name: t.clone() for name, t in trace.model().state_dict().items()}
    full = method.fit(trace)(test)
    low = replace(method, precision=LOW).fit(trace)(test)
    assert low.dtype == torch.float32
    error = float((low - full).norm() / full.norm())
    assert 1e-5 < error < NEAR
    for name, t in trace.model().state_dict().items():
        assert torch.equal(t, state[name])
        assert t.dtype == state[name].dtype


class Ids(nn.Module):
    """Reads its inputs as whole numbers, of which 8 bits do not have all."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(1024, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.table(x.long()).sum(1)


class Constant(nn.Module):
    """Adds a constant that no conversion of the model reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)
        self.shift = torch.ones(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + self.shift)


REFUSED = [
    (Ids(), torch.float32, ModelError, r"the model \(Ids\) has logits in bfloat16"),
    (Constant(), torch.float32, ModelError, r"\(Constant\) cannot be run in bfloat16"),
    (nn.Linear(4, 2).double(), torch.float64, ConfigError, "float32, got torch.float6"),
]


@pytest.mark.parametrize(("model", "kind", "error", "told"), REFUSED, ids=str)
@pytest.mark.parametrize("method", [TracIn(), GAS()], ids=repr)
def test_what_8_bits_cannot_hold_is_refused_with_a_way_out(
    model: nn.Module, kind: torch.dtype, error: type, told: str, method: Method
):
    x = 513.0 + 2 * torch.arange(36, dtype=kind).reshape(9, 4)
    data = Dataset(x, torch.arange(9) % 2, 2, kind="vector")
    trace = Trace.of(model, data, [(model.state_dict(), 0.1)])
    assert method.fit(trace)(data).isfinite().all()
    with pytest.raises(error, match=told) as refused:
        replace(method, precision=LOW).fit(trace)(data)
    assert "precision 'full'" in str(refused.value)


def test_a_magnitude_is_a_power_of_two_by_which_nothing_is_rounded():
    largest = torch.tensor([1.0, 0.75, 3.0, 1e-42, 3e38, 0.0])
    rows = torch.stack([largest, -largest / 3], 1)
    found = magnitude(rows)
    mantissa, _ = torch.frexp(found)
    assert set(mantissa.tolist()) == {0.5}
    assert bool((found[:-1] <= largest[:-1]).all())
    assert bool((largest[:-1] < 2 * found[:-1].double()).all())
    assert float(found[-1]) == 1.0


def test_a_number_takes_two_bytes_so_that_twice_the_points_fit(
    monkeypatch: pytest.MonkeyPatch,
):
    trace = maps()
    test = trace.train.take(torch.arange(8))
    size = sum(p.numel() for p in trace.model().parameters())
    room_for = 4 * size * 4  # bytes: four points at full precision
    budget = Budget(memory=room_for, batch=3)
    monkeypatch.setattr("poisonbench.memory.CPU", budget)
    joined: list[int] = []

    def counted(passes: Iterable[Iterator[Scaled]], renormalize: Renormalize) -> Side:
        side = join_sides(passes, renormalize)
        entries = held = points = 0
        for layer in side.layers:
            parts = [layer.a, layer.d] if isinstance(layer, Ghost) else [layer.g]
            entries += sum(part.numel() for part in parts)
            held += sum(part.nbytes for part in parts)
            points = len(parts[0])
        assert held == entries * (2 if low else 4)
        joined.append(points)
        return side

    monkeypatch.setattr("poisonbench.gradients.products.join_sides", counted)
    found = {}
    for low in (False, True):
        joined.clear()
        method = TracIn(precision=LOW) if low else TracIn()
        found[low] = method.fit(trace)(test)
        assert joined == ([8] if low else [4, 4])
    assert torch.equal(found[True], found[False]), "whole numbers are not rounded"
