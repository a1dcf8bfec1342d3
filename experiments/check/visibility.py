"""Whether a victim can see a trigger at all.

A network whose strides drop the border is blind to a patch there at any budget.

Cost: one backward pass over 64 random instances; for sentences as many forward passes as places.
"""

import torch
from torch import Tensor, nn

from poisonbench.contracts.values import Poisoned
from poisonbench.data import KINDS, UNKNOWN, Dataset
from poisonbench.models import build, predict
from poisonbench.seeding import generator
from poisonbench.training import Recipe

ROWS = 64  # a pixel that reaches the logits is the largest of its pooling window in some of them


def seen(model: nn.Module, x: Tensor) -> Tensor:
    """Returns (*shape) bool: the values that move the logits of an instance of x, (k, *shape)."""
    was_training = model.training
    with torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        logits = model.eval()(x)
        gradient = torch.autograd.grad(logits.square().sum(), x)[0]
    model.train(was_training)
    return (gradient != 0).any(0)


def places_seen(model: nn.Module, x: Tensor, others: Tensor) -> Tensor:
    """Returns (length,) bool: the places whose word moves the logits of a sentence of x.

    Args:
        model: of sentences.
        x: (k, length) token ids.
        others: (k, length), the words that take the places, one at a time.
    """
    before = predict(model, x)
    moved = []
    for place in range(x.shape[1]):
        changed = x.clone()
        changed[:, place] = others[:, place]
        moved.append((predict(model, changed) != before).any())
    return torch.stack(moved)


def seen_by(recipe: Recipe, data: Dataset) -> Tensor:
    """Returns (*shape) bool on the CPU: the values that the untrained model of a recipe sees.

    Random weights and random instances of the data's shape, so that the answer is about the
    architecture: what is unseen then no training can reach.
    """
    g = generator(0, "blind")
    size = (ROWS, *data.shape)
    model = build(recipe.model, data.layout, 0, recipe.model_args)
    if KINDS[str(data.kind)].whole:
        words = (UNKNOWN, len(data.vocabulary))
        x = torch.randint(*words, size, generator=g)
        return places_seen(model, x, torch.randint(*words, size, generator=g))
    return seen(model, torch.rand(size, generator=g))


def share_seen(recipe: Recipe, poisoned: Poisoned, test: Dataset) -> float | None:
    """Returns the share of the values changed in the attacked test points that the model sees.

    0 = the victim is blind.

    Args:
        recipe: of the victim, which names its model.
        poisoned: what the attack returned.
        test: the clean test set that it was given.

    Returns:
        A number in [0, 1], or None where no attacked test point differs from the clean one it comes
        from: there is no trigger.
    """
    known = poisoned.target_origin >= 0
    source = test.x[poisoned.target_origin[known]]
    changed = (poisoned.targets.x[known] != source).cpu()
    if not bool(changed.any()):
        return None
    changed_and_seen = changed & seen_by(recipe, test)
    return float(changed_and_seen.sum() / changed.sum())
