"""The command that cleans a training set: `clean`."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from experiments.cli.options import (
    FILE,
    FOLDER,
    PICTURE,
    checked_device,
    columns,
    computing,
)

PART = "package.module:callable, or FILE.npz with x and y"


@click.command()
@click.argument("file", required=False, type=FILE)
@click.option(
    "-o", "--output", "folder", type=FOLDER, required=True, help="Folder of the logs."
)
@click.option("--dataset", help="A built-in name, or package.module:callable.")
@click.option("--train", help=f"The training set: {PART}.")
@click.option("--test", help=f"The points on which accuracy is reported: {PART}.")
@click.option(
    "--held-out",
    help=f"The points by which rows are chosen: {PART}, or a share of the training rows that is "
    "set apart.  [default: 0.2]",
)
@click.option("--model", help="A built-in name, or package.module:callable.")
@click.option(
    "--estimator",
    "estimators",
    multiple=True,
    help="Of influence; repeatable.  [default: gas for unhelpful, tracin for self-influence]",
)
@click.option(
    "--filter",
    "filters",
    multiple=True,
    help="By which rows are removed; repeatable.  [default: unhelpful, loss-rank, "
    "confident-learning, random-filter]",
)
@click.option(
    "--noise",
    metavar="KIND:SHARE",
    multiple=True,
    help="Wrong labels to plant, random:0.1 or class:0.1; repeatable.",
)
@click.option(
    "--remove",
    type=float,
    multiple=True,
    help="A share of the rows to remove; repeatable.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any other key of a file, e.g. recipe.epochs=5 or seeds=[0,1].",
)
@computing
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Torch threads.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "markdown"]),
    default="table",
    show_default=True,
    help="Of the tables that are printed.",
)
@click.option("--figure", type=PICTURE, help="Accuracy against the share removed.")
def clean(file: Path | None, folder: Path, **how: Any) -> None:
    """Find unhelpful and memorised training rows, remove them, and train again.

    FILE is TOML with dataset, or train and test, and a [recipe]; the options do instead, or
    override it. Prints accuracy against the share removed; writes a log for each kind of noise and
    seed, and the rows with the reasons for each, suspects.csv. What is done is not done again. Exit
    code 1 if a part failed.
    """
    from experiments.cleaning.figure import draw
    from experiments.cleaning.outcome import outcomes, warnings_of
    from experiments.cleaning.run import run_cleaning
    from experiments.cleaning.suspects import write_suspects
    from experiments.cleaning.tables import tables
    from experiments.evaluation.views.failures import failure_lines
    from experiments.plan.cleaning.parse import parse_cleaning
    from experiments.plan.gridfile import read, with_overrides
    from experiments.plan.paths import Place
    from experiments.report.markup import to_markdown
    from experiments.report.text import to_text

    raw = with_options({} if file is None else read(file), how)
    cleaning = parse_cleaning(with_overrides(raw, how["overrides"]))
    place = Place(
        folder, checked_device(how["device"]), how["data_root"], how["download"]
    )
    done = run_cleaning(cleaning, place, how["threads"])
    found = outcomes(done.logs)
    written = to_markdown
    if how["form"] == "table":
        written = partial(to_text, width=columns())
    for outcome in found:
        for table in tables(outcome):
            click.echo(f"{written(table)}\n")
    if found:
        path = folder / "suspects.csv"
        count = write_suspects(done.logs, path)
        click.echo(f"{count} lines in {path}: the rows removed, and why")
    if found and how["figure"] is not None:
        draw(found, how["figure"])
    for warning in warnings_of(done.logs):
        click.echo(f"Warning: {warning}", err=True)
    for line in failure_lines(done.failed):
        click.echo(line, err=True)
    sys.exit(1 if done.failed else 0)


def with_options(raw: dict[str, Any], how: dict[str, Any]) -> dict[str, Any]:
    """Returns the content of a file with what the options say in its place."""
    from experiments.plan.gridfile import parsed_value

    if how["dataset"] is not None:
        named = raw.get("dataset")
        table = named if isinstance(named, dict) else {}
        raw["dataset"] = {**table, "name": how["dataset"]}
    for key in ("train", "test"):
        if how[key] is not None:
            raw[key] = how[key]
    if how["held_out"] is not None:
        raw["held_out"] = parsed_value(how["held_out"])
    if how["model"] is not None:
        raw.setdefault("recipe", {})["model"] = how["model"]
    if how["estimators"]:
        raw["estimator"] = list(how["estimators"])
    if how["filters"]:
        raw["filter"] = list(how["filters"])
    if how["remove"]:
        raw["remove"] = list(how["remove"])
    if how["noise"]:
        raw["noise"] = [_noise(text) for text in how["noise"]]
    return raw


def _noise(text: str) -> dict[str, Any]:
    """The table of KIND:SHARE; "none" has no share."""
    from experiments.plan.gridfile import parsed_value

    kind, _, share = text.partition(":")
    return {"kind": kind, "share": parsed_value(share) if share else 0.0}
