"""The place of a file on disk: whole or absent, and what dead writers left there."""

import errno
import hashlib
import itertools
import os
import platform
import re
import secrets
from contextlib import suppress
from pathlib import Path

from poisonbench.errors import LogWriteError

_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
# tells this process from an earlier one of the same id, as containers give again
_TOKEN = secrets.token_hex(4)
_COUNT = itertools.count()
# network file systems that cannot sync a folder
_CANNOT_SYNC = (errno.EINVAL, errno.EBADF, errno.ENOTSUP)
_TEMPORARY = re.compile(rf"\.poisonbench-{_HOST}-(\d{{1,9}})-([0-9a-f]{{8}})-\d+\.tmp")


def temporary_beside(path: Path) -> Path:
    """Returns a name that no other writer takes, in the folder of `path`."""
    writer = f"{_HOST}-{os.getpid()}-{_TOKEN}"
    return path.parent / f".poisonbench-{writer}-{next(_COUNT)}.tmp"


def sweep(folder: Path) -> int:
    """Removes the temporary files that dead writers of this host left below `folder`.

    Returns:
        How many.
    """
    removed = 0
    for path in Path(folder).rglob(".poisonbench-*.tmp"):
        match = _TEMPORARY.fullmatch(path.name)
        if match and _is_dead(int(match[1]), match[2]):
            with suppress(OSError):
                path.unlink()
                removed += 1
    return removed


def place(path: Path, temporary: Path, image: bytes | memoryview) -> None:
    """Moves an image to its path in one step, by way of `temporary` beside it.

    Raises:
        LogWriteError: the disk is full, or the system refuses; what was there before stays whole.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(image)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        hint = ""
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            hint = "free that much space, then run the same command again: what is done is kept"
        raise LogWriteError(
            path, f"cannot write its {len(image)} bytes: {reason}", hint
        ) from error
    finally:
        with suppress(OSError, ValueError):
            temporary.unlink()  # there only if something failed, Ctrl-C included


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all.

    Raises:
        LogWriteError: as `place`.
    """
    place(path, temporary_beside(path), text.encode())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(descriptor)


def _is_dead(process: int, token: str) -> bool:
    if process == os.getpid():
        return token != _TOKEN
    return not is_alive(process)


def is_alive(process: int) -> bool:
    """Whether there is a process of this number on this machine."""
    try:
        os.kill(process, 0)  # signal 0 only asks
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
