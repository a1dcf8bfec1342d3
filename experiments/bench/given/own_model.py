"""A user's model, trained by a user's loop: TracIn through `Trace.of` and by captum, side by side.

The model has BatchNorm and no name that this library knows; Adam trains it. Lines of code are those
of the functions below, which do what a user does.
"""

import copy
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from estimators.tracin import TracIn
from experiments.bench.timing import machine, race
from poisonbench.data import Dataset, load
from poisonbench.training import Trace

State = dict[str, Tensor]
Pairs = list[tuple[State, float]]
Scores = Callable[[nn.Module, TensorDataset, Pairs, Dataset], Tensor]
EPOCHS = 3
RATE = 1e-3


def network() -> nn.Module:
    """Two convolutions with BatchNorm, for digits."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 10),
    )


def trained(train: TensorDataset) -> tuple[nn.Module, Pairs]:
    """An ordinary loop, which keeps a state after each epoch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = network()
        adam = torch.optim.Adam(model.parameters(), lr=RATE)
        kept: Pairs = []
        for _ in range(EPOCHS):
            for x, y in DataLoader(train, batch_size=64, shuffle=True):
                adam.zero_grad()
                F.cross_entropy(model(x), y).backward()
                adam.step()
            kept.append((copy.deepcopy(model.state_dict()), RATE))
    return model.eval(), kept


def ours(model: nn.Module, train: TensorDataset, kept: Pairs, test: Dataset) -> Tensor:
    """TracIn through `Trace.of`."""
    run = Trace.of(model, train, kept)
    return TracIn().fit(run)(test)


def captum(
    model: nn.Module, train: TensorDataset, kept: Pairs, test: Dataset
) -> Tensor:
    """TracInCP of captum, a row at a time: its other form leaves BatchNorm out."""
    from captum.influence import TracInCP

    def state_of(model: nn.Module, k: int) -> float:
        state, rate = kept[k]
        model.load_state_dict(state)
        return rate

    tracin = TracInCP(
        model,
        train,
        checkpoints=range(len(kept)),
        checkpoints_load_func=state_of,
        loss_fn=nn.CrossEntropyLoss(reduction="none"),
        batch_size=128,
    )
    scores: Tensor = tracin.influence((test.x, test.y))
    return scores.detach()


def lines_of(function: Callable[..., Any]) -> int:
    """Returns the lines of a function's body without its docstring and empty ones."""
    source = inspect.getsource(function)
    body = source.split('"""')[2]
    return sum(bool(line.strip()) for line in body.splitlines())


def side_by_side(n: int, m: int, rounds: int) -> str:
    """Returns the table: seconds, their ratio, the largest difference of scores, lines of code.

    Args:
        n: training instances.
        m: test points.
        rounds: of the race.
    """
    train, test = load("digits")
    rows = TensorDataset(train.x[:n], train.y[:n])
    points = test.take(torch.arange(m))
    model, kept = trained(rows)
    contestants: dict[str, Scores] = {"poisonbench": ours, "captum": captum}
    found: dict[str, Tensor] = {}

    def run(name: str) -> Callable[[], None]:
        def call() -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                scores = contestants[name](copy.deepcopy(model), rows, kept, points)
            found[name] = scores

        return call

    calls = {name: run(name) for name in contestants}
    device = torch.device("cpu")
    timings = race(calls, rounds, device)
    head = (
        f"TracIn on a user's model, {n} training and {m} test digits, {machine(device)}"
    )
    lines = [
        head,
        "",
        "| | seconds | ratio | difference | lines |",
        "|---|---|---|---|---|",
    ]
    own = timings["poisonbench"].median
    largest = found["poisonbench"].abs().max()
    for name, timing in timings.items():
        off = float((found[name] - found["poisonbench"]).abs().max() / largest)
        ratio = timing.median / own
        told = f"{timing.median:.3g} | {ratio:.3g} | {off:.1e}"
        lines.append(f"| {name} | {told} | {lines_of(contestants[name])} |")
    return "\n".join(lines) + "\n"
