"""What runs in a worker process: one scene, stage by stage; a stage that fails costs itself and what needs it, nothing else."""

import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from experiments.scene import Victim, make_victim
from experiments.spec import Grid, Method, Place, Scene
from experiments.stages import detect, estimate, read_influence
from poisonbench import log
from poisonbench.errors import DivergedError, LogError, LogWriteError, PoisonbenchError


@dataclass(frozen=True)
class Stage:
    """A cell of the grid.

    Attributes:
        path: the file in which it ends.
        estimator: None for the scene itself and for detectors without influence.
        detector: None for the scene itself and for influence.
    """

    path: Path
    estimator: Method | None = None
    detector: Method | None = None

    @property
    def failure(self) -> Path:
        """The file that stands for it when it failed."""
        return self.path.with_name(f"failed-{self.path.name}")

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to do: done or failed."""
        return self.path.exists() or self.failure.exists()


@dataclass(frozen=True)
class Job:
    """A scene with all of its stages."""

    scene: Scene
    place: Place
    stages: tuple[Stage, ...]
    alarm: float
    threads: int

    @property
    def open(self) -> tuple[Stage, ...]:
        """The stages still to do; those that need a failed one are not among them."""
        if self.stages[0].failure.exists():
            return ()
        failed = {s.estimator for s in self.stages if s.estimator and not s.detector and s.failure.exists()}
        return tuple(s for s in self.stages if not s.ended and not (s.detector and s.estimator in failed))


def jobs(grid: Grid, place: Place, threads: int) -> list[Job]:
    """Returns a job a scene, its stages in the order in which they can be done."""
    out = []
    for scene in grid.scenes:
        stages = [Stage(place.scene(scene) / "scene.h5")]
        plain = [d for d in grid.detectors if "influence" not in d.value.uses]
        stages += [Stage(place.detect(scene, None, d, grid.alarm), None, d) for d in plain]
        for estimator in grid.estimators:
            stages.append(Stage(place.influence(scene, estimator), estimator))
            judges = [d for d in grid.detectors if d not in plain]
            stages += [Stage(place.detect(scene, estimator, d, grid.alarm), estimator, d) for d in judges]
        out.append(Job(scene, place, tuple(stages), grid.alarm, threads))
    return out


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
    config: dict[str, Any] = {"scene": job.scene.config}
    for name, method in (("estimator", stage.estimator), ("detector", stage.detector)):
        if method is not None:
            config[name] = method.config
    log.write(
        stage.failure, "failure", config=config, data={"reason": reason[:2000], "traceback": trace[-100_000:]}, attributes={}
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
            _do(job, stage, victim, influence)
        except (LogWriteError, MemoryError) as error:
            outcome.fatal = str(error) or "out of memory"
            return outcome
        except LogError as error:
            outcome.damaged = str(error)
            return outcome
        except Exception as error:  # an attack, estimator or detector may raise anything
            reason = f"{type(error).__name__}: {error}"
            if isinstance(error, DivergedError):
                reason = f"diverged in epoch {error.epoch}"
            elif isinstance(error, PoisonbenchError):
                reason = str(error)
            record_failure(job, stage, reason, traceback.format_exc())
            outcome.failed.append(f"{job.scene.id}/{stage.path.stem}: {reason}")
    return outcome


def _do(job: Job, stage: Stage, victim: Victim, influence: dict[Method, torch.Tensor]) -> None:
    if stage.path.name == "scene.h5":
        return  # making the victim was the stage
    if stage.detector is None:
        assert stage.estimator is not None
        influence.clear()  # one matrix at a time
        influence[stage.estimator] = estimate(job.scene, stage.estimator, victim, job.place)
        return
    matrix = None
    if stage.estimator is not None:
        if stage.estimator not in influence:
            influence.clear()
            influence[stage.estimator] = read_influence(job.scene, stage.estimator, job.place)
        matrix = influence[stage.estimator]
    detect(job.scene, stage.estimator, stage.detector, victim, matrix, job.place, job.alarm)


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
