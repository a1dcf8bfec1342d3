"""Commands about methods and poison: `list`, `new`, `check`, `export`, `explain`."""

import sys
from pathlib import Path
from typing import Any

import click

from experiments.cli.options import (
    FILE,
    FOLDER,
    PICTURE,
    ROOT_HELP,
    checked_device,
    computing,
    trusting,
)

OF_ONES_OWN = click.Choice(["attack", "estimator", "detector"])


def _checked_kind(
    ctx: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    """Refuses what cannot be listed; the table of kinds is imported only when a kind is named."""
    if value is None:
        return None
    from experiments.report.listing.tables import TABLES
    from experiments.report.listing.texts import METHODS, THINGS

    kinds = [*METHODS, *THINGS, *TABLES]
    return str(click.Choice(kinds).convert(value, parameter, ctx))


@click.command(name="list")
@click.argument("kind", required=False, callback=_checked_kind)
@click.option("--json", "for_program", is_flag=True, help="Print JSON.")
def list_(kind: str | None, for_program: bool) -> None:
    """List what a grid can name, with what it is, what it costs, and its hyperparameters.

    KIND is attacks, estimators, detectors, ..., models, datasets, or a table of a grid file
    (dataset, recipe, transfer, probe): one alone. Default: all.
    """
    from experiments.report.listing.catalogue import as_json, catalogue

    click.echo(as_json(kind) if for_program else catalogue(kind))


@click.command()
@click.argument("kind", type=OF_ONES_OWN)
@click.argument("name")
@click.option(
    "--folder", type=FOLDER, default=Path(), show_default=True, help="Where to write."
)
@click.option(
    "--data",
    type=click.Choice(["image", "spectrogram", "vector", "tokens"]),
    default="image",
    show_default=True,
    help="What an attack poisons, and the grid is of.",
)
def new(kind: str, name: str, folder: Path, data: str) -> None:
    """Write the file of a new method that runs at once, its test and a grid.

    Prints what to do next.
    """
    from experiments.new import new

    click.echo(new(kind, name, folder, data))


@click.command()
@click.argument("kind", type=OF_ONES_OWN)
@click.argument("target")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="FIELD=VALUE",
    help="A hyperparameter, e.g. budget=0.1.",
)
@click.option(
    "--dataset",
    help="Data on which an attack is checked. [default: the digits, in the form of the first kind "
    "of data that it takes]",
)
@click.option("--data-root", "root", type=FOLDER, help=ROOT_HELP)
@click.option(
    "--model",
    help="Model that is trained. [default: cnn, mlp or text-cnn, by the kind of data]",
)
@click.option(
    "--no-victim", is_flag=True, help="Check the contract alone: train no model."
)
@click.option("--json", "as_json", is_flag=True, help="Print the verdicts as JSON.")
def check(
    kind: str,
    target: str,
    settings: tuple[str, ...],
    as_json: bool,
    no_victim: bool,
    **how: Any,
) -> None:
    """Check a method rule by rule.

    TARGET is a name that `poisonbench list` shows, or module:Class. Exit code 1 if a rule is
    broken.
    """
    from experiments.check.report import report

    if kind != "attack" and (how["dataset"] or how["model"]):
        raise click.UsageError(
            "--dataset and --model are for attacks; other methods are checked on planted data"
        )
    sys.exit(report(kind, target, settings, as_json, victim=not no_victim, **how))


@click.command()
@click.argument("scene", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", "path", type=FILE, required=True, help="The file to write."
)
@click.option(
    "--targets",
    type=click.Choice(["auto", "all", "probe"]),
    default="auto",
    show_default=True,
    help="Attacked points: all of the scene, those of its probe, or (auto) those its log keeps.",
)
@trusting
@computing
def export(
    scene: Path,
    path: Path,
    targets: Any,
    device: str,
    data_root: Path | None,
    **how: bool,
) -> None:
    """Write the poison of a scene to a file, for the attack `file` of another grid.

    SCENE is a folder below `scenes` of a run, or its scene.h5.
    """
    from experiments.plan.paths import Place
    from experiments.scene.export import export, told

    place = Place(Path(), checked_device(device), data_root, **how)
    exported = export(scene, path, place, targets)
    click.echo(told(exported))
    if exported.problem:
        click.echo(f"Warning: {exported.problem}", err=True)


@click.command()
@click.argument("scene", type=click.Path(path_type=Path))
@click.option(
    "--test",
    "point",
    type=int,
    metavar="J",
    help="Row of the probe. [default: a successfully attacked point]",
)
@click.option("--estimator", metavar="NAME", help="One alone. [default: all]")
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Training instances of each list.",
)
@click.option(
    "-o", "--output", "picture", type=PICTURE, help="Draw them: .png, .pdf or .svg."
)
@trusting
@computing
def explain(
    scene: Path,
    device: str,
    data_root: Path | None,
    download: bool,
    trust: bool,
    **asked: Any,
) -> None:
    """Show the training instances that helped or hurt the prediction of a test point most.

    SCENE is a folder below `scenes` of a run. Poison is marked.
    """
    from experiments.explain import Asked, explain
    from experiments.plan.paths import Place

    place = Place(Path(), checked_device(device), data_root, download, trust)
    click.echo(explain(scene, place, Asked(**asked)))
