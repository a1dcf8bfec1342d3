"""How right every estimator is, at what cost: the grids of the study, its tables and its figure."""

from collections.abc import Sequence
from pathlib import Path

import click

from experiments.cli.options import PICTURE, WORKERS
from experiments.evaluation.load import load_results
from experiments.evaluation.names import natural
from experiments.study.markdown import table
from experiments.study.runs import finished
from experiments.study.truth.figure import draw
from experiments.study.truth.judged import SUBSETS, Judged, judged
from experiments.study.truth.noise import Finder, finders
from experiments.study.truth.tables import HEAD, plain, read, shown

GRIDS = click.argument(
    "grids",
    nargs=-1,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
)


@click.command()
@GRIDS
@click.option(
    *("-o", "--output", "folder"),
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the logs; what is there is not done again.",
)
@click.option("--figure", type=PICTURE, help="Accuracy against cost.")
@click.option("--workers", type=WORKERS, default=1, show_default=True)
@click.option("--data-root", type=click.Path(path_type=Path), envvar="POISONBENCH_DATA")
def truth(
    grids: tuple[Path, ...],
    folder: Path,
    figure: Path | None,
    workers: int,
    data_root: Path | None,
) -> None:
    """Run GRIDS into one folder, and show how right their estimators are.

    Without GRIDS it shows what lies in the folder.
    """
    for path in grids:
        finished(path, folder, workers, data_root)
    results = load_results(folder)
    found = judged(results)
    for scene, estimators in found.items():
        click.echo(page(scene, estimators))
    for scene, able in finders(results).items():
        click.echo(noise_page(scene, able))
    if figure is not None:
        placed = {}
        for scene, estimators in found.items():
            placed[scene] = [one.placed for one in estimators]
        draw(placed, figure)


@click.command("truth-figure")
@click.argument("page_of_results", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--scene",
    "scenes",
    multiple=True,
    required=True,
    help="Heading of the page, such as 'digits mlp'; a panel for each.",
)
@click.option(*("-o", "--output", "figure"), required=True, type=PICTURE)
def truth_figure(
    page_of_results: Path,
    scenes: tuple[str, ...],
    figure: Path,
) -> None:
    """Draw accuracy against cost from the tables of a page, where logs are no longer there."""
    found = {scene: read(page_of_results, scene) for scene in scenes}
    draw(found, figure)


def page(scene: str, estimators: Sequence[Judged]) -> str:
    """Returns the tables of a kind of scene."""
    parts = [f"## {scene}", _reliabilities(estimators), _scores(estimators)]
    if len(_groups(estimators)):
        parts.append(_left_out(estimators))
    return "\n\n".join(parts) + "\n"


def _groups(estimators: Sequence[Judged]) -> list[str]:
    """What groups were left out, by choice and size."""
    found: dict[str, object] = {}
    for one in estimators:
        found |= dict.fromkeys(one.truths)
    found.pop(SUBSETS, None)
    return sorted(found, key=natural)


def _seeds(one: Judged) -> tuple[int, ...]:
    row = one.truths.get(SUBSETS)
    return () if row is None else row.seeds


def _fullest(estimators: Sequence[Judged]) -> Judged:
    """Returns the first of the estimators that were judged in most scenes."""
    return max(estimators, key=lambda one: len(_seeds(one)))


def _named(one: Judged, usual: tuple[int, ...]) -> str:
    """Returns the name, with the seeds where they are not the usual ones."""
    seeds = _seeds(one)
    if seeds == usual:
        return one.name
    told = ", ".join(map(str, seeds))
    return f"{one.name} (seeds {told})"


def _reliabilities(estimators: Sequence[Judged]) -> str:
    row = _fullest(estimators).truths[SUBSETS]
    reliable = shown(row.metrics["reliability"])
    seeds = ", ".join(map(str, row.seeds))
    return (
        f"Seeds {seeds}: {row.counts['points']} points and {row.counts['sets']} halves in all; "
        f"reliability of the halves' mean margins {reliable}."
    )


def _scores(estimators: Sequence[Judged]) -> str:
    usual = _seeds(_fullest(estimators))
    body = []
    for one in estimators:
        metrics = [one.metric(SUBSETS, name) for name in ("score", "single")]
        cells = [shown(metric) for metric in metrics]
        cells.append(plain(one.metric(SUBSETS, "corrected")))
        cells += [f"{seconds:.3g}" for seconds in one.cost]
        body.append([_named(one, usual), *cells])
    return table(HEAD, body)


def _left_out(estimators: Sequence[Judged]) -> str:
    """Correlations with training again without groups, and their reliability in the last line."""
    groups = _groups(estimators)
    body = []
    for one in estimators:
        cells = [plain(one.metric(name, "score")) for name in groups]
        body.append([one.name, *cells])
    first = estimators[0]
    reliable = [plain(first.metric(name, "reliability")) for name in groups]
    body.append(["*reliability*", *reliable])
    return table(["without", *groups], body)


def noise_page(scene: str, able: Sequence[Finder]) -> str:
    """Returns the table of a kind of scene with planted label noise."""
    first = able[0]
    seeds = ", ".join(map(str, first.seeds))
    told = f"Seeds {seeds}: {first.poison} rows with a wrong label in all."
    body = []
    for one in able:
        cells = [shown(one.held_out), shown(one.own)]
        body.append([one.name, *cells])
    head = [
        "estimator",
        "AUC, harm on held-out points",
        "AUC, self-influence",
    ]
    parts = [f"## {scene}", told, table(head, body)]
    return "\n\n".join(parts) + "\n"
