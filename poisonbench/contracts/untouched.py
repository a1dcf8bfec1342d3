"""What a method may only read: the values that it is given, and the state of the process.

Cost: a checksum of every byte that a method may read, at the speed of memory.
"""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace

import torch
from torch import Tensor

from poisonbench.errors import ChangedError
from poisonbench.seeding import State, global_state, restore

Marks = dict[str, int]


def tensors_in(value: object, name: str) -> Iterator[tuple[str, Tensor]]:
    """Yields (path, tensor) for every tensor in a value of dataclasses, mappings and sequences."""
    if isinstance(value, Tensor):
        yield name, value
    elif is_dataclass(value):
        for field in fields(value):
            inner = getattr(value, field.name)
            yield from tensors_in(inner, f"{name}.{field.name}")
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from tensors_in(inner, f"{name}[{key!r}]")
    elif isinstance(value, tuple | list):
        for k, inner in enumerate(value):
            yield from tensors_in(inner, f"{name}[{k}]")


def marks_of(value: object, name: str) -> Marks:
    """Returns path -> checksum of every tensor in a value."""
    return {path: checksum(tensor) for path, tensor in tensors_in(value, name)}


def checksum(tensor: Tensor) -> int:
    """Returns the CRC-32 of a tensor's type, shape and bytes."""
    form = repr((tensor.dtype, tuple(tensor.shape)))
    flat = tensor.detach().cpu().contiguous().flatten()
    content = flat.view(torch.uint8).numpy()
    return zlib.crc32(content.data, zlib.crc32(form.encode()))


@dataclass(frozen=True, eq=False)
class Untouched:
    """Values and process state as they were before a method ran.

    Attributes:
        values: name -> value, whose tensors may not change.
        marks: their checksums.
        state: of the process.
    """

    values: Mapping[str, object]
    marks: Marks
    state: State

    @classmethod
    def now(cls, values: Mapping[str, object]) -> "Untouched":
        """Takes the checksums of all tensors in `values`, and a copy of the process's state."""
        return cls(values, _all_marks(values), global_state())

    def renewed(self) -> "Untouched":
        """Returns the same for the next method, after a check that found nothing changed.

        The checksums are not taken again: of large data that takes longer than a short method.
        """
        return replace(self, state=global_state())

    def check(self) -> None:
        """Puts the state of the process back, and looks for changes.

        Raises:
            ChangedError: names what of the state or of the values is no longer as it was.
        """
        moved = restore(self.state)
        found = _all_marks(self.values)
        names = [name for name, mark in self.marks.items() if found.get(name) != mark]
        new = [name for name in found if name not in self.marks]
        if moved or names or new:
            raise ChangedError((*moved, *names, *new))


def _all_marks(values: Mapping[str, object]) -> Marks:
    marks: Marks = {}
    for name, value in values.items():
        marks |= marks_of(value, name)
    return marks
