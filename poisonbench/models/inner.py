"""The inner part of a model that was built elsewhere: what enters the last large part of its body.

The features that enter the head often show the prediction alone; a part below them still tells
inputs apart.
"""

from math import isqrt

from torch import Tensor, nn

from poisonbench.models.head import Body, watched

WHOLE = (
    0.9  # a part with this share of the weights is not the last part, but all of them
)
MOST = 4096  # values of an instance: larger maps are averaged down to it


class Inner(nn.Module):
    """Returns what enters a part of a model, (B, d); large maps are averaged.

    Where the part is not called on one tensor an instance, or on token ids, which are names and no
    places in a space, it returns what enters the head.

    Attributes:
        body: of the model.
        part: name of the part.
    """

    def __init__(self, body: Body, part: str) -> None:
        super().__init__()
        self.body = body
        self.part = part
        self.training = body.training

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, *shape) to (B, d)."""
        part = self.body.model.get_submodule(self.part)
        with watched({self.part: part}) as calls:
            features: Tensor = self.body(x)
        given = calls[self.part][0] if self.part in calls else features
        if not isinstance(given, Tensor) or len(given) != len(x):
            return features
        if given.is_nested or not given.is_floating_point():
            return features
        return _small(given)


def _small(given: Tensor) -> Tensor:
    """One vector an instance: large maps averaged, sequences over their length."""
    if given.dim() == 4 and given[0].numel() > MOST:
        side = max(1, isqrt(MOST // given.shape[1]))
        given = nn.functional.adaptive_avg_pool2d(given, side)
    if given.dim() == 3:
        given = given.mean(1)
    return given.flatten(1)


def inner_of(body: Body) -> nn.Module:
    """Returns the inner part of a body; the body itself where it has no weights."""
    part = inner_name(body.model, body.name)
    return body if part is None else Inner(body, part)


def inner_name(model: nn.Module, head: str) -> str | None:
    """Returns the name of the last part of the body that has weights, None without one.

    A part that holds nearly all weights (an encoder, what is wrapped) is looked into.

    Args:
        model: the whole model, its parts in the order in which they are called.
        head: name of its head.
    """
    name = ""
    module = model
    total = _weights(model, "", head)
    while True:
        parts = []
        for child, part in module.named_children():
            path = f"{name}.{child}".lstrip(".")
            if _weights(part, path, head):
                parts.append((path, part))
        if not parts:
            return name or None
        name, module = parts[-1]
        weights = _weights(module, name, head)
        if weights <= WHOLE * total:
            return name
        total = weights


def _weights(module: nn.Module, path: str, head: str) -> int:
    """The number of weights of a part, biases, norms and the head left out."""
    count = 0
    for name, parameter in module.named_parameters():
        full = f"{path}.{name}".lstrip(".")
        if parameter.dim() > 1 and not full.startswith(f"{head}."):
            count += parameter.numel()
    return count
