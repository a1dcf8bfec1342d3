"""What a method tells about its own run, for the log.

Figures (a residual, a share truncated) and arrays (a loss over steps). Needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Note = int | float | str | bool


@dataclass
class Notes:
    """What was told.

    Attributes:
        figures: name -> value, attributes of the log.
        arrays: name -> tensor, data sets of the log.
    """

    figures: dict[str, Note] = field(default_factory=dict)
    arrays: dict[str, Tensor] = field(default_factory=dict)


_open: ContextVar[Notes | None] = ContextVar("notes", default=None)


def note(name: str, value: Note) -> None:
    """Records a figure under `name` in the log of the running stage, if there is one."""
    notes = _open.get()
    if notes is not None:
        notes.figures[name] = value


def attach(name: str, value: Tensor) -> None:
    """Records an array under `name` in the log of the running stage, if there is one."""
    notes = _open.get()
    if notes is not None:
        notes.arrays[name] = value.detach().cpu()


@contextmanager
def collecting() -> Iterator[Notes]:
    """Collects what `note` and `attach` are told in its block."""
    notes = Notes()
    token = _open.set(notes)
    try:
        yield notes
    finally:
        _open.reset(token)
