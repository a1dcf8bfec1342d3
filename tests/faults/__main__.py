"""Plants every fault of the table in a copy of the tree and runs the tests beside it.

Run by `python -m tests.faults [WORD]`. A fault is killed when its tests fail. First the tests run
on the tree as it is: they must pass. Exit code 1 where a fault survives that is not declared
equivalent. Takes about half an hour on two cores; not part of the test suite.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

from tests.faults.fault import Fault, Outcome
from tests.faults.table import FAULTS

ROOT = Path(__file__).parent.parent.parent
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "__pycache__", ".*_cache", "results", "build"
)
PASSED = 0
FAILED = 1


def copy_tree(folder: Path) -> Path:
    """Copies the tree without what the tests do not need; returns the copy's root."""
    copy = folder / "tree"
    shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
    return copy


@contextmanager
def planted(fault: Fault, tree: Path) -> Iterator[None]:
    """The fault stands in the file while this lasts.

    Raises:
        ValueError: the text to replace does not occur exactly once.
    """
    path = tree / fault.file
    whole = path.read_text(encoding="utf-8")
    found = whole.count(fault.old)
    if found != 1:
        raise ValueError(
            f"the text of a fault occurs {found} times, not once: {fault.title}"
        )
    path.write_text(whole.replace(fault.old, fault.new), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(whole, encoding="utf-8")


def run_tests(tests: str, tree: Path) -> tuple[int, str]:
    """Runs quick tests in a tree; returns the exit code of pytest and its last line."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    command += ["-m", "not slow", *shlex.split(tests)]
    environment = {
        **os.environ,
        "PYTHONPATH": str(tree),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, check=False
    )
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]]
    return done.returncode, lines[-1]


def judge(fault: Fault, tree: Path) -> Outcome:
    """Plants the fault and runs its tests."""
    start = time.monotonic()
    with planted(fault, tree):
        code, said = run_tests(fault.tests, tree)
    return Outcome(fault, code == FAILED, time.monotonic() - start, said)


def judge_all(faults: list[Fault], workers: int) -> list[Outcome]:
    """Judges the faults in parallel, each worker in a copy of its own."""
    with tempfile.TemporaryDirectory() as folder:
        trees: Queue[Path] = Queue()
        for worker in range(workers):
            trees.put(copy_tree(Path(folder) / str(worker)))

        def one(fault: Fault) -> Outcome:
            tree = trees.get()
            try:
                outcome = judge(fault, tree)
            finally:
                trees.put(tree)
            verdict = "killed  " if outcome.killed else "SURVIVED"
            print(f"{verdict} {outcome.seconds:5.1f} s  {fault.title}", flush=True)
            return outcome

        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(one, faults))


def tests_that_fail_without_a_fault(faults: list[Fault]) -> list[str]:
    """Runs the tests of all faults on the tree as it is.

    A test that fails already proves nothing.
    """
    failing = []
    for tests in sorted({fault.tests for fault in faults}):
        code, said = run_tests(tests, ROOT)
        if code != PASSED:
            failing.append(f"{tests}: {said}")
    return failing


def report(outcomes: list[Outcome]) -> str:
    """Returns a summary: how many were killed, and the survivors by name with the reason."""
    killed = sum(outcome.killed for outcome in outcomes)
    lines = [
        f"{killed} of {len(outcomes)} planted faults killed ({killed / len(outcomes):.1%})"
    ]
    for outcome in outcomes:
        if not outcome.killed:
            why = outcome.fault.equivalent or f"NOT EXPLAINED ({outcome.said})"
            lines.append(f"survived: {outcome.fault.title}: {why}")
    return "\n".join(lines)


def main() -> int:
    """Reads the command line, judges, prints; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument(
        "word", nargs="?", default="", help="only faults of files with this word"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--no-baseline", action="store_true", help="skip the run without faults"
    )
    options = parser.parse_args()
    faults = [fault for fault in FAULTS if options.word in fault.file]
    if not faults:
        parser.error(f"no fault lies in a file with {options.word!r} in its path")
    failing = [] if options.no_baseline else tests_that_fail_without_a_fault(faults)
    if failing:
        print("these tests fail without any fault:", *failing, sep="\n")
        return FAILED
    outcomes = judge_all(faults, options.workers)
    print(report(outcomes))
    unexplained = [o for o in outcomes if not o.killed and not o.fault.equivalent]
    return FAILED if unexplained else PASSED


if __name__ == "__main__":
    sys.exit(main())
