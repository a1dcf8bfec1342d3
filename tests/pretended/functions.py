"""What the functions of PyTorch say of devices: `.device`, `.to`, `device=` and their like."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pretended.labels import Labels, address, tensors

CPU = torch.device("cpu")
CUDA = torch.device("cuda", 0)
Getter = Callable[[bool], object]
GETTERS: dict[object, Getter] = {
    Tensor.device.__get__: lambda there: CUDA if there else CPU,
    Tensor.is_cuda.__get__: lambda there: there,
    Tensor.is_cpu.__get__: lambda there: not there,
    Tensor.get_device: lambda there: 0 if there else -1,
}
# they make nothing but views, and are most of all calls
OF_NO_DEVICE = {
    *["__get__", "__set__", "__len__", "_parse_to", "dim", "size", "numel"],
    *["is_floating_point", "element_size", "stride", "is_contiguous"],
}
TO_THE_HOST = ("numpy", "__array__", "__dlpack__")
FROM_VALUES = ("tensor", "as_tensor", "asarray", "new_tensor")


class Functions(TorchFunctionMode):
    """Answers for the device, and labels what is made for it."""

    def __init__(self, labels: Labels) -> None:
        super().__init__()
        self.labels = labels

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Calls a function of PyTorch; `types` is PyTorch's, and unused."""
        given = dict(kwargs or {})
        getter = GETTERS.get(func)
        if getter is not None:
            return getter(self.labels.on_device(args[0]))
        name = getattr(func, "__name__", "")
        if name in OF_NO_DEVICE:
            return func(*args, **given)
        if name in MOVES and args and isinstance(args[0], Tensor):
            return self._moved(args[0], MOVES[name](self.labels, *args, **given))
        some = any(map(self.labels.on_device, tensors(args, given)))
        if some and name in TO_THE_HOST:
            told = "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu()"
            raise TypeError(told)
        asked = self._asked(name, args, given)
        inside = some if asked is None else asked
        self._check_generator(name, inside, given.get("generator"))
        out = self._run(inside, func, *args, **given)
        if asked is None and name != "__deepcopy__":
            return out
        if isinstance(out, Tensor):
            out = self._apart(out, args, inside)
            self.labels.put(out, inside)
        return out

    def _run(
        self, inside: bool, func: Callable[..., Any], *args: Any, **given: Any
    ) -> Any:
        before = self.labels.inside
        self.labels.inside = inside
        try:
            return func(*args, **given)
        finally:
            self.labels.inside = before

    def _asked(
        self, name: str, args: Sequence[Any], given: dict[str, Any]
    ) -> bool | None:
        """Whether the result is to lie on the device; None: as its arguments do.

        Takes the pretended device out of the keywords.
        """
        device = given.get("device")
        if device is not None:
            there = is_there(device)
            if there:
                given["device"] = CPU
            return there
        if name.startswith("new_"):
            return self.labels.on_device(args[0])
        if name in FROM_VALUES and not isinstance(args[0], Tensor):
            return False
        return None

    def _check_generator(
        self, name: str, inside: bool, source: torch.Generator | None
    ) -> None:
        if source is not None and inside:
            told = "Expected a 'cuda' device type for generator but found 'cpu'"
            raise self.labels.refuse(f"{name}: {told}")

    def _apart(self, out: Tensor, args: Sequence[Any], there: bool) -> Tensor:
        """The result, copied where it shares the values of an argument on another device."""
        for x in tensors(args):
            if address(x) == address(out) and self.labels.on_device(x) != there:
                return out.clone()
        return out

    def _moved(self, x: Tensor, place: "Place") -> Tensor:
        """The tensor at a place, in a dtype."""
        there = self.labels.on_device(x)
        out: Tensor = self._run(there, x.to, **place.form)
        if place.there == there:
            return out
        if address(out) == address(x):
            out = out.clone()
        self.labels.put(out, place.there)
        return out


class Place:
    """Where a tensor is to go.

    Attributes:
        there: to the device.
        form: keywords of `Tensor.to` that say nothing of devices.
    """

    def __init__(self, there: bool, **form: object) -> None:
        self.there = there
        self.form = {name: value for name, value in form.items() if value is not None}


def is_there(device: torch.device | str | int) -> bool:
    """Whether a device is the pretended one."""
    return isinstance(device, int) or torch.device(device).type == "cuda"


def _to(labels: Labels, x: Tensor, *args: Any, **given: Any) -> Place:
    """Reads the arguments of `Tensor.to`."""
    copy = given.pop("copy", None)
    other = given.pop("other", None)
    if args and isinstance(args[0], Tensor):
        other = args[0]
    if other is not None:
        return Place(labels.on_device(other), dtype=other.dtype, copy=copy)
    read = torch._C._nn._parse_to(*args, **given)
    device, dtype, _, memory_format = read
    there = labels.on_device(x) if device is None else is_there(device)
    return Place(there, dtype=dtype, copy=copy, memory_format=memory_format)


def _cpu(labels: Labels, x: Tensor, **given: Any) -> Place:
    return Place(False)


def _cuda(labels: Labels, x: Tensor, *args: Any, **given: Any) -> Place:
    return Place(True)


MOVES: dict[str, Callable[..., Place]] = {"to": _to, "cpu": _cpu, "cuda": _cuda}
