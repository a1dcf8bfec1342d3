"""The costs of the estimators, measured: tables of exponents and a figure."""

from dataclasses import replace
from pathlib import Path

import click

from experiments.cli.options import COUNT, PICTURE
from experiments.study.runs import check_options


@click.command()
@click.option("--only", multiple=True, help="Estimators, by a part of their name.")
@click.option(
    "--divide", type=COUNT, default=1, show_default=True, help="n, p and T, for a look."
)
@click.option("--rounds", type=COUNT, default=3, show_default=True)
@click.option(
    "--numbers",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of the costs; what is there is not measured again.",
)
@click.option("--figure", type=PICTURE)
def cost(
    only: tuple[str, ...],
    divide: int,
    rounds: int,
    numbers: Path | None,
    figure: Path | None,
) -> None:
    """How time and memory of every estimator grow with n, p, T, K and m."""
    import torch

    from experiments.study.cost.contestants import CONTESTANTS
    from experiments.study.cost.figure import draw
    from experiments.study.cost.measured import growths
    from experiments.study.cost.numbers import read, save
    from experiments.study.cost.tables import page

    torch.set_num_threads(1)
    chosen = [one for one in CONTESTANTS if not only or _named(one.name, only)]
    if not chosen:
        all_names = ", ".join(one.name for one in CONTESTANTS)
        told = f"no estimator has {' or '.join(only)}"
        raise click.UsageError(f"{told}: {all_names}")
    chosen = [replace(one, base=one.base.divided(divide)) for one in chosen]
    if numbers is not None:
        check_options(numbers)
    known = read(numbers) if numbers is not None and numbers.exists() else []
    measured = {growth.name for growth in known}
    for one in chosen:
        if one.name not in measured:
            known += growths([one], rounds)
            if numbers is not None:
                save(known, numbers)
    names = [one.name for one in chosen]
    found = [growth for growth in known if growth.name in names]
    click.echo(page(chosen, found))
    if figure is not None:
        draw(found, figure)


def _named(name: str, parts: tuple[str, ...]) -> bool:
    return any(part.lower() in name.lower() for part in parts)
