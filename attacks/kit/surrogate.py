"""What attacks share that optimise their poison: the attacker's own model, and descent inside a ball around the clean rows."""

from torch import nn

from poisonbench import training
from poisonbench.data import Dataset
from poisonbench.models import predict
from poisonbench.notes import note
from poisonbench.seeding import derive
from poisonbench.training import Recipe


def surrogate(
    train: Dataset, own: Recipe | None, victim: Recipe, seed: int, member: int = 0
) -> nn.Module:
    """Returns the model that the attacker trains on the clean set; its training accuracy goes into the log.

    Args:
        train: the clean training set.
        own: the attacker's recipe; None takes the victim's (white box), with its pretrained features in transfer.
        victim: the victim's recipe.
        seed: of the attack.
        member: which of several surrogates: each has a seed of its own.

    Returns:
        A model in evaluation mode; what its recipe does not train (frozen features) has requires_grad=False.
    """
    note("surrogate", "white box" if own is None else repr(own))
    model = training.train(
        train, own or victim, derive(seed, "surrogate", *([member] if member else []))
    ).model()
    right = predict(model, train.x).argmax(1) == train.y
    note(f"surrogate{member or ''}_accuracy", float(right.float().mean()))
    return model
