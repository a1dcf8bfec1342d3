"""The probe: the test points on which a scene is judged, how they are drawn, and their log form."""

from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.plan.spec import ProbeSpec
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset, join
from poisonbench.log import Record, names
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


def choose_probe(
    poisoned: Poisoned, clean: Dataset, predicted: Tensor, spec: ProbeSpec, seed: int
) -> dict[int, Tensor]:
    """Draws the probe, by group: rows of `poisoned.targets` for the attacked, else of `clean`.

    Calibration is drawn first, at random, from the test points behind none of the attacked ones:
    at most two thirds of them. Then the matched controls, which the victim predicts as a label that
    the attacker wants; then random controls. No test point serves twice.

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

    most = min(spec.calibration, int(free.sum()) * 2 // 3)
    calibration = _draw(_rows(free), most, g)
    free[calibration] = False

    alike = free & torch.isin(predicted, poisoned.wanted.cpu())
    matched = _draw(_rows(alike), spec.controls // 2, g)
    free[matched] = False

    others = _draw(_rows(free), spec.controls - len(matched), g)
    return {
        ATTACKED: attacked,
        MATCHED: matched,
        RANDOM: others,
        CALIBRATION: calibration,
    }


def _rows(mask: Tensor) -> Tensor:
    return mask.nonzero().squeeze(1)


def _draw(rows: Tensor, size: int, g: torch.Generator) -> Tensor:
    """At most `size` of the rows, in random order."""
    return rows[torch.randperm(len(rows), generator=g)[:size]]


def make_probe(
    poisoned: Poisoned, clean: Dataset, trace: Trace, rows: dict[int, Tensor]
) -> Probe:
    """Has the victim predict the points that `choose_probe` drew.

    Args:
        poisoned: gives the attacked test points.
        clean: the m0 clean test points.
        trace: the victim.
        rows: by group, see `choose_probe`.
    """
    attacked = rows[ATTACKED]
    others = torch.cat([rows[MATCHED], rows[RANDOM], rows[CALIBRATION]])
    points = join([poisoned.targets.take(attacked), clean.take(others)])
    not_wanted = torch.full((len(others),), -1)
    groups = [
        torch.full((len(rows[group]),), group, dtype=torch.uint8)
        for group in (ATTACKED, MATCHED, RANDOM, CALIBRATION)
    ]
    return Probe(
        points=points.to("cpu"),
        predicted=predict(trace.model(), points.x).argmax(1).cpu(),
        wanted=torch.cat([poisoned.wanted.cpu()[attacked], not_wanted]),
        origin=torch.cat([poisoned.target_origin.cpu()[attacked], others]),
        group=torch.cat(groups),
    )


def pack_probe(probe: Probe) -> dict[str, Tensor]:
    """Returns the data sets of a probe."""
    return {
        names.PROBE_X: probe.points.x,
        names.PROBE_Y: probe.points.y,
        names.PROBE_PREDICTED: probe.predicted,
        names.PROBE_WANTED: probe.wanted,
        names.PROBE_ORIGIN: probe.origin,
        names.PROBE_GROUP: probe.group,
    }


def unpack_probe(record: Record, clean: Dataset) -> Probe:
    """Returns the probe of a scene's log, on the CPU.

    Args:
        record: the log.
        clean: the clean test set, of whose kind the points are.
    """

    def read(name: str) -> Tensor:
        return torch.as_tensor(record.data[name])

    return Probe(
        points=clean.rows(read(names.PROBE_X), read(names.PROBE_Y)),
        predicted=read(names.PROBE_PREDICTED),
        wanted=read(names.PROBE_WANTED),
        origin=read(names.PROBE_ORIGIN),
        group=read(names.PROBE_GROUP),
    )
