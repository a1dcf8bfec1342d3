"""Benchmarks of running grids."""

from pathlib import Path

import click

from experiments.cli.options import COUNT, WORKERS


@click.command()
@click.option("--cells", multiple=True, type=COUNT, default=[160, 500])
@click.option("--workers", multiple=True, type=WORKERS, default=[1, 2])
@click.option(
    "--scenes",
    type=COUNT,
    default=8,
    show_default=True,
    help="Of cells of a second or more.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False))
def runner(
    cells: tuple[int, ...], workers: tuple[int, ...], scenes: int, output: Path | None
) -> None:
    """What the runner costs beside the cells of a grid."""
    import torch

    from experiments.bench.gradients import save
    from experiments.bench.grids import runner as bench

    torch.set_num_threads(1)
    save(bench.bench(list(cells), list(workers), scenes), output)


@click.command()
@click.option("--kills", default=50, show_default=True, help="Of workers.")
@click.option("--parents", default=5, show_default=True, help="Kills of the command.")
@click.option("--full", default=2, show_default=True, help="Full disks.")
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--scratch",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="A new folder for the runs.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False))
def soak(
    kills: int, parents: int, full: int, seed: int, scratch: Path, output: Path | None
) -> None:
    """A grid under kills and full disks, against a calm run of it (Linux)."""
    from experiments.bench.gradients import save
    from experiments.bench.grids import soak as bench

    save(bench.bench(scratch, seed, kills, parents, full), output)
