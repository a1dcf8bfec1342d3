"""Running a grid: what is missing is done, in worker processes that may die, and the same command goes on where it stopped."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import pebble
from tqdm import tqdm

from experiments.plan.cells import planned, write_cells
from experiments.plan.gridfile import resolved
from experiments.plan.paths import Place
from experiments.plan.spec import Grid
from experiments.plan.stages import Job, jobs
from experiments.runner.lock import FatalError, ending_signals, exclusive
from experiments.runner.worker import Outcome, record_failure, run_job, start_worker
from experiments.scene.victim import check_scene
from poisonbench import log


@dataclass(frozen=True)
class Options:
    """How to run; no part of any configuration.

    Attributes:
        workers: processes at a time; 0 runs in this process.
        threads: torch threads of each. Results are bit-equal for equal threads, whatever the workers.
        timeout: seconds that a scene may take, None for ever.
        retry_failed: do failed cells again.
    """

    workers: int = 1
    threads: int = 1
    timeout: float | None = None
    retry_failed: bool = False


@dataclass
class Summary:
    """What a run did.

    Attributes:
        cells: stages of the grid.
        found: of these, already there at the start.
        done: newly done.
        failed: "cell: reason" of each that failed in this run.
        damaged: logs of earlier runs that cannot be read; the other cells of their scenes wait.
    """

    cells: int
    found: int
    done: int = 0
    failed: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    seconds: float = 0.0


def run(grid: Grid, place: Place, options: Options) -> Summary:
    """Does every stage of the grid that has no file yet.

    Raises:
        BusyError: another run holds the folder.
        DataError: a data set is not there; told before anything is trained.
        FatalError: logs cannot be written or read.
        Interrupted: SIGINT or SIGTERM; what is done stays done.
    """
    start = time.perf_counter()
    with exclusive(place.folder), ending_signals():
        for folder in [place.folder, *sorted((place.folder / "scenes").glob("*/"))]:
            log.sweep(folder)
        work = jobs(grid, place, options.threads)
        if options.retry_failed:
            for stage in (s for job in work for s in job.stages):
                stage.failure.unlink(missing_ok=True)
        everything = [s for job in work for s in job.stages]
        summary = Summary(len(everything), sum(s.path.exists() for s in everything))
        todo = [job for job in work if job.open]
        for scene in {
            (job.scene.dataset, job.scene.recipe, job.scene.transfer): job.scene for job in todo
        }.values():
            check_scene(scene, place)
        (place.folder / "grid.toml").write_text(resolved(grid), encoding="utf-8")
        write_cells(planned(grid.name, work), place.folder)
        with tqdm(
            total=len(everything), initial=summary.found, unit="cell", disable=None, file=sys.stderr
        ) as bar:

            def progress() -> None:
                bar.n = sum(s.ended for s in everything)
                bar.refresh()

            outcomes = (
                _in_process(todo) if options.workers == 0 else _in_pool(todo, options, progress)
            )
            for outcome in outcomes:
                progress()
                summary.failed += outcome.failed
                summary.damaged += [outcome.damaged] if outcome.damaged else []
                if outcome.fatal:
                    raise FatalError(
                        outcome.fatal,
                        "mend it and run the same command again: what is done stays done",
                    )
        summary.done = sum(s.path.exists() for s in everything) - summary.found
    summary.seconds = time.perf_counter() - start
    return summary


def _in_process(todo: list[Job]) -> Iterator[Outcome]:
    for job in todo:
        yield run_job(job)


def _in_pool(todo: list[Job], options: Options, progress: Callable[[], None]) -> Iterator[Outcome]:
    """Runs jobs in worker processes. A worker that dies costs its stage one more try, then that stage alone."""
    pool = pebble.ProcessPool(
        max_workers=min(options.workers, max(1, len(todo))),
        context=get_context("spawn"),
        initializer=start_worker,
        initargs=(os.getpid(), list(sys.path)),
    )
    tries: dict[Path, int] = {}

    def submit(job: Job) -> None:
        pending[pool.schedule(run_job, args=[job], timeout=options.timeout)] = job

    pending: dict[Future[Outcome], Job] = {}
    try:
        for job in todo:
            submit(job)
        while pending:
            ready, _ = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
            progress()
            for future in ready:
                job = pending.pop(future)
                try:
                    yield future.result()
                except (pebble.ProcessExpired, TimeoutError) as error:
                    outcome = _after_death(job, error, tries, options)
                    if job.open:
                        submit(job)
                    yield outcome
        pool.close()
        pool.join()
    finally:
        if pool.active:
            pool.stop()
            pool.join(timeout=5)


def _after_death(
    job: Job, error: BaseException, tries: dict[Path, int], options: Options
) -> Outcome:
    """Blames the first open stage: a second death in it, or a timeout, is its failure."""
    if not job.open:
        return Outcome()
    stage = job.open[0]
    tries[stage.path] = tries.get(stage.path, 0) + 1
    if isinstance(error, TimeoutError):
        reason = f"took longer than the {options.timeout:g} s allowed"
    elif tries[stage.path] < 2:
        return Outcome()
    else:
        reason = f"its process died twice (exit code {getattr(error, 'exitcode', 'unknown')})"
    record_failure(job, stage, reason)
    return Outcome([f"{job.scene.id}/{stage.path.stem}: {reason}"])
