"""Benchmarks of large logs."""

from pathlib import Path

import click

from experiments.cli.options import COUNT


@click.command()
@click.option(
    "-n", type=COUNT, default=50_000, show_default=True, help="Training rows."
)
@click.option(
    "-m",
    type=click.IntRange(min=10),
    default=1000,
    show_default=True,
    help="Probe points.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="A new folder (1.5 GB), or one of before: then what reads alone is run.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False))
def large(n: int, m: int, folder: Path, output: Path | None) -> None:
    """Every command on a run with an influence matrix (m, n): peak memory, size of logs (Linux)."""
    from experiments.bench.large import commands as bench

    told = bench.bench(folder, n, m)
    if output is not None:
        output.write_text(told, encoding="utf-8")
    click.echo(told)
