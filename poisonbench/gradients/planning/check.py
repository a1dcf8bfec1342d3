"""Tests of a model against one backward pass an instance, before anything is relied on.

They run on a few real instances, with random gradients at the logits and with the parameters
shifted at random, so that no fault hides behind a gradient that happens to be zero, such as of
branches that start at zero. Cost: three forward and backward passes of one instance, and one of a
batch of three.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from poisonbench.errors import ModelError
from poisonbench.functional import call
from poisonbench.gradients.calls import undisturbed
from poisonbench.gradients.passes import Vectors, constants_of
from poisonbench.gradients.planning.refusals import refuse_dependence, told
from poisonbench.gradients.row_by_row import one_by_one
from poisonbench.seeding import generator

SHIFT = 0.1  # relative, of the parameters; and of those that are zero, absolute


@dataclass(frozen=True, eq=False)
class Probe:
    """A few instances on which rules are tested, and what autograd finds there.

    Attributes:
        model: in evaluation mode.
        names: of the parameters that are differentiated.
        parameters: all parameters by name, those of `names` shifted.
        x: (B, *shape).
        seed: (B, C), random gradients at the logits.
        logits: (B, C), of all instances in one batch.
    """

    model: nn.Module
    names: tuple[str, ...]
    parameters: Vectors
    x: Tensor
    seed: Tensor
    logits: Tensor

    @cached_property
    def reference(self) -> tuple[Tensor, Vectors]:
        """The logits (B, C) and the gradients, name -> (B, *shape), an instance at a time."""
        with told(self.model, "cannot be differentiated"):
            return one_by_one(
                self.model, self.names, self.parameters, self.x, self.seed
            )

    def is_finite(self) -> bool:
        """Tells whether the reference can be compared with."""
        logits, gradients = self.reference
        return all(bool(t.isfinite().all()) for t in [logits, *gradients.values()])


def draw(
    model: nn.Module,
    names: tuple[str, ...],
    x: Tensor,
    number: int,
) -> Probe:
    """Returns the probe of that number on the instances x (B, *shape).

    Raises:
        ModelError: the model cannot be called, or does not return logits.
    """
    random = generator(number, "test of layer rules")
    parameters = constants_of(model)
    for name in names:
        parameters[name] = _shifted(parameters[name], random)
    with torch.no_grad(), undisturbed(model), told(model, "cannot be run on the data"):
        logits = call(model, parameters, x)
    _check_logits(model, logits, len(x))
    seed = torch.randn(logits.shape, generator=random, dtype=logits.dtype).to(
        logits.device
    )
    return Probe(model, names, parameters, x, seed, logits)


def _check_logits(
    model: nn.Module,
    logits: object,
    rows: int,
) -> None:
    got = type(logits).__name__
    if isinstance(logits, Tensor):
        if logits.dim() == 2 and len(logits) == rows:
            return
        got = f"shape {tuple(logits.shape)}"
    reason = f"must return logits (rows, classes), got {got} for {rows} rows"
    raise ModelError.of_layer(
        "", model, reason, "wrap it in a module that returns them"
    )


def _shifted(
    p: Tensor,
    random: torch.Generator,
) -> Tensor:
    """Returns a parameter moved by at most `SHIFT`, no sign changed."""
    noise = torch.rand(p.shape, generator=random, dtype=p.dtype).to(p.device)
    moved = p * (1 + SHIFT * (2 * noise - 1))
    return torch.where(p == 0, SHIFT * (noise - 0.5), moved)


def close(
    found: Tensor,
    wanted: Tensor,
) -> bool:
    """Tells whether two tensors agree up to rounding, relative to the largest entry."""
    if found.shape != wanted.shape:
        return False
    tolerance = torch.finfo(wanted.dtype).eps ** 0.5
    error = (found - wanted).abs().max()
    return bool(error <= tolerance * wanted.abs().max())  # of NaN: not


def layout_is_free(probe: Probe) -> bool:
    """Tells whether images may lie pixel by pixel (channels last): on a CPU that is faster.

    Pooling, and gathering patches, are (measured: a fifth of a small CNN's time). A model may need
    the other layout, such as for a view of its maps.
    """
    images = probe.x.dim() == 4 and not probe.x.is_cuda
    if not images or not any(isinstance(m, nn.Conv2d) for m in probe.model.modules()):
        return False
    x = probe.x.contiguous(memory_format=torch.channels_last)
    try:
        with torch.no_grad(), undisturbed(probe.model):
            logits = call(probe.model, probe.parameters, x)
    except RuntimeError:
        return False
    apart, _ = probe.reference
    return close(logits, apart)


def check_companions(probe: Probe) -> None:
    """Checks that an instance's logits do not depend on the others of its batch, nor on chance.

    Raises:
        ModelError: they do; it names the first layer where this shows.
    """
    apart, _ = probe.reference
    if probe.is_finite() and not close(probe.logits, apart):
        refuse_dependence(probe.model, probe.parameters, probe.x, close)
