"""The victim of an audit: a finished model, read from its files, and the points to be judged."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from experiments.plan.audit.spec import AuditScene, AuditSpec
from experiments.plan.outside import (
    code_of,
    code_of_loss,
    digest_of_file,
    joined,
    unsaved,
)
from experiments.plan.paths import Place, SceneLike
from experiments.plan.spec import Scene
from experiments.scene.attacked import Attacked
from experiments.scene.clean import Clean
from experiments.scene.probe import Probe, pack_probe
from experiments.scene.sources import read_data, read_model
from experiments.scene.victim import Victim, make_victim
from poisonbench import log
from poisonbench.contracts.calibration import check_trusted, check_unseen
from poisonbench.contracts.protocols import Detector
from poisonbench.data import Dataset, Layout, join
from poisonbench.data.convert import as_part
from poisonbench.errors import ConfigError, DataError
from poisonbench.log import Record, names
from poisonbench.models import MODELS, predict
from poisonbench.poison_file import fingerprint, pack_kind
from poisonbench.registry import lookup
from poisonbench.roles import CALIBRATION, JUDGED, UNTOLD
from poisonbench.seeding import generator
from poisonbench.training import Trace
from poisonbench.training.given.points import read_points


@dataclass(frozen=True, eq=False)
class Audited:
    """What an audit has read.

    Attributes:
        run: the training run.
        points: to be judged; their labels are not known.
        trusted: points known to be clean, in random order.
    """

    run: Trace
    points: Dataset
    trusted: Dataset


def victim_of(scene: SceneLike, place: Place) -> Victim:
    """Returns the victim of a scene of a grid, see `make_victim`, or of an audit."""
    if isinstance(scene, AuditScene):
        return audited_victim(scene, place)
    assert isinstance(scene, Scene)
    return make_victim(scene, place)


@cache
def read_audit(spec: AuditSpec, device: str) -> Audited:
    """Reads model, checkpoints and data of an audit, once.

    Raises:
        ConfigError: the model, its checkpoints or its learning rates do not fit; or the trusted
            points were trained on.
        DataError: data that cannot be read, or that do not fit the model or each other.
        ModelError: the model cannot be worked with.
    """
    found = read_data(spec.train, "the training set", labelled=True)
    layout = _layout(found, fixed=spec.model_args is not None)
    model = read_model(spec, layout).to(device)
    run = Trace.of(
        model,
        found,
        list(spec.checkpoints),
        head=spec.head,
        loss=spec.loss,
        weight_decay=spec.weight_decay,
        seed=spec.seed,
        lr=spec.lr if not isinstance(spec.lr, tuple) else list(spec.lr),
    )
    points = _points(spec.points, run, "the points")
    trusted = _points(spec.trusted, run, "the trusted points")
    check_unseen(trusted, run.train)
    order = torch.randperm(len(trusted), generator=generator(spec.seed, "trusted"))
    return Audited(run, points, trusted.take(order))


def _layout(found: object, fixed: bool) -> Layout:
    """Returns what a model must know of the training set, classes by the largest label.

    Raises:
        DataError: labels begin at 1, and the model is not `fixed`: it would have a class too many.
    """
    part = as_part(found, "the training set")
    if isinstance(part, Dataset):
        return part.layout
    x, y = part
    if not len(y):
        raise DataError("the training set has no rows", "give at least one")
    if not fixed and int(y.min()) == 1:
        raise DataError(
            f"labels of the training set run from 1 to {int(y.max())}, and classes are 0, 1, ...",
            "subtract 1: y - 1; if class 0 has no rows, a callable that returns Dataset(x, y, "
            "classes)",
        )
    return Dataset(x, y, classes=int(y.max()) + 1).layout


def _points(name: str, run: Trace, what: str) -> Dataset:
    """Returns points of the run's kind, where its model lies; labels are left aside."""
    points = read_points(run, read_data(name, what), what).data
    if not len(points):
        raise ConfigError([f"{what}: there are none"], f"{name} must hold some")
    return points


def audit_scene(
    spec: AuditSpec, audited: Audited, alarm: float, detectors: Iterable[Detector]
) -> AuditScene:
    """Returns the scene of an audit: what was read, told by digests.

    Raises:
        ConfigError: too few trusted points.
    """
    check_trusted(len(audited.trusted), alarm, detectors)
    code = code_of(lookup(MODELS, spec.model, "model"), spec.model)
    digests = {
        "train": fingerprint(audited.run.train),
        "points": fingerprint(audited.points),
        "trusted": fingerprint(audited.trusted),
        "checkpoints": joined(digest_of_file(path) for path in spec.checkpoints),
        "model": joined([code, code_of_loss(spec.loss), unsaved(audited.run.model())]),
    }
    return AuditScene(spec, audited.run.train.classes, tuple(digests.items()))


def audited_victim(scene: AuditScene, place: Place) -> Victim:
    """Returns the model as a victim, and writes its scene.h5 where that is not there."""
    audited = read_audit(scene.spec, place.device)
    run = audited.run
    probe = _probe(audited)
    role = torch.full((len(run.train),), UNTOLD, dtype=torch.uint8)
    path = place.scene(scene) / "scene.h5"
    if not path.exists():
        _write(scene, place, probe, role)
    nothing = run.train.take(run.train.y[:0]).to("cpu")
    none = torch.zeros(0, dtype=torch.int64)
    return Victim(
        trace=run,
        probe=probe,
        role=role,
        clean=Clean(run.train, audited.points, run.train.take(run.train.y[:0])),
        attacked=Attacked(nothing, none, none, whole=True),
    )


def _probe(audited: Audited) -> Probe:
    """The points to be judged, then the trusted ones, with the labels that the model predicts."""
    points = join([audited.points, audited.trusted])
    rows = [torch.arange(len(part)) for part in (audited.points, audited.trusted)]
    group = torch.full((len(points),), CALIBRATION, dtype=torch.uint8)
    group[: len(audited.points)] = JUDGED
    return Probe(
        points=points.to("cpu"),
        predicted=predict(audited.run.model(), points.x).argmax(1).cpu(),
        wanted=torch.full((len(points),), -1),
        origin=torch.cat(rows),
        group=group,
    )


def _write(scene: AuditScene, place: Place, probe: Probe, role: Tensor) -> None:
    none = torch.zeros(0, dtype=torch.int64)
    data: dict[str, Tensor | str] = {
        **pack_kind(probe.points),
        **pack_probe(probe),
        names.PROBE_Y: torch.full_like(probe.predicted, -1),
        names.POISON_ROLE: role,
        names.POISON_ORIGIN: torch.arange(len(role)),
        names.TARGETS_PREDICTED: none,
        names.TARGETS_WANTED: none,
        names.CLEAN_CORRECT: torch.tensor(0),
        names.CLEAN_SIZE: torch.tensor(0),
    }
    attributes: dict[str, int | str] = {"device": place.device, "seed": scene.seed}
    path = place.scene(scene) / "scene.h5"
    log.write(path, "scene", config=scene.config, data=data, attributes=attributes)


def train_of_audit(record: Record, trust: bool) -> Dataset:
    """Returns the training set of an audit, read anew, by its log of kind "scene".

    Args:
        record: the log.
        trust: run code that it names.

    Raises:
        ConfigError: it is not what was audited, or code that is not trusted gives it.
        DataError: it cannot be read.
    """
    named = record.config["dataset"]
    name = str(named["name"])
    if ":" in name and not trust:
        told = f"{record.path} names code: dataset {name!r}"
        raise ConfigError([told], "read that code, then run it with --trust")
    part = as_part(read_data(name, "the training set"), "the training set")
    if not isinstance(part, Dataset):
        part = Dataset(part[0], part[1], int(named["classes"]))
    part = replace(part, classes=int(named["classes"]))
    if fingerprint(part) != named["sha256"]:
        told = f"{name} is not the training set that was audited"
        raise ConfigError([told], "give the one of that time, or audit again")
    return part
