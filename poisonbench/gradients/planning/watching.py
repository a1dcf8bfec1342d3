"""How a model calls its layers: how often, on what, and whether it changes that afterwards."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from poisonbench.functional import call
from poisonbench.gradients.calls import undisturbed
from poisonbench.gradients.passes import Vectors, tensor_input


@dataclass(frozen=True, eq=False)
class Use:
    """One call of a layer.

    Attributes:
        given: what it was called with, None if that is not one tensor.
        returned: None if that is not one tensor.
        versions: of the two, when the layer was done.
    """

    given: Tensor | None
    returned: Tensor | None
    versions: tuple[int | None, int | None]

    def has_batch_axis(self, size: int) -> bool:
        """Tells whether the first axis of both tensors may be that of a batch of `size`."""
        return _is_batch(self.given, size) and _is_batch(self.returned, size)

    def changed(self) -> bool:
        """Tells whether one of the tensors was changed in place after the layer was done."""
        return (_version(self.given), _version(self.returned)) != self.versions


def _is_batch(
    t: Tensor | None,
    size: int,
) -> bool:
    return t is not None and t.dim() > 1 and len(t) == size


def _version(t: Tensor | None) -> int | None:
    return None if t is None else t._version


def uses(
    model: nn.Module,
    parameters: Vectors,
    x: Tensor,
    layers: list[str],
) -> dict[str, list[Use]]:
    """Returns every call of the layers in one pass of the instances x (B, *shape)."""
    found: dict[str, list[Use]] = {name: [] for name in layers}
    handles = []
    for name in layers:
        module = model.get_submodule(name)
        watch = _recorder(found[name])
        handles.append(
            module.register_forward_hook(watch, prepend=True, with_kwargs=True)
        )
    try:
        with torch.no_grad(), undisturbed(model):
            call(model, parameters, x)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _recorder(record: list[Use]) -> Callable[..., None]:
    """Returns a forward hook that adds the call of its layer to `record`."""

    def hook(
        _: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        out: object,
    ) -> None:
        given = tensor_input(args, kwargs)
        returned = out if isinstance(out, Tensor) else None
        versions = (_version(given), _version(returned))
        record.append(Use(given, returned, versions))

    return hook
