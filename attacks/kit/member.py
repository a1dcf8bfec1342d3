"""Models that an attack goes on training itself: the trained parameters apart, and their age."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.func import functional_call

from poisonbench import training
from poisonbench.data import Dataset
from poisonbench.training import Recipe
from poisonbench.training.loop import retrain
from poisonbench.training.steps import Plan

Parameters = dict[str, Tensor]


@dataclass(eq=False)
class Member:
    """A model of an ensemble.

    Attributes:
        model: its form, and what is not trained: frozen features, running statistics.
        theta: the parameters that are trained.
        age: steps of training behind it.
    """

    model: nn.Module
    theta: Parameters
    age: int

    def logits(self, theta: Parameters, x: Tensor) -> Tensor:
        """Returns the logits, (B, C), with other parameters."""
        found: Tensor = functional_call(self.model, theta, (x,))
        return found


def member_of(model: nn.Module, age: int) -> Member:
    """Returns a member that begins with the parameters of a model."""
    theta = {}
    for name, p in model.named_parameters():
        if p.requires_grad:
            theta[name] = p.detach().clone()
    return Member(model=model, theta=theta, age=age)


def partly_trained(
    train: Dataset,
    recipe: Recipe,
    seed: int,
    steps: int,
) -> nn.Module:
    """Returns the model after the first steps of the run that `training.train` makes of this seed.

    Args:
        train: n training rows.
        recipe: of the whole run, from which its batches and learning rates follow.
        seed: of the run.
        steps: taken, from 0 for the starting model to T for the final one.

    Returns:
        A model in evaluation mode.
    """
    batches = training.batch_order(len(train), recipe, seed)
    rates = training.learning_rates(len(batches), recipe)
    plan = Plan(batches[:steps], rates[:steps])
    model = training.starting_model(recipe, train, seed)
    retrain(model, train, recipe, seed, plan)
    return model
