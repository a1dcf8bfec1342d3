"""Names of parameters: of a layer's members, and of what is differentiated."""

from torch import nn

from poisonbench.errors import ModelError
from poisonbench.gradients.passes import Layers
from poisonbench.models.head import head_name


def member(
    prefix: str,
    key: str,
) -> str:
    """Returns the full name of the member `key` of the module named `prefix`, "" for the model."""
    return f"{prefix}.{key}" if prefix else key


def by_owner(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Returns the names of parameters in groups, those of one layer together, in order.

    What a parametrised weight is computed from belongs to the layer.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        layer, _, _ = name.rpartition(".")
        layer, _, _ = layer.partition(".parametrizations.")
        groups.setdefault(layer, []).append(name)
    return [tuple(group) for group in groups.values()]


def parameter_names(
    model: nn.Module,
    layers: Layers,
) -> tuple[str, ...]:
    """Returns the names of the parameters that are differentiated, in the model's order.

    A weight of the head that is tied with another layer's has that layer's name.

    Raises:
        ModelError: there is none, no head for layers "last", or one is complex.
    """
    wanted = {id(p) for p in model.parameters()}
    if layers == "last":
        head = model.get_submodule(head_name(model))
        wanted = {id(p) for p in head.parameters()}
    names = [
        name
        for name, p in model.named_parameters()
        if p.requires_grad and id(p) in wanted
    ]
    if not names:
        raise ModelError(
            "the model has no parameter that requires a gradient",
            "call requires_grad_()",
        )
    for name in names:
        _check_real(model, name)
    return tuple(names)


def _check_real(model: nn.Module, name: str) -> None:
    """Refuses a complex parameter: products of complex gradients are no influence."""
    if not model.get_parameter(name).is_complex():
        return
    place, _, key = name.rpartition(".")
    reason = f"has a complex parameter {key!r}, and products of gradients are of reals"
    way = "keep torch.view_as_real(w), and take torch.view_as_complex of it in forward"
    raise ModelError.of_layer(place, model.get_submodule(place), reason, way)
