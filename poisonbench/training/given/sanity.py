"""Whether a given model knows the training set that it is given with.

States of another model of the same form, or instances prepared otherwise than in training, fit in
every shape, and all scores would be of nothing.
"""

import warnings

import torch
from torch import nn

from poisonbench.data import Dataset
from poisonbench.models import predict

ROWS = 512  # training rows that are predicted
LEAST = 100  # rows below which a share of right predictions says little


def tell_unlike(model: nn.Module, data: Dataset) -> None:
    """Warns of a model that predicts its training set no better than its most frequent label.

    Args:
        model: the final one, in evaluation mode.
        data: its n training instances, of which up to `ROWS` are predicted.
    """
    n = len(data)
    if n < LEAST:
        return
    rows = torch.linspace(0, n - 1, min(n, ROWS)).long()
    part = data.take(rows)
    logits = predict(model, part.x)
    if logits.shape[1] != data.classes:  # a number, no classes
        return
    right = float((logits.argmax(1) == part.y).double().mean())
    most = int(torch.bincount(part.y).max()) / len(part)
    if right <= most:
        warnings.warn(
            f"the model predicts {right:.0%} of its training labels, the most frequent one is "
            f"{most:.0%}: are these its states, and the instances as it was trained on them?",
            stacklevel=4,
        )
