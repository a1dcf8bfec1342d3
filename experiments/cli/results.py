"""Commands that read logs: `evaluate`, `report`, `curve`, `certified`, `show`.

None of them needs torch, but for the pictures of a report.
"""

import sys
from pathlib import Path

import click

from experiments.cli.options import (
    FILE,
    FOLDER,
    ROOT_HELP,
    folder_argument,
    picture_option,
    trusting,
)

FORMATS = ("table", "csv", "json", "markdown", "latex")


@click.command()
@folder_argument
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="table",
    show_default=True,
    help="csv and json hold every row, metric and interval in full precision.",
)
@click.option(
    "--against",
    metavar="DETECTOR",
    help="Add how far each detector's AUROC is above this one's, with paired intervals.",
)
def evaluate(folder: Path, form: str, against: str | None) -> None:
    """Print how well attacks and defenses did, from the logs in FOLDER."""
    sys.exit(3 if print_tables(folder, form, against) else 0)


def print_tables(folder: Path, form: str, against: str | None = None) -> bool:
    """Prints the tables of a folder of logs; returns whether a log was damaged."""
    from experiments.evaluation.load import load_results
    from experiments.report.render import render
    from poisonbench.errors import ConfigError

    if not (folder / "scenes").is_dir():
        hint = f"fill it with: poisonbench run GRID.toml -o {folder}"
        raise ConfigError([f"{folder} holds no logs"], hint)
    results = load_results(folder)
    click.echo(render(results, form, against))
    if form != "table":  # a table for the terminal lists damaged logs at its end
        for fault in results.damaged:
            click.echo(f"Error: {fault.message}", err=True)
    for hint in dict.fromkeys(fault.hint for fault in results.damaged if fault.hint):
        click.echo(f"Hint: {hint}", err=True)
    return bool(results.damaged)


@click.command()
@folder_argument
@click.option(
    "-o",
    "--output",
    "path",
    type=FILE,
    help="The file.  [default: report.html in FOLDER]",
)
@click.option("--data-root", type=FOLDER, help=ROOT_HELP)
@trusting
def report(
    folder: Path, path: Path | None, data_root: Path | None, trust: bool
) -> None:
    """Write a run as one page of HTML: summary, tables, plots, points, costs and origin.

    The page needs no network. Exit code 3 if a file of the run cannot be read: the page lists it.
    """
    from experiments.page import write_report
    from experiments.plan.paths import Place

    place = Place(folder, root=data_root, trust=trust)
    written = write_report(place, path)
    for fault in written.damaged:
        click.echo(f"Error: {fault.path} {fault.reason}", err=True)
    click.echo(f"saved {written.path}")
    sys.exit(3 if written.damaged else 0)


@click.command()
@folder_argument
@picture_option
@click.option(
    "--axis",
    default="budget",
    show_default=True,
    help="Numeric hyperparameter of the attacks, e.g. budget or alpha.",
)
def curve(folder: Path, path: Path, axis: str) -> None:
    """Plot attack success and clean accuracy against the budget of the attacks in FOLDER."""
    from experiments.evaluation.load import load_results
    from experiments.report.pictures.success_curves import success_curve

    click.echo(f"saved {success_curve(load_results(folder, verify=False), path, axis)}")


@click.command()
@folder_argument
@picture_option
def certified(folder: Path, path: Path) -> None:
    """Plot the certified accuracy of the certifiers in FOLDER.

    That is the share of test points that stay right whatever number of training rows, on the
    x-axis, is inserted or deleted.
    """
    from experiments.evaluation.load import load_results
    from experiments.report.pictures.certified_curves import certified_curves

    click.echo(f"saved {certified_curves(load_results(folder, verify=False), path)}")


@click.command()
@click.argument("files", nargs=-1, required=True, type=FILE)
def show(files: tuple[Path, ...]) -> None:
    """Show what is in logs: configuration, data sets with their shapes and ranges, attributes."""
    from experiments.report.show import describe
    from poisonbench import log

    click.echo("\n\n".join(describe(log.read(file)) for file in files))
