"""The stages that answer poison: a mitigation that removes training rows and trains again, and certified predictions.

Both end in a log that holds predictions beside the truth, so that evaluation needs neither data nor models.
"""

import hashlib
import shutil
from pathlib import Path

import torch
from torch import Tensor

from experiments.scene.archive import pack_trace, unpack_trace
from experiments.scene.attacked import attacked_points
from experiments.scene.cell import Cell, about_run
from experiments.scene.cost import measured, noted
from poisonbench import log
from poisonbench.contracts.values import Means, Mitigated
from poisonbench.data import Dataset
from poisonbench.errors import LogError
from poisonbench.models import predict
from poisonbench.notes import collecting
from poisonbench.roles import CALIBRATION
from poisonbench.training import train
from poisonbench.training.trace import Trace


class Retrainer:
    """Trains the victim anew on a part of its rows; a run that lies in the folder is not done again."""

    def __init__(self, trace: Trace, folder: Path) -> None:
        self.trace, self.folder = trace, folder

    def __call__(self, keep: Tensor) -> Trace:
        """Returns the run of the victim's recipe and seed on the rows `keep`, (n,) bool."""
        keep, train_set = keep.cpu(), self.trace.train
        if (
            keep.dtype != torch.bool
            or tuple(keep.shape) != (len(train_set),)
            or not bool(keep.any())
        ):
            raise ValueError(
                f"keep must be ({len(train_set)},) bool with a row that stays, got {tuple(keep.shape)} {keep.dtype}"
            )
        path = self.folder / f"run-{hashlib.sha256(keep.numpy().tobytes()).hexdigest()[:16]}.h5"
        rest = train_set.take(keep)
        try:
            return unpack_trace(log.read(path, "trace"), rest, self.trace.recipe, self.trace.seed)
        except LogError:  # absent, or damaged: it can be made again
            trace = train(rest, self.trace.recipe, self.trace.seed)
            log.write(
                path,
                "trace",
                config={"kept": int(keep.sum())},
                data=pack_trace(trace),
                attributes={},
            )
            return trace


def means_of(cell: Cell) -> Means:
    """Returns the means of a mitigation: training, the estimator, and the verdicts that other stages have written."""
    methods = dict(cell.stage.methods)
    estimator, detector, sieve = (methods.get(part) for part in ("estimator", "detector", "filter"))

    def influence(trace: Trace, points: Dataset) -> Tensor:
        assert estimator is not None
        scores: Tensor = estimator.value.fit(trace)(points)
        return scores

    def verdict(path: Path, kind: str) -> dict[str, Tensor]:
        return {
            name: torch.as_tensor(value).to(cell.device)
            for name, value in log.read(path, kind).data.items()
        }

    found: dict[str, Tensor] = {}
    if detector is not None:
        used = estimator if detector.reads("influence") else None
        data = verdict(cell.place.detect(cell.scene, used, detector, cell.alarm), "detect")
        unknown = (cell.victim.probe.group != CALIBRATION).to(cell.device)
        found |= {"suspicion": data["score"], "flags": data["flag"] & unknown}
    if sieve is not None:
        used = estimator if sieve.reads("influence") else None
        found["scores"] = verdict(cell.place.filter(cell.scene, used, sieve), "filter")["score"]
    retrain = Retrainer(cell.victim.trace, cell.scratch)
    return Means(retrain, influence if estimator is not None else None, **found)


def mitigate(cell: Cell) -> None:
    """Removes what a mitigation finds, and writes mitigate-....h5: the rows removed, and predictions before and after."""
    method, victim = cell.method("mitigation"), cell.victim
    targets, wanted, whole = attacked_points(cell)
    evidence, means = cell.evidence(method), means_of(cell)
    with noted() as notes, collecting() as told, measured(cell.device) as cost:
        done: Mitigated = method.value(evidence, means)
    keep = done.keep.cpu()
    if (
        tuple(keep.shape) != (len(victim.role),)
        or keep.dtype != torch.bool
        or int(keep.sum()) != len(done.trace.train)
    ):
        raise ValueError(
            f"{method.name} tells of {int(keep.sum())} rows kept, but trained on {len(done.trace.train)}"
        )
    data = {"removed": ~keep, "targets/wanted": wanted, "targets/y": targets.y}
    clean = victim.clean.test
    for when, trace in (("before", victim.trace), ("after", done.trace)):
        model = trace.model()
        data[f"targets/{when}"] = predict(model, targets.x).argmax(1) if len(targets) else targets.y
        data[f"test/{when}"] = predict(model, clean.x).argmax(1) == clean.y
        data[f"probe/{when}"] = predict(model, victim.test.x).argmax(1)
    about = about_run(method, cost, notes) | {"retrainings": done.retrainings, "all_targets": whole}
    # what its detector or filter takes, the mitigation takes
    about["uses"] = ",".join(
        dict.fromkeys(
            use for _, m in cell.stage.methods if m for use in getattr(m.value, "uses", ())
        )
    )
    cell.write(data, about, told, alarm=cell.alarm)
    shutil.rmtree(cell.scratch, ignore_errors=True)
