"""What runs in a worker process: one scene, stage by stage.

A stage that fails costs itself and what needs it, nothing else.
"""

import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field

import torch
from tqdm import tqdm

from experiments.plan.kind import named
from experiments.plan.kinds import kind_named
from experiments.plan.spec import Method
from experiments.plan.stages import Job, Stage
from experiments.scene.kinds.cell import Cell
from experiments.scene.victim import Victim, make_victim
from poisonbench import log
from poisonbench.errors import DivergedError, LogError, LogWriteError, PoisonbenchError
from poisonbench.log import names


@dataclass
class Outcome:
    """What a worker reports of a job; the results themselves are in the files.

    Attributes:
        failed: "cell: reason" of each stage that failed.
        fatal: why no log can be written or no memory is left; every further cell would meet it too.
        damaged: which log of the scene cannot be read.
    """

    failed: list[str] = field(default_factory=list)
    fatal: str = ""
    damaged: str = ""


def record_failure(job: Job, stage: Stage, reason: str, trace: str = "") -> None:
    """Writes the file that stands for a failed stage."""
    config = {"scene": job.scene.config, **stage.config}
    data = {names.REASON: reason[:2000], names.TRACEBACK: trace[-100_000:]}
    log.write(stage.failure, "failure", config=config, data=data)


def run_job(job: Job) -> Outcome:
    """Does what is open of a job.

    Errors of a stage end in its failure file; a log that cannot be written or read ends the job.
    """
    torch.set_num_threads(job.threads)
    outcome = Outcome()
    scene_work = SceneWork(job)
    while job.open:
        stage = job.open[0]
        try:
            scene_work.do(stage)
        except (LogWriteError, MemoryError) as error:
            outcome.fatal = str(error) or "out of memory"
            return outcome
        except LogError as error:
            outcome.damaged = str(error)
            return outcome
        except (
            Exception
        ) as error:  # an attack, an estimator or a defense may raise anything
            reason = told(error)
            record_failure(job, stage, reason, traceback.format_exc())
            outcome.failed.append(f"{job.scene.id}/{stage.path.stem}: {reason}")
    return outcome


class SceneWork:
    """The stages of one scene, which share its victim and the influence matrix made last."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._victim: Victim | None = None
        self._influence: dict[Method, torch.Tensor] = {}

    def do(self, stage: Stage) -> None:
        """Does a stage whose needs are there; making the victim is the stage "scene"."""
        job = self._job
        if self._victim is None:
            self._victim = make_victim(job.scene, job.place)
        what = kind_named(stage.kind).do
        if what:
            do = named(what)
            do(
                Cell(
                    job.scene,
                    job.place,
                    stage,
                    self._victim,
                    self._influence,
                    job.alarm,
                )
            )


def told(error: Exception) -> str:
    """Returns the reason that a failure file and the summary of a run give for an error."""
    if isinstance(error, DivergedError):
        return f"diverged in epoch {error.epoch}"
    if isinstance(error, PoisonbenchError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def start_worker(parent: int, path: list[str]) -> None:
    """Prepares a worker process.

    It leaves Ctrl-C to its parent, ends with it, and finds the same modules.
    """
    sys.path[:] = path
    # tqdm's own lock is a semaphore of the system, which a process that is ended would leave there
    tqdm.set_lock(threading.RLock())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
