"""Why a test point of a run was predicted as it was: words for the terminal, and a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from experiments.evaluation.kinds.points import is_audit
from experiments.plan.paths import Place
from experiments.report.explanation.instances import Instances
from experiments.report.explanation.matrix import Matrix
from experiments.report.explanation.text import explanation, rows_shown
from experiments.report.pictures.influence_block import choose_points
from experiments.report.pictures.influence_picture import explanation_figure
from experiments.report.pictures.look import save
from experiments.scene.audited import train_of_audit
from experiments.scene.clean import clean_of_log
from poisonbench import log
from poisonbench.errors import ConfigError
from poisonbench.log import Record, names
from poisonbench.poison_file import unpack_train
from poisonbench.roles import JUDGED


@dataclass(frozen=True)
class Asked:
    """What is to be explained.

    Attributes:
        point: row of the probe; None: a successfully attacked one, or a control; in an audit the
            most suspicious one.
        estimator: name of the only one that is asked; None: all of the scene.
        top: training instances of each list.
        picture: file of a picture of the same, None for none.
    """

    point: int | None = None
    estimator: str | None = None
    top: int = 5
    picture: Path | None = None


def explain(source: Path, place: Place, asked: Asked) -> str:
    """Returns why a test point of a scene was predicted as it was, and draws it where asked.

    The poisoned rows come from the scene's log, the clean ones from the data set.

    Args:
        source: the scene's folder, or its scene.h5.
        place: of the data; its folder is not used.
        asked: which point, by which estimators.

    Raises:
        ConfigError: no such point or estimator, or the scene's data cannot be told from its log.
        LogError: a log is damaged.
    """
    folder = source if source.is_dir() else source.parent
    scene = log.read(folder / "scene.h5", "scene")
    influences = _influences(folder, asked.estimator)
    point = _point(scene, asked.point)
    rows = rows_shown(influences, point, asked.top)
    train = training_rows(scene, place, rows)
    told = explanation(scene, influences, train, point, asked.top)
    if asked.picture is None:
        return told
    figure = explanation_figure(scene, influences, train, point, asked.top)
    return f"{told}\n\nsaved {save(figure, asked.picture)}"


def training_rows(scene: Record, place: Place, rows: Sequence[int]) -> Instances:
    """Returns rows of the training set of a scene, with its poison, or of an audit.

    They are found by their numbers there. The clean data are held, and no poisoned copy of them.

    Raises:
        ConfigError: it cannot be told from the log, or needs code that is not trusted.
        DataError: the data set is not there.
        LogError: the log does not fit it.
    """
    wanted = torch.tensor(list(rows), dtype=torch.int64)
    if is_audit(scene):
        some = train_of_audit(scene, place.trust).take(wanted)
    else:
        some = unpack_train(scene, clean_of_log(scene, place).train, wanted)
    return Instances.of(some).numbered(rows)


def _influences(folder: Path, estimator: str | None) -> Sequence[Matrix]:
    """The influence matrices of a scene, by all estimators or by those of a name."""
    paths = sorted(folder.glob("influence-*.h5"))
    every = [Matrix.of(path) for path in paths]
    wanted = every
    if estimator is not None:
        wanted = [matrix for matrix in every if matrix.estimator == estimator]
    if not wanted:
        asked = f" of {estimator}" if estimator else ""
        known = dict.fromkeys(matrix.estimator for matrix in every)
        has = ", ".join(known) or "none"
        way = "name one of these" if known else "give its grid an [[estimator]]"
        raise ConfigError([f"{folder} has no influence{asked} (it has: {has})"], way)
    return wanted


def _point(scene: Record, point: int | None) -> int:
    """The row of the probe that is explained."""
    total = len(scene.data[names.PROBE_Y])
    if point is None:
        if is_audit(scene):
            return _most_suspicious(scene)
        chosen = choose_points(scene)
        return chosen[0] if chosen else 0
    if not 0 <= point < total:
        what = f"test point {point} is none of the {total} of the probe"
        raise ConfigError([what], f"0 to {total - 1}")
    return point


def _most_suspicious(scene: Record) -> int:
    """The point to be judged that the first detector of an audit finds so; 0 without one."""
    judged = np.flatnonzero(scene.data[names.PROBE_GROUP] == JUDGED)
    for path in sorted(scene.path.parent.glob("detect-*.h5")):
        scores = log.read(path, "detect", keys=(names.SCORE,)).data[names.SCORE]
        known = np.nan_to_num(scores[judged], nan=-np.inf)
        return int(judged[known.argmax()])
    return 0
