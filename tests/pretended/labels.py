"""Which storages are said to lie on the device, and what was mixed."""

import traceback
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

STORAGES = 20_000  # in the table, before those that are gone are dropped
FRAMES = 12  # of the call that mixed devices


class MixedDevicesError(RuntimeError):
    """An operation on tensors of two devices, which CUDA refuses."""


class Labels:
    """The storages on the device; a tensor and its views share one.

    Attributes:
        inside: whether what a running function makes of nothing lies on the device.
        mixed: message and calls of every operation that was refused, also where the error was
            caught.
    """

    def __init__(self) -> None:
        self.inside = False
        self.mixed: list[str] = []
        self._there: dict[int, StorageWeakRef] = {}
        self._most = STORAGES

    def on_device(self, x: Tensor) -> bool:
        """Whether a tensor lies on the device."""
        return address(x) in self._there

    def among(self, storages: Sequence[int | None]) -> list[bool]:
        """Which storages lie on the device, by `address`."""
        return [key in self._there for key in storages]

    def put(self, x: Tensor, on_device: bool) -> None:
        """Labels a tensor's storage; what has none, as a sparse tensor, gets no label."""
        storage = _storage(x)
        if storage is None:
            return
        key = storage._cdata
        if not on_device:
            self._there.pop(key, None)
        elif key not in self._there:
            # as long as it is referred to, its address is not given to another storage
            self._there[key] = StorageWeakRef(storage)
            self._drop_the_dead()

    def _drop_the_dead(self) -> None:
        if len(self._there) < self._most:
            return
        dead = [key for key, reference in self._there.items() if reference.expired()]
        for key in dead:
            del self._there[key]
        self._most = len(self._there) + STORAGES

    def refuse(self, what: str) -> MixedDevicesError:
        """Returns the error to raise, and keeps what it says with the calls that led there."""
        calls = "".join(traceback.format_stack(limit=FRAMES))
        self.mixed.append(f"{what}\n{calls}")
        return MixedDevicesError(what)


def _storage(x: Tensor) -> torch.UntypedStorage | None:
    """The storage of a tensor, or of the one that `vmap` or `grad` has wrapped."""
    functorch = torch._C._functorch
    with torch._C.DisableTorchFunction():
        while functorch.is_functorch_wrapped_tensor(x):
            x = functorch.get_unwrapped(x)
        try:
            return x.untyped_storage()
        except (NotImplementedError, RuntimeError):
            return None


def address(x: Tensor) -> int | None:
    """What names a tensor's storage; None for a tensor without."""
    storage = _storage(x)
    return None if storage is None else int(storage._cdata)


def tensors(*values: object) -> Iterator[Tensor]:
    """The tensors among arguments, also in lists and tables."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors(*value)
        elif isinstance(value, dict):
            yield from tensors(*value.values())
