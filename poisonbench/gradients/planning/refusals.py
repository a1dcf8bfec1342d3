"""Refusals by name: which layer stands in the way of per-example gradients, and the way out."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from poisonbench.device.faults import is_of_device
from poisonbench.errors import ModelError
from poisonbench.functional import call
from poisonbench.gradients.calls import undisturbed
from poisonbench.gradients.passes import Vectors

FREEZE = "freeze it by requires_grad_(False), or take the head's gradients alone, layers='last'"
OWN_ROWS = (
    "use a layer that sees every row alone: GroupNorm, LayerNorm, running statistics"
)


def refuse_modes(model: nn.Module) -> None:
    """Refuses models and layers whose results depend on chance or on the rows beside.

    Raises:
        ModelError: a layer is in training mode, normalises by the statistics of its batch, or is
            a trained table of vectors that the words of a batch change or scale.
    """
    if model.training:
        raise ModelError(
            "per-example gradients need the model in evaluation mode, got training mode",
            "call model.eval()",
        )
    for name, module in model.named_modules():
        if module.training:
            raise ModelError.of_layer(
                name,
                module,
                "is in training mode, the model in evaluation mode",
                "model.eval()",
            )
        if (
            isinstance(module, nn.modules.batchnorm._BatchNorm)
            and module.running_mean is None
        ):
            raise ModelError.of_layer(
                name,
                module,
                "has no running statistics, so that a row's score depends on the rows beside it",
                OWN_ROWS,
            )
        if isinstance(module, nn.Embedding) and module.weight.requires_grad:
            _refuse_settings(name, module)


def _refuse_settings(name: str, module: nn.Embedding) -> None:
    """Refuses a table of vectors whose gradient is not that of a row of a batch alone."""
    if module.max_norm is not None:
        reason = "shortens its vectors in place when it runs"
        raise ModelError.of_layer(name, module, reason, "take max_norm=None")
    if module.scale_grad_by_freq:
        reason = "divides gradients by how often a word stands in the batch"
        raise ModelError.of_layer(name, module, reason, "take scale_grad_by_freq=False")


@contextlib.contextmanager
def told(
    model: nn.Module,
    reason: str,
) -> Iterator[None]:
    """Turns an error inside the model into a refusal that names the layer that was running."""
    running: list[str] = []

    def enter(name: str) -> Callable[..., None]:
        return lambda *_: running.append(name)

    def leave(*_: object) -> None:
        running.pop()

    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(enter(name), prepend=True))
        handles.append(module.register_forward_hook(leave))
    try:
        yield
    except (
        RuntimeError,
        ValueError,
        TypeError,
        NotImplementedError,
        IndexError,
    ) as error:
        if isinstance(error, ModelError) or is_of_device(error):
            raise
        name = running[-1] if running else ""
        reason = f"{reason}: {str(error).strip().splitlines()[0]}"
        raise ModelError.of_layer(
            name, model.get_submodule(name), reason, FREEZE
        ) from error
    finally:
        for handle in handles:
            handle.remove()


def refuse_dependence(
    model: nn.Module,
    parameters: Vectors,
    x: Tensor,
    close: Callable[[Tensor, Tensor], bool],
) -> None:
    """Refuses a model whose rows depend on each other, or on chance.

    Raises:
        ModelError: always; it names the first layer whose output for a row differs with the rows
            beside it.
    """
    together = _outputs(model, parameters, x)
    alone = _outputs(model, parameters, x[:1])
    name = ""
    for layer, output in together.items():
        if (
            layer in alone
            and len(output) == len(x)
            and not close(alone[layer], output[:1])
        ):
            name = layer
            break
    raise ModelError.of_layer(
        name,
        model.get_submodule(name),
        "gives a row another result when other rows are beside it, or each time it is called",
        OWN_ROWS,
    )


def _outputs(
    model: nn.Module,
    parameters: Vectors,
    x: Tensor,
) -> dict[str, Tensor]:
    """Returns what every module returned last, in the order of their ends, tensors alone."""
    found: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(
            _: nn.Module,
            __: object,
            out: object,
        ) -> None:
            if isinstance(out, Tensor) and out.dim() > 0:
                found[name] = out.detach().clone()

        return hook

    handles = [
        module.register_forward_hook(watch(name))
        for name, module in model.named_modules()
    ]
    try:
        with torch.no_grad(), undisturbed(model):
            call(model, parameters, x)
    finally:
        for handle in handles:
            handle.remove()
    return found
