"""The stages after training: influence of every training instance on the probe, and what detectors and filters say of it."""

from dataclasses import replace

import torch
from torch import Tensor

from experiments.plan.spec import Method
from experiments.scene.cell import Cell, about_run, check_shape
from experiments.scene.cost import measured, noted
from poisonbench.notes import Notes, collecting
from poisonbench.roles import CALIBRATION


def estimate(cell: Cell) -> None:
    """Writes the influence (m, n) of every training instance on every probe point, and keeps it for the stages that follow."""
    method, victim = cell.method("estimator"), cell.victim
    trace = replace(victim.trace, scratch=cell.scratch)
    with noted() as notes, collecting() as told:
        with measured(cell.device) as fit:
            scorer = method.value.fit(trace)
        with measured(cell.device) as score:
            influence: Tensor = scorer(victim.test)
    check_shape(
        method, "influence", influence, (len(victim.test), len(victim.trace.train)), "(m, n)"
    )
    influence = influence.to(device="cpu", dtype=torch.float32)
    about: dict[str, float | str] = {"fit_seconds": fit.seconds, "score_seconds": score.seconds}
    about |= {"peak_bytes": max(fit.peak_bytes, score.peak_bytes), "warnings": "\n".join(notes)}
    cell.write({"influence": influence}, about, told)
    cell.kept.clear()
    cell.kept[method] = influence


def detect(cell: Cell) -> None:
    """Scores every probe point and writes detect-EST-DET.h5.

    The flags are the scores above the 1 - alarm quantile of the calibration points; without a finite calibration score there
    are none. A detector that is fitted to clean points gets half of them, and the other half sets its threshold: on the points
    that it was fitted to its scores would be too low.
    """
    method = cell.method("detector")
    scores, about, told = _judge(cell, method, len(cell.victim.test), "(m,)")
    clean = scores[(cell.victim.probe.group == CALIBRATION) & ~cell.trusted(method)]
    clean = clean[clean.isfinite()]
    threshold = (
        float(clean.quantile(1 - cell.alarm, interpolation="higher")) if len(clean) else torch.inf
    )
    about |= {"threshold": threshold, "alarm": cell.alarm}
    cell.write({"score": scores, "flag": scores > threshold}, about, told, alarm=cell.alarm)


def sift(cell: Cell) -> None:
    """Scores every training instance and writes filter-EST-FIL.h5."""
    scores, about, told = _judge(cell, cell.method("filter"), len(cell.victim.trace.train), "(n,)")
    cell.write({"score": scores}, about, told)


def _judge(
    cell: Cell, method: Method, size: int, letters: str
) -> tuple[Tensor, dict[str, float | str], Notes]:
    """Returns the scores of a detector or filter, (size,) float64 on the CPU, and what its log tells about them."""
    evidence = cell.evidence(method)
    with noted() as notes, collecting() as told, measured(cell.device) as cost:
        scores: Tensor = method.value(evidence)
    check_shape(method, "scores", scores, (size,), letters)
    return scores.to(device="cpu", dtype=torch.float64), about_run(method, cost, notes), told
