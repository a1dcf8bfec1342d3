"""Models as functions of their parameters: calls with other values in the place of a model's own.

`torch.func.functional_call` with `tie_weights` leaves a module that stands under two names without
its parameters, and without it a parameter that two modules share comes apart. Here every value
goes to each place where its parameter stands, and each place is named once.
"""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.func import functional_call

State = Mapping[str, Tensor]


def places(model: nn.Module) -> dict[str, list[str]]:
    """Returns the places of every parameter and buffer: its name -> where it stands, once each.

    The name is that of `named_parameters` and `named_buffers`. A module under two names is one
    place; a parameter that two modules share has two.
    """
    names: dict[int, str] = {}
    found: dict[str, list[str]] = {}
    for prefix, module in model.named_modules():
        for attribute, value in _own(module):
            place = attribute
            if prefix:
                place = f"{prefix}.{attribute}"
            name = names.setdefault(id(value), place)
            standing = found.setdefault(name, [])
            standing.append(place)
    return found


def _own(module: nn.Module) -> list[tuple[str, Tensor]]:
    parameters = module.named_parameters(recurse=False, remove_duplicate=False)
    buffers = module.named_buffers(recurse=False, remove_duplicate=False)
    return [*parameters, *buffers]


def call(
    model: nn.Module,
    state: State,
    x: Tensor,
    where: dict[str, list[str]] | None = None,
) -> Tensor:
    """Returns the outputs for x (B, *shape) with `state` in the place of the model's own values.

    The model itself stays as it is, whatever its modules and parameters share.

    Args:
        model: supplies the form, and what `state` lacks.
        state: name of a parameter or buffer -> value.
        x: instances.
        where: `places(model)`, if it is known.
    """
    if where is None:
        where = places(model)
    filled = {}
    for name, value in state.items():
        for place in where[name]:
            filled[place] = value
    out: Tensor = functional_call(model, filled, (x,), tie_weights=False)
    return out


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """Returns every parameter and buffer once, those that `state_dict` leaves out as well."""
    state: dict[str, Tensor] = dict(model.named_parameters())
    state.update(model.named_buffers())
    return state


def finite_names(model: nn.Module) -> frozenset[str]:
    """Returns the names in `whole_state` of what is wholly finite; a mask of -inf is not."""
    state = whole_state(model)
    return frozenset(
        name for name, value in state.items() if bool(value.isfinite().all())
    )


def names_of_keys(model: nn.Module) -> dict[str, str]:
    """Returns the name in `whole_state` of every key of the model's state dict.

    A key that stands for no parameter or buffer, such as a module's extra state, is left out.
    """
    names = {}
    for name, value in whole_state(model).items():
        names[id(value)] = name
    known = {}
    for key, value in model.state_dict(keep_vars=True).items():
        if id(value) in names:
            known[key] = names[id(value)]
    return known
