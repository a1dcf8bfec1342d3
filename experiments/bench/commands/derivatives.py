"""Benchmarks of estimators that work with gradients: their cost."""

from pathlib import Path

import click

from experiments.cli.options import COUNT

RACED = click.Choice(["cnn", "conv3", "resnet", "text-cnn", "transformer"])


@click.command()
@click.option(
    "--model", "models", multiple=True, type=RACED, default=["conv3", "resnet"]
)
@click.option(
    "-n", type=COUNT, default=2000, show_default=True, help="Training instances."
)
@click.option("-m", type=COUNT, default=100, show_default=True, help="Test instances.")
@click.option("--checkpoints", type=COUNT, default=3, show_default=True)
@click.option("--rounds", type=COUNT, default=3, show_default=True)
@click.option("--threads", type=COUNT, default=2, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option(
    "--alone", is_flag=True, help="The engine and its floor, no loop, no peers."
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False))
def gradients(
    models: tuple[str, ...],
    n: int,
    m: int,
    checkpoints: int,
    rounds: int,
    threads: int,
    device: str,
    alone: bool,
    output: Path | None,
) -> None:
    """TracIn at checkpoints: the engine against its floor, an autograd loop and peers."""
    import torch

    from experiments.bench import gradients as bench

    torch.set_num_threads(threads)
    text = bench.bench(
        names=list(models),
        n=n,
        m=m,
        checkpoints=checkpoints,
        rounds=rounds,
        device=torch.device(device),
        alone=alone,
    )
    bench.save(text, output)


@click.command()
@click.option("-m", type=COUNT, default=100, show_default=True, help="Test instances.")
@click.option("--rounds", type=COUNT, default=3, show_default=True)
@click.option("--threads", type=COUNT, default=2, show_default=True)
@click.option("--damping", default=0.1, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False))
def influence(
    m: int, rounds: int, threads: int, damping: float, output: Path | None
) -> None:
    """Influence functions: block conjugate gradients against one solve a point and pydvl."""
    import torch

    from experiments.bench import influence as bench
    from experiments.bench.gradients import save

    torch.set_num_threads(threads)
    save(bench.bench(m, rounds, damping), output)


@click.command()
@click.option(
    "-n",
    type=COUNT,
    default=128,
    show_default=True,
    help="Smallest number of training instances.",
)
@click.option(
    "-m",
    type=COUNT,
    default=8,
    show_default=True,
    help="Smallest number of test instances.",
)
@click.option("--doublings", type=COUNT, default=3, show_default=True)
@click.option("--rounds", type=COUNT, default=1, show_default=True)
@click.option("--threads", type=COUNT, default=2, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False))
def growth(
    n: int,
    m: int,
    doublings: int,
    rounds: int,
    threads: int,
    device: str,
    output: Path | None,
) -> None:
    """The gradient-based estimators: seconds and peak memory as n and m double."""
    import torch

    from experiments.bench import growth as bench
    from experiments.bench.gradients import save

    torch.set_num_threads(threads)
    save(bench.bench(n, m, doublings, rounds, torch.device(device)), output)


@click.command(name="own-model")
@click.option(
    "-n", type=COUNT, default=1000, show_default=True, help="Training instances."
)
@click.option("-m", type=COUNT, default=50, show_default=True, help="Test instances.")
@click.option("--rounds", type=COUNT, default=3, show_default=True)
@click.option("--threads", type=COUNT, default=1, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False))
def own_model(n: int, m: int, rounds: int, threads: int, output: Path | None) -> None:
    """TracIn on a user's model with BatchNorm, and captum's: numbers, time, lines of code."""
    import torch

    from experiments.bench.given.own_model import side_by_side
    from experiments.bench.gradients import save

    torch.set_num_threads(threads)
    save(side_by_side(n, m, rounds), output)
