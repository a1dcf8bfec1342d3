"""A run of a grid as a process of the system, its workers, and what each of them does (Linux)."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from experiments.plan.cells import WORKING

SPAWNED = b"spawn_main"  # in the command line of a worker


@dataclass
class Process:
    """A command `poisonbench run`.

    Attributes:
        folder: of the run.
        running: the process.
        worked: workers that were seen at work.
    """

    folder: Path
    running: subprocess.Popen[bytes]
    worked: set[int] = field(default_factory=set)

    @classmethod
    def start(cls, grid: Path, folder: Path, *more: str) -> "Process":
        """Starts the command; what it says is appended to a file beside the grid."""
        command = [sys.executable, "-m", "experiments.cli", "run", str(grid)]
        command += ["-o", str(folder), *more]
        with (grid.parent / "said.txt").open("ab") as said:
            running = subprocess.Popen(  # noqa: S603 - our own command
                command, stdout=said, stderr=said
            )
        return cls(folder, running)

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self.running.poll() is None

    def workers(self) -> set[int]:
        """Its worker processes that live."""
        found: set[int] = set()
        for told in Path(f"/proc/{self.running.pid}/task").glob("*/children"):
            with suppress(OSError):
                children = (int(number) for number in told.read_text().split())
                found |= {child for child in children if _is_worker(child)}
        return found

    def at_work(self) -> set[int]:
        """The workers at work, as the files say that tell of it."""
        found = set()
        for path in self.folder.glob(f"scenes/*/{WORKING}"):
            try:
                told = path.read_text().partition("\n")[2]
            except OSError:
                continue
            number = told.split(" ")[0]
            if number.isdecimal():
                found.add(int(number))
        living = found & self.workers()
        self.worked |= living
        return living

    def find(self, state: str) -> int | None:
        """A worker that is "at work", "idle" (it was at work) or "starting" (it never was)."""
        at_work = self.at_work()
        others = self.workers() - at_work
        if state == "at work":
            fit = at_work
        elif state == "idle":
            fit = others & self.worked
        else:
            fit = others - self.worked
        return min(fit, default=None)


def _is_worker(process: int) -> bool:
    try:
        return SPAWNED in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


def kill(process: int) -> bool:
    """Ends a process with SIGKILL; returns whether it was there."""
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def seconds_until_gone(processes: set[int], most: float) -> float:
    """Waits until processes have ended; returns the seconds that took, infinity for `most`."""
    start = time.monotonic()
    while time.monotonic() - start < most:
        if not any(Path(f"/proc/{process}").exists() for process in processes):
            return time.monotonic() - start
        time.sleep(0.05)
    return float("inf")
