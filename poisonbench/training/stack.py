"""K models of one shape as one: parameters stacked along a first dimension, and a forward pass that keeps the models apart.

Cost: a pass is a batched product a layer, where one model after another pays the overhead of every small operation K times.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from poisonbench.blocks import halving
from poisonbench.data import Dataset
from poisonbench.models import Classifier, GlobalMean, Normalize
from poisonbench.training.loop import exact_arithmetic, predict
from poisonbench.training.recipe import Recipe, starting_model

Forward = Callable[[Mapping[str, Tensor], Tensor], Tensor]  # stacked parameters, (K, B, *shape) -> logits (K, B, C)

PREDICTIONS = 1 << 15  # instances x models a pass

# what works on every instance alone and has no parameters: K models are only more instances
_PLAIN = (Normalize, nn.Identity, nn.ReLU, nn.Tanh, nn.GELU, nn.SiLU, nn.LeakyReLU, nn.Sigmoid)
_SPATIAL = (GlobalMean, nn.MaxPool2d, nn.AvgPool2d)  # these look at dimensions by number


class _Affine(torch.autograd.Function):
    """a W^T + b of K models: a (K, B, i), W (K, o, i), b (K, o) or None -> (K, B, o).

    By hand, because the gradients then come out as the parameters lie in memory, and are not copied once more.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(a, weight)
        ctx.bias = bias is not None
        return torch.bmm(a, weight.mT) if bias is None else torch.baddbmm(bias[:, None], a, weight.mT)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (d,) = grads
        a, weight = ctx.saved_tensors
        return torch.bmm(d, weight) if ctx.needs_input_grad[0] else None, torch.bmm(d.mT, a), d.sum(1) if ctx.bias else None


def _affine(params: Mapping[str, Tensor], name: str, a: Tensor) -> Tensor:
    out: Tensor = _Affine.apply(a, params[f"{name}weight"], params.get(f"{name}bias"))
    return out


def _walk(module: nn.Module, name: str, params: Mapping[str, Tensor], a: Tensor) -> Tensor:
    """Applies `module`, whose parameters are called `name`..., to a (K, B, ...)."""
    if isinstance(module, Classifier | nn.Sequential):
        for child, inner in module.named_children():
            a = _walk(inner, f"{name}{child}.", params, a)
        return a
    if isinstance(module, nn.Flatten):
        return a.flatten(2)
    if isinstance(module, nn.Linear):
        return _affine(params, name, a)
    out: Tensor = module(a.flatten(0, 1)).unflatten(0, a.shape[:2]) if isinstance(module, _SPATIAL) else module(a)
    return out


def _is_stackable(module: nn.Module) -> bool:
    """Whether `_walk` knows the module, and exactly its type: a subclass may do anything."""
    if type(module) in (Classifier, nn.Sequential):
        return all(_is_stackable(child) for child in module.children())
    if type(module) is nn.Flatten:
        return (module.start_dim, module.end_dim) == (1, -1)
    return type(module) in (nn.Linear, *_PLAIN, *_SPATIAL)


def _mapped(model: nn.Module) -> Forward:
    def forward(params: Mapping[str, Tensor], x: Tensor) -> Tensor:
        logits: Tensor = vmap(lambda p, rows: functional_call(model, p, (rows,)))(dict(params), x)
        return logits

    return forward


def _survives_vmap(model: nn.Module, x: Tensor) -> bool:
    """Whether the model is a function of parameters and instances alone: no dropout, no statistics of the batch.

    Tried in training mode on two models, since no list of layers tells of what a foreign model does in its `forward`.
    """
    params = {name: p.expand(2, *p.shape).clone() for name, p in model.state_dict().items()}
    try:
        model.train()
        moody = _mapped(model)(params, x.expand(2, *x.shape).clone())
        model.eval()
        calm = _mapped(model)(params, x.expand(2, *x.shape).clone())
        alone = torch.stack([model(row[None])[0] for row in x])
    except (RuntimeError, NotImplementedError, ValueError):  # randomness, changed buffers, control flow by value
        return False
    finally:
        model.eval()
    return torch.allclose(moody, calm, equal_nan=True) and torch.allclose(calm[0], alone, rtol=1e-3, atol=1e-4, equal_nan=True)


def forward_of(model: nn.Module, x: Tensor) -> Forward | None:
    """Returns the fastest exact way through K models of this kind at once, or None where one after another is best.

    The one place of this choice, measured on a CPU: batched matrix products for stacks of linear layers (22 times the speed of
    one by one); `vmap` for other models; one by one for convolutions, which `vmap` turns into grouped ones, slow on a CPU, and
    for models with dropout or statistics of the batch, which are no function of parameters and instances.

    Args:
        model: in evaluation mode, on its device.
        x: (m, *shape) some instances, to try the model on.
    """
    x = x[:2]
    if _is_stackable(model):
        return lambda params, rows: _walk(model, "", params, rows)
    if not x.is_cuda and any(isinstance(module, nn.modules.conv._ConvNd) for module in model.modules()):
        return None
    with torch.no_grad():
        return _mapped(model) if _survives_vmap(model, x) else None


def split(recipe: Recipe, data: Dataset, seed: int) -> tuple[nn.Module, nn.Module]:
    """Returns the starting model in two: what is frozen, whose outputs are computed once for all models, and what is trained."""
    model = starting_model(recipe, data, seed)
    if recipe.start is None or recipe.start.trained == "all":
        return nn.Identity(), model
    head = model.get_submodule("head")
    return model.get_submodule("features"), Classifier(nn.Identity(), cast(nn.Linear, head)).eval()


def stacked(models: list[nn.Module]) -> dict[str, Tensor]:
    """Returns the states of K models as (K, *shape) tensors; those of trained parameters are leaves that require gradients."""
    trained = {name for name, p in models[0].named_parameters() if p.requires_grad}
    states = [model.state_dict() for model in models]
    return {name: torch.stack([s[name] for s in states]).requires_grad_(name in trained) for name in states[0]}


def logit_gradients(logits: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """Returns d / d logits of the sum of weights x cross entropy, (K, B, C) for logits (K, B, C), y and weights (K, B)."""
    p = logits.mT.contiguous().softmax(1)  # classes before instances: a softmax over few entries is slow in the last dimension
    p.scatter_add_(1, y[:, None], torch.full_like(p[:, :1], -1.0))
    return p.mul_(weights[:, None]).mT


def predictions(model: nn.Module, states: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Returns the logits (k, m, C) of k models in evaluation mode.

    Args:
        model: of their kind, on the device of x; its own parameters are overwritten where there is no faster way.
        states: state name -> (k, *shape), on any device.
        x: (m, *shape) instances.
    """
    k = len(next(iter(states.values())))
    there = {name: value.to(x.device) for name, value in states.items()}
    forward = forward_of(model, x)
    if forward is None:
        return torch.stack([predict(_with_state(model, there, row), x) for row in range(k)])

    def run(size: int) -> Tensor:
        parts = [forward(there, part.expand(k, *part.shape)) for part in x.split(size)]
        return torch.cat(parts, 1)

    with torch.no_grad(), exact_arithmetic():
        return halving(run, max(1, PREDICTIONS // k))


def _with_state(model: nn.Module, states: Mapping[str, Tensor], row: int) -> nn.Module:
    model.load_state_dict({name: value[row] for name, value in states.items()})
    return model
