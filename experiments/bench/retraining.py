"""Bulk training against one model after another, and the estimators that retrain on the digits."""

from collections.abc import Callable

import torch
from torch import Tensor

from estimators.downsampling import Downsampling
from estimators.leave_one_out import LeaveOneOut
from estimators.shapley.shapley import Shapley
from experiments.bench.timing import Timing, machine, race, ratio, table
from experiments.scene.cost import measured
from poisonbench.contracts.protocols import Estimator
from poisonbench.data import load
from poisonbench.models import predict
from poisonbench.notes import collecting
from poisonbench.seeding import generator
from poisonbench.training import Recipe, train, train_many
from poisonbench.training.trace import Trace

ALONE = 4  # models trained one by one; their seconds are taken for all
ESTIMATORS: dict[str, Estimator] = {
    "leave-one-out, 3 repeats": LeaveOneOut(repeats=3),
    "downsampling, 1000 models": Downsampling(models=1000),
    "shapley, 100 permutations": Shapley(
        method="permutation", permutations=100, precision=0.0
    ),
    "shapley, banzhaf, 1000 models": Shapley(method="banzhaf", models=1000),
}


def speed(
    model: str, K: int, rounds: int, epochs: int = 20, batch: int = 32
) -> list[str]:
    """Returns a row: models a second together and one by one on halves of the digits, and how far
    what they are differs.

    In float32 rounding can grow over a run until one model ends elsewhere; so the difference is
    that of the same runs in float64.
    """
    data, test = load("digits")
    recipe = Recipe(
        model=model, epochs=epochs, batch_size=batch, lr=0.05, checkpoints=1
    )
    masks = (
        torch.rand((K, len(data)), generator=generator(0, "halves"))
        .argsort(1)
        .argsort(1)
        < len(data) // 2
    )
    found: dict[str, Tensor] = {}

    def together() -> None:
        found["together"] = train_many(data, masks, recipe, range(K)).logits(test)

    def alone() -> None:
        models = [train(data.take(masks[k]), recipe, k).model() for k in range(ALONE)]
        found["alone"] = torch.stack([predict(one, test.x) for one in models])

    runs: dict[str, Callable[[], object]] = {"one by one": alone, "together": together}
    timings = race(runs, rounds, data.x.device, warm=0)
    each = {
        name: _each(timings[name], size)
        for name, size in (("one by one", ALONE), ("together", K))
    }
    accuracy = {
        name: float((logits[:ALONE].argmax(2) == test.y).float().mean())
        for name, logits in found.items()
    }
    exact = train_many(
        data.to(dtype=torch.float64), masks[:ALONE], recipe, range(ALONE)
    ).logits(test)
    models = (
        train(data.take(masks[k]).to(dtype=torch.float64), recipe, k).model()
        for k in range(ALONE)
    )
    difference = max(
        float((predict(one, test.x.double()) - exact[k]).abs().max())
        for k, one in enumerate(models)
    )
    rates = [f"{1 / each[name].median:.1f}" for name in each]
    peak = f"{timings['together'].peak_bytes / 2**20:.0f}"
    shown = [f"{accuracy[name]:.4f}" for name in ("alone", "together")]
    return [
        model,
        str(batch),
        str(K),
        *rates,
        ratio(each["one by one"], each["together"]),
        *shown,
        f"{difference:.1e}",
        peak,
    ]


def _each(timing: Timing, models: int) -> Timing:
    return Timing(
        timing.name,
        tuple(seconds / models for seconds in timing.seconds),
        timing.peak_bytes,
    )


def speeds(K: int, rounds: int) -> str:
    """Returns the table of `speed`."""
    rows = [
        speed("linear", K, rounds),
        speed("mlp", K, rounds),
        speed("cnn", max(1, K // 8), rounds),
    ]
    rows.append(speed("cnn", max(1, K // 8), rounds, batch=128))
    head = (
        "model",
        "batch",
        "K",
        "models/s one by one",
        "models/s together",
        "times as fast",
        "accuracy",
        "together",
    )
    about = f"halves of the digits, 20 epochs, {rounds} rounds. {machine(torch.device('cpu'))}."
    columns = (*head, "logit difference in float64", "peak MiB")
    return f"Bulk training: {about}\n\n{table(columns, rows)}\n"


def whole(m: int) -> str:
    """Returns seconds and peak memory of each estimator on all digits, with the perceptron."""
    data, points = load("digits")
    trace = train(
        data, Recipe(model="mlp", epochs=20, batch_size=32, lr=0.05, checkpoints=1), 0
    )
    test = points.take(torch.arange(m))
    rows = [
        [name, *_measured(estimator, trace, m)]
        for name, estimator in ESTIMATORS.items()
    ]
    head = (
        "estimator",
        "fit, s",
        f"scores of {m} points, s",
        "peak MiB",
        "median magnitude of a score in standard errors",
    )
    where = f"mlp, n = {len(data)}, m = {len(test)}. {machine(data.x.device)}."
    return f"The whole of the digits: {where}\n\n{table(head, rows)}\n"


def _measured(estimator: Estimator, trace: Trace, m: int) -> list[str]:
    test = load("digits")[1].take(torch.arange(m))
    with collecting() as notes:
        with measured(trace.train.x.device) as fit:
            scorer = estimator.fit(trace)
        with measured(trace.train.x.device) as score:
            scores = scorer(test)
    errors = notes.arrays.get("standard_error")
    clear = (
        "" if errors is None else f"{float((scores.abs() / errors).nanmedian()):.2f}"
    )
    peak = max(fit.peak_bytes, score.peak_bytes) / 2**20
    return [f"{fit.seconds:.0f}", f"{score.seconds:.2f}", f"{peak:.0f}", clear]
