"""The benchmark of influence whose largest scores alone are computed."""

from pathlib import Path

import click

from experiments.cli.options import COUNT, PICTURE


@click.command()
@click.option("--model", default="cnn", show_default=True)
@click.option(
    "-n", type=COUNT, default=10_000, show_default=True, help="Training instances."
)
@click.option("-m", type=COUNT, default=100, show_default=True, help="Test instances.")
@click.option("--epochs", type=COUNT, default=8, show_default=True)
@click.option("--checkpoints", type=COUNT, default=5, show_default=True)
@click.option(*("-d", "--dimensions"), multiple=True, type=int, default=[512, 2048])
@click.option("--threads", type=COUNT, default=1, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--data-root", type=click.Path(path_type=Path), envvar="POISONBENCH_DATA")
@click.option("--figure", type=PICTURE)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False))
def screening(
    model: str,
    n: int,
    m: int,
    epochs: int,
    checkpoints: int,
    dimensions: tuple[int, ...],
    threads: int,
    device: str,
    data_root: Path | None,
    figure: Path | None,
    output: Path | None,
) -> None:
    """The ten most influential rows: screened against exact GAS and TracIn on CIFAR-10."""
    import torch

    from experiments.bench.gradients import save
    from experiments.bench.screening.report import bench
    from experiments.bench.screening.setting import setting

    torch.set_num_threads(threads)
    made = setting(model, n, m, epochs, checkpoints, torch.device(device), data_root)
    save(bench(made, dimensions, figure), output)
