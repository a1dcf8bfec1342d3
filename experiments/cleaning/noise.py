"""Wrong labels that are planted, so that it is known which rows are to be found."""

import torch
from torch import Tensor

from experiments.plan.cleaning.spec import Noise
from poisonbench.errors import DataError
from poisonbench.seeding import generator


def with_noise(
    y: Tensor,
    classes: int,
    noise: Noise,
    seed: int,
    pairs: int,
) -> Tensor:
    """Returns labels with noise planted in round(share n) rows, drawn at random.

    Args:
        y: (n,) int64 labels.
        classes: C.
        noise: "random": any of the other labels; "class": one other label for each class.
        seed: of the rows, and of the labels of random noise.
        pairs: seed of which label takes the place of which.

    Raises:
        DataError: the noise is of no row.
    """
    if noise.kind == "none":
        return y
    n = len(y)
    count = round(noise.share * n)
    if not count:
        raise DataError(f"noise of {noise.share:g} is none of {n} rows", "take more")
    g = generator(seed, "noise", noise.kind)
    shuffled = torch.randperm(n, generator=g)
    rows = shuffled[:count]
    right = y[rows]
    if noise.kind == "random":
        shift = torch.randint(1, classes, (count,), generator=g)
        wrong = (right + shift) % classes
    else:
        wrong = wrong_labels(classes, pairs)[right]
    noisy = y.clone()
    noisy[rows] = wrong
    return noisy


def wrong_labels(classes: int, seed: int) -> Tensor:
    """Returns the label that takes the place of each, (C,): the next one in an order drawn once."""
    g = generator(seed, "noise", "pairs")
    order = torch.randperm(classes, generator=g)
    following = torch.empty_like(order)
    following[order] = order.roll(-1)
    return following
