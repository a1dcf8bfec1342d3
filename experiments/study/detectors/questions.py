"""Which question tells: its AUROC in every scene of runs with influence, and what it costs.

The victims are read from the logs, and all questions are asked of them anew; half of the
calibration points are trusted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from experiments.cli.options import SHARE
from experiments.evaluation.names import data_called
from experiments.evaluation.ranking import ranking
from experiments.evaluation.samples import Sample
from experiments.study.detectors.planted import attacked
from experiments.study.detectors.runs import FOLDERS, LEAST
from poisonbench import log
from poisonbench.log import Array, Record, names
from poisonbench.roles import ATTACKED, CALIBRATION, MATCHED, RANDOM

if TYPE_CHECKING:
    from defenses.questions.question import Answers
    from experiments.plan.paths import Place
    from experiments.plan.spec import Method, Scene


@dataclass(frozen=True, eq=False)
class Asked:
    """The answers of one scene.

    Attributes:
        data: what the data are called, and the model.
        attack: name.
        success: share of the attacked points of the probe that are predicted as wanted.
        names: of the questions.
        auroc: (q,) of successfully attacked points against all controls, NaN without an answer.
        matched: (q,) the same against matched controls.
        seconds: (q,) of each question, NaN without an answer.
        influence_seconds: of the influence matrix.
    """

    data: str
    attack: str
    success: float
    names: tuple[str, ...]
    auroc: Array
    matched: Array
    seconds: Array
    influence_seconds: float


@click.command()
@FOLDERS
@click.option("--estimator", default="gas", help="whose influence is read")
@click.option("--every", is_flag=True, help="ask what has no weights, too")
@click.option("--least", type=SHARE, default=LEAST, help="of the attacks' success")
def questions(
    folders: tuple[Path, ...],
    estimator: str,
    every: bool,
    least: float,
) -> None:
    """Ask all questions of the victims of the runs in FOLDERS, and show which tell.

    A cell is the AUROC against all and against matched controls, the mean over the seeds. Below .5
    low scores are suspicious.
    """
    found: list[Asked] = []
    for folder in folders:
        found.extend(asked(folder, estimator, every, least))
    click.echo(as_tables(found))


def asked(
    folder: Path,
    estimator: str,
    every: bool,
    least: float = LEAST,
) -> Iterator[Asked]:
    """Yields the answers of the scenes of a run in which the attack succeeds; as of the command.

    Raises:
        ConfigError: its grid has no such estimator.
        LogError: a scene or its influence is not there.
    """
    from experiments.plan.gridfile import read
    from experiments.plan.parse import parse
    from experiments.plan.paths import Place
    from poisonbench.errors import ConfigError

    grid = parse(read(folder / "grid.toml"))
    known = [one for one in grid.methods("estimator") if one.name == estimator]
    if not known:
        raise ConfigError([f"the grid of {folder} has no estimator {estimator!r}"])
    place = Place(folder)
    for scene in grid.scenes:
        record = log.read(place.scene(scene) / "scene.h5", "scene")
        if success(record) >= least:
            yield _of_scene(scene, place, record, known[0], every)


def success(scene: Record) -> float:
    """Returns the share of the attacked points of the probe that are predicted as wanted."""
    tried = scene.data[names.PROBE_GROUP] == ATTACKED
    count = int(tried.sum())
    if not count:
        return 0.0
    return float(attacked(scene).sum() / count)


def _of_scene(
    scene: "Scene",
    place: "Place",
    record: Record,
    estimator: "Method",
    every: bool,
) -> Asked:
    influence = log.read(place.influence(scene, estimator), "influence")
    said = ask(scene, place, influence, every)
    answered = [not reason for reason in said.reasons]
    scores = said.scores.numpy()
    fit = influence.attributes["fit_seconds"]
    score = influence.attributes["score_seconds"]
    return Asked(
        data=f"{data_called(record.config['dataset'])}, {scene.recipe.model}",
        attack=scene.attack.name,
        success=success(record),
        names=said.names,
        auroc=np.array([auroc(row, record, False) for row in scores]),
        matched=np.array([auroc(row, record, True) for row in scores]),
        seconds=np.where(answered, said.seconds, np.nan),
        influence_seconds=float(fit) + float(score),
    )


def ask(
    scene: "Scene",
    place: "Place",
    influence: Record,
    every: bool,
) -> "Answers":
    """Returns the answers to all questions about the probe of a scene."""
    import torch

    from defenses.questions.question import answers
    from defenses.questions.table import EVERY_QUESTION, QUESTIONS
    from experiments.scene.victim import make_victim
    from poisonbench.contracts.calibration import reference_half
    from poisonbench.contracts.values import Evidence

    victim = make_victim(scene, place)
    evidence = Evidence(
        trace=victim.trace,
        test=victim.test,
        influence=torch.as_tensor(influence.data[names.INFLUENCE]),
        trusted=reference_half(victim.probe.group == CALIBRATION),
    )
    return answers(evidence, EVERY_QUESTION if every else QUESTIONS)


def auroc(scores: Array, scene: Record, matched: bool) -> float:
    """How well finite scores (m,) tell attacked points from controls, NaN if undefined."""
    group = scene.data[names.PROBE_GROUP]
    known = np.isfinite(scores)
    controls = known & np.isin(group, (MATCHED, RANDOM))
    sample = Sample(
        positive=scores[attacked(scene) & known],
        negative=scores[controls],
        matched=group[controls] == MATCHED,
    )
    metrics = ranking(sample, matched=matched)
    key = "auroc_matched" if matched else "auroc"
    value = metrics[key].value
    return np.nan if value is None else value


def as_tables(found: Sequence[Asked]) -> str:
    """Returns a table for each data set, and how long the questions took."""
    parts = []
    for data, group in groupby(found, key=lambda one: one.data):
        parts.append(_table(data, list(group)))
    return "\n\n".join(parts)


def _table(data: str, scenes: Sequence[Asked]) -> str:
    """Returns the table of one data set: a row a question, a column an attack."""
    attacks = list(dict.fromkeys(one.attack for one in scenes))
    head = [data, "seconds", *attacks]
    lines = [_line(head), "|" + " --- |" * len(head)]
    for place, name in enumerate(scenes[0].names):
        cells = [name, _mean([one.seconds[place] for one in scenes])]
        for attack in attacks:
            of_attack = [one for one in scenes if one.attack == attack]
            told = _mean([one.auroc[place] for one in of_attack])
            matched = _mean([one.matched[place] for one in of_attack])
            cells.append(f"{told} / {matched}")
        lines.append(_line(cells))
    total = _mean([float(np.nansum(one.seconds)) for one in scenes])
    influence = _mean([one.influence_seconds for one in scenes])
    lines.append("")
    lines.append(f"All questions took {total} s, the influence matrix {influence} s.")
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _mean(values: Sequence[float]) -> str:
    """Returns the mean of what is known, in two digits; - without any."""
    known = [value for value in values if value == value]
    if not known:
        return "-"
    return f"{np.mean(known):.2f}"
