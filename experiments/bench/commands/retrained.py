"""Benchmarks of estimators that retrain, and of estimates that are held against retraining."""

from pathlib import Path

import click

from experiments.cli.options import COUNT, SHARE


@click.command()
@click.option(
    "-k",
    "models",
    type=COUNT,
    default=256,
    show_default=True,
    help="Models trained together.",
)
@click.option(
    "-m",
    type=COUNT,
    default=100,
    show_default=True,
    help="Test instances of the second part.",
)
@click.option("--rounds", type=COUNT, default=3, show_default=True)
@click.option(
    "--part",
    "parts",
    multiple=True,
    type=click.Choice(["speed", "whole"]),
    default=("speed", "whole"),
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False))
def retraining(
    models: int, m: int, rounds: int, parts: tuple[str, ...], output: Path | None
) -> None:
    """Bulk training against one by one (one thread), and the estimators that retrain (two)."""
    import torch

    from experiments.bench import retraining as bench
    from experiments.bench.gradients import save

    texts = []
    for part, threads in (("speed", 1), ("whole", 2)):
        if part in parts:
            torch.set_num_threads(threads)
            texts.append(
                bench.speeds(models, rounds) if part == "speed" else bench.whole(m)
            )
    save("\n".join(texts), output)


@click.command()
@click.option(
    "-n",
    type=COUNT,
    default=1000,
    show_default=True,
    help="Training instances of the neighbours.",
)
@click.option(
    "-m",
    type=COUNT,
    default=500,
    show_default=True,
    help="Test instances of the neighbours.",
)
@click.option("-d", type=COUNT, default=64, show_default=True, help="Features.")
@click.option("--neighbours", "k", type=COUNT, default=5, show_default=True)
@click.option("--rounds", type=COUNT, default=5, show_default=True)
@click.option("--threads", type=COUNT, default=2, show_default=True)
@click.option(
    "--part",
    type=click.Choice(["both", "neighbours", "retraining"]),
    default="both",
    show_default=True,
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False))
def shapley(
    n: int,
    m: int,
    d: int,
    k: int,
    rounds: int,
    threads: int,
    part: str,
    output: Path | None,
) -> None:
    """Shapley values: nearest neighbours against peers, and retraining to the stop rule."""
    import torch

    from estimators.shapley.shapley import Shapley
    from experiments.bench import shapley as bench
    from experiments.bench.gradients import save

    torch.set_num_threads(threads)
    parts = [] if part == "retraining" else [bench.neighbours(n, m, d, k, rounds)]
    if part != "neighbours":
        rows = [
            Shapley(),
            Shapley(precision=0.02),
            Shapley("beta", alpha=1.0, models=3000),
            Shapley("banzhaf", models=1000),
        ]
        parts.append(bench.retraining(rows, 60))
    save("\n".join(parts), output)


@click.command()
@click.option("--seeds", type=COUNT, default=3, show_default=True)
@click.option(
    "--model",
    type=click.Choice(["mlp", "cnn"]),
    default="mlp",
    show_default=True,
    help="cnn: a second a retraining.",
)
@click.option(
    "--points",
    type=COUNT,
    default=10,
    show_default=True,
    help="Attacked points per seed.",
)
@click.option(
    "--budget",
    type=SHARE,
    default=0.05,
    show_default=True,
    help="Poison rows, as a fraction.",
)
@click.option(
    "--newton/--no-newton",
    default=True,
    show_default=True,
    help="Also the Newton step of all layers, a solve a group.",
)
@click.option("--threads", type=COUNT, default=2, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False))
def group(
    seeds: int,
    model: str,
    points: int,
    budget: float,
    newton: bool,
    threads: int,
    output: Path | None,
) -> None:
    """Influence of groups: estimates of what proponents are worth together, and retraining."""
    import torch

    from experiments.bench import group as bench
    from experiments.bench.gradients import save

    torch.set_num_threads(threads)
    save(bench.bench(seeds, model, points, budget, newton), output)
