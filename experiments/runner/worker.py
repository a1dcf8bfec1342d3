"""What runs in a worker process: one scene, stage by stage.

A stage that fails costs itself and what needs it, nothing else.
"""

import os
import platform
import shutil
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

from experiments.plan.cells import WORKING
from experiments.plan.kind import named
from experiments.plan.kinds import kind_named
from experiments.plan.spec import Method
from experiments.plan.stages import Job, Stage
from experiments.runner.lock import Interrupted
from experiments.scene.audited import victim_of
from experiments.scene.kinds.cell import Cell
from experiments.scene.victim import Victim
from poisonbench import log
from poisonbench.contracts.untouched import Untouched
from poisonbench.device.faults import is_broken
from poisonbench.errors import DivergedError, LogError, LogWriteError, PoisonbenchError
from poisonbench.log import names
from poisonbench.memory import forget_sizes
from poisonbench.seeding import global_state, restore

SPENT = 75  # exit code of a worker process whose accelerator failed
_spent: list[str] = []  # in which scenes of this worker process it did


@dataclass
class Outcome:
    """What a worker reports of a job; the results themselves are in the files.

    Attributes:
        failed: "cell: reason" of each stage that failed.
        fatal: why no log can be written or no memory is left; every further cell would meet it too.
        damaged: which log of the scene cannot be read.
        spent: the accelerator failed, and this process can use it no more: another one must go on.
    """

    failed: list[str] = field(default_factory=list)
    fatal: str = ""
    damaged: str = ""
    spent: bool = False


def record_failure(job: Job, stage: Stage, reason: str, trace: str = "") -> None:
    """Writes the file that stands for a failed stage."""
    config = {"scene": job.scene.config, **stage.config}
    data = {names.REASON: reason[:2000], names.TRACEBACK: trace[-100_000:]}
    log.write(stage.failure, "failure", config=config, data=data)


def work(job: Job) -> Outcome:
    """Does a job in a worker process, which ends before its next one if the accelerator failed."""
    if _spent:
        os._exit(SPENT)
    outcome = run_job(job)
    if outcome.spent:
        _spent.append(job.scene.id)
    return outcome


def run_job(job: Job) -> Outcome:
    """Does what is open of a job.

    Errors of a stage end in its failure file; a log that cannot be written or read ends the job.
    """
    torch.set_num_threads(job.threads)
    outcome = Outcome()
    scene_work = SceneWork(job)
    try:
        _do_all(job, scene_work, outcome)
        if not outcome.spent:
            _clear_runs(job)
    except (LogWriteError, MemoryError) as error:
        outcome.fatal = str(error) or "out of memory"
    except LogError as error:
        outcome.damaged = str(error)
    finally:
        with suppress(OSError):
            working_file(job).unlink(missing_ok=True)
    return outcome


def working_file(job: Job) -> Path:
    """The file that says which stage of a scene is at work, and where."""
    return job.place.scene(job.scene) / WORKING


def mark_work(job: Job, stage: Stage) -> None:
    """Says for `status` which stage is at work; whether it can be said does not matter."""
    with suppress(OSError):
        path = working_file(job)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{stage.path.name}\n{os.getpid()} on {platform.node()}\n")


def _do_all(job: Job, scene_work: "SceneWork", outcome: Outcome) -> None:
    """Does the open stages in order, each once, until the accelerator fails.

    Raises:
        LogWriteError: a log cannot be written, or what was written is gone again.
        LogError: a log cannot be read.
        MemoryError: none is left.
    """
    tried: set[Path] = set()
    while job.open:
        stage = job.open[0]
        if stage.path in tried:
            way = "leave the folder alone while a run works in it"
            raise LogWriteError(stage.path, "was written, and is gone again", way)
        tried.add(stage.path)
        mark_work(job, stage)
        try:
            scene_work.do(stage)
        except (LogError, MemoryError, Interrupted):
            raise
        except BaseException as error:  # a method may raise anything, SystemExit too
            reason = told(error)
            record_failure(job, stage, reason, traceback.format_exc())
            outcome.failed.append(f"{job.scene.id}/{stage.path.stem}: {reason}")
            if is_broken(error):
                outcome.spent = True
                return


def _clear_runs(job: Job) -> None:
    """Removes the training runs that the stages of a scene shared, none of which is open."""
    shutil.rmtree(job.place.runs(job.scene), ignore_errors=True)
    with suppress(OSError):  # not empty: blocks of a stage that failed
        job.place.scratch(job.scene).rmdir()


class SceneWork:
    """The stages of one scene, which share its victim and the influence matrix made last."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._victim: Victim | None = None
        self._influence: dict[Method, torch.Tensor] = {}
        self._untouched: Untouched | None = None

    def do(self, stage: Stage) -> None:
        """Does a stage whose needs are there; making the victim is the stage "scene".

        After one that fails, the state of the process is as before, and the next stage reads
        victim and influence from the files anew: whatever the method did to them is undone.
        """
        forget_sizes()
        state = global_state()
        try:
            self._do(stage)
        except BaseException:
            self._untouched = None
            self._victim = None
            self._influence.clear()
            raise
        finally:
            restore(state)

    def _do(self, stage: Stage) -> None:
        job = self._job
        if self._victim is None:
            self._victim = victim_of(job.scene, job.place)
        what = kind_named(stage.kind).do
        if not what:
            return
        do = named(what)
        cell = Cell(
            scene=job.scene,
            place=job.place,
            stage=stage,
            victim=self._victim,
            kept=self._influence,
            alarm=job.alarm,
            untouched=self._marked(self._victim),
        )
        do(cell)

    def _marked(self, victim: Victim) -> Untouched:
        """The marks of the victim; every stage checks them before it ends."""
        if self._untouched is None:
            self._untouched = Untouched.now({"victim": victim})
        else:
            self._untouched = self._untouched.renewed()
        return self._untouched


def told(error: BaseException) -> str:
    """Returns the reason that a failure file and the summary of a run give for an error."""
    if isinstance(error, DivergedError):
        return f"diverged in epoch {error.epoch}"
    name = type(error).__name__
    try:
        text = str(error)
    except BaseException:  # the text of a method's own error is its own code
        return f"{name}, whose text cannot be made"
    if is_broken(error):
        first = text.partition("\n")[0]
        return f"the accelerator failed, and its process ended: {name}: {first}"
    if isinstance(error, PoisonbenchError):
        return text
    return f"{name}: {text}" if text else name
