"""The attacker's own models, which attacks that optimise their poison craft it against."""

from torch import nn

from poisonbench import training
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.models import predict
from poisonbench.notes import note
from poisonbench.seeding import derive
from poisonbench.training import Recipe


def own_recipe(own: Recipe | None, victim: Recipe) -> Recipe:
    """Returns the attacker's recipe, or the victim's (white box) for None; the log says which."""
    if own is None:
        note("surrogate", "white box")
        return victim
    note("surrogate", repr(own))
    return own


def by_steps(own: Recipe) -> Recipe:
    """Returns the recipe of models that an attack trains itself, a step at a time.

    Raises:
        ConfigError: a loop of someone else's trains by it, whose batches, rates and optimiser the
            recipe does not tell.
    """
    if own.loop is None:
        return own
    what = (
        "the attack takes the steps of a recipe itself, got one with a loop of its own"
    )
    raise ConfigError([what], "give `surrogate`, a recipe without `train`")


def surrogate(
    train: Dataset,
    own: Recipe | None,
    victim: Recipe,
    seed: int,
    member: int = 0,
) -> nn.Module:
    """Returns the model that the attacker trains on the clean set; its accuracy there is logged.

    Args:
        train: the clean training set.
        own: the attacker's recipe; None takes the victim's (white box), with its pretrained
            features in transfer.
        victim: the victim's recipe.
        seed: of the attack.
        member: which of several surrogates: each has a seed of its own.

    Returns:
        A model in evaluation mode; what its recipe does not train (frozen features) has
        requires_grad=False.
    """
    recipe = own_recipe(own, victim)
    trace = training.train(train, recipe, _seed(seed, member))
    model = trace.model()
    right = predict(model, train.x).argmax(1) == train.y
    name = f"surrogate{member or ''}_accuracy"
    note(name, float(right.float().mean()))
    return model


def surrogates(
    train: Dataset,
    own: Recipe | None,
    victim: Recipe,
    seed: int,
    number: int,
) -> list[nn.Module]:
    """Returns so many of the attacker's models, see `surrogate`."""
    return [surrogate(train, own, victim, seed, member) for member in range(number)]


def _seed(seed: int, member: int) -> int:
    if member == 0:
        return derive(seed, "surrogate")
    return derive(seed, "surrogate", member)
