"""What runs in a worker process: one scene, stage by stage; a stage that fails costs itself and what needs it, nothing else."""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from experiments.plan.spec import Method
from experiments.plan.stages import Job, Stage
from experiments.scene.kinds.cell import Cell
from experiments.scene.kinds.certify import certify
from experiments.scene.kinds.judge import detect, estimate, sift
from experiments.scene.kinds.mitigate import mitigate
from experiments.scene.victim import Victim, make_victim
from poisonbench import log
from poisonbench.errors import DivergedError, LogError, LogWriteError, PoisonbenchError

DO: Mapping[str, Callable[[Cell], None]] = {
    "scene": lambda _: None,  # making the victim is the stage
    "influence": estimate,
    "detect": detect,
    "filter": sift,
    "certify": certify,
    "mitigate": mitigate,
}


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
    log.write(
        stage.failure,
        "failure",
        config=config,
        data={"reason": reason[:2000], "traceback": trace[-100_000:]},
        attributes={},
    )


def run_job(job: Job) -> Outcome:
    """Does what is open of a job. Errors of a stage end in its failure file; a log that cannot be written ends the run."""
    torch.set_num_threads(job.threads)
    outcome = Outcome()
    victim: Victim | None = None
    influence: dict[Method, torch.Tensor] = {}
    while job.open:
        stage = job.open[0]
        try:
            victim = victim or make_victim(job.scene, job.place)
            DO[stage.kind](Cell(job.scene, job.place, stage, victim, influence, job.alarm))
        except (LogWriteError, MemoryError) as error:
            outcome.fatal = str(error) or "out of memory"
            return outcome
        except LogError as error:
            outcome.damaged = str(error)
            return outcome
        except Exception as error:  # an attack, an estimator or a defense may raise anything
            reason = f"{type(error).__name__}: {error}"
            if isinstance(error, DivergedError):
                reason = f"diverged in epoch {error.epoch}"
            elif isinstance(error, PoisonbenchError):
                reason = str(error)
            record_failure(job, stage, reason, traceback.format_exc())
            outcome.failed.append(f"{job.scene.id}/{stage.path.stem}: {reason}")
    return outcome


def start_worker(parent: int, path: list[str]) -> None:
    """Prepares a worker process: it leaves Ctrl-C to its parent, ends with it, and finds the same modules."""
    sys.path[:] = path
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
