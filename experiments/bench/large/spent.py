"""What a command takes, as the system tells when it has ended (Linux)."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

PYTHON = (sys.executable, "-m")


@dataclass(frozen=True)
class Spent:
    """What a command took, its child processes included.

    Attributes:
        name: of the command.
        seconds: of processors.
        peak: bytes of memory in use at most, of the process that used most.
        code: its exit code; negative: the signal that ended it.
    """

    name: str
    seconds: float
    peak: int
    code: int


def spent(
    name: str,
    command: Sequence[str],
    said: Path,
    until: Callable[[], bool] | None,
) -> Spent:
    """Runs a module of Python as a command to its end, or asks it to end.

    Args:
        name: how it is told.
        command: module and arguments.
        said: file to which what it says is added.
        until: as soon as this holds it is ended by SIGTERM; None: it runs to its end.
    """
    with said.open("ab") as file:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [*PYTHON, *command], stdout=file, stderr=file
        )
    if until is not None:
        while not until() and _lives(process.pid):
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGTERM)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Spent(
        name=name,
        seconds=used.ru_utime + used.ru_stime,
        peak=used.ru_maxrss * 1024,
        code=process.returncode,
    )


def _lives(process: int) -> bool:
    """Whether a child has not ended; it is not waited for."""
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, process, flags) is None
