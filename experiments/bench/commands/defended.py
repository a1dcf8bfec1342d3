"""Benchmarks of what judges points."""

from pathlib import Path

import click

from experiments.cli.options import COUNT


@click.command()
@click.option(
    "-n", type=COUNT, default=1250, show_default=True, help="Smallest number of rows."
)
@click.option(
    "-m", type=COUNT, default=180, show_default=True, help="Points that are judged."
)
@click.option("--doublings", type=COUNT, default=3, show_default=True)
@click.option("--rounds", type=COUNT, default=1, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False))
def questions(
    n: int,
    m: int,
    doublings: int,
    rounds: int,
    output: Path | None,
) -> None:
    """The questions and an influence matrix: processor seconds as n doubles, on one thread."""
    import torch

    from experiments.bench import questions as bench
    from experiments.bench.gradients import save

    torch.set_num_threads(1)
    save(bench.bench(n, m, doublings, rounds), output)


@click.command()
@click.option(
    "-n",
    "sizes",
    multiple=True,
    type=int,
    default=(2500, 5000, 10_000, 20_000),
    show_default=True,
    help="Numbers of training rows.",
)
@click.option(
    "-m", type=COUNT, default=100, show_default=True, help="Points that are judged."
)
@click.option("--rounds", type=COUNT, default=1, show_default=True)
@click.option("--only", multiple=True, help="Contestants, by name; default: all.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False))
def defenses(
    sizes: tuple[int, ...],
    m: int,
    rounds: int,
    only: tuple[str, ...],
    output: Path | None,
) -> None:
    """Detectors, filters and certifiers: processor seconds and memory as n grows."""
    import torch

    from experiments.bench.defended import growth as bench
    from experiments.bench.gradients import save

    torch.set_num_threads(1)
    save(bench.bench(sizes, m, rounds, only), output)
