"""Worker processes that may die: at work, idle, or while they start.

Each death costs the stage that was at work one more try, then that stage alone.
"""

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import get_context

import pebble

from experiments.plan.stages import Job
from experiments.runner.blame import Blame, took_too_long
from experiments.runner.gpus import Spread
from experiments.runner.lock import FatalError
from experiments.runner.options import Options as Options
from experiments.runner.starting import start_worker
from experiments.runner.worker import SPENT, Outcome, work

RENEWALS = 5  # pools that may break one after another with nothing done in between
PATIENCE = 120.0  # seconds without a job at work after which the pool has lost its jobs


class Workers:
    """The worker processes of a run, and the jobs that are not done."""

    def __init__(self, open_jobs: list[Job], options: Options) -> None:
        self._jobs = open_jobs
        self._options = options
        self._spread = Spread.over(options.gpus, options.workers)
        self._blame = Blame()
        self._pending: dict[Future[Outcome], Job] = {}
        self._waiting = list(open_jobs)
        self._broken = 0
        self._moved = time.monotonic()
        self._pool = self._new_pool()

    def _new_pool(self) -> pebble.ProcessPool:
        return pebble.ProcessPool(
            max_workers=min(self._options.workers, max(1, len(self._jobs))),
            context=get_context("spawn"),
            initializer=start_worker,
            initargs=(os.getpid(), list(sys.path), self._spread),
        )

    def outcomes(self) -> Iterator[Outcome]:
        """Yields the outcome of every job, and an empty one whenever half a second has passed.

        Raises:
            FatalError: workers die again and again before they do anything.
        """
        try:
            while self._pending or self._waiting:
                self._submit_waiting()
                ready, _ = wait(self._pending, timeout=0.5, return_when=FIRST_COMPLETED)
                yield Outcome()
                for future in ready:
                    yield self._outcome_of(future)
                if self._is_lost():
                    self._renew()
            self._pool.close()
            self._pool.join()
        finally:
            self._stop()
            self._spread.end()

    def _submit_waiting(self) -> None:
        """Gives the pool the jobs that it has not; a pool that is broken is renewed first."""
        while self._waiting:
            job = self._waiting[0]
            try:
                future = self._pool.schedule(
                    work, args=[job], timeout=self._options.timeout
                )
            except RuntimeError:  # what pebble raises where the pool broke
                self._renew()
                continue
            self._pending[future] = job
            self._waiting.pop(0)

    def _is_lost(self) -> bool:
        """Whether jobs are pending that no worker has, or ever will have.

        A worker that dies between taking a job and telling so takes the job with it.
        """
        if not self._pending:
            return False
        if not self._pool.active:
            return True
        if any(future.running() for future in self._pending):
            self._moved = time.monotonic()
        return time.monotonic() - self._moved > PATIENCE

    def _renew(self) -> None:
        """Starts a new pool, with all jobs that the old one had.

        Raises:
            FatalError: it is the last of a number of pools that did nothing.
        """
        self._broken += 1
        if self._broken > RENEWALS:
            raise FatalError(
                f"{self._broken} times all worker processes died before they did anything",
                "look for what ends them (memory, limits), or run without: --workers 0",
            )
        self._stop()
        self._waiting = [*self._pending.values(), *self._waiting]
        self._pending.clear()
        self._moved = time.monotonic()
        self._pool = self._new_pool()

    def _stop(self) -> None:
        self._pool.stop()
        with suppress(
            RuntimeError, TimeoutError
        ):  # one that broke may not end in order
            self._pool.join(timeout=5)

    def _outcome_of(self, future: Future[Outcome]) -> Outcome:
        job = self._pending.pop(future)
        self._moved = time.monotonic()
        try:
            outcome = future.result()
            if outcome.spent:
                outcome = self._again(job, outcome)
        except (BrokenProcessPool, CancelledError):
            self._waiting.append(job)
            return Outcome()
        except TimeoutError:
            outcome = self._again(job, took_too_long(job, self._options.timeout))
        except pebble.ProcessExpired as error:
            code = getattr(error, "exitcode", "unknown")
            outcome = self._again(job, self._after_death(job, code))
        self._broken = 0
        return outcome

    def _after_death(self, job: Job, code: int | str) -> Outcome:
        """Whom the death of a process costs: nobody where its accelerator had failed before."""
        if code == SPENT:
            return Outcome()
        return self._blame.died(job, f"exit code {code}")

    def _again(self, job: Job, outcome: Outcome) -> Outcome:
        """Lets a job whose process ended wait for another one, if something is left to do."""
        if job.open and not outcome.fatal:
            self._waiting.append(job)
        return outcome
