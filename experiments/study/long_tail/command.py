"""The long tail: which rows are memorised, and what they are worth."""

from pathlib import Path

import click

from experiments.cli.options import COUNT, PICTURE
from experiments.study.runs import chosen, kept

SHARES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3)


@click.command()
@click.option("--dataset", default="mnist", show_default=True)
@click.option("--model", default="mlp", show_default=True)
@click.option("--train", "rows", type=COUNT, default=2000, show_default=True)
@click.option(
    "--models", type=COUNT, default=400, show_default=True, help="Trained on subsets."
)
@click.option(
    "--runs", type=COUNT, default=3, show_default=True, help="For the estimators."
)
@click.option(
    "--repeats",
    type=COUNT,
    default=10,
    show_default=True,
    help="Trainings without rows.",
)
@click.option("--epochs", type=COUNT, default=15, show_default=True)
@click.option("--lr", default=0.02, show_default=True)
@click.option(
    "--share",
    "shares",
    type=click.FloatRange(0, 1, max_open=True),
    multiple=True,
    default=SHARES,
    help="Of the rows that are removed; 0 is always there.",
)
@click.option(
    "--estimator",
    "asked",
    multiple=True,
    help="Names; without, all but leave-one-out, which trains a model a row.",
)
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--numbers",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File (.npz) of what was found; read, if it is there.",
)
@click.option("--figure", type=PICTURE)
@click.option(
    "--pictures",
    type=PICTURE,
    help="The most memorised rows.",
)
@click.option("--data-root", type=click.Path(path_type=Path), envvar="POISONBENCH_DATA")
def long_tail(
    dataset: str,
    model: str,
    rows: int,
    models: int,
    runs: int,
    repeats: int,
    epochs: int,
    lr: float,
    shares: tuple[float, ...],
    asked: tuple[str, ...],
    seed: int,
    numbers: Path | None,
    figure: Path | None,
    pictures: Path | None,
    data_root: Path | None,
) -> None:
    """Show which training rows are memorised, and what their removal costs."""
    import torch

    from experiments.study.long_tail.figure import draw
    from experiments.study.long_tail.found import Found
    from experiments.study.long_tail.memorised import KNOWN, SLOW
    from experiments.study.long_tail.pictures import check_images, most_memorised
    from experiments.study.long_tail.study import Size, study
    from experiments.study.long_tail.tables import page
    from poisonbench.data import load, subset
    from poisonbench.seeding import derive
    from poisonbench.training import Recipe

    names = chosen(asked, KNOWN, SLOW)
    whole, test = load(dataset, data_root)
    data = subset(whole, rows, derive(seed, "rows"))
    if pictures is not None:
        check_images(data)
    recipe = Recipe(
        model,
        epochs=epochs,
        batch_size=64,
        lr=lr,
        checkpoints=6,
    )

    def made() -> Found:
        return study(
            data,
            test,
            recipe,
            Size(models=models, runs=runs, repeats=repeats),
            sorted({0.0, *shares}),
            names,
            seed,
        )

    found = kept(numbers, Found, made)
    click.echo(page(found))
    if figure is not None:
        draw(found, figure)
    if pictures is not None:
        scores = torch.as_tensor(found.memorised)
        most_memorised(data, scores, pictures)
