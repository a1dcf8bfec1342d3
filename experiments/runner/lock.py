"""What stands around a run: one run per folder, and signals that end it in order."""

import os
import platform
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import filelock

from poisonbench import log
from poisonbench.errors import PoisonbenchError


class BusyError(PoisonbenchError):
    """Another run works in the same folder."""


class FatalError(PoisonbenchError):
    """A fault that every further cell would meet too: the grid stops."""


class Interrupted(BaseException):
    """A signal asked the run to end. `code` is the exit code."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.code = 128 + number


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Holds the folder's lock; the system frees it when the process ends, however it ends.

    Raises:
        FatalError: the folder cannot be made.
        BusyError: another run holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        way = "name a folder that can be written: -o DIR"
        raise FatalError(f"{folder}: {error.strerror}", way) from error
    owner = folder / ".owner"
    lock = filelock.FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        who = owner.read_text() if owner.exists() else "another process"
        way = "wait for it, or name another folder: -o DIR"
        raise BusyError(f"{folder} is in use by {who}", way) from error
    except OSError as error:
        way = "name a folder that can be written: -o DIR"
        raise FatalError(f"{folder} cannot be locked: {error.strerror}", way) from error
    try:
        log.write_text(owner, f"pid {os.getpid()} on {platform.node()}")
        yield
    finally:
        with suppress(OSError):
            owner.unlink(missing_ok=True)
        lock.release()


@contextmanager
def ending_signals() -> Iterator[None]:
    """Turns SIGINT and SIGTERM into `Interrupted` while it lasts, in the main thread alone.

    Python allows it nowhere else.
    """

    def stop(number: int, _: FrameType | None) -> None:
        raise Interrupted(number)

    try:
        before = {
            number: signal.signal(number, stop)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
