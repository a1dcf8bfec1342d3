"""Running a grid: what is missing is done, in worker processes that may die.

The same command goes on where it stopped.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from experiments.plan.cells import planned, write_cells
from experiments.plan.gridfile import resolved
from experiments.plan.paths import Place
from experiments.plan.spec import Grid, Scene
from experiments.plan.stages import Job, Stage, jobs, with_data_digests
from experiments.runner.existing import existing_cells
from experiments.runner.lock import FatalError, ending_signals, exclusive
from experiments.runner.older import older_cells
from experiments.runner.on_ray.tasks import RayTasks
from experiments.runner.options import Options as Options
from experiments.runner.pool import Workers
from experiments.runner.tally import Tally
from experiments.runner.worker import Outcome, run_job
from experiments.scene.victim import check_scene
from poisonbench import log


@dataclass
class Summary:
    """What a run did.

    Attributes:
        cells: stages of the grid, or of the shard of it.
        found: of these, already there at the start.
        done: newly done.
        failed: "cell: reason" of each that failed in this run.
        damaged: logs of earlier runs that cannot be read; the other cells of their scenes wait.
        older: a line for each name of the grid of which cells of older code lie in the folder, and
            for other versions that made some of the cells.
        seconds: wall time.
    """

    cells: int
    found: int
    done: int = 0
    failed: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    older: list[str] = field(default_factory=list)
    seconds: float = 0.0


# what is told, from time to time, of the files of all stages that are done
Watch = Callable[[Sequence[Path]], None]


def run(
    grid: Grid, place: Place, options: Options, watch: Watch | None = None
) -> Summary:
    """Does every stage of the grid that has no file yet.

    Args:
        grid: what there is to do.
        place: where.
        options: how.
        watch: is called with the files of the stages that are done.

    Raises:
        BusyError: another run holds the folder.
        DataError: a data set is not there; told before anything is trained.
        FatalError: logs cannot be written or read.
        Interrupted: SIGINT or SIGTERM; what is done stays done.
    """
    start = time.perf_counter()
    place = replace(place, folder=place.folder.resolve())
    with exclusive(place.folder, options.shard), ending_signals():
        _sweep(place)
        grid = with_data_digests(grid, place)
        all_jobs = jobs(grid, place, options.threads)
        shard = options.shard
        work = all_jobs[shard.number - 1 :: shard.total]
        stages = [stage for job in work for stage in job.stages]
        if options.retry_failed:
            for stage in stages:
                stage.failure.unlink(missing_ok=True)
        found = _count_done(stages)
        cells = planned(grid.name, all_jobs)
        there = existing_cells(cells, place.folder)
        older = [*there.others, *older_cells(cells, place.folder)]
        damaged = [str(error) for error in there.damaged]
        summary = Summary(len(stages), found, older=older, damaged=damaged)
        open_jobs = [job for job in work if job.open]
        _check_scenes(open_jobs)
        log.write_text(place.folder / "grid.toml", resolved(grid))
        write_cells(cells, place.folder)
        _do(open_jobs, stages, options, summary, watch)
        summary.done = _count_done(stages) - found
    summary.seconds = time.perf_counter() - start
    return summary


def _sweep(place: Place) -> None:
    """Removes what killed runs left half-written."""
    for folder in [place.folder, *sorted((place.folder / "scenes").glob("*/"))]:
        log.sweep(folder)


def _done(stages: list[Stage]) -> list[Path]:
    return [stage.path for stage in stages if stage.path.exists()]


def _count_done(stages: list[Stage]) -> int:
    return len(_done(stages))


def _check_scenes(open_jobs: list[Job]) -> None:
    """Finds what would stop a scene before anything is trained; once for equal data and models.

    On the CPU: the process that leads the workers holds no memory of a GPU.
    """
    different = {}
    for job in open_jobs:
        scene = job.scene
        assert isinstance(scene, Scene)
        different[scene.dataset, scene.recipe, scene.transfer] = (scene, job.place)
    for scene, place in different.values():
        check_scene(scene, replace(place, device="cpu"))


def _do(
    open_jobs: list[Job],
    stages: list[Stage],
    options: Options,
    summary: Summary,
    watch: Watch | None,
) -> None:
    """Does the jobs and writes into the summary what failed, with a progress bar."""
    inside = {stage.path for job in open_jobs for stage in job.stages}
    outside = sum(stage.ended for stage in stages if stage.path not in inside)
    with Tally(open_jobs, outside, len(stages)) as tally:
        outcomes = _outcomes(open_jobs, options)
        for outcome in _watched(outcomes, stages, watch):
            tally.look()
            summary.failed += outcome.failed
            if outcome.damaged and outcome.damaged not in summary.damaged:
                summary.damaged.append(outcome.damaged)
            if outcome.fatal:
                way = "mend it and run the same command again: what is done stays done"
                raise FatalError(outcome.fatal, way)


def _watched(
    outcomes: Iterator[Outcome], stages: list[Stage], watch: Watch | None
) -> Iterator[Outcome]:
    """Passes outcomes on; what watches is told before each, and at last, what is done."""
    for outcome in outcomes:
        if watch is not None:
            watch(_done(stages))
        yield outcome
    if watch is not None:
        watch(_done(stages))


def _outcomes(open_jobs: list[Job], options: Options) -> Iterator[Outcome]:
    """Yields an outcome whenever a job ends; from processes also empty ones in between."""
    if options.ray is not None:
        yield from RayTasks(open_jobs, options, options.ray).outcomes()
        return
    if options.workers > 0:
        yield from Workers(open_jobs, options).outcomes()
        return
    for job in open_jobs:
        outcome = run_job(job)
        if outcome.spent:
            outcome.fatal = "the accelerator failed, see the last failure"
        yield outcome
