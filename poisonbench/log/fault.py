"""Faults of a file: how each is told, and what may be advised about it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from poisonbench.errors import LogError

SIGNATURE = b"\x89HDF\r\n\x1a\n"  # at the head of every HDF5 file
SUPERBLOCK = 8  # place of the version of the superblock, behind the signature
FLAGS = 11  # place of its status flags, from version 3 on
OPEN_FOR_WRITING = 1  # one of these flags

AGAIN = "delete it and run the same command again: only this stage is done anew"
CLOSE = (
    "another program has it open for writing, or died so: close it there and try again"
)
RESTORE = "restore it, or write it anew with the command that wrote it"
NO_LOG = "name a log: an .h5 file that poisonbench wrote"


class DamageError(Exception):
    """A fault of the file being read; `one_error` adds the path.

    Attributes:
        reason: what is wrong.
        hint: the way out; None: `advice`.
    """

    def __init__(self, reason: str, hint: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


@contextmanager
def one_error(path: Path) -> Iterator[None]:
    """Turns whatever is raised inside into one `LogError` of `path`."""
    try:
        yield
    except LogError:
        raise
    except DamageError as damage:
        hint = advice(path) if damage.hint is None else damage.hint
        raise LogError(path, damage.reason, hint) from None
    except MemoryError as error:
        hint = "free some, or read fewer of its data sets; the file itself may be whole"
        raise LogError(path, "needs more memory than there is", hint) from error
    except Exception as error:  # h5py raises a dozen types on bad files
        raise _told(path, error) from error


def _told(path: Path, error: Exception) -> LogError:
    """The error of a file that cannot be read: the system refuses, with a number, or damage."""
    if isinstance(error, OSError) and error.errno:
        reason = f"cannot be read: {error.strerror or error}"
        return LogError(
            path, reason, "the file itself may be whole: mend that and try again"
        )
    what = str(error) or type(error).__name__
    return LogError(path, f"is damaged: {what}", advice(path))


def advice(path: Path) -> str:
    """Returns the way out for a file that was found broken.

    Only a stage of a run is to be deleted, because the run makes it again: not what merely bears
    the wrong name, what another program is about to write, or what came from elsewhere.
    """
    head = _head(path)
    if _is_stage(path):
        return CLOSE if _is_open_for_writing(head) else AGAIN
    if not head.startswith(SIGNATURE):
        return NO_LOG
    return CLOSE if _is_open_for_writing(head) else RESTORE


def _head(path: Path) -> bytes:
    """The first bytes of a file; none where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(FLAGS + 1)
    except OSError:
        return b""


def _is_stage(path: Path) -> bool:
    """Whether a file lies where a run keeps its stages: RUN/scenes/SCENE/*.h5 beside grid.toml."""
    scenes = path.absolute().parent.parent
    return (
        path.suffix == ".h5"
        and scenes.name == "scenes"
        and (scenes.parent / "grid.toml").is_file()
    )


def _is_open_for_writing(head: bytes) -> bool:
    """Whether HDF5 marked a file as being written: a log itself is never opened for change."""
    if len(head) <= FLAGS or not head.startswith(SIGNATURE):
        return False
    if head[SUPERBLOCK] < 3:
        return False
    return bool(head[FLAGS] & OPEN_FOR_WRITING)
