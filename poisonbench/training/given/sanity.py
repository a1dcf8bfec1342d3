"""Whether a given model knows the training set that it is given with.

States of another model of the same form, or instances prepared otherwise than in training, fit in
every shape, and all scores would be of nothing.
"""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from poisonbench.data import Dataset
from poisonbench.data.rescale import into_model, outside_unit
from poisonbench.errors import RunWarning
from poisonbench.losses import Loss, has_labels
from poisonbench.models import predict
from poisonbench.training.checkpoint import Checkpoint

ROWS = 512  # training rows that are predicted
LEAST = 100  # rows below which a share of right predictions says little


def tell_unlike(model: nn.Module, data: Dataset, loss: Loss) -> None:
    """Warns of a model that predicts its training set no better than its most frequent label.

    And of one that gives probabilities to a loss that takes logits.

    Args:
        model: the final one, in evaluation mode.
        data: its n training instances, of which up to `ROWS` are predicted.
        loss: by which it was trained.
    """
    n = len(data)
    if n < LEAST:
        return
    rows = torch.linspace(0, n - 1, min(n, ROWS)).long()
    part = data.take(rows)
    logits = predict(model, part.x)
    if logits.shape[1] != data.classes:  # a number, no classes
        return
    if has_labels(loss) and _are_probabilities(logits):
        warnings.warn(
            "the outputs of the model lie as probabilities do, and its loss takes logits: was it "
            "trained so? otherwise give the model without its last softmax or sigmoid",
            RunWarning,
            stacklevel=3,
        )
    right = float((logits.argmax(1) == part.y).double().mean())
    most = int(torch.bincount(part.y).max()) / len(part)
    if right <= most:
        warnings.warn(
            f"the model predicts {right:.0%} of its training labels, the most frequent one is "
            f"{most:.0%}: are these its states, and the instances as it was trained on them?",
            RunWarning,
            stacklevel=3,
        )


def tell_rates(checkpoints: Sequence[Checkpoint]) -> None:
    """Warns of a final model that counts nothing beside others: its learning rate is 0."""
    rates = [checkpoint.lr for checkpoint in checkpoints]
    if rates[-1] == 0 and any(rates):
        none = sum(rate == 0 for rate in rates)
        warnings.warn(
            f"the learning rate of the final model is 0, as of {none} of {len(rates)} checkpoints: "
            "methods that sum over checkpoints leave it out; give a rate above 0 for each, lr=...",
            RunWarning,
            stacklevel=3,
        )


def tell_range(data: Dataset) -> None:
    """Warns of pictures outside [0, 1]: methods that change them refuse the run.

    Args:
        data: the n training instances.
    """
    told = outside_unit(data, "the training set")
    if told:
        warnings.warn(
            f"{told}; {data.kind}s lie in [0, 1], and methods that change them, such as rehearsed, "
            f"strip and scale-up, refuse others: {into_model(data)}; where these are no "
            "pictures, Dataset(x, y, classes, kind='vector')",
            RunWarning,
            stacklevel=3,
        )


def _are_probabilities(logits: Tensor) -> bool:
    """Whether all outputs are in [0, 1], and sum to 1 or are (0, f) of one output f."""
    inside = (logits >= 0) & (logits <= 1)
    if not bool(inside.all()):
        return False
    sums = logits.sum(1)
    one_logit = logits.shape[1] == 2 and not bool(logits[:, 0].any())
    return one_logit or torch.allclose(sums, torch.ones_like(sums), atol=1e-4)
