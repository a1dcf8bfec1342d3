"""What a model returns for many instances, a batch at a time."""

import torch
from torch import Tensor, nn

from poisonbench.memory import halving, in_parts
from poisonbench.seeding import exact_arithmetic

_SAMPLE = 2  # instances on which a layout is tried


def predict(
    model: nn.Module,
    x: Tensor,
    batch: int | None = None,
) -> Tensor:
    """Returns the logits (m, C) of the instances x, (m, *shape), in evaluation mode.

    More images than a batch are passed pixel by pixel (channels last) through a convolutional
    network on a CPU, where that gives the same up to rounding: it takes half the time.

    Args:
        model: of which the mode is kept.
        x: m instances.
        batch: that pass at a time; None chooses by device. What a layer gives of 1024 images takes
            more than 32 MiB, which a C library fetches from the system anew each time: on a CPU
            that took as long as the arithmetic. Halved where memory runs out.
    """
    if batch is None:
        batch = 1024 if x.is_cuda else 256
    was_training = model.training
    with torch.no_grad(), exact_arithmetic():
        model.eval()
        layout = torch.contiguous_format
        if len(x) > batch:
            layout = faster_layout(model, x)
        found = halving(lambda size: _logits(model, x, size, layout), batch)
        model.train(was_training)
    return found


def faster_layout(model: nn.Module, x: Tensor) -> torch.memory_format:
    """Returns how images x (m, c, h, w) should lie in memory for a model in evaluation mode.

    Pixel by pixel (channels last) on a CPU where the model convolves. A model may need the other
    layout, such as for a view of its maps: it is tried on two of them.
    """
    with torch.no_grad():
        if _is_faster_pixelwise(model, x[:_SAMPLE]):
            return torch.channels_last
    return torch.contiguous_format


def _is_faster_pixelwise(model: nn.Module, x: Tensor) -> bool:
    if x.is_cuda or x.dim() != 4:
        return False
    if not any(isinstance(module, nn.Conv2d) for module in model.modules()):
        return False
    wanted: Tensor = model(x)
    try:
        found: Tensor = model(x.contiguous(memory_format=torch.channels_last))
    except RuntimeError:
        return False
    largest = float(wanted.abs().max())
    rounding = torch.finfo(wanted.dtype).eps ** 0.5
    return torch.allclose(found, wanted, rtol=0.0, atol=rounding * largest)


def _logits(
    model: nn.Module,
    x: Tensor,
    batch: int,
    layout: torch.memory_format,
) -> Tensor:
    def passed(part: Tensor) -> Tensor:
        logits: Tensor = model(part.contiguous(memory_format=layout))
        return logits

    return in_parts(passed, x, batch)
