"""Checkpoints as users have them: states in memory and in files, rates from wherever they are."""

import copy
import warnings
from pathlib import Path

import pytest
import torch
from conftest import random_data
from loops_of_others import adam, net
from torch import Tensor, nn

from estimators import GAS, InfluenceFunctions, TracIn
from poisonbench.errors import ConfigError, RunWarning
from poisonbench.training import Checkpoint, Trace

State = dict[str, Tensor]


def case() -> tuple[nn.Module, object, list[tuple[int, float, State]]]:
    """A model, its data, and two checkpoints of its loop."""
    data = random_data(16, classes=3)
    model = net(data)
    entries = [copy.deepcopy(entry) for entry in adam(model, data, 0)]
    return model, data, entries


def assert_holds(trace: Trace, states: list[State]) -> None:
    assert len(trace.checkpoints) == len(states)
    for checkpoint, state in zip(trace.checkpoints, states, strict=True):
        for name, value in state.items():
            assert torch.equal(checkpoint.state[name], value)


@pytest.mark.parametrize(
    ("form", "lr", "rates", "steps"),
    [
        (lambda step, rate, s: (step, rate, s), None, [0.01, 0.01], [2, 4]),
        (lambda step, rate, s: (s, rate), None, [0.01, 0.01], [1, 2]),
        (lambda step, rate, s: (s, [rate]), None, [0.01, 0.01], [1, 2]),
        (lambda step, rate, s: (s, torch.tensor(rate * 100)), None, [1.0, 1.0], [1, 2]),
        (lambda step, rate, s: s, 0.5, [0.5, 0.5], [1, 2]),
        (lambda step, rate, s: s, [0.5, 0.25], [0.5, 0.25], [1, 2]),
        (lambda step, rate, s: (s, rate), [0.5, 0.25], [0.01, 0.01], [1, 2]),
        (lambda step, rate, s: (step, s), [1, 2, 3, 4], [2.0, 4.0], [2, 4]),
        (lambda step, rate, s: (step, s), torch.ones(4), [1.0, 1.0], [2, 4]),
        (lambda step, rate, s: Checkpoint(step, rate, s), 9.0, [0.01, 0.01], [2, 4]),
        (lambda step, rate, s: Checkpoint(step, torch.nan, s), 9.0, [9.0, 9.0], [2, 4]),
        (
            lambda step, rate, s: ({f"module.{k}": v for k, v in s.items()}, 1),
            None,
            [1.0, 1.0],
            [1, 2],
        ),
    ],
)
def test_states_and_rates_in_every_form(form, lr, rates, steps):
    model, data, entries = case()
    trace = Trace.of(model, data, [form(*entry) for entry in entries], lr=lr)
    assert_holds(trace, [state for _, _, state in entries])
    assert [c.lr for c in trace.checkpoints] == pytest.approx(rates)
    assert [c.step for c in trace.checkpoints] == steps


def test_without_any_rate_the_states_are_there_and_checkpoints_are_not_offered():
    model, data, entries = case()
    trace = Trace.of(model, data, [state for _, _, state in entries])
    assert "checkpoints" not in trace.offers
    assert_holds(trace, [state for _, _, state in entries])


@pytest.mark.parametrize("wrapped", [None, "state_dict", "model_state_dict", "model"])
def test_files_of_torch_hold_state_step_and_rate(wrapped, tmp_path: Path):
    model, data, entries = case()
    files = []
    for step, rate, state in entries:
        optimizer = torch.optim.SGD(model.parameters(), lr=rate * step)
        content = state
        if wrapped is not None:
            content = {"step": 10 * step, wrapped: state, "epoch": 1}
            content["optimizer"] = optimizer.state_dict()
        files.append(tmp_path / f"{step}.pt")
        torch.save(content, files[-1])
    trace = Trace.of(model, data, files)
    assert_holds(trace, [state for _, _, state in entries])
    told = [(c.step, c.lr) for c in trace.checkpoints]
    if wrapped is not None:
        assert told == [(20, 0.02), (40, 0.04)]
    given = Trace.of(model, data, [str(file) for file in files], lr=[0.3, 0.4])
    assert [c.lr for c in given.checkpoints] == [0.3, 0.4]
    paired = Trace.of(model, data, [(file, 0.7) for file in files])
    assert [c.lr for c in paired.checkpoints] == [0.7, 0.7]


@pytest.mark.parametrize("method", [GAS(), TracIn()])
def test_rates_that_are_all_0_are_refused_where_they_weigh(method, tmp_path: Path):
    model, data, _ = case()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)  # as a schedule leaves it
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(content, tmp_path / "end.pt")
    run = Trace.of(model, data, [tmp_path / "end.pt"])
    with pytest.raises(ConfigError, match="not all of them 0") as caught:
        method.fit(run)
    assert "lr= beside the states: a constant" in caught.value.hint
    InfluenceFunctions().fit(run)
    again = Trace.of(model, data, [tmp_path / "end.pt"], lr=0.1)
    assert method.fit(again)(data).abs().max() > 0


def test_a_final_rate_of_0_is_told_of():
    model, data, entries = case()
    states = [state for _, _, state in entries]
    with pytest.warns(RunWarning, match="the final model is 0, as of 1 of 2"):
        run = Trace.of(model, data, states, lr=[0.1, 0.0])
    assert "checkpoints" in run.offers
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Trace.of(model, data, states, lr=[0.0, 0.1])  # a warmup


class Holey(nn.Module):
    """A linear model of flat pictures that hides some of them by a mask of -inf."""

    def __init__(self, as_parameter: bool):
        super().__init__()
        self.fc = nn.Linear(128, 3)
        mask = torch.zeros(3)
        mask[2] = -torch.inf
        if as_parameter:
            self.mask = nn.Parameter(mask, requires_grad=False)
        else:
            self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1)) + self.mask.exp()


@pytest.mark.parametrize("as_parameter", [True, False])
@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_what_is_trained_is_finite_and_masks_need_not_be(as_parameter, value):
    data = random_data(16, classes=3, dtype=torch.float32)
    model = Holey(as_parameter)
    Trace.of(model, data, [(model.state_dict(), 0.1)])
    for name in ("fc.weight", "fc.bias"):
        state = copy.deepcopy(model.state_dict())
        state[name].view(-1)[1] = value
        with pytest.raises(ConfigError, match=f"holds '{name}', which is not a finite"):
            Trace.of(model, data, [(model.state_dict(), 0.1), (state, 0.1)])
    state = copy.deepcopy(model.state_dict())
    state["mask"][0] = torch.nan
    with pytest.raises(ConfigError, match="holds 'mask', which is not a number"):
        Trace.of(model, data, [(state, 0.1)])


def test_files_of_safetensors(tmp_path: Path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    model, data, entries = case()
    files = []
    for step, _, state in entries:
        files.append(tmp_path / f"{step}.safetensors")
        save_file(state, files[-1])
    trace = Trace.of(model, data, files, lr=0.1)
    assert_holds(trace, [state for _, _, state in entries])
    files[0].write_bytes(b"no")
    with pytest.raises(ConfigError, match=r"2\.safetensors cannot be read"):
        Trace.of(model, data, files, lr=0.1)


def test_a_safetensors_file_without_the_package_names_it(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    model, data, _ = case()
    with pytest.raises(ConfigError, match="needs the package safetensors") as caught:
        Trace.of(model, data, [tmp_path / "a.safetensors"])
    assert "pip install" in caught.value.hint


FILES = [
    (lambda path: None, "there is no such file"),
    (lambda path: path.write_text("no"), "cannot be read"),
    (lambda path: path.write_text("hi"), "cannot be read"),
    (lambda path: path.write_bytes(b""), "cannot be read"),
    (lambda path: torch.save(nn.Linear(2, 2), path), "more than tensors and numbers"),
    (lambda path: torch.save([1], path), "holds a list, no state dict"),
    (lambda path: torch.save({"epoch": 1}, path), "no state dict, but 'epoch'"),
    (lambda path: torch.save({}, path), "no state dict, but nothing"),
]


@pytest.mark.parametrize(("write", "told"), FILES)
def test_a_file_that_holds_no_state_is_told_in_a_line(write, told, tmp_path: Path):
    model, data, _ = case()
    path = tmp_path / "model.pt"
    write(path)
    with pytest.raises(ConfigError, match=told) as caught:
        Trace.of(model, data, [path])
    [line] = caught.value.errors
    assert str(path) in line
    assert "\n" not in line
    assert caught.value.hint
