"""The trial of a way through many models: two of them, taken together and one after another."""

import torch
from torch import Tensor, nn

from poisonbench.functional import whole_state
from poisonbench.seeding import Outside, drawing, exact_arithmetic, generator
from poisonbench.training.many.stacked import Mapped, States, Way, joined, set_state

PAIR = 2
# of the second model's parameters against the first's, which tells them apart
MOVED = 0.05
# epsilons of the largest gradient of all, below which a difference is rounding
FLOOR = 100

# what a model raises that a way cannot run: randomness, changed buffers, control flow by value
FAILURES = (
    RuntimeError,
    NotImplementedError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
)

# parameter name -> (k, *shape), of those that are used; "" -> outputs (k, B, C)
Gradients = dict[str, Tensor]


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
    if together.keys() != alone.keys():
        return False
    floor = max(_largest(value) for value in alone.values())
    return all(_close(together[name], value, floor) for name, value in alone.items())


def _two_states(model: nn.Module) -> States:
    """Returns the states of the model itself and of one whose parameters are moved a little."""
    g = generator(0, "try")
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    states = {}
    for name, value in whole_state(model).items():
        own = value.detach().clone()
        other = own
        if name in trained:
            noise = torch.randn(own.shape, generator=g, dtype=torch.float64)
            other = own + MOVED * noise.to(own)
        pair = torch.stack([own, other])
        states[name] = pair.requires_grad_(name in trained)
    return states


def _cotangents(logits: Tensor) -> Tensor:
    """Returns the gradients at the outputs (k, B, C) with which a way is tried."""
    g = generator(0, "cotangents")
    drawn = torch.randn(logits.shape, generator=g, dtype=torch.float64)
    return drawn.to(logits)


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
    prepared = prepared.expand(PAIR, *prepared.shape)
    logits = network.logits(prepared.contiguous())
    logits = logits.clone()
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
    kept = {}
    for name, value in whole_state(model).items():
        kept[name] = value.detach().clone()[None]
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
    return joined(found, torch.stack)


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
    pair = logits.detach().expand(PAIR, *logits.shape)
    gradients = torch.autograd.grad(
        outputs=logits,
        inputs=list(named.values()),
        grad_outputs=_cotangents(pair)[row],
        allow_unused=True,
    )
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
    slack = epsilon**0.5 * _largest(other)
    slack += FLOOR * epsilon * floor
    return torch.allclose(
        one,
        other,
        rtol=0.0,
        atol=slack,
        equal_nan=True,
    )


def _largest(value: Tensor) -> float:
    return float(value.nan_to_num(0.0, 0.0, 0.0).abs().max())
