"""Copies of an instance: what one of them is worth, what all are, and what estimators say."""

from pathlib import Path

import click

from experiments.cli.options import COUNT, PICTURE
from experiments.study.runs import chosen, kept, usual_recipe

COUNTS = (1, 2, 4, 16, 64)


@click.command()
@click.option("--dataset", default="digits", show_default=True)
@click.option("--model", default="mlp", show_default=True)
@click.option("--train", "rows", type=COUNT, default=400, show_default=True)
@click.option(
    "--instances",
    type=COUNT,
    default=5,
    show_default=True,
    help="Of each kind and seed.",
)
@click.option(
    "--points", type=COUNT, default=3, show_default=True, help="Of each instance."
)
@click.option(
    "--repeats",
    type=COUNT,
    default=8,
    show_default=True,
    help="Runs of each training again.",
)
@click.option(
    "--copies",
    "counts",
    type=COUNT,
    multiple=True,
    default=COUNTS,
)
@click.option(
    "--estimator", "asked", multiple=True, help="Names; without, all are asked."
)
@click.option(
    "--seeds",
    type=COUNT,
    default=3,
    show_default=True,
    help="Training sets, with instances of their own.",
)
@click.option(
    "--numbers",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File (.npz) of what was found; read, if it is there.",
)
@click.option("--figure", type=PICTURE)
@click.option("--data-root", type=click.Path(path_type=Path), envvar="POISONBENCH_DATA")
def copies(
    dataset: str,
    model: str,
    rows: int,
    instances: int,
    points: int,
    repeats: int,
    counts: tuple[int, ...],
    asked: tuple[str, ...],
    seeds: int,
    numbers: Path | None,
    figure: Path | None,
    data_root: Path | None,
) -> None:
    """Show what one of many copies of an instance is worth, and what all of them are."""
    from experiments.study.copies.cases import Size
    from experiments.study.copies.effects import KNOWN
    from experiments.study.copies.figure import draw
    from experiments.study.copies.found import Found, joined
    from experiments.study.copies.study import study
    from experiments.study.copies.tables import page
    from poisonbench.data import load

    names = chosen(asked, KNOWN)

    def made() -> Found:
        data = load(dataset, data_root)
        parts = []
        for seed in range(seeds):
            part = study(
                *data,
                usual_recipe(model),
                Size(rows, instances, points),
                sorted(set(counts)),
                repeats,
                seed,
                estimators=names,
            )
            parts.append(part)
        return joined(parts)

    found = kept(numbers, Found, made)
    click.echo(page(found))
    if figure is not None:
        draw(found, figure)
