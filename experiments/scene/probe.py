"""The probe: the test points on which a scene is judged, how they are drawn, and their form in the log."""

from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.plan.spec import ProbeSpec, Scene
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset, join
from poisonbench.log import Record
from poisonbench.models import predict
from poisonbench.roles import ATTACKED, CALIBRATION, MATCHED, RANDOM
from poisonbench.seeding import generator
from poisonbench.training.trace import Trace


@dataclass(frozen=True, eq=False)
class Probe:
    """The m test points that a scene judges.

    Attributes:
        points: instances as presented, with TRUE labels.
        predicted: (m,) int64, the victim's labels.
        wanted: (m,) int64, the label that the attacker wants, -1 where not attacked.
        origin: (m,) int64, row in the clean test set, -1 if from elsewhere.
        group: (m,) uint8: 0 attacked, 1 matched control, 2 random control, 3 calibration.
    """

    points: Dataset
    predicted: Tensor
    wanted: Tensor
    origin: Tensor
    group: Tensor


def _draw(rows: Tensor, size: int, g: torch.Generator) -> Tensor:
    return rows[torch.randperm(len(rows), generator=g)[:size]]


def choose_probe(
    poisoned: Poisoned, clean: Dataset, predicted: Tensor, spec: ProbeSpec, seed: int
) -> dict[int, Tensor]:
    """Draws the probe: rows of `poisoned.targets` for the attacked group, rows of the clean test set for all others.

    Calibration is drawn first, at random, from the test points behind none of the attacked ones; then the matched controls, those
    that the victim predicts as a label the attacker wants; then random controls. No test point serves twice.

    Args:
        poisoned: gives the attacked test points and their origins.
        clean: the m0 clean test points.
        predicted: (m0,) int64 on the CPU, the victim's labels for them.
        spec: the sizes.
        seed: of the draw.
    """
    g = generator(seed, "probe")
    attacked = _draw(torch.arange(len(poisoned.targets)), spec.attacked, g)
    origin = poisoned.target_origin.cpu()[attacked]
    free = torch.ones(len(clean), dtype=torch.bool)
    free[origin[origin >= 0]] = False
    calibration = _draw(
        free.nonzero().squeeze(1), min(spec.calibration, int(free.sum()) * 2 // 3), g
    )
    free[calibration] = False
    alike = free & torch.isin(predicted, poisoned.wanted.cpu())
    matched = _draw(alike.nonzero().squeeze(1), spec.controls // 2, g)
    free[matched] = False
    rest = _draw(free.nonzero().squeeze(1), spec.controls - len(matched), g)
    return {ATTACKED: attacked, MATCHED: matched, RANDOM: rest, CALIBRATION: calibration}


def make_probe(
    poisoned: Poisoned, clean: Dataset, trace: Trace, logits: Tensor, scene: Scene
) -> Probe:
    """Draws the probe and has the victim predict it.

    Args:
        poisoned: gives the attacked test points.
        clean: the m0 clean test points.
        trace: the victim.
        logits: (m0, C), the victim's for `clean`.
        scene: gives sizes and seed.
    """
    rows = choose_probe(poisoned, clean, logits.argmax(1).cpu(), scene.probe, scene.seed)
    attacked = rows.pop(ATTACKED)
    others = torch.cat([rows[group] for group in (MATCHED, RANDOM, CALIBRATION)])
    points = join([poisoned.targets.take(attacked), clean.take(others)])
    groups = [torch.full((len(attacked),), ATTACKED, dtype=torch.uint8)]
    groups += [
        torch.full((len(rows[g]),), g, dtype=torch.uint8) for g in (MATCHED, RANDOM, CALIBRATION)
    ]
    return Probe(
        points.to("cpu"),
        predict(trace.model(), points.x).argmax(1).cpu(),
        torch.cat([poisoned.wanted.cpu()[attacked], torch.full((len(others),), -1)]),
        torch.cat([poisoned.target_origin.cpu()[attacked], others]),
        torch.cat(groups),
    )


def pack_probe(probe: Probe) -> dict[str, Tensor]:
    """Returns the data sets of a probe."""
    own = {name: getattr(probe, name) for name in ("predicted", "wanted", "origin", "group")}
    return {"x": probe.points.x, "y": probe.points.y, **own}


def unpack_probe(record: Record, classes: int) -> Probe:
    """Returns the probe of a scene's log."""
    data = {
        key: torch.as_tensor(record.data[f"probe/{key}"])
        for key in ("x", "y", "predicted", "wanted", "origin", "group")
    }
    return Probe(
        Dataset(data["x"], data["y"], classes),
        data["predicted"],
        data["wanted"],
        data["origin"],
        data["group"],
    )
