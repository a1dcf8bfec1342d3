"""Random labels: the grids of the study, its tables and its figure."""

from pathlib import Path

import click

from experiments.cli.options import COUNT, PICTURE, WORKERS
from experiments.study.runs import digest, finished
from poisonbench.errors import ConfigError

PATH = click.Path(path_type=Path)


def check_attacks(path: Path) -> None:
    """Raises ConfigError for a grid with other attacks than random labels and none."""
    from experiments.plan.gridfile import read
    from experiments.plan.parse import parse

    attacks = {scene.attack.name for scene in parse(read(path)).scenes}
    other = sorted(attacks - {"none", "random-labels"})
    if other:
        told = f"{path} has {', '.join(other)}: the study is of random labels"
        raise ConfigError([told], "attacks of its grids are random-labels and none")


@click.command("random-labels")
@click.argument("grids", nargs=-1, required=True, type=PATH)
@click.option(
    *("-o", "--output", "folder"),
    required=True,
    type=PATH,
    help="Folder of the logs; what is there is not done again.",
)
@click.option(
    "--points", type=COUNT, default=40, show_default=True, help="Training points asked."
)
@click.option("--figure", type=PICTURE)
@click.option("--workers", type=WORKERS, default=1, show_default=True)
@click.option("--data-root", type=PATH, envvar="POISONBENCH_DATA")
def random_labels(
    grids: tuple[Path, ...],
    folder: Path,
    points: int,
    figure: Path | None,
    workers: int,
    data_root: Path | None,
) -> None:
    """Run GRIDS into one folder, and show what influence says of labels learned by heart."""
    from experiments.plan.paths import Place
    from experiments.study.random_labels.figure import draw
    from experiments.study.random_labels.measured import measured
    from experiments.study.random_labels.series import read, save
    from experiments.study.random_labels.tables import page

    for path in grids:
        check_attacks(path)
    found = []
    for path in grids:
        grid = finished(path, folder, workers, data_root)
        kept = folder / f"{grid.name}-{points}-{digest(path)}.json"
        if not kept.exists():
            save(measured(grid, Place(folder, root=data_root), points), kept)
        found += read(kept)
    click.echo(page(found))
    if figure is not None:
        draw(found, figure)
