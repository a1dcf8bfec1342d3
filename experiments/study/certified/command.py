"""Certified influence beside what removals and attacks do to the same predictions."""

from pathlib import Path

import click

from experiments.cli.options import COUNT, PICTURE
from experiments.study.runs import kept, usual_recipe

COUNTS = (1, 2, 4, 8, 16, 32, 64)
BUDGETS = (1, 2, 4, 8, 16, 32)
PATH = click.Path(path_type=Path)


@click.command()
@click.option("--dataset", default="digits", show_default=True)
@click.option("--model", default="mlp", show_default=True)
@click.option("--train", "rows", type=COUNT, default=600, show_default=True)
@click.option(
    "--points", type=COUNT, default=15, show_default=True, help="Of each seed."
)
@click.option(
    "--parts", type=COUNT, default=30, show_default=True, help="Models of a vote."
)
@click.option(
    "--epochs", type=COUNT, default=50, show_default=True, help="Of each of them."
)
@click.option(
    "--removed",
    "counts",
    type=COUNT,
    multiple=True,
    default=COUNTS,
)
@click.option(
    "--poisoned",
    "budgets",
    type=COUNT,
    multiple=True,
    default=BUDGETS,
)
@click.option("--repeats", type=COUNT, default=1, show_default=True)
@click.option("--seeds", type=COUNT, default=3, show_default=True, help="How many.")
@click.option(
    "--numbers", type=PATH, help="File (.json) of the records; read if there."
)
@click.option("--figure", type=PICTURE)
@click.option("--data-root", type=PATH, envvar="POISONBENCH_DATA")
def certified(
    dataset: str,
    model: str,
    rows: int,
    points: int,
    parts: int,
    epochs: int,
    counts: tuple[int, ...],
    budgets: tuple[int, ...],
    repeats: int,
    seeds: int,
    numbers: Path | None,
    figure: Path | None,
    data_root: Path | None,
) -> None:
    """Show how many predictions no k instances can change, and how many some do change."""
    from experiments.study.certified.figure import draw
    from experiments.study.certified.records import Found, contradictions
    from experiments.study.certified.study import Size, study
    from experiments.study.certified.tables import page
    from poisonbench.data import load

    size = Size(
        rows,
        points,
        parts,
        epochs,
        counts,
        budgets,
        repeats,
    )

    def made() -> Found:
        data = load(dataset, data_root)
        return study(*data, usual_recipe(model), size, range(seeds))

    found = kept(numbers, Found, made)
    for line in contradictions(found):
        click.echo(f"contradicts its certificate: {line}", err=True)
    click.echo(page(found))
    if figure is not None:
        draw(found, figure)
