"""Quick tests in forks of a process that has the large libraries loaded: seconds less for each.

Nothing of the project itself may be loaded here: a fork loads the tree with the fault in it.
"""

import importlib
import os
import shlex
import signal
import sys
import time
from pathlib import Path

PRELOADED = (
    "torch",
    "numpy",
    "h5py",
    "scipy.stats",
    "sklearn.metrics",
    "pytest",
)
LIMIT = 600.0  # seconds, for one run of tests
PASSED = 0
FAILED = 1
HANGING = -1


def preload() -> None:
    """Loads what every run of tests needs."""
    for name in PRELOADED:
        importlib.import_module(name)


def run_tests(tests: str, tree: Path) -> int:
    """Runs quick tests in a tree; returns the exit code of pytest, `HANGING` past the limit."""
    child = os.fork()
    if child == 0:
        _run_in_child(tests, tree)
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return HANGING


def _run_in_child(tests: str, tree: Path) -> None:
    code = FAILED
    try:
        os.chdir(tree)
        sys.path.insert(0, str(tree))
        os.environ["PYTHONPATH"] = str(tree)
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        pytest = importlib.import_module("pytest")
        options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow"]
        code = int(pytest.main([*options, *shlex.split(tests)]))
    finally:
        os._exit(code)
