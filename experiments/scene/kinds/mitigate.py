"""The stage in which a mitigation removes training rows and trains again.

Its log holds predictions beside the truth, so that evaluation needs neither data nor models.
"""

from dataclasses import replace

import torch
from torch import Tensor

from experiments.scene.cost import measured, noted
from experiments.scene.kinds.cell import Cell, about_run
from experiments.scene.kinds.retraining import Retrainer, means_of
from poisonbench import log
from poisonbench.contracts.values import Means, Mitigated
from poisonbench.log import names
from poisonbench.models import predict
from poisonbench.notes import collecting
from poisonbench.roles import CALIBRATION
from poisonbench.training.trace import Trace


def means_for(cell: Cell, retrainer: Retrainer) -> Means:
    """Returns the means of a mitigation: training, the estimator, verdicts of other stages."""
    methods = dict(cell.stage.methods)
    means = means_of(retrainer, methods.get("estimator"))
    known = (cell.victim.probe.group == CALIBRATION).to(cell.device)
    if cell.method("mitigation").reads("reference"):
        means = replace(means, known=known)
    if methods.get("detector") is not None:
        verdict = _verdict(cell, "detect")
        means = replace(
            means,
            suspicion=verdict[names.SCORE],
            flags=verdict[names.FLAG] & ~known,
            alarm=cell.alarm,
        )
    if methods.get("filter") is not None:
        means = replace(means, scores=_verdict(cell, "filter")[names.SCORE])
    return means


def _verdict(cell: Cell, kind: str) -> dict[str, Tensor]:
    """The data sets of the verdict on which the stage works, one of the files that it needs."""
    [path] = [path for path in cell.stage.needs if path.name.startswith(f"{kind}-")]
    record = log.read(path, kind)
    return {
        name: torch.as_tensor(value).to(cell.device)
        for name, value in record.data.items()
    }


def mitigate(cell: Cell) -> None:
    """Removes what a mitigation finds; mitigate-....h5 holds predictions before and after."""
    method = cell.method("mitigation")
    evidence = cell.evidence(method)
    retrainer = Retrainer(cell.victim.trace, cell.scratch)
    means = means_for(cell, retrainer)
    with noted() as warnings, collecting() as told, measured(cell.device) as cost:
        done: Mitigated = method.value(evidence, means)
    cost.seconds += retrainer.seconds_found
    keep = done.keep.cpu()
    _check_kept(method.name, keep, len(cell.victim.role), len(done.trace.train))
    data = {
        names.REMOVED: ~keep,
        names.TARGETS_WANTED: cell.victim.attacked.wanted,
        names.TARGETS_Y: cell.victim.attacked.points.y,
        **_predictions(cell, "before", cell.victim.trace),
        **_predictions(cell, "after", done.trace),
    }
    about = about_run(method, cost, warnings)
    about["retrainings"] = done.retrainings
    about["all_targets"] = cell.victim.attacked.whole
    about["uses"] = ",".join(_uses(cell))
    cell.write(data, about, told, alarm=cell.alarm)


def _check_kept(name: str, keep: Tensor, rows: int, trained: int) -> None:
    fits = tuple(keep.shape) == (rows,) and keep.dtype == torch.bool
    if not fits or int(keep.sum()) != trained:
        raise ValueError(
            f"{name} tells of {int(keep.sum())} rows kept, but trained on {trained}"
        )


def _predictions(cell: Cell, when: str, trace: Trace) -> dict[str, Tensor]:
    """What a victim says of the attacked points, the test set (right or not) and the probe."""
    model = trace.model()
    clean = cell.victim.clean.test
    targets = cell.victim.attacked.points.to(cell.device)
    labels = targets.y
    if len(targets):
        labels = predict(model, targets.x).argmax(1)
    return {
        f"targets/{when}": labels,
        f"test/{when}": predict(model, clean.x).argmax(1) == clean.y,
        f"probe/{when}": predict(model, cell.victim.test.x).argmax(1),
    }


def _uses(cell: Cell) -> list[str]:
    """What the mitigation takes beyond the victim: also all that its detector or filter takes."""
    uses: dict[str, None] = {}
    for _, method in cell.stage.methods:
        if method is not None:
            uses |= dict.fromkeys(getattr(method.value, "uses", ()))
    return list(uses)
