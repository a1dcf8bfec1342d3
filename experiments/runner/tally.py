"""How many scenes and cells of a run have ended, told while it works."""

import sys
import time
from types import TracebackType

from tqdm import tqdm

from experiments.plan.stages import Job

PAUSE = 0.5  # seconds between two looks at the files


class Tally:
    """A progress bar, or lines where there is no terminal.

    A look at the files costs the more the more cells are open, so it is taken now and then alone,
    and a scene that has ended is not looked at again.
    """

    def __init__(self, jobs: list[Job], ended: int, total: int) -> None:
        """Takes the jobs that are to be done, the cells that have ended outside them, and all."""
        self._scenes = len(jobs)
        self._open = list(jobs)
        self._ended = ended
        self._cells = total
        self._told = 0
        self._start = time.perf_counter()
        self._next = self._start
        self._bar = tqdm(
            total=total, initial=ended, unit="cell", disable=None, file=sys.stderr
        )

    def __enter__(self) -> "Tally":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._look()
        self._bar.close()

    def look(self) -> None:
        """Tells how far the run is, if the last look is some time ago."""
        if time.perf_counter() >= self._next:
            self._look()
            self._next = time.perf_counter() + PAUSE

    def _look(self) -> None:
        at_work = 0
        for job in list(self._open):
            ended = sum(stage.ended for stage in job.stages)
            if job.open:
                at_work += ended
            else:
                self._open.remove(job)
                self._ended += ended
        self._bar.n = self._ended + at_work
        self._bar.refresh()
        self._tell_scenes()

    def _tell_scenes(self) -> None:
        """Prints a line where there is no bar and scenes have ended since the last one."""
        scenes = self._scenes - len(self._open)
        if not self._bar.disable or scenes == self._told:
            return
        self._told = scenes
        told = (
            f"{scenes} of {self._scenes} scenes, {self._bar.n} of {self._cells} cells"
        )
        seconds = time.perf_counter() - self._start
        print(f"{told}, {seconds:.0f} s", file=sys.stderr)  # noqa: T201
