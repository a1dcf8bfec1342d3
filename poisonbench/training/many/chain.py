"""K models whose layers follow one another, trained as one chain of stacked layers.

Which models are such is told by `is_chain`, by their layers' types; `choice.way_of` then tries.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from poisonbench.functional import whole_state
from poisonbench.memory import in_parts
from poisonbench.models.pictures import Classifier, Normalize
from poisonbench.training.many.convolution import Convolution
from poisonbench.training.many.layers import Flatten, Link, Pool, Product, Rectifier

Leaf = tuple[str, nn.Module]  # what its parameters' names begin with, and the module

_PRODUCTS = (nn.Linear, nn.Conv2d)
_PREPARED = 1024  # instances that are prepared together


class Chain:
    """K models whose layers follow one another, for which `is_chain` holds, on stacked states.

    Attributes:
        before: modules before the first layer with parameters, which all models share.
        links: the others.
    """

    def __init__(self, model: nn.Module, states: Mapping[str, Tensor]) -> None:
        leaves = _leaves(model)
        start = _first_product(leaves)
        self.before = [module for _, module in leaves[:start]]
        self.links: list[Link] = []
        chained = leaves[start:]
        followers = [module for _, module in chained[1:]]
        rectified = False
        for leaf, after in zip(chained, [*followers, nn.Identity()], strict=True):
            done = rectified  # a rectifier that the product before it has taken over
            rectified = isinstance(leaf[1], _PRODUCTS) and isinstance(after, nn.ReLU)
            if done or isinstance(leaf[1], nn.Identity):
                continue
            link = _link(leaf, states, rectified, first=not self.links)
            self.links.append(link)

    def prepare(self, x: Tensor) -> Tensor:
        """Returns what the first layer with parameters sees of the instances x (m, *shape).

        Some at a time: the layers before it would each hold another copy of all.
        """
        return in_parts(self._before, x, _PREPARED)

    def _before(self, x: Tensor) -> Tensor:
        for module in self.before:
            x = module(x)
        return x

    def logits(self, prepared: Tensor) -> Tensor:
        """Returns the outputs (K, B, C) for prepared instances (K, B, ...), until the next call."""
        with torch.no_grad():
            for link in self.links:
                prepared = link.forward(prepared)
        return prepared

    def backward(self, d: Tensor) -> None:
        """Sets the `grad` of the states from the gradients d (K, B, C) at the last outputs."""
        with torch.no_grad():
            for link in reversed(self.links):
                d = link.backward(d)


def _link(
    leaf: Leaf,
    states: Mapping[str, Tensor],
    rectified: bool,
    first: bool,
) -> Link:
    name, module = leaf
    if isinstance(module, _PRODUCTS):
        weight = states[f"{name}weight"]
        bias = states.get(f"{name}bias")
        if isinstance(module, nn.Conv2d):
            return Convolution(module, weight, bias, rectified, first)
        return Product(weight, bias, rectified, first)
    if isinstance(module, nn.MaxPool2d):
        return Pool(module)
    if isinstance(module, nn.Flatten):
        return Flatten()
    return Rectifier()


def _leaves(module: nn.Module, name: str = "") -> list[Leaf]:
    """Returns the layers in the order in which `Classifier` and `nn.Sequential` call them."""
    if type(module) not in (Classifier, nn.Sequential):
        return [(name, module)]
    leaves = []
    for (
        child,
        inner,
    ) in module._modules.items():  # a layer that stands twice is called twice
        assert inner is not None
        leaves += _leaves(inner, f"{name}{child}.")
    return leaves


def _first_product(leaves: list[Leaf]) -> int:
    """Returns where the first layer with parameters stands; the number of leaves if nowhere."""
    for i, (_, module) in enumerate(leaves):
        if isinstance(module, _PRODUCTS):
            return i
    return len(leaves)


def is_chain(model: nn.Module) -> bool:
    """Whether `Chain` knows every layer: by its exact type, since a subclass may do anything.

    Every layer with parameters stands in one place, and the model has no others.
    """
    leaves = _leaves(model)
    start = _first_product(leaves)
    if start == len(leaves):
        return False
    named = []
    for place, (name, module) in enumerate(leaves):
        known = _is_shared(module)
        if place >= start:
            known = _is_linked(module)
        if not known:
            return False
        for own, _ in module.named_parameters():
            named.append(f"{name}{own}")
    return sorted(named) == sorted(whole_state(model))


def _is_shared(module: nn.Module) -> bool:
    """Whether it may stand before the first layer with parameters."""
    if type(module) in (nn.Identity, Normalize):
        return True
    return _is_flatten(module)


def _is_linked(module: nn.Module) -> bool:
    if type(module) is nn.Conv2d:
        plain = module.groups == 1 and module.dilation == (1, 1)
        return plain and module.padding_mode == "zeros"
    if type(module) is nn.MaxPool2d:
        return not module.return_indices
    if type(module) in (nn.Identity, nn.Linear, nn.ReLU):
        return True
    return _is_flatten(module)


def _is_flatten(module: nn.Module) -> bool:
    if type(module) is not nn.Flatten:
        return False
    return module.start_dim == 1 and module.end_dim == -1


def patch_entries(model: nn.Module, x: Tensor) -> int:
    """Returns how many numbers the patches of all convolutions hold for an instance of x."""
    sizes = []

    def count(
        module: nn.Module,
        _: object,
        out: Tensor,
    ) -> None:
        assert isinstance(module, nn.Conv2d)
        pixels = out[0, 0].numel()
        entries = module.weight[0].numel()
        sizes.append(pixels * entries)

    convolutions = [
        module for module in model.modules() if isinstance(module, nn.Conv2d)
    ]
    if not convolutions:
        return 0
    hooks = [module.register_forward_hook(count) for module in convolutions]
    with torch.no_grad():
        model(x[:1])
    for hook in hooks:
        hook.remove()
    return sum(sizes)
