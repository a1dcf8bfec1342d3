"""Mistakes that a user makes with a run of their own: a line each, with the way out."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from conftest import random_data
from loops_of_others import RATE, Net, adam, net
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from estimators.gas import GAS
from estimators.hydra import HyDRA
from estimators.leave_one_out import LeaveOneOut
from estimators.representer_point import RepresenterPoint
from estimators.tracin import TracIn
from poisonbench.api import Guard
from poisonbench.data import Dataset
from poisonbench.errors import PoisonbenchError
from poisonbench.gradients import dot_products
from poisonbench.training import Trace

DATA = random_data(16, (1, 8, 8), classes=3)


@dataclass(frozen=True)
class Mistake:
    """A call that a user makes, and a part of the line that is told."""

    name: str
    call: Callable[[], Any]
    told: str


def model() -> Net:
    return net(DATA).eval()


def states() -> list[Any]:
    trained = net(DATA)
    return [(copy.deepcopy(s), r) for _, r, s in adam(trained, DATA, 0)]


def run(**more: Any) -> Trace:
    return Trace.of(model(), DATA, states(), **more)


def renamed(old: str, new: str) -> list[Any]:
    return [({k.replace(old, new): v for k, v in s.items()}, r) for s, r in states()]


def live() -> list[Any]:
    """Checkpoints that are all the live model's state, as without a copy."""
    trained = net(DATA)
    return [(state, rate) for _, rate, state in adam(trained, DATA, 0)]


def of_colours() -> Net:
    """The same model for images of three channels."""
    return net(random_data(2, (3, 8, 8), 3))


def lost() -> list[Any]:
    return [({k: v * torch.nan for k, v in s.items()}, r) for s, r in states()]


def one_hot() -> tuple[Any, Any]:
    return DATA.x, nn.functional.one_hot(DATA.y, 3)


def scored(estimator: Any, points: Dataset, trace: Trace | None = None) -> Any:
    return estimator.fit(trace or run())(points)


class Drawing(Net):
    """It draws in evaluation mode, too."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.dropout(x, 0.5, True))


class Counting(Net):
    """Its output depends on how often it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) * self.calls


class Beside(Net):
    """A point is answered by the points beside it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(0))


class Unkept(Net):
    """BatchNorm by the batch, in evaluation as well."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(2, track_running_stats=False)


def flat_unkept() -> nn.Module:
    norm = nn.BatchNorm1d(64, track_running_stats=False)
    return nn.Sequential(norm, nn.Linear(64, 3)).double()


def made(kind: type[Net]) -> Net:
    found = kind()
    found(DATA.x[:2].float())
    return found.double()


def in_numpy() -> list[Any]:
    return [({k: v.numpy() for k, v in s.items()}, r) for s, r in states()]


def lost_to(values: Any) -> Any:
    """The loss (outputs, y) -> values."""
    return lambda outputs, y: values(outputs, y)


MISTAKES = [
    Mistake(
        "a model that draws when it is evaluated",
        lambda: Trace.of(made(Drawing), DATA),
        "the model gives other outputs at a second call, in evaluation mode",
    ),
    Mistake(
        "a model that counts its calls",
        lambda: Trace.of(made(Counting), DATA),
        "the model gives other outputs at a second call, in evaluation mode",
    ),
    Mistake(
        "a model that looks at the batch",
        lambda: Trace.of(made(Beside), DATA),
        "the output for a point depends on the points beside it",
    ),
    Mistake(
        "batch norm without statistics of its own",
        lambda: Trace.of(made(Unkept), DATA),
        "depends on the points beside it in the batch: norm (BatchNorm2d)",
    ),
    Mistake(
        "batch norm that a single row cannot pass",
        lambda: Trace.of(flat_unkept(), (DATA.x.flatten(1), DATA.y)),
        "depends on the points beside it in the batch: 0 (BatchNorm1d)",
    ),
    Mistake(
        "states of arrays",
        lambda: Trace.of(model(), DATA, in_numpy()),
        "checkpoint 0 holds 'conv.weight' as ndarray, and not as a tensor",
    ),
    Mistake(
        "a loss without a gradient",
        lambda: run(loss=lost_to(lambda out, y: (out.argmax(1) == y).double())),
        "has no gradient at the outputs",
    ),
    Mistake(
        "a loss that is detached",
        lambda: run(loss=lost_to(lambda out, y: out.detach().square().sum(1))),
        "has no gradient at the outputs",
    ),
    Mistake(
        "a loss of arrays",
        lambda: run(loss=lost_to(lambda out, y: out.detach().numpy()[:, 0])),
        "must return (2,), got ndarray",
    ),
    Mistake(
        "a loss that calls numpy",
        lambda: run(loss=lost_to(lambda out, y: out.numpy()[:, 0])),
        "fails on outputs (2, 3): RuntimeError: Can't call numpy()",
    ),
    Mistake(
        "a loss of other labels",
        lambda: run(loss=lost_to(lambda out, y: out[:, 7])),
        "fails on outputs (2, 3): IndexError",
    ),
    Mistake(
        "a loop that takes no seed",
        lambda: run(retrain=lambda model, data: []),
        "retrain is called as (model, data, seed), and takes (model, data)",
    ),
    Mistake(
        "a loop that takes more",
        lambda: run(retrain=lambda model, data, seed, epochs: []),
        "retrain is called as (model, data, seed), and takes (model, data, seed, epochs)",
    ),
    Mistake(
        "a maker that takes a shape",
        lambda: run(retrain=(lambda shape: model(), adam)),
        "make of retrain is called as (), and takes (shape)",
    ),
    Mistake(
        "a pair and one more",
        lambda: run(retrain=(model, adam, 3)),
        "retrain has 3 entries",
    ),
    Mistake(
        "a text for a seed",
        lambda: run(seed="a"),
        "seed must be a whole number, got str 'a'",
    ),
    Mistake(
        "a text for an alarm rate",
        lambda: Guard(run(), DATA.x, alarm="a"),
        "alarm must be a number, got str 'a'",
    ),
    Mistake(
        "half a proponent",
        lambda: Guard(run(), DATA.x, k=1.5),
        "k must be a whole number, got float 1.5",
    ),
    Mistake(
        "a text for the seed of a guard",
        lambda: Guard(run(), DATA.x, seed="a"),
        "seed must be a whole number, got str 'a'",
    ),
    Mistake(
        "a loader of trusted points",
        lambda: Guard(run(), DataLoader(TensorDataset(DATA.x, DATA.y))),
        "the trusted points are a DataLoader",
    ),
    Mistake(
        "wrong state keys",
        lambda: Trace.of(model(), DATA, renamed("fc", "head")),
        "checkpoint 0 lacks 'fc.weight', 'fc.bias'",
    ),
    Mistake(
        "checkpoints of another model",
        lambda: Trace.of(model(), DATA, [(of_colours().state_dict(), RATE)]),
        "'conv.weight' of shape (2, 3, 3, 3), the model's is (2, 1, 3, 3)",
    ),
    Mistake(
        "the state of a model that was never called",
        lambda: Trace.of(model(), DATA, [(Net().state_dict(), RATE)]),
        "checkpoint 0 holds 'hidden.weight', which has no value yet",
    ),
    Mistake(
        "states without a copy",
        lambda: Trace.of(model(), DATA, live()),
        "checkpoints 0 and 1 are the same tensors",
    ),
    Mistake(
        "the optimiser's state",
        lambda: Trace.of(
            model(), DATA, [torch.optim.Adam(model().parameters()).state_dict()]
        ),
        "the state of checkpoint 0 is that of an optimiser",
    ),
    Mistake(
        "a run that diverged",
        lambda: Trace.of(model(), DATA, lost()),
        "which is not a finite number",
    ),
    Mistake(
        "no learning rates",
        lambda: TracIn().fit(Trace.of(model(), DATA, [s for s, _ in states()])),
        "TracIn needs checkpoints with their learning rates",
    ),
    Mistake(
        "learning rates that are too few",
        lambda: Trace.of(model(), DATA, [s for s, _ in states()], lr=[0.1]),
        "lr has 1 numbers for 2 checkpoints",
    ),
    Mistake(
        "a state in the place of the model",
        lambda: Trace.of(model().state_dict(), DATA),  # type: ignore[arg-type]
        "model must be an nn.Module",
    ),
    Mistake(
        "one-hot labels",
        lambda: Trace.of(model(), one_hot()),
        "y of the training set has shape (16, 3), not (n,)",
    ),
    Mistake(
        "labels from 1",
        lambda: Trace.of(model(), (DATA.x, DATA.y + 1)),
        "the training set has label 3 in row",
    ),
    Mistake(
        "instances of another shape",
        lambda: Trace.of(model(), (DATA.x.flatten(1), DATA.y)),
        "the model (Net) cannot be called on x (2, 64)",
    ),
    Mistake(
        "test points of another shape",
        lambda: scored(GAS(), random_data(2, (1, 9, 9), 3)),
        "points must be instances as the training set",
    ),
    Mistake(
        "a test point on another device",
        lambda: scored(GAS(), DATA.take(torch.arange(2)).to("meta")),
        "points must lie where the run does, cpu, got meta",
    ),
    Mistake(
        "a model in training mode, below the trace",
        lambda: dot_products(net(DATA), DATA, DATA),
        "training mode",
    ),
    Mistake(
        "a head that is not there",
        lambda: run(head="classifier"),
        "classifier",
    ),
    Mistake(
        "a method of the steps",
        lambda: HyDRA().fit(run()),
        "HyDRA needs the batch and the learning rate of every step",
    ),
    Mistake(
        "retraining without a loop",
        lambda: LeaveOneOut().fit(run()),
        "LeaveOneOut needs a way to train again",
    ),
    Mistake(
        "a model alone",
        lambda: GAS().fit(model()),  # type: ignore[arg-type]
        "trace must be a Trace",
    ),
    Mistake(
        "a model of half precision",
        lambda: Trace.of(model().half(), DATA),
        "the model is in torch.float16",
    ),
    Mistake(
        "a loader in the place of the data set",
        lambda: Trace.of(model(), DataLoader(TensorDataset(DATA.x, DATA.y))),
        "the training set is a DataLoader",
    ),
    Mistake(
        "no rows",
        lambda: Trace.of(model(), (DATA.x[:0], DATA.y[:0])),
        "the training set has no rows",
    ),
    Mistake(
        "negative weight decay",
        lambda: run(weight_decay=-1.0),
        "weight_decay must be non-negative",
    ),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_is_told_in_one_line_with_a_way_out(mistake: Mistake):
    with pytest.raises((PoisonbenchError, ValueError, TypeError)) as caught:
        mistake.call()
    error = caught.value
    message = str(error)
    if isinstance(error, PoisonbenchError):
        message = error.message
        assert error.hint
        assert "\n" not in error.hint
    first = message.splitlines()[0]
    assert mistake.told in first
    assert len(first) < 250


def test_a_loop_may_take_more_than_it_must():
    def with_defaults(model: nn.Module, data: Dataset, seed: int, epochs: int = 2):
        return adam(model, data, seed)

    for loop in (with_defaults, lambda *given: adam(*given), adam):
        assert run(retrain=(model, loop)).offers >= {"retraining"}


def test_a_model_given_in_training_mode_is_scored_in_evaluation_mode():
    given = model()
    want = scored(RepresenterPoint(), DATA, Trace.of(given, DATA))
    got = scored(RepresenterPoint(), DATA, Trace.of(given.train(), DATA))
    assert torch.equal(got, want)
    assert given.training


def test_a_model_that_does_not_know_its_training_set_is_told_of():
    y = torch.arange(120) % 3
    x = nn.functional.one_hot(y, 5).double()
    linear = nn.Linear(5, 3, bias=False).double()
    with torch.no_grad():
        linear.weight.copy_(3 * torch.eye(3, 5))
    Trace.of(linear, (x, y))
    with pytest.warns(UserWarning, match=r"predicts 0% .* most frequent one is 33%"):
        Trace.of(linear, (x.roll(1, 1), y))
    with pytest.warns(UserWarning, match="are these its states"):
        Trace.of(linear, (x, y), [{"weight": torch.zeros(3, 5)}])


def test_a_model_that_gives_probabilities_is_told_of():
    y = torch.arange(120) % 2
    x = nn.functional.one_hot(y, 2).double()
    plain = nn.Sequential(nn.Linear(2, 2, bias=False).double())
    one = nn.Linear(2, 1, bias=False).double()
    with torch.no_grad():
        plain[0].weight.copy_(torch.eye(2))
        one.weight.copy_(torch.tensor([[-1.0, 1.0]]))
    softmax = nn.Sequential(plain, nn.Softmax(1))
    with pytest.warns(UserWarning, match="without its last softmax or sigmoid"):
        Trace.of(softmax, (x, y))
    Trace.of(softmax, (x, y), loss="mean-squared-error")
    Trace.of(one, (x, y), loss="binary-cross-entropy")
    sigmoid = nn.Sequential(one, nn.Sigmoid())
    with pytest.warns(UserWarning, match="probabilities|are these") as caught:
        Trace.of(sigmoid, (x, y), loss="binary-cross-entropy")
    assert "probabilities" in str(caught[0].message)
