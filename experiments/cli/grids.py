"""Commands that run a grid: `run`, `demo`, `status`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from experiments.cli.execution import options_of, ray_device
from experiments.cli.options import (
    FILE,
    FOLDER,
    checked_device,
    columns,
    folder_argument,
    running,
    trusting,
)
from experiments.cli.results import print_tables

if TYPE_CHECKING:
    from experiments.plan.cells import Cells
    from experiments.runner.run import Summary

DEMO = Path(__file__).parents[1] / "grids" / "demo.toml"


@click.command()
@click.argument("grid", type=FILE)
@click.option(
    "-o",
    "--output",
    "folder",
    type=FOLDER,
    required=True,
    help="Folder of the logs; what is there is not done again.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a key of the grid, e.g. recipe.epochs=5.",
)
@click.option(
    "--dry-run", is_flag=True, help="Check the grid and show its cells; train nothing."
)
@running
def run(
    grid: Path, folder: Path, overrides: tuple[str, ...], dry_run: bool, **how: Any
) -> None:
    """Run a grid of attacks, estimators and defenses.

    The same command again goes on where it stopped.
    """
    from experiments.plan.gridfile import read

    sys.exit(_run(read(grid, overrides), folder, dry_run, **how))


@click.command()
@click.option(
    "-o",
    "--output",
    "folder",
    type=FOLDER,
    default=Path("poisonbench-demo"),
    show_default=True,
    help="Folder of the logs.",
)
@running
def demo(folder: Path, **how: Any) -> None:
    """Run the demonstration grid on embedded digits, print its tables, and save its report.

    Some pictures of the report are saved apart.
    """
    from experiments.demo import pictures
    from experiments.page import write_report
    from experiments.plan.gridfile import read
    from experiments.plan.paths import Place

    code = _run(read(DEMO), folder, **how)
    print_tables(folder, "table")
    for path in pictures(folder, how["data_root"]):
        click.echo(f"saved {path}")
    written = write_report(Place(folder, root=how["data_root"]))
    click.echo(f"saved {written.path}")
    sys.exit(code)


@click.command()
@folder_argument
@trusting
def status(folder: Path, trust: bool) -> None:
    """Show what is done, missing and failed in a folder of logs."""
    from experiments.plan.cells import read_cells

    cells = read_cells(folder)
    if cells is None:
        cells = _planned(folder, trust)
    sys.exit(_show_progress(cells, folder))


def _show_progress(cells: "Cells", folder: Path) -> int:
    """Prints what there is in a folder and what is wrong with it; returns the exit code."""
    from experiments.runner.existing import existing_cells
    from experiments.runner.older import older_cells
    from experiments.runner.progress import progress

    there = existing_cells(cells, folder)
    click.echo(progress(cells, folder, there, columns()))
    for line in (*there.others, *older_cells(cells, folder)):
        click.echo(line)
    for error in there.damaged:
        click.echo(f"Error: {error.message}", err=True)
    for hint in dict.fromkeys(error.hint for error in there.damaged if error.hint):
        click.echo(f"Hint: {hint}", err=True)
    return 3 if there.damaged else 0


def _planned(folder: Path, trust: bool) -> Any:
    """The cells of a folder of a version that did not write them: those of its grid file.

    Raises:
        ConfigError: the folder is none of a run, or its grid names code, which is not trusted.
    """
    from experiments.evaluation.load import no_run
    from experiments.plan.cells import planned
    from experiments.plan.gridfile import read
    from experiments.plan.identity import code_named
    from experiments.plan.parse import parse
    from experiments.plan.paths import Place
    from experiments.plan.stages import jobs
    from poisonbench.errors import ConfigError

    if not (folder / "grid.toml").exists():
        raise no_run(folder)
    raw = read(folder / "grid.toml")
    code = code_named(raw)
    if code and not trust:
        told = f"{folder / 'grid.toml'} names code: {', '.join(code)}"
        raise ConfigError([told], "read that code, then run it with --trust")
    grid = parse(raw)
    return planned(grid.name, jobs(grid, Place(folder), 1))


def _run(raw: dict[str, Any], folder: Path, dry_run: bool = False, **how: Any) -> int:
    """Runs the content of a grid file; returns the exit code."""
    import torch

    from experiments.plan.cells import planned
    from experiments.plan.parse import parse
    from experiments.plan.paths import Place
    from experiments.plan.stages import jobs, with_data_digests
    from experiments.runner.run import run
    from experiments.tracking.watch import watched

    grid = parse(raw)
    on_ray = how["executor"] == "ray"
    device = ray_device(how) if on_ray else checked_device(how["device"])
    place = Place(folder, device, how["data_root"], how["download"])
    if dry_run:
        grid = with_data_digests(grid, place)
        cells = planned(grid.name, jobs(grid, place, how["threads"]))
        return _show_progress(cells, folder)
    torch.set_num_threads(how["threads"])
    options = options_of(how, device)
    with watched(how["track"], folder) as watch:
        summary = run(grid, place, options, watch)
    return _tell(summary, folder)


def _tell(summary: "Summary", folder: Path) -> int:
    """Says what a run did; returns the exit code."""
    from experiments.evaluation.kinds.weak_victims import weak_scenes
    from experiments.evaluation.views.failures import failure_lines

    missing = summary.cells - summary.found - summary.done
    line = f"{summary.cells} cells in {folder}: {summary.found} were there, {summary.done} done"
    line += f" in {summary.seconds:.0f} s"
    if missing:
        line += f", {missing} failed or waiting for a failed one"
    click.echo(line, err=True)
    for told in (*summary.older, *weak_scenes(folder)):
        click.echo(told, err=True)
    for line in failure_lines(summary.failed):
        click.echo(line, err=True)
    for fault in summary.damaged:
        click.echo(f"Error: {fault}", err=True)
    if summary.damaged:
        return 3
    return 1 if missing else 0
