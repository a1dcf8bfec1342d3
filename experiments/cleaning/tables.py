"""The tables of a cleaning."""

from collections.abc import Iterator

from experiments.cleaning.outcome import FLOOR, Curve, Outcome
from experiments.report.table import Cells, Table

ACCURACY = (
    "Accuracy of the test points after removal of a share of the training rows and training again; "
    "means over seeds and trainings [95 % interval over points and seeds]."
)
GAIN = (
    "How far accuracy is above that of random removal of as many rows, paired by point and seed "
    "[95 % interval]; chosen: the share with the highest accuracy of the held-out points."
)
NOISE = (
    "How well planted noise is found. recall: share of it among as many rows of the highest "
    "scores; suspects: rows that the criterion itself marks, precision and recall of these."
)


def tables(outcome: Outcome) -> Iterator[Table]:
    """Yields the tables of one kind of noise."""
    scene = (_scene(outcome),)
    cells = Cells()
    rows = []
    for curve in outcome.curves:
        accuracy = cells.row(*curve.accuracy)
        rows.append([curve.criterion, *accuracy])
    yield Table(
        title="ACCURACY",
        legend=ACCURACY,
        head=("removed", *_shares(outcome)),
        rows=rows,
        names=1,
        scenes=scene,
    )
    yield _gains(outcome, scene)
    if outcome.planted:
        yield _noise(outcome, scene)


def _scene(outcome: Outcome) -> str:
    seeds = outcome.seeds
    rows = outcome.rows // len(seeds)
    listed = ", ".join(map(str, seeds))
    return f"{outcome.noise}, {rows:,} training rows, seeds {listed}"


def _shares(outcome: Outcome) -> list[str]:
    return [f"{share:.3g}" for share in outcome.shares]


def _gains(outcome: Outcome, scene: tuple[str, ...]) -> Table:
    cells = Cells()
    rows = []
    for curve in outcome.curves:
        if curve.criterion == FLOOR:
            continue
        gains = cells.row(*curve.gain[1:], form="+.3f")
        chosen = _chosen(curve, outcome, cells)
        rows.append([curve.criterion, *gains, *chosen])
    return Table(
        title="GAIN",
        legend=GAIN,
        head=(
            "removed",
            *_shares(outcome)[1:],
            "chosen",
            "accuracy there",
            "of all rows",
        ),
        rows=rows,
        names=1,
        scenes=scene,
    )


def _chosen(
    curve: Curve,
    outcome: Outcome,
    cells: Cells,
) -> list[str]:
    """The share chosen, accuracy there, and accuracy of the model trained on all rows."""
    place = curve.chosen
    there = curve.accuracy[place]
    everywhere = curve.accuracy[0]
    share = outcome.shares[place]
    return [f"{share:.3g}", *cells.row(there, everywhere)]


def _noise(outcome: Outcome, scene: tuple[str, ...]) -> Table:
    cells = Cells()
    rows = []
    for curve in outcome.curves:
        found = curve.found
        numbers = cells.row(
            found.auroc,
            found.recall,
        )
        suspects = cells.row(found.suspects, form=".0f")
        own = cells.row(
            found.precision,
            found.of_planted,
        )
        rows.append([curve.criterion, *numbers, *suspects, *own])
    return Table(
        title="PLANTED NOISE",
        legend=NOISE,
        head=(
            "criterion",
            "AUROC",
            "recall",
            "suspects",
            "precision",
            "recall of suspects",
        ),
        rows=rows,
        names=1,
        scenes=scene,
    )
