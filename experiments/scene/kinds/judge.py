"""Influence of every training row on the probe, and what detectors and filters say of it."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from experiments.plan.spec import Method
from experiments.scene.cost import measured, noted
from experiments.scene.kinds.blocks import influence_of
from experiments.scene.kinds.cell import Cell, about_run, check_shape
from poisonbench.contracts.calibration import (
    alarm_threshold,
    flagged,
    p_values,
    unseen_by,
)
from poisonbench.log import names
from poisonbench.notes import Notes, collecting
from poisonbench.roles import CALIBRATION


@dataclass(frozen=True, eq=False)
class Verdict:
    """What a detector or filter said.

    Attributes:
        scores: (m,) or (n,) float64 on the CPU.
        about: the attributes that tell how it ran.
        told: its notes.
    """

    scores: Tensor
    about: dict[str, float | str]
    told: Notes


def estimate(cell: Cell) -> None:
    """Writes the influence (m, n) of every training row on every probe point; influence-EST.h5.

    A large training set is scored in blocks of rows where the estimator can. The cell keeps the
    matrix for the stages that follow.
    """
    method = cell.method("estimator")
    victim = cell.victim
    trace = replace(victim.trace, scratch=cell.scratch)
    with noted() as warnings, collecting() as told:
        found = influence_of(cell, method, trace)
    influence = found.influence
    about: dict[str, float | str] = {
        **found.about,
        "fit_seconds": found.fit.seconds,
        "score_seconds": found.score.seconds,
        "peak_bytes": max(found.fit.peak_bytes, found.score.peak_bytes),
        "warnings": "\n".join(warnings),
    }
    cell.write({names.INFLUENCE: influence}, about, told)
    cell.kept.clear()
    cell.kept[method] = influence


def detect(cell: Cell) -> None:
    """Scores every probe point; detect-EST-DET.h5.

    The flags are the scores above the threshold of the calibration points that the detector was
    not fitted to, see `poisonbench.contracts.calibration`.
    """
    method = cell.method("detector")
    verdict = _judge(cell, method, len(cell.victim.test), "(m,)")
    unseen = unseen_by(method.value, cell.victim.probe.group == CALIBRATION)
    threshold = alarm_threshold(verdict.scores[unseen], cell.alarm)
    p = p_values(verdict.scores, verdict.scores[unseen])
    data = {
        names.SCORE: verdict.scores,
        names.FLAG: flagged(p, cell.alarm),
        names.P_VALUE: p,
    }
    about = verdict.about | {"threshold": threshold, "alarm": cell.alarm}
    cell.write(data, about, verdict.told, alarm=cell.alarm)


def score_rows(cell: Cell) -> None:
    """Scores every training row; filter-EST-FIL.h5."""
    verdict = _judge(cell, cell.method("filter"), len(cell.victim.trace.train), "(n,)")
    cell.write({names.SCORE: verdict.scores}, verdict.about, verdict.told)


def _judge(cell: Cell, method: Method, size: int, letters: str) -> Verdict:
    """Runs a detector or filter, which must return (size,) scores."""
    evidence = cell.evidence(method)
    with noted() as warnings, collecting() as told, measured(cell.device) as cost:
        scores: Tensor = method.value(evidence)
    cost.seconds += cell.retrainer.seconds_found
    check_shape(method, "scores", scores, (size,), letters)
    scores = scores.to(device="cpu", dtype=torch.float64)
    about = about_run(method, cost, warnings)
    if evidence.influence is not None:
        about["influence_bytes"] = evidence.influence.nbytes
    return Verdict(scores, about, told)
