"""Running an audit: what is missing is done, in this process."""

from dataclasses import dataclass
from pathlib import Path

from experiments.plan.audit.parse import resolved_audit
from experiments.plan.audit.spec import Audit
from experiments.plan.cells import planned, write_cells
from experiments.plan.paths import Place
from experiments.plan.spec import Grid
from experiments.plan.stages import Job, stages_of
from experiments.runner.lock import FatalError, ending_signals, exclusive
from experiments.runner.worker import run_job
from experiments.scene.audited import Audited, audit_scene, read_audit
from poisonbench import log
from poisonbench.contracts.kinds import range_fault
from poisonbench.data import kinds_of
from poisonbench.errors import ConfigError
from poisonbench.training.needs import NEEDS, unmet


@dataclass(frozen=True)
class Done:
    """What an audit did.

    Attributes:
        cells: stages of the audit.
        failed: "cell: reason" of each that failed.
        paths: the files of this audit; its folder may hold those of others.
    """

    cells: int
    failed: list[str]
    paths: frozenset[Path]


def run_audit(
    audit: Audit, place: Place, threads: int = 1, retry: bool = False
) -> Done:
    """Does every stage of the audit that has no file yet.

    Args:
        audit: what is audited.
        place: where.
        threads: of torch.
        retry: do failed stages again.

    Raises:
        ConfigError: model, checkpoints, data or methods do not fit; told before any work.
        DataError: data cannot be read.
        BusyError: another run holds the folder.
        FatalError: logs cannot be written or read.
    """
    with exclusive(place.folder), ending_signals():
        for folder in [place.folder, *(place.folder / "scenes").glob("*/")]:
            log.sweep(folder)
        audited = read_audit(audit.spec, place.device)
        _check_methods(audit, audited)
        judges = [one.method.value for one in audit.applied if one.part == "detector"]
        scene = audit_scene(audit.spec, audited, audit.alarm, judges)
        grid = Grid(audit.name, (), audit.applied, audit.alarm)
        stages = tuple(stages_of(grid, scene, place))
        job = Job(scene, place, stages, audit.alarm, threads)
        if retry:
            for stage in stages:
                stage.failure.unlink(missing_ok=True)
        text = resolved_audit(audit)
        (place.folder / "audit.toml").write_text(text, encoding="utf-8")
        write_cells(planned(audit.name, [job]), place.folder)
        outcome = run_job(job)
        if outcome.fatal or outcome.damaged:
            way = "mend it and give the same command again: what is done stays done"
            raise FatalError(outcome.fatal or outcome.damaged, way)
        ends = [path for stage in stages for path in (stage.path, stage.failure)]
        paths = frozenset([place.scene(scene) / "scene.h5", *ends])
        return Done(len(stages), outcome.failed, paths)


# by which flags an audit meets a need
GIVEN = {
    "checkpoints": "give states with learning rates above 0: --checkpoint FILE and --lr RATE, a "
    "constant where a schedule ended at 0",
    "head": "end the model in nn.Linear",
}


def _check_methods(audit: Audit, audited: Audited) -> None:
    """Refuses methods that do not take the data, or need what no audit has."""
    faults = []
    given: list[str] = []
    run = audited.run
    parts = {
        "the training set": run.train,
        "the points": audited.points,
        "the trusted points": audited.trusted,
    }
    for applied in audit.applied:
        value = applied.method.value
        name = f"{applied.part} {applied.method.name}"
        if str(run.train.kind) not in kinds_of(value):
            faults.append(f"{name} takes no data of kind {run.train.kind}")
        if "oracle" in getattr(value, "uses", ()):
            faults.append(f"{name} reads the ground truth of an attack")
        strays, way_in = range_fault(value, parts)
        if strays:
            faults.append(strays)
            given.append(way_in)
        lacking = unmet(run.offers, getattr(value, "needs", ()))
        for need in lacking:
            meaning, _ = NEEDS[need]
            faults.append(f"{name} needs {meaning}, which this model lacks")
            given.append(GIVEN.get(need, ""))
    ways = [way for way in dict.fromkeys(given) if way]
    if faults:
        raise ConfigError(faults, "; ".join([*ways, "or others: poisonbench list"]))
