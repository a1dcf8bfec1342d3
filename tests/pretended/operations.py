"""CUDA's rules of which tensors an operation takes together, held before each is done."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pretended.labels import Labels, address, tensors

# they copy between devices, or look at no values
FREE = {"copy_", "_to_copy", "set_", "copy", "detach", "alias", "lift_fresh"}
INDEXING = {"index", "_unsafe_index"}
PUTTING = {"index_put", "index_put_", "_index_put_impl_", "_unsafe_index_put"}
# a product with a type of its own for the sums, which only CUDA has
WIDENING = torch.ops.aten.mm.dtype
# they take no number on the CPU beside tensors on the device
STRICT = {
    *["cat", "stack", "mm", "addmm", "bmm", "dot", "mv", "equal"],
    *["gather", "scatter", "scatter_", "scatter_add", "scatter_add_"],
    *["index_select", "index_add", "index_add_", "index_copy_", "index_fill_"],
    *["searchsorted", "isin", "take", "embedding", "bincount"],
}


class Operations(TorchDispatchMode):
    """Refuses operations that mix devices, and labels what the others make."""

    def __init__(self, labels: Labels) -> None:
        super().__init__()
        self.labels = labels

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: object,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Does an operation; `types` is PyTorch's, and unused."""
        given = dict(kwargs or {})
        name = func._schema.name.partition("::")[2]
        every = list(tensors(args, given))
        storages = [address(x) for x in every]
        there = self._place(name, func, args, every, self.labels.among(storages))
        source = given.get("generator")
        if there and source is not None:
            told = "Expected a 'cuda' device type for generator but found 'cpu'"
            raise self.labels.refuse(f"{name}: {told}")
        if func is WIDENING:
            rows, columns, kind = args
            out = rows.to(kind) @ columns.to(kind)
        else:
            out = func(*args, **given)
        for x in tensors(out):
            if address(x) not in storages:
                self.labels.put(x, there)
        return out

    def _place(
        self,
        name: str,
        func: Callable[..., Any],
        args: Sequence[Any],
        every: list[Tensor],
        there: list[bool],
    ) -> bool:
        """Whether the result lies on the device.

        Args:
            name: of the operation.
            func: the operation.
            args: of it.
            every: tensor among its arguments.
            there: whether each lies on the device.

        Raises:
            MixedDevicesError: the tensors do not go together.
        """
        if not every:
            return self.labels.inside
        if all(there) or not any(there):
            return there[0]
        if name in FREE:
            return there[0]
        if name in INDEXING or name in PUTTING:
            self._check_index(name, args)
            return there[0]
        alone = [x for x, on in zip(every, there, strict=True) if not on]
        told = f"{name}: Expected all tensors to be on the same device, but found cuda:0 and cpu"
        if name in STRICT or any(x.dim() > 0 for x in alone):
            raise self.labels.refuse(f"{told}, shapes {_shapes(every, there)}")
        if func._schema.is_mutable and not there[0]:
            raise self.labels.refuse(f"{told}: the number that is changed is on cpu")
        return True

    def _check_index(self, name: str, args: Sequence[Any]) -> None:
        """An index may lie on the CPU; what it indexes may not, unless the index does too."""
        there = self.labels.on_device(args[0])
        if not there and any(map(self.labels.on_device, tensors(args[1]))):
            told = "indices should be either on cpu or on the same device as the indexed tensor"
            raise self.labels.refuse(f"{name}: {told} (cpu)")
        if name not in PUTTING:
            return
        value = args[2]
        number = value.dim() == 0 and not self.labels.on_device(value)
        if self.labels.on_device(value) != there and not number:
            told = "expected self and value to be on the same device"
            raise self.labels.refuse(f"{name}: {told}")


def _shapes(every: list[Tensor], there: list[bool]) -> str:
    told = []
    for x, on in zip(every, there, strict=True):
        place = "cuda" if on else "cpu"
        told.append(f"{tuple(x.shape)} on {place}")
    return ", ".join(told)
