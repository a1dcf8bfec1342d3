"""Runs of the grids on which studies rest."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from experiments.plan.spec import Grid


def finished(
    path: Path,
    folder: Path,
    workers: int,
    data_root: Path | None,
) -> "Grid":
    """Runs the grid of a file into a folder, tells what failed, and returns the grid.

    Args:
        path: of the grid.
        folder: of the logs; what is there is not done again.
        workers: processes; 0 works in this one.
        data_root: folder of downloaded data, None for the default.
    """
    from experiments.plan.gridfile import read
    from experiments.plan.parse import parse
    from experiments.plan.paths import Place
    from experiments.runner.run import Options, run

    grid = parse(read(path))
    place = Place(folder, root=data_root)
    summary = run(grid, place, Options(workers=workers))
    for failure in summary.failed:
        click.echo(f"failed: {failure}", err=True)
    return grid
