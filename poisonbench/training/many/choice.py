"""The choice of a way through K models at once, which is tried on real rows before it is trusted.

`Chain` serves linear layers, rectifiers, pooling and convolutions of small images in a row; `vmap`
other models. On a CPU, models with other convolutions go one by one: `vmap` turns these into
grouped ones, which are slow there. So do models that draw random numbers in training, keep
statistics, or compute in any way that the faster one does not see (hooks, values kept outside).
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from poisonbench.functional import whole_state
from poisonbench.notes import note
from poisonbench.seeding import Outside, drawing, exact_arithmetic, generator
from poisonbench.training.many.chain import Chain, is_chain, patch_entries
from poisonbench.training.many.stacked import Mapped, States, Way, set_state

# bytes of patches of a model's batch up to which products with them are faster than convolutions,
# measured on a CPU
PATCHES = 1 << 20
ROWS = 4  # on which a way is tried
PAIR = 2
MOVED = 0.05  # of the second model's parameters against the first's, which tells them apart
FLOOR = 100  # epsilons of the largest gradient of all, below which a difference is rounding

# what a model raises that a way cannot run: randomness, changed buffers, control flow by value
FAILURES = (RuntimeError, NotImplementedError, ValueError, TypeError, KeyError, AttributeError)

Gradients = dict[
    str, Tensor
]  # parameter name -> (k, *shape); parameters that are not used left out


def way_of(
    model: nn.Module,
    x: Tensor,
    batch: int,
) -> Way | None:
    """Returns the fastest exact way through K models of this kind at once.

    Args:
        model: in evaluation mode, on its device; what it holds is put back.
        x: (m, *shape) some instances, to try the model on.
        batch: instances a pass.

    Returns:
        None where one after another is best, or nothing else is right. A way that was refused
        leaves a note, since it costs time.
    """
    if not len(x):
        return None
    refused = []
    for way in _candidates(model, x, batch):
        if agrees(way, model, x[:ROWS]):
            return way
        refused.append(way.__name__)
    if refused:
        note("trained_one_by_one", f"the model does not train as {', '.join(refused)} would")
    return None


def _candidates(
    model: nn.Module,
    x: Tensor,
    batch: int,
) -> Iterator[type[Chain | Mapped]]:
    if is_chain(model) and batch * patch_entries(model, x) * x.element_size() <= PATCHES:
        yield Chain
    if x.is_cuda or not any(isinstance(module, _ConvNd) for module in model.modules()):
        yield Mapped


def agrees(
    way: Way,
    model: nn.Module,
    x: Tensor,
) -> bool:
    """Whether two models taken this way give the outputs and gradients of each one alone.

    Args:
        way: to be tried.
        model: in evaluation mode; its state is put back.
        x: (B, *shape) instances.
    """
    states = _two_states(model)
    with exact_arithmetic():
        alone = _alone(model, states, x)
        if alone is None:
            return False
        try:
            together = _together(way, model, states, x)
        except FAILURES:
            return False
    floor = max(_largest(value) for value in alone.values())
    return together.keys() == alone.keys() and all(
        _close(together[name], value, floor) for name, value in alone.items()
    )


def _two_states(model: nn.Module) -> States:
    """Returns the states of the model itself and of one whose parameters are moved a little."""
    g = generator(0, "try")
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    states = {}
    for name, value in whole_state(model).items():
        own = value.detach().clone()
        other = own
        if name in trained:
            noise = torch.randn(own.shape, generator=g, dtype=torch.float64).to(own)
            other = own + MOVED * noise
        states[name] = torch.stack([own, other]).requires_grad_(name in trained)
    return states


def _cotangents(logits: Tensor) -> Tensor:
    """Returns the gradients at the outputs (k, B, C) with which a way is tried."""
    g = generator(0, "cotangents")
    return torch.randn(logits.shape, generator=g, dtype=torch.float64).to(logits)


def _together(
    way: Way,
    model: nn.Module,
    states: States,
    x: Tensor,
) -> Gradients:
    """Returns outputs ("") and gradients of the two models, taken together."""
    twice = x.expand(PAIR, *x.shape)
    if way is Mapped:
        # randomness and changed buffers raise an error here, in the mode in which they appear
        model.train()
        try:
            way(model, states).logits(twice.clone())
        finally:
            model.eval()
    network = way(model, states)
    prepared = network.prepare(x)
    logits = network.logits(prepared.expand(PAIR, *prepared.shape).contiguous()).clone()
    network.backward(_cotangents(logits))
    found = {"": logits}
    for name, state in states.items():
        if state.requires_grad and state.grad is not None:
            found[name] = state.grad
    return found


def _alone(
    model: nn.Module,
    states: States,
    x: Tensor,
) -> Gradients | None:
    """Returns outputs ("") and gradients of one model after another, as the plain loop trains them.

    None if a model draws random numbers, or changes what it holds: then it goes one by one.
    """
    found: list[Gradients] = []
    kept = {name: value.detach().clone()[None] for name, value in whole_state(model).items()}
    try:
        for row in range(PAIR):
            set_state(model, states, row)
            gradients = _trained_step(model, x, row)
            if gradients is None or _changed(model, states, row):
                return None
            found.append(gradients)
    finally:
        model.eval()
        set_state(model, kept, 0)
    return {name: torch.stack([one[name] for one in found]) for name in found[0]}


def _trained_step(
    model: nn.Module,
    x: Tensor,
    row: int,
) -> Gradients | None:
    """Returns outputs ("") and gradients in training mode; None if the model draws, or fails."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    outside = Outside()
    model.train()
    with drawing(0, x.device), outside.drawing(0), torch.enable_grad():
        before = _drawn(x.device)
        try:
            logits: Tensor = model(x)
        except ValueError:  # BatchNorm of a single row
            return None
        drawn = not torch.equal(before, _drawn(x.device))
    if drawn or outside.drawn:
        return None
    seeds = _cotangents(logits.detach().expand(PAIR, *logits.shape))[row]
    gradients = torch.autograd.grad(logits, list(named.values()), seeds, allow_unused=True)
    pairs = zip(named, gradients, strict=True)
    found = {name: gradient for name, gradient in pairs if gradient is not None}
    return {"": logits.detach(), **found}


def _drawn(device: torch.device) -> Tensor:
    """Returns the state of the generators from which layers draw."""
    state = torch.random.get_rng_state()
    if device.type == "cuda":
        return torch.cat([state, torch.cuda.get_rng_state(device)])
    return state


def _changed(
    model: nn.Module,
    states: States,
    row: int,
) -> bool:
    """Whether a pass in training mode changed what the model holds, such as running statistics."""
    now = whole_state(model)
    return any(not torch.equal(value, states[name][row]) for name, value in now.items())


def _close(
    one: Tensor,
    other: Tensor,
    floor: float,
) -> bool:
    epsilon = torch.finfo(other.dtype).eps
    slack = epsilon**0.5 * _largest(other) + FLOOR * epsilon * floor
    return torch.allclose(
        one,
        other,
        rtol=0.0,
        atol=slack,
        equal_nan=True,
    )


def _largest(value: Tensor) -> float:
    return float(value.nan_to_num(0.0, 0.0, 0.0).abs().max())
