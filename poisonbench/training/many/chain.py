"""K models whose layers follow one another, trained as one chain of stacked layers; which models are such."""

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn

from poisonbench.models import Classifier, Normalize
from poisonbench.training.many.layers import Convolution, Flatten, Link, Pool, Product, Rectifier

_PRODUCTS = (nn.Linear, nn.Conv2d)


class Chain:
    """K models whose layers follow one another, for which `is_chain` holds, on stacked states."""

    def __init__(self, model: nn.Module, states: Mapping[str, Tensor]) -> None:
        leaves = [*_leaves(model), ("", nn.Identity())]
        start = next(i for i, (_, module) in enumerate(leaves) if isinstance(module, _PRODUCTS))
        self.before = [module for _, module in leaves[:start] if isinstance(module, Normalize)]
        self.flat = any(isinstance(module, nn.Flatten) for _, module in leaves[:start])
        self.links: list[Link] = []
        last: nn.Module = nn.Identity()
        for (name, module), (_, after) in pairwise(leaves[start:]):
            if isinstance(module, _PRODUCTS):
                how = (
                    states[f"{name}weight"],
                    states.get(f"{name}bias"),
                    type(after) is nn.ReLU,
                    not self.links,
                )
                self.links.append(
                    Convolution(module, *how) if isinstance(module, nn.Conv2d) else Product(*how)
                )
            elif isinstance(module, nn.ReLU) and not isinstance(last, _PRODUCTS):
                self.links.append(Rectifier())
            elif isinstance(module, nn.MaxPool2d):
                self.links.append(Pool(module))
            elif isinstance(module, nn.Flatten):
                self.links.append(Flatten())
            last = module

    def prepare(self, x: Tensor) -> Tensor:
        """Returns what the first layer with parameters sees of the instances x (m, *shape)."""
        for module in self.before:
            x = module(x)
        return x.flatten(1) if self.flat else x

    def logits(self, prepared: Tensor) -> Tensor:
        """Returns the outputs (K, B, C) for prepared instances (K, B, ...), valid until the next call."""
        with torch.no_grad():
            for link in self.links:
                prepared = link.forward(prepared)
        return prepared

    def backward(self, d: Tensor) -> None:
        """Sets the `grad` of the states from the gradients d (K, B, C) at the last outputs."""
        with torch.no_grad():
            for link in reversed(self.links):
                d = link.backward(d)


def _leaves(module: nn.Module, name: str = "") -> list[tuple[str, nn.Module]]:
    if type(module) not in (Classifier, nn.Sequential):
        return [(name, module)]
    return [
        leaf
        for child, inner in module.named_children()
        for leaf in _leaves(inner, f"{name}{child}.")
    ]


def is_chain(model: nn.Module) -> bool:
    """Whether `Chain` knows every layer, and exactly its type: a subclass may do anything."""
    modules = [module for _, module in _leaves(model)]
    products = [isinstance(module, _PRODUCTS) for module in modules]
    start = products.index(True) if any(products) else len(modules)
    return start < len(modules) and all(
        _is_known(module, i < start) for i, module in enumerate(modules)
    )


def patch_entries(model: nn.Module, x: Tensor) -> int:
    """Returns how many numbers the patches of all convolutions hold for one instance of x (m, *shape)."""
    sizes = []

    def count(module: nn.Module, _: object, out: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        sizes.append(out[0, 0].numel() * module.weight[0].numel())

    hooks = [
        module.register_forward_hook(count)
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
    ]
    if hooks:
        with torch.no_grad():
            model(x[:1])
    for hook in hooks:
        hook.remove()
    return sum(sizes)


def _is_known(module: nn.Module, before: bool) -> bool:
    if type(module) is nn.Flatten:
        return (module.start_dim, module.end_dim) == (1, -1)
    if type(module) is nn.Conv2d:
        return module.groups == 1 and module.dilation == (1, 1) and module.padding_mode == "zeros"
    if type(module) is nn.MaxPool2d:
        return not before and not module.return_indices
    return type(module) in (
        (nn.Identity, Normalize) if before else (nn.Identity, nn.Linear, nn.ReLU)
    )
