"""The tests marked `gpu`, as a part of the check."""

import importlib.util
import os
import time
from pathlib import Path
from typing import Any

from experiments.gpu.record import Found, left
from experiments.gpu.setting import Setting

ROOT = Path(__file__).parents[2]
MESSAGE = 1500  # characters of a failure, kept
ENDING = 5.0  # seconds in which the processes of the tests end
SHOWN = 10  # of the slowest


class Watch:
    """A plugin of pytest: keeps what every test gave, and stops when the time is over.

    Attributes:
        until: of `time.monotonic`.
        found: filled as the tests end.
    """

    def __init__(self, until: float, found: Found) -> None:
        self.until = until
        self.found = found
        self.seconds: dict[str, float] = {}
        self.failures: dict[str, str] = {}
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}
        found["counts"] = self.counts
        found["failures"] = self.failures
        self.session: Any = None

    def pytest_sessionstart(self, session: Any) -> None:
        """Keeps the session, to stop it."""
        self.session = session

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Counts a test once: by its call, or by the stage at which it ended earlier."""
        name = report.nodeid
        took = self.seconds.get(name, 0.0)
        self.seconds[name] = took + report.duration
        if report.when == "call" or report.outcome != "passed":
            self.counts[report.outcome] += 1
        if report.outcome == "failed":
            self.failures[name] = report.longreprtext[-MESSAGE:]
        slowest = sorted(self.seconds, key=lambda test: -self.seconds[test])
        self.found["slowest, s"] = {
            test: round(self.seconds[test], 1) for test in slowest[:SHOWN]
        }
        if time.monotonic() > self.until:
            self.session.shouldstop = "the time is over"
            self.found["failed"] = "the time is over"


def suite(_: Setting, found: Found) -> None:
    """Runs the tests marked `gpu` of tests/test_gpu*.py."""
    import pytest

    processes = max(1, 3 * (os.cpu_count() or 1) // 4)
    files = [str(path) for path in sorted((ROOT / "tests").glob("test_gpu*.py"))]
    watch = Watch(time.monotonic() + left() - ENDING, found)
    how = ["-q", "-p", "no:cacheprovider", "-m", "gpu", "--tb=short"]
    how += ["-p", "no:benchmark"]  # it warns where tests run side by side
    if importlib.util.find_spec("xdist"):  # half of a test is done on the CPU
        how += ["-n", str(processes)]
    arguments = [*how, f"--rootdir={ROOT}", *files]
    found["exit code"] = int(pytest.main(arguments, plugins=[watch]))
    if not left():
        found["failed"] = "the time is over"
