"""How a model calls its layers: how often, on what, and whether it changes that afterwards."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from poisonbench.functional import call as call_model
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

    def is_shared(self) -> bool:
        """Tells whether the call may be one for all rows of a batch: of (L,) or (1, L)."""
        if self.given is None or self.returned is None:
            return False
        one = self.given.dim() == 1 or len(self.given) == 1
        return one and self.given.dim() <= 2 and self.returned.dim() <= 3

    def changed(self) -> bool:
        """Tells whether one of the tensors was changed in place after the layer was done."""
        return (_version(self.given), _version(self.returned)) != self.versions


@dataclass(frozen=True)
class Usable:
    """The layers whose calls allow a rule; fields as in `Plan`, layers by name."""

    hooked: tuple[str, ...]
    copied: frozenset[str]
    shared: frozenset[str]

    def without(self, names: set[str]) -> "Usable":
        """Returns the others; of those named, the shared ones alone go first.

        What a model makes of a table that is read for each row may break it, and then no other
        rule is seen to be right.
        """
        dropped = names & self.shared or names
        kept = tuple(name for name in self.hooked if name not in dropped)
        return Usable(kept, self.copied.intersection(kept), self.shared - dropped)


def usable(
    model: nn.Module,
    seen: dict[str, list[Use]],
    rows: int,
) -> Usable:
    """Returns the layers that are called once, with a row for each of a batch of `rows`.

    A table of vectors may also be read once for all of them.
    """
    hooked = []
    copied = set()
    shared = set()
    for name, calls in seen.items():
        if len(calls) != 1:
            continue
        call = calls[0]
        if not call.has_batch_axis(rows):
            is_table = isinstance(model.get_submodule(name), nn.Embedding)
            if not is_table or not call.is_shared():
                continue
            shared.add(name)
        hooked.append(name)
        if call.changed():
            copied.add(name)
    return Usable(tuple(hooked), frozenset(copied), frozenset(shared))


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
            call_model(model, parameters, x)
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
