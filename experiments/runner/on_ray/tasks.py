"""Scenes as tasks of a Ray cluster, whose nodes share the folder of the logs.

A task that dies, or whose node does, costs the stage that was at work one more try, then that stage
alone, as in the pool of this machine.
"""

import pickle
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from experiments.plan.cells import FILE
from experiments.plan.stages import Job
from experiments.runner.blame import Blame, took_too_long
from experiments.runner.lock import FatalError
from experiments.runner.on_ray.cluster import connected, imported_ray
from experiments.runner.on_ray.nodes import Node, check_request, fits, nodes_of
from experiments.runner.options import Options, RayOptions
from experiments.runner.worker import Outcome, run_job
from poisonbench.data import default_root

PATIENCE = 120.0  # seconds for which no living node may be able to take a task


def work_on(packed: bytes, path: list[str]) -> Iterator[str | Outcome]:
    """What a task does: it says that it has begun, and then what became of its job.

    Args:
        packed: the job, which is unpacked when its modules can be found.
        path: where the run finds its modules.
    """
    host = platform.node()
    yield host
    sys.path += [place for place in path if place not in sys.path]
    job: Job = pickle.loads(packed)  # noqa: S301 - of the run itself
    if (job.place.folder / FILE).exists():
        yield run_job(job)
        return
    told = f"{job.place.folder} is not the folder of the run on {host}"
    yield Outcome(fatal=f"{told}: all nodes of the cluster must share it")


class RayTasks:
    """The tasks of a run, and the jobs that are not done.

    Raises:
        ConfigError: Ray is absent, its cluster cannot be reached, or no node has what a task asks
            for.
    """

    def __init__(self, open_jobs: list[Job], options: Options, how: RayOptions) -> None:
        self._ray = imported_ray()
        self._options = options
        self._how = how
        self._blame = Blame()
        self._waiting = [_with_root(job) for job in open_jobs]
        self._pending: dict[Any, Job] = {}
        self._begun: dict[Any, float] = {}
        self._late: set[Any] = set()
        self._fitted = time.monotonic()

    def outcomes(self) -> Iterator[Outcome]:
        """Yields the outcome of every job, and empty ones in between.

        Raises:
            FatalError: a task cannot be run, or all nodes that could take one are gone.
        """
        with connected(self._ray, self._how):
            check_request(self._how, self._nodes())
            try:
                while self._pending or self._waiting:
                    yield from self._step()
            finally:
                self._stop()

    def _step(self) -> Iterator[Outcome]:
        """Submits what there is room for, hears of one task, and ends those that are late."""
        self._submit()
        ready, _ = self._ray.wait(list(self._pending), timeout=0.5)
        for task in ready:
            yield self._hear(task)
        if not ready:
            yield Outcome()
            self._check_nodes()
        self._end_late()

    def _submit(self) -> None:
        room = self._options.workers or len(self._waiting) + len(self._pending)
        while self._waiting and len(self._pending) < room:
            job = self._waiting.pop(0)
            remote = self._ray.remote(
                num_cpus=self._how.cpus,
                num_gpus=self._how.gpus,
                max_retries=0,
                num_returns="streaming",
            )(work_on)
            task = remote.remote(pickle.dumps(job), list(sys.path))
            self._pending[task] = job

    def _hear(self, task: Any) -> Outcome:
        """Returns what a task told: nothing where it only began."""
        errors = self._ray.exceptions
        try:
            told = self._ray.get(next(task))
        except (errors.RayTaskError, errors.RuntimeEnvSetupError) as error:
            way = "install the same packages on every node of the cluster"
            raise FatalError(f"a task cannot be run: {error}", way) from error
        except errors.RayError as error:
            return self._after_death(task, error)
        if isinstance(told, Outcome):
            job = self._forget(task)
            if told.spent and job.open and not told.fatal:
                self._waiting.append(job)
            return told
        self._begun[task] = time.monotonic()
        return Outcome()

    def _after_death(self, task: Any, error: Exception) -> Outcome:
        late = task in self._late
        job = self._forget(task)
        if late:
            outcome = took_too_long(job, self._options.timeout)
        else:
            outcome = self._blame.died(job, type(error).__name__)
        if job.open and not outcome.fatal:
            self._waiting.append(job)
        return outcome

    def _forget(self, task: Any) -> Job:
        self._begun.pop(task, None)
        self._late.discard(task)
        return self._pending.pop(task)

    def _end_late(self) -> None:
        """Ends the tasks that are at work for longer than allowed; they are heard of then."""
        if self._options.timeout is None:
            return
        latest = time.monotonic() - self._options.timeout
        for task, begun in self._begun.items():
            if begun < latest and task not in self._late:
                self._late.add(task)
                self._ray.cancel(task, force=True)

    def _nodes(self) -> list[Node]:
        return nodes_of(self._ray.nodes())

    def _check_nodes(self) -> None:
        """Raises FatalError if no node is there any more, for long, that could take a task."""
        if fits(self._how, self._nodes()):
            self._fitted = time.monotonic()
        elif time.monotonic() - self._fitted > PATIENCE:
            told = f"for {PATIENCE:.0f} s no node of the cluster could take a task"
            raise FatalError(told, "look after the cluster, and run the same command")

    def _stop(self) -> None:
        for task in self._pending:
            with suppress(Exception):  # the cluster may be gone
                self._ray.cancel(task, force=True)


def _with_root(job: Job) -> Job:
    """The job with the folder of data sets as this process finds it, whatever a node would."""
    root = (job.place.root or default_root()).resolve()
    return replace(job, place=replace(job.place, root=root))
