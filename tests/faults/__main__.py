"""Plants every fault of the tables in a copy of the tree, one at a time, and runs its tests.

    python -m tests.faults [WORD] [--workers 2]

A fault is killed when its tests fail. First they run on a copy of the tree as it is: there they
must pass. Exit code 1 where a fault survives that is not declared equivalent. Not part of the
test suite: it takes about half an hour on two cores.
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.fault import Fault, Outcome, all_faults
from tests.faults.forked import FAILED, HANGING, PASSED, preload, run_tests

ROOT = Path(__file__).parent.parent.parent
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "__pycache__", ".*_cache", "results", "build"
)


def copy_of_the_tree(folder: Path) -> Path:
    """Returns this process's copy of the tree, without what the tests do not need."""
    copy = folder / str(os.getpid())
    if not copy.exists():
        shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
    return copy


def passes(task: tuple[str, Path]) -> str:
    """Runs tests on the tree as it is; returns them where they fail, which proves nothing."""
    tests, folder = task
    code = run_tests(tests, copy_of_the_tree(folder))
    return "" if code == PASSED else f"{tests} (exit code {code} without a fault)"


def judge(task: tuple[Fault, Path]) -> Outcome:
    """Plants a fault, runs its tests, and takes the fault out again."""
    fault, folder = task
    path = copy_of_the_tree(folder) / fault.file
    whole = path.read_text(encoding="utf-8")
    start = time.monotonic()
    path.write_text(fault.planted_in(whole), encoding="utf-8")
    try:
        code = run_tests(fault.tests, copy_of_the_tree(folder))
    finally:
        path.write_text(whole, encoding="utf-8")
    seconds = time.monotonic() - start
    return Outcome(fault, code in {FAILED, HANGING}, seconds, f"exit code {code}")


def report(outcomes: list[Outcome]) -> str:
    """Returns a summary: how many were killed, and the survivors by name with the reason."""
    killed = sum(outcome.killed for outcome in outcomes)
    share = killed / len(outcomes)
    lines = [f"{killed} of {len(outcomes)} planted faults killed ({share:.1%})"]
    for outcome in outcomes:
        if not outcome.killed:
            why = outcome.fault.equivalent or f"NOT EXPLAINED ({outcome.said})"
            lines.append(f"survived: {outcome.fault.title}: {why}")
    return "\n".join(lines)


def main() -> int:
    """Reads the command line, judges, prints; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("word", nargs="?", default="", help="only files with this word")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--no-baseline", action="store_true", help="no run without faults"
    )
    options = parser.parse_args()
    faults = [fault for fault in all_faults() if options.word in fault.file]
    if not faults:
        parser.error(f"no fault lies in a file with {options.word!r} in its path")
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    preload()
    forks = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as name, forks.Pool(options.workers) as pool:
        folder = Path(name)
        if not options.no_baseline:
            tests = sorted({fault.tests for fault in faults})
            failing = [
                line for line in pool.imap(passes, [(t, folder) for t in tests]) if line
            ]
            if failing:
                print("tests that fail without any fault:", *failing, sep="\n")
                return FAILED
        outcomes = []
        for outcome in pool.imap(judge, [(fault, folder) for fault in faults]):
            outcomes.append(outcome)
            verdict = "killed  " if outcome.killed else "SURVIVED"
            print(
                f"{verdict} {outcome.seconds:5.1f} s  {outcome.fault.title}", flush=True
            )
    print(report(outcomes))
    unexplained = [o for o in outcomes if not o.killed and not o.fault.equivalent]
    return FAILED if unexplained else PASSED


if __name__ == "__main__":
    sys.exit(main())
