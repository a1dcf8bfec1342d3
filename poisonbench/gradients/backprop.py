"""Backward passes to the outputs of the layers: what the per-example gradients are made of.

The model's parameters are constants of the pass, so no weight gradient of the batch is ever computed; the per-example ones come
layer by layer from inputs and output gradients (`layers.py`), and by `vmap(grad)` for parameters that no layer rule covers.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from poisonbench.data import Dataset
from poisonbench.gradients.layers import (
    Dense,
    Grad,
    amax,
    ghost_is_cheaper,
    layer_grad,
    layer_vectors,
    places,
    supported,
)
from poisonbench.objectives import Objective, logit_gradient

Layers = Literal["all", "last"]


@dataclass(frozen=True, eq=False)
class Plan:
    """Which parameters are differentiated, and how.

    Attributes:
        hooked: layers with a rule of their own, in order.
        rest: names of the remaining parameters, for `vmap(grad)`.
        names: of all parameters differentiated, in the model's order.
        size: number p of their entries.
        pixelwise: images lie in memory pixel by pixel (channels last) during the passes.
    """

    hooked: dict[str, nn.Module]
    rest: tuple[str, ...]
    names: tuple[str, ...]
    size: int
    pixelwise: bool


def plan(model: nn.Module, layers: Layers, x: Tensor) -> Plan:
    """Sorts the trained parameters of `model` by how their per-example gradients are had; x (B, *shape) is for a trial run.

    Raises:
        ValueError: the model is in training mode, or has nothing to differentiate.
    """
    if model.training:
        raise ValueError(
            "per-example gradients need the model in evaluation mode, got training mode: call model.eval()"
        )
    root = "head" if layers == "last" else ""
    wanted = {name for name, p in model.named_parameters(remove_duplicate=False) if p.requires_grad}
    wanted = {name for name in wanted if name.startswith(root)}
    uses: dict[int, int] = {}
    for _, p in model.named_parameters(remove_duplicate=False):
        uses[id(p)] = uses.get(id(p), 0) + 1
    hooked: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        own = {f"{name}.{k}" if name else k: p for k, p in module.named_parameters(recurse=False)}
        if (
            own
            and own.keys() <= wanted
            and supported(module)
            and all(uses[id(p)] == 1 for p in own.values())
        ):
            hooked[name] = module
    for name in _misused(model, hooked, x[:1]):
        del hooked[name]
    done = {
        f"{name}.{k}" if name else k
        for name, m in hooked.items()
        for k, _ in m.named_parameters(recurse=False)
    }
    unique = [name for name, p in model.named_parameters() if name in wanted - done]
    names = tuple(name for name, _ in model.named_parameters() if name in wanted)
    size = sum(p.numel() for name, p in model.named_parameters() if name in wanted)
    if not size:
        raise ValueError("the model has no parameter that requires a gradient")
    return Plan(hooked, tuple(unique), names, size, _pixelwise(model, x[:1]))


def _pixelwise(model: nn.Module, x: Tensor) -> bool:
    """Channels last on a CPU: pooling, and gathering patches, are faster there (measured: a fifth of a small CNN's time)."""
    if x.dim() == 4 and not x.is_cuda and any(isinstance(m, nn.Conv2d) for m in model.modules()):
        try:
            with torch.no_grad():
                model(x.contiguous(memory_format=torch.channels_last))
        except (
            RuntimeError
        ):  # a model that asks for a view of its maps, which only the other layout gives
            return False
        return True
    return False


@contextlib.contextmanager
def _out_of_place(model: nn.Module) -> Iterator[None]:
    """Rectifiers and the like with inplace=True would overwrite the outputs that are needed; they compute the same without."""
    changed = [module for module in model.modules() if getattr(module, "inplace", False) is True]
    for module in changed:
        module.inplace = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in changed:
            module.inplace = True  # type: ignore[assignment]


def _misused(model: nn.Module, hooked: dict[str, nn.Module], x: Tensor) -> list[str]:
    """Names the layers that do not run exactly once on one tensor, or whose input or output is changed in place."""
    seen: dict[str, list[tuple[Tensor, Tensor, int, int]]] = {name: [] for name in hooked}

    def watch(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
            seen[name].append((args[0], out, args[0]._version, out._version))

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in hooked.items()]
    try:
        with torch.no_grad(), _out_of_place(model):
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    return [
        name
        for name, calls in seen.items()
        if len(calls) != 1
        or calls[0][0]._version != calls[0][2]
        or calls[0][1]._version != calls[0][3]
    ]


def _passes(
    model: nn.Module, how: Plan, data: Dataset, objective: Objective
) -> tuple[dict[str, tuple[Tensor, Tensor]], Dense | None]:
    """One forward and backward pass: (input, output gradient) of every hooked layer, and the gradients of the rest."""
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def tap(name: str) -> Callable[..., Tensor]:
        def hook(_: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
            inputs[name] = args[0].detach()
            # parameters are constants here, so that no weight gradient is computed; the first layer's output starts the tape
            outputs[name] = out if out.requires_grad else out.requires_grad_()
            return outputs[name]

        return hook

    constants = {name: p.detach() for name, p in model.named_parameters()}
    handles = [module.register_forward_hook(tap(name)) for name, module in how.hooked.items()]
    try:
        with torch.enable_grad(), _out_of_place(model):
            logits: Tensor = functional_call(
                model,
                constants,
                (
                    data.x.contiguous(memory_format=torch.channels_last)
                    if how.pixelwise
                    else data.x,
                ),
            )
    finally:
        for handle in handles:
            handle.remove()
    seed = logit_gradient(logits.detach(), data.y, objective)
    rest = _by_vmap(model, how.rest, constants, data.x, seed) if how.rest else None
    if not how.hooked:
        return {}, rest
    names = list(how.hooked)
    ds = torch.autograd.grad(
        logits, [outputs[name] for name in names], seed, materialize_grads=True
    )
    return {name: (inputs[name], d) for name, d in zip(names, ds, strict=True)}, rest


def _by_vmap(
    model: nn.Module, names: tuple[str, ...], constants: dict[str, Tensor], x: Tensor, seed: Tensor
) -> Dense:
    """Per-example gradients of the parameters `names` by `vmap(grad)`: any differentiable model, at more cost."""
    fixed = {name: p for name, p in constants.items() if name not in names}

    def scalar(free: dict[str, Tensor], one: Tensor, row: Tensor) -> Tensor:
        out: Tensor = functional_call(model, {**fixed, **free}, (one[None],))
        return (out[0] * row).sum()

    free = {name: constants[name] for name in names}
    grads = vmap(grad(scalar), in_dims=(None, 0, 0), randomness="error")(free, x, seed)
    return Dense(torch.cat([grads[name].reshape(len(x), -1) for name in names], 1))


def per_example(
    model: nn.Module,
    how: Plan,
    data: Dataset,
    objective: Objective,
    against: int | None,
    rescale: bool,
) -> Iterator[tuple[Grad, Tensor | None]]:
    """Yields the per-example gradients of `data`, a layer at a time, so that a consumer may drop each when it is done.

    Args:
        model: in evaluation mode.
        how: from `plan`.
        data: B instances, one batch.
        objective: what is differentiated.
        against: number of test gradients that they will be multiplied with, which decides the form of every layer; None: `Dense`.
        rescale: divide each example's layer gradient by a factor that keeps its norm far from under- and overflow.

    Yields:
        The layer's gradients, and the factors (B,) in float64 by which they were divided (None without `rescale`).
    """
    captured, rest = _passes(model, how, data, objective)
    for name, module in how.hooked.items():
        a, d = captured.pop(name)
        yield layer_grad(
            module,
            a,
            d,
            ghost_is_cheaper(module, places(module, d), against),
            rescale,
            how.pixelwise,
        )
    if rest is not None and rescale:
        scale = amax(rest.g)
        yield Dense(rest.g / scale[:, None]), scale.double()
    elif rest is not None:
        yield rest, None


def projections(
    model: nn.Module, how: Plan, data: Dataset, vectors: dict[str, Tensor], objective: Objective
) -> Tensor:
    """Returns <g_i, v> for the B instances of one batch and m vectors in parameter space, (B, m).

    Args:
        model: in evaluation mode.
        how: from `plan`.
        data: B instances.
        vectors: parameter name -> (m, *shape), for all parameters of the plan.
        objective: what is differentiated.
    """
    captured, rest = _passes(model, how, data, objective)
    parts = []
    for name, module in how.hooked.items():
        a, d = captured.pop(name)
        own = {
            k: vectors[f"{name}.{k}" if name else k]
            for k, _ in module.named_parameters(recurse=False)
        }
        gradient, _ = layer_grad(module, a, d, False, False, how.pixelwise)
        parts.append(gradient.dot(layer_vectors(module, own, how.pixelwise)))
    if rest is not None:
        parts.append(
            rest.dot(
                Dense(
                    torch.cat(
                        [vectors[name].reshape(len(vectors[name]), -1) for name in how.rest], 1
                    )
                )
            )
        )
    return torch.stack(parts).sum(0)


def gradient_vectors(
    model: nn.Module, data: Dataset, objective: Objective, layers: Layers = "all"
) -> dict[str, Tensor]:
    """Returns whole gradients, parameter name -> (m, *shape): for the few test points, never for training sets."""
    how = plan(model, layers, data.x[:1])
    parameters = dict(model.named_parameters())
    constants = {name: p.detach() for name, p in parameters.items()}
    with torch.no_grad():
        seed = logit_gradient(model(data.x), data.y, objective)
    flat = _by_vmap(model, how.names, constants, data.x, seed).g
    pieces = flat.split([parameters[name].numel() for name in how.names], 1)
    return {
        name: piece.view(-1, *parameters[name].shape)
        for name, piece in zip(how.names, pieces, strict=True)
    }
