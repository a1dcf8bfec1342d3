"""Figures that a method tells about its own run, for the log: a residual, a decomposition error, a share truncated."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Note = int | float | str | bool

_open: ContextVar[dict[str, Note] | None] = ContextVar("notes", default=None)


def note(name: str, value: Note) -> None:
    """Records a figure under `name` in the log of the running stage; without one, nothing happens."""
    notes = _open.get()
    if notes is not None:
        notes[name] = value


@contextmanager
def collecting() -> Iterator[dict[str, Note]]:
    """Collects what `note` is told in its block."""
    notes: dict[str, Note] = {}
    token = _open.set(notes)
    try:
        yield notes
    finally:
        _open.reset(token)
