"""The pass of the gradient engine with taps at the layers, for those that have a rule.

The parameters are constants in it, so no weight gradient of the batch is ever computed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from poisonbench.data import Dataset
from poisonbench.errors import ModelError
from poisonbench.functional import call
from poisonbench.gradients.calls import undisturbed

Layers = Literal["all", "last"]
Vectors = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Plan:
    """Which parameters are differentiated, and how. See `plan.plan`.

    Attributes:
        hooked: layers with a rule of their own, in order.
        copied: names of those whose input or output the model changes in place afterwards.
        shared: names of tables of vectors that the model reads once for all rows of a batch, such
            as those of places.
        rest: names of the remaining parameters.
        vectorised: the rest is differentiated by `vmap(grad)`, else one instance at a time.
        names: of all parameters differentiated, in the model's order.
        size: number p of their entries.
        held: number of entries that an instance's gradient is held by, at most p: of a large table
            of vectors the rows that it looks up.
        widest: number of entries of the layer that has most of them, as passes drop one layer
            after another; tables and the rest together count as one.
        pixelwise: images lie in memory pixel by pixel (channels last) during the passes.
        low: the model computes in bfloat16, whatever the type of the data.
    """

    hooked: dict[str, nn.Module]
    copied: frozenset[str]
    shared: frozenset[str]
    rest: tuple[str, ...]
    vectorised: bool
    names: tuple[str, ...]
    size: int
    held: int
    widest: int
    pixelwise: bool
    low: bool = False

    def kind_of(self, data: Dataset) -> torch.dtype:
        """Returns the type of the gradients of these data."""
        return torch.bfloat16 if self.low else data.dtype

    def inputs(self, x: Tensor) -> Tensor:
        """Returns instances x in the type in which the model computes; token ids as they are."""
        if self.low and x.is_floating_point():
            return x.to(torch.bfloat16)
        return x


@dataclass(frozen=True, eq=False)
class Capture:
    """A forward pass of B instances whose tape starts at the outputs of the hooked layers.

    Attributes:
        logits: (B, C).
        inputs: layer -> what it was given, (B, ...).
        outputs: layer -> what it returned, (B, ...).
    """

    logits: Tensor
    inputs: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)

    def output_gradients(
        self, seed: Tensor, again: bool = False
    ) -> dict[str, Tensor | None]:
        """Returns d <seed, logits> / d output of every layer, (B, ...); None of no influence.

        Args:
            seed: (B, C).
            again: the tape is kept for another seed.
        """
        gradients: dict[str, Tensor | None] = dict.fromkeys(self.outputs)
        # under no_grad, or where the outputs end in a detach(), nothing leads to a layer
        taped = [name for name, output in self.outputs.items() if output.requires_grad]
        if not taped or not self.logits.requires_grad:
            return gradients
        sources = [self.outputs[name] for name in taped]
        found = torch.autograd.grad(
            self.logits, sources, seed, allow_unused=True, retain_graph=again
        )
        gradients.update(zip(taped, found, strict=True))
        return gradients


def constants_of(model: nn.Module) -> Vectors:
    """Returns the parameters by name, cut off from any tape."""
    return {name: p.detach() for name, p in model.named_parameters()}


def flat_rows(
    vectors: Vectors,
    names: tuple[str, ...],
) -> Tensor:
    """Returns name -> (B, *shape) as rows, (B, p), the parameters in the order of `names`."""
    return torch.cat(
        [vectors[name].reshape(len(vectors[name]), -1) for name in names], 1
    )


def tensor_input(
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Tensor | None:
    """Returns the one tensor that a layer is called with, by position or keyword; None if not."""
    given = [*args, *kwargs.values()]
    if len(given) == 1 and isinstance(given[0], Tensor):
        return given[0]
    return None


def for_each_row(t: Tensor, rows: int, axes: int) -> Tensor:
    """Returns what a table was read at or gave once for all rows, as (rows, ...) of `axes` axes."""
    if t.dim() < axes:
        t = t[None]
    return t.expand(rows, *t.shape[1:])


def capture(
    model: nn.Module,
    how: Plan,
    parameters: Vectors,
    x: Tensor,
) -> Capture:
    """Passes instances x (B, *shape) through the model at `parameters`; keeps what rules need.

    Raises:
        ModelError: a layer does not run exactly once on one tensor, as it did when it was checked.
    """
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def tap(name: str) -> Callable[..., Tensor]:
        def hook(
            _: nn.Module,
            args: tuple[Any, ...],
            kwargs: dict[str, Any],
            out: Tensor,
        ) -> Tensor:
            given = tensor_input(args, kwargs)
            if given is None or name in inputs:
                raise ModelError.of_layer(
                    name, how.hooked[name], "runs differently row by row"
                )
            if name in how.shared:
                given = for_each_row(given, len(x), 2)
                out = for_each_row(out, len(x), 3)
            copied = name in how.copied
            inputs[name] = given.detach().clone() if copied else given.detach()
            # the first layer's output starts the tape, as the parameters are constants
            if torch.is_grad_enabled() and not out.requires_grad:
                out.requires_grad_()
            outputs[name] = out
            return out.clone() if copied else out

        return hook

    if how.pixelwise:
        x = x.contiguous(memory_format=torch.channels_last)
    # before the model's own hooks, which may change what a layer returns
    handles = [
        module.register_forward_hook(tap(name), prepend=True, with_kwargs=True)
        for name, module in how.hooked.items()
    ]
    try:
        with torch.enable_grad(), undisturbed(model):
            logits = call(model, parameters, x)
    finally:
        for handle in handles:
            handle.remove()
    for name, module in how.hooked.items():
        if name not in inputs:
            raise ModelError.of_layer(name, module, "does not run for every row")
    return Capture(logits, inputs, outputs)
