"""The attacked test points that a scene keeps, so that its attack runs once, and their log form.

A point is stored as the bits in which it differs from its clean test row: a trigger costs little.
Where all points differ in more than `MOST_BYTES`, those of the probe are kept and at most `MORE`
others, drawn by the scene's seed. The log says which.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.scene.probe import Probe
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.errors import LogError
from poisonbench.log import Record, names
from poisonbench.roles import ATTACKED
from poisonbench.seeding import generator

MOST_BYTES = 32 << 20  # of values that differ from the clean test rows
MORE = 1000  # points beside those of the probe, where these are more

# by bytes of a value
BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True, eq=False)
class Attacked:
    """The k attacked test points that a scene keeps, on the CPU.

    Attributes:
        points: as presented (trigger applied), with TRUE labels.
        wanted: (k,) int64, the label that the attacker wants.
        origin: (k,) int64, row in the clean test set, -1 if from elsewhere.
        whole: these are all attacked points of the scene.
    """

    points: Dataset
    wanted: Tensor
    origin: Tensor
    whole: bool


def rows_to_keep(
    poisoned: Poisoned, clean: Dataset, probe_rows: Tensor, seed: int
) -> Tensor:
    """Returns the rows (k,) int64 of `poisoned.targets` that a scene keeps, ascending.

    Args:
        poisoned: gives all t attacked test points.
        clean: the clean test set.
        probe_rows: (a,) int64, the rows that are in the probe.
        seed: of the scene, draws the others.
    """
    total = len(poisoned.targets)
    bits = difference_bits(poisoned.targets, poisoned.target_origin, clean)
    if int(bits.count_nonzero()) * bits.element_size() <= MOST_BYTES:
        return torch.arange(total)
    free = torch.ones(total, dtype=torch.bool)
    free[probe_rows] = False
    others = free.nonzero().squeeze(1)
    order = torch.randperm(len(others), generator=generator(seed, "kept"))
    drawn = others[order[:MORE]]
    return torch.cat([probe_rows, drawn]).sort().values


def keep_attacked(poisoned: Poisoned, rows: Tensor) -> Attacked:
    """Returns the attacked points of these rows of `poisoned.targets`, (k,) int64."""
    return Attacked(
        points=poisoned.targets.take(rows).to("cpu"),
        wanted=poisoned.wanted.cpu()[rows],
        origin=poisoned.target_origin.cpu()[rows],
        whole=len(rows) == len(poisoned.targets),
    )


def pack_attacked(
    attacked: Attacked, rows: Tensor, clean: Dataset
) -> dict[str, Tensor]:
    """Returns the data sets of the kept points; their labels stand beside those of all points."""
    bits = difference_bits(attacked.points, attacked.origin, clean)
    return {names.TARGETS_KEPT: rows, names.TARGETS_BITS: bits}


def unpack_attacked(record: Record, clean: Dataset, probe: Probe) -> Attacked:
    """Returns the attacked points of a scene's log; of a log without them, those of its probe.

    Raises:
        LogError: what the log holds does not fit together, or not the clean test set.
    """
    if names.TARGETS_KEPT not in record.data:
        return attacked_of_probe(record, probe)
    columns = {
        name: torch.as_tensor(record.data[name])
        for name in (names.TARGETS_Y, names.TARGETS_WANTED, names.TARGETS_ORIGIN)
    }
    rows = torch.as_tensor(record.data[names.TARGETS_KEPT])
    bits = torch.as_tensor(record.data[names.TARGETS_BITS])
    _check_kept(record, rows, bits, clean)
    origin = columns[names.TARGETS_ORIGIN][rows]
    reference = _reference(origin, clean)
    x = (reference ^ bits).view(clean.x.dtype)
    return Attacked(
        points=clean.rows(x, columns[names.TARGETS_Y][rows]),
        wanted=columns[names.TARGETS_WANTED][rows],
        origin=origin,
        whole=len(rows) == len(columns[names.TARGETS_Y]),
    )


def difference_bits(points: Dataset, origin: Tensor, clean: Dataset) -> Tensor:
    """Returns the bits (k, *shape) in which points differ from their clean rows, whole integers.

    The difference is an exclusive or, which loses nothing; a point from elsewhere is held whole.
    """
    reference = _reference(origin, clean)
    return points.x.cpu().contiguous().view(reference.dtype) ^ reference


def _reference(origin: Tensor, clean: Dataset) -> Tensor:
    """The bits (k, *shape) of the clean test rows `origin`, zeros for -1."""
    origin = origin.cpu()
    known = origin >= 0
    rows = torch.zeros((len(origin), *clean.shape), dtype=clean.x.dtype)
    rows[known] = clean.x[origin[known].to(clean.x.device)].cpu()
    return rows.view(BITS[rows.element_size()])


def attacked_of_probe(record: Record, probe: Probe) -> Attacked:
    """Returns the attacked points that the probe of a scene's log shows."""
    chosen = probe.group == ATTACKED
    return Attacked(
        points=probe.points.take(chosen),
        wanted=probe.wanted[chosen],
        origin=probe.origin[chosen],
        whole=int(chosen.sum()) == len(record.data[names.TARGETS_WANTED]),
    )


def _check_kept(record: Record, rows: Tensor, bits: Tensor, clean: Dataset) -> None:
    total = len(record.data[names.TARGETS_ORIGIN])
    origin = torch.as_tensor(record.data[names.TARGETS_ORIGIN])
    form = rows.dtype == torch.int64 and rows.dim() == 1
    inside = form and bool(((rows >= 0) & (rows < total)).all())
    if not inside or len(rows.unique()) != len(rows):
        raise LogError(
            record.path, f"{names.TARGETS_KEPT!r} are not rows of its attacked points"
        )
    if len(origin) and int(origin.max()) >= len(clean):
        raise LogError(
            record.path, f"its attacked points are of more than {len(clean)} test rows"
        )
    want = (len(rows), *clean.shape)
    if tuple(bits.shape) != want or bits.dtype != BITS[clean.x.element_size()]:
        told = f"{bits.dtype} of shape {tuple(bits.shape)}"
        raise LogError(
            record.path, f"{names.TARGETS_BITS!r} is {told}, not of shape {want}"
        )
