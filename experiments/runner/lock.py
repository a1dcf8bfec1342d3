"""What stands around a run: one run per folder, and signals that end it in order."""

import os
import platform
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Shard:
    """A part of the scenes of a grid, for machines that share a folder.

    Attributes:
        number: of this part, from 1.
        total: parts.

    Raises:
        ValueError: `number` is not in [1, total].
    """

    number: int = 1
    total: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.total:
            told = f"{self.number}/{self.total}"
            raise ValueError(f"a shard is i/N with i from 1 to N, got {told}")

    @property
    def suffix(self) -> str:
        """What tells its lock from that of other parts; empty for the whole."""
        if self.total == 1:
            return ""
        return f"-{self.number}-of-{self.total}"


WHOLE = Shard()


@contextmanager
def exclusive(folder: Path, shard: Shard = WHOLE) -> Iterator[None]:
    """Holds a folder's lock; the system frees it when the process ends, however it ends.

    Shards of one number of parts may work in a folder at the same time, each once.

    Raises:
        FatalError: the folder cannot be made or written.
        BusyError: another run holds it.
    """
    way = "name a folder that can be written: -o DIR"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FatalError(f"{folder}: {error.strerror}", way) from error
    lock = filelock.FileLock(folder / f".lock{shard.suffix}", timeout=0)
    owner = folder / f".owner{shard.suffix}"
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise _busy(folder, owner) from error
    except OSError as error:
        told = f"{folder} cannot be locked: {error.strerror}"
        raise FatalError(told, way) from error
    try:
        _check_others(folder, shard)
        log.write_text(owner, f"pid {os.getpid()} on {platform.node()}")
        yield
    finally:
        with suppress(OSError):
            owner.unlink(missing_ok=True)
        lock.release()


def _check_others(folder: Path, shard: Shard) -> None:
    """Raises BusyError if a run works in the folder that this one cannot work beside."""
    beside = f"-of-{shard.total}"
    for path in sorted(folder.glob(".lock*")):
        suffix = path.name.removeprefix(".lock")
        if suffix == shard.suffix or (shard.suffix and suffix.endswith(beside)):
            continue
        try:
            with filelock.FileLock(path, timeout=0):
                pass
        except filelock.Timeout as error:
            raise _busy(folder, folder / f".owner{suffix}") from error


def _busy(folder: Path, owner: Path) -> BusyError:
    who = owner.read_text() if owner.exists() else "another process"
    way = "wait for it, or name another folder: -o DIR"
    return BusyError(f"{folder} is in use by {who}", way)


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
