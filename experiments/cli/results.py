"""Commands that read logs: `evaluate`, `report`, `plot`, `show`.

None of them needs torch, but for the pictures of a report.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from experiments.cli.options import (
    FILE,
    FOLDER,
    ROOT_HELP,
    columns,
    folder_argument,
    picture_option,
    trusting,
    where_option,
)

if TYPE_CHECKING:
    from experiments.evaluation.load import Results

FORMATS = ("table", "csv", "json", "markdown", "latex")
PLOTS = (
    "roc",
    "auc-by-attack",
    "auc-by-success",
    "auc-by-cost",
    "influence",
    "curve",
    "certified",
    "agreement",
)


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
@where_option
@click.option(
    "--by",
    multiple=True,
    metavar="KEY",
    help="One row for each value: attack, detector, dataset, seed, attack.budget, ...; means "
    "over all else. Repeatable.",
)
@click.option(
    "--sort", metavar="METRIC", help="Largest first, e.g. auroc, asr, seconds."
)
@click.option("--ascending", is_flag=True, help="With --sort: smallest first.")
def evaluate(folder: Path, form: str, conditions: tuple[str, ...], **how: Any) -> None:
    """Print how well attacks and defenses did, from the logs in FOLDER."""
    how["sort"] = how["sort"] or ""
    sys.exit(3 if print_tables(folder, form, conditions, **how) else 0)


def print_tables(
    folder: Path, form: str, conditions: tuple[str, ...] = (), **how: Any
) -> bool:
    """Prints the tables of a folder of logs; returns whether a log was damaged."""
    from experiments.evaluation.load import load_results
    from experiments.evaluation.views.where import where

    results = where(load_results(folder), conditions)
    return print_results(results, form, **how)


def print_results(results: "Results", form: str, **how: Any) -> bool:
    """Prints the tables of logs; returns whether one was damaged."""
    from experiments.report.render import Asked, render

    click.echo(render(results, form, Asked(width=columns(), **how)))
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


@click.command(name="plot")
@click.argument("kind", type=click.Choice(PLOTS), metavar="KIND")
@folder_argument
@picture_option
@where_option
@click.option(
    "--axis",
    default="budget",
    show_default=True,
    help="Of a curve: numeric hyperparameter of the attacks, e.g. budget or alpha.",
)
def plot(
    kind: str, folder: Path, path: Path, conditions: tuple[str, ...], axis: str
) -> None:
    """Draw a plot of the logs in FOLDER.

    \b
    KIND is one of
      roc             ROC curves of every detector, a panel for each attack
      auc-by-attack   AUROC of every detector and attack, a map
      auc-by-success  AUROC against attack success
      auc-by-cost     AUROC against the seconds of the estimators
      influence       influences on an attacked and a clean prediction, poison marked
      curve           attack success and clean accuracy against the budget, or another --axis
      certified       accuracy that stays whatever number of training rows is changed
      agreement       rank agreement of the estimators, and with training again
    """  # noqa: D301
    from experiments.evaluation.load import load_results
    from experiments.evaluation.summary import summarise
    from experiments.evaluation.views.where import where
    from experiments.report.pictures.look import save
    from experiments.report.plots.kinds import DRAWN, Source

    results = where(load_results(folder, verify=False), conditions)
    figure = DRAWN[kind](Source(results, summarise(results), axis))
    click.echo(f"saved {save(figure, path)}")


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def show(files: tuple[Path, ...]) -> None:
    """Show what is in logs: configuration, data sets with their shapes and ranges, attributes."""
    from experiments.report.show import check_is_file, describe

    for file in files:
        check_is_file(file)
    click.echo("\n\n".join(describe(file) for file in files))
