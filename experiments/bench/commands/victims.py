"""The victims of a grid beside clean ones: what triggers do to a model without a backdoor."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from experiments.scene.victim import Victim


NEEDED = "the grid needs the attack none, with the same data, recipes and seeds"


@dataclass(frozen=True)
class Beside:
    """One scene, and the clean victim of the same seed.

    Attributes:
        attack: with all its fields.
        points: attacked points.
        success: share of them that the victim gives the wanted label.
        clean_success: that of the clean victim.
        lost: clean accuracy that the attack costs, in points of a hundred.
    """

    attack: str
    points: int
    success: float
    clean_success: float
    lost: float


@click.command("clean-victims")
@click.argument("grid", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False))
def clean_victims(grid: Path, folder: Path, output: Path | None) -> None:
    """Show the attacked points of a GRID that was run in FOLDER to its clean victims.

    The grid needs the attack `none`, whose victims of the same seeds are the clean ones.
    """
    from experiments.bench.gradients import save

    save(as_table(beside_clean(grid, folder)), output)


def beside_clean(grid: Path, folder: Path) -> list[Beside]:
    """Returns a row per scene with attacked points, ordered by attack.

    Raises:
        ConfigError: a scene of the grid was not run, or its seed has no clean victim.
    """
    from experiments.plan.gridfile import read
    from experiments.plan.parse import parse
    from experiments.plan.paths import Place
    from experiments.scene.victim import make_victim
    from poisonbench.errors import ConfigError

    scenes = parse(read(grid)).scenes
    place = Place(folder)
    for scene in scenes:
        if not (place.scene(scene) / "scene.h5").exists():
            raise ConfigError([f"{folder} lacks {scene.id}"], "run the grid there")
    clean = {
        (scene.dataset, scene.recipe, scene.seed): make_victim(scene, place)
        for scene in scenes
        if scene.attack.name == "none"
    }
    rows = []
    for scene in scenes:
        victim = make_victim(scene, place)
        if len(victim.attacked.wanted):
            key = (scene.dataset, scene.recipe, scene.seed)
            if key not in clean:
                raise ConfigError([f"{scene.id} has no clean victim"], NEEDED)
            control = clean[key]
            rows.append(_beside(repr(scene.attack.value), victim, control))
    return sorted(rows, key=lambda row: row.attack)


def _beside(attack: str, victim: "Victim", control: "Victim") -> Beside:
    lost = _accuracy(control) - _accuracy(victim)
    return Beside(
        attack=attack,
        points=len(victim.attacked.wanted),
        success=_success(victim, victim),
        clean_success=_success(control, victim),
        lost=100 * lost,
    )


def _accuracy(victim: "Victim") -> float:
    """On the whole clean test set."""
    from poisonbench.models import predict

    test = victim.clean.test
    right = predict(victim.trace.model(), test.x).argmax(1) == test.y
    return float(right.double().mean())


def _success(judge: "Victim", attacked: "Victim") -> float:
    """The share of the points of an attack that a victim gives the wanted label."""
    from poisonbench.models import predict

    points = attacked.attacked
    hits = predict(judge.trace.model(), points.points.x).argmax(1) == points.wanted
    return float(hits.double().mean())


def as_table(rows: Iterable[Beside]) -> str:
    """Returns a table in markdown: a line for each attack, means over its seeds."""
    from experiments.bench.timing import table

    head = (
        "attack",
        "success",
        "least",
        "on the clean victim",
        "accuracy lost, points",
    )
    lines = []
    for attack, group in groupby(rows, key=lambda row: row.attack):
        lines.append(_line(attack, list(group)))
    return table(head, lines)


def _line(attack: str, rows: Sequence[Beside]) -> tuple[str, ...]:
    from experiments.evaluation.intervals import wilson

    points = sum(row.points for row in rows)
    reached = [row.success for row in rows]
    before = [row.clean_success for row in rows]
    return (
        attack,
        _rate(reached, wilson(reached, points)),
        f"{min(reached):.3f}",
        _rate(before, wilson(before, points)),
        _paired([row.lost for row in rows]),
    )


def _rate(rates: Sequence[float], ends: tuple[float, float]) -> str:
    mean = sum(rates) / len(rates)
    return f"{mean:.3f} [{ends[0]:.2f}, {ends[1]:.2f}]"


def _paired(lost: Sequence[float]) -> str:
    """The mean difference of pairs of victims of one seed, with the interval of Student's t."""
    import numpy as np
    from scipy import stats

    mean = float(np.mean(lost))
    if len(lost) < 2:
        return f"{mean:.1f}"
    quantile = float(stats.t(len(lost) - 1).ppf(0.975))
    half = quantile * float(np.std(lost, ddof=1)) / len(lost) ** 0.5
    return f"{mean:.1f} [{mean - half:.1f}, {mean + half:.1f}]"
