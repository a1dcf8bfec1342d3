"""The head of a model, the linear layer that gives the logits, and the body below it.

The models that are built in hold both under the names `head` and `features`. In any other model
the head is the layer that was named, or found by a pass of a few instances, or else its last
linear layer; the body is then everything below it: its output is what enters the head.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from poisonbench.errors import ConfigError, ModelError

NOTED = "_head_name"  # where a model keeps the name of its head; "" stands for none
PAIRED = (
    "_one_logit"  # whether the logits of the model are (0, f), f the output of its head
)
WAY_OUT = (
    "name the layer that gives the logits, head='...', or end the model in nn.Linear"
)


class Body(nn.Module):
    """What lies below the head of a model: returns what enters the head.

    Attributes:
        model: the whole model, which is called.
        name: of its head.
    """

    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__()
        self.model = model
        self.name = name
        self.training = model.training

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, *shape) to features (B, d).

        Raises:
            ModelError: the head is not called, or not on one vector an instance.
        """
        head = self.model.get_submodule(self.name)
        with watched({self.name: head}) as calls:
            self.model(x)
        if self.name not in calls:
            raise ModelError.of_layer(self.name, head, "is not called", WAY_OUT)
        features, _ = calls[self.name]
        if features.dim() != 2 or len(features) != len(x):
            reason = f"sees {tuple(features.shape)} for {len(x)} instances, and not one vector each"
            raise ModelError.of_layer(self.name, head, reason, WAY_OUT)
        return features


@contextmanager
def watched(
    layers: dict[str, nn.Module],
) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Gives what each layer was last called with and what it returned, by name."""
    calls: dict[str, tuple[Tensor, Tensor]] = {}
    names = {module: name for name, module in layers.items()}

    def hook(
        module: nn.Module,
        args: tuple[Tensor, ...],
        kwargs: dict[str, Tensor],
        out: Tensor,
    ) -> None:
        given = [*args, *kwargs.values()]
        calls[names[module]] = (given[0], out)

    handles = [
        module.register_forward_hook(hook, with_kwargs=True, prepend=True)
        for module in layers.values()
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def is_split(model: nn.Module) -> bool:
    """Whether a model holds the submodules `features` and `head`."""
    features = getattr(model, "features", None)
    return isinstance(features, nn.Module) and isinstance(
        getattr(model, "head", None), nn.Module
    )


def head_name(model: nn.Module) -> str:
    """Returns the name of the layer that gives the logits.

    Raises:
        ModelError: (a ValueError) no layer does.
    """
    name = getattr(model, NOTED, None)
    if name is None:
        name = _by_form(model)
    if not name:
        reason = "has no head: no nn.Linear gives its logits"
        raise ModelError.of_layer("", model, reason, WAY_OUT)
    return str(name)


def known_head(model: nn.Module) -> str | None:
    """Returns the name of the layer that gives the logits, None where no layer does."""
    try:
        return head_name(model)
    except ModelError:
        return None


def _by_form(model: nn.Module) -> str:
    """Returns the name `head` where there is such a layer, else that of the last linear layer."""
    if is_split(model) or isinstance(getattr(model, "head", None), nn.Linear):
        return "head"
    last = ""
    for name, _ in linear_layers(model):
        last = name
    return last


def linear_layers(model: nn.Module) -> list[tuple[str, nn.Linear]]:
    """Returns the linear layers of a model with their names, in its order."""
    found = []
    for name, module in model.named_modules():
        if name and isinstance(module, nn.Linear):
            found.append((name, module))
    return found


def head_of(model: nn.Module) -> nn.Linear:
    """Returns the linear layer whose output is the logits.

    Raises:
        ModelError: no layer gives them.
        ConfigError: the layer is not linear, or gives one logit for two classes.
    """
    name = head_name(model)
    head = model.get_submodule(name)
    if not isinstance(head, nn.Linear):
        kind = type(head).__name__
        raise ConfigError(
            [f"the head {name!r} must be linear, nn.Linear, got {kind}"],
            "end the model in nn.Linear",
        )
    if getattr(model, PAIRED, False):
        raise ConfigError(
            [f"the head {name!r} gives one logit for two classes"],
            "a head with one output per class and cross entropy is the same model",
        )
    return head


def body_of(model: nn.Module) -> nn.Module:
    """Returns the module that maps instances (B, *shape) to what enters the head, (B, d).

    Raises:
        ModelError: no layer gives the logits.
    """
    if is_split(model) and getattr(model, NOTED, None) is None:
        return model.get_submodule("features")
    return Body(model, head_name(model))


def in_head(name: str, head: str) -> bool:
    """Whether a parameter or buffer of that name belongs to the layer `head`."""
    return name.startswith(f"{head}.")


def freeze_body(model: nn.Module) -> None:
    """Leaves the parameters of the head alone to be trained."""
    head = head_name(model)
    for name, parameter in model.named_parameters():
        if not in_head(name, head):
            parameter.requires_grad_(False)
