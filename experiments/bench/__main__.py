"""python -m experiments.bench NAME: benchmarks against the floor and peers, as tables."""

from pathlib import Path

import click

RACED = click.Choice(["conv3", "resnet"])
TRAINED = click.Choice(["mlp", "cnn"])


@click.group()
def main() -> None:
    """Benchmarks against the floor and against peers."""


@main.command()
@click.option("--model", "models", multiple=True, type=RACED, default=RACED.choices)
@click.option("-n", default=2000, show_default=True, help="Training instances.")
@click.option("-m", default=100, show_default=True, help="Test instances.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False))
def gradients(
    models: tuple[str, ...],
    n: int,
    m: int,
    rounds: int,
    threads: int,
    device: str,
    output: Path | None,
) -> None:
    """TracIn at checkpoints: the engine against its floor, an autograd loop and peers."""
    import torch

    from experiments.bench import gradients as bench

    torch.set_num_threads(threads)
    bench.save(bench.bench(list(models), n, m, rounds, torch.device(device)), output)


@main.command()
@click.option("-m", default=100, show_default=True, help="Test instances.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--damping", default=0.1, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False))
def influence(
    m: int, rounds: int, threads: int, damping: float, output: Path | None
) -> None:
    """Influence functions: block conjugate gradients against one solve a point and pydvl."""
    import torch

    from experiments.bench import influence as bench
    from experiments.bench.gradients import save

    torch.set_num_threads(threads)
    save(bench.bench(m, rounds, damping), output)


@main.command()
@click.option(
    "-n", default=128, show_default=True, help="Smallest number of training instances."
)
@click.option(
    "-m", default=8, show_default=True, help="Smallest number of test instances."
)
@click.option("--doublings", default=3, show_default=True)
@click.option("--rounds", default=1, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False))
def growth(
    n: int,
    m: int,
    doublings: int,
    rounds: int,
    threads: int,
    device: str,
    output: Path | None,
) -> None:
    """The gradient-based estimators: seconds and peak memory as n and m double."""
    import torch

    from experiments.bench import growth as bench
    from experiments.bench.gradients import save

    torch.set_num_threads(threads)
    save(bench.bench(n, m, doublings, rounds, torch.device(device)), output)


@main.command()
@click.option(
    "-k", "models", default=256, show_default=True, help="Models trained together."
)
@click.option(
    "-m", default=100, show_default=True, help="Test instances of the second part."
)
@click.option("--rounds", default=3, show_default=True)
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


@main.command()
@click.option(
    "-n", default=1000, show_default=True, help="Training instances of the neighbours."
)
@click.option(
    "-m", default=500, show_default=True, help="Test instances of the neighbours."
)
@click.option("-d", default=64, show_default=True, help="Features.")
@click.option("--neighbours", "k", default=5, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--threads", default=2, show_default=True)
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


@main.command()
@click.option("--seeds", default=3, show_default=True)
@click.option(
    "--model",
    type=click.Choice(["mlp", "cnn"]),
    default="mlp",
    show_default=True,
    help="cnn: a second a retraining.",
)
@click.option("--points", default=10, show_default=True, help="Attacked points a seed.")
@click.option(
    "--budget", default=0.05, show_default=True, help="Poison rows, as a fraction."
)
@click.option(
    "--newton/--no-newton",
    default=True,
    show_default=True,
    help="Also the Newton step of all layers, a solve a group.",
)
@click.option("--threads", default=2, show_default=True)
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


@main.command()
@click.option("--model", "models", multiple=True, type=TRAINED, default=TRAINED.choices)
@click.option(
    "--seeds",
    default=2,
    show_default=True,
    help="Runs that are judged, from seed 0 on.",
)
@click.option(
    "--subsets", default=100, show_default=True, help="Random halves of the digits."
)
@click.option("--points", default=80, show_default=True, help="Test points per run.")
@click.option(
    "--repeats", default=10, show_default=True, help="Trainings on each subset."
)
@click.option(
    "--scratch",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder that keeps finished trainings for a later call.",
)
@click.option("--threads", default=2, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False))
def lds(
    models: tuple[str, ...],
    seeds: int,
    subsets: int,
    points: int,
    repeats: int,
    scratch: Path | None,
    threads: int,
    output: Path | None,
) -> None:
    """Linear datamodeling score of influence functions, and of kronfluence."""
    import torch

    from experiments.bench import lds as bench
    from experiments.bench.gradients import save

    torch.set_num_threads(threads)
    text = bench.bench(
        list(models), list(range(seeds)), subsets, points, repeats, scratch
    )
    save(text, output)


if __name__ == "__main__":
    main()
