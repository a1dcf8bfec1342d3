"""Which gradients are multiplied."""

from dataclasses import dataclass

from poisonbench.gradients.passes import Layers
from poisonbench.gradients.sides import Renormalize
from poisonbench.losses import (
    CROSS_ENTROPY,
    Loss,
    Seeds,
    check_loss,
    direction,
    seeds_of,
)
from poisonbench.objectives import Objective


@dataclass(frozen=True)
class Form:
    """Which gradients are multiplied.

    Attributes:
        objective: "loss" (without weight decay) or "margin" (the logit against the logsumexp of
            the others, for cross entropy alone).
        renormalize: "none"; "all": cosines of the whole gradients; "layer": sum over the layers of
            a layer's cosines. Use it on margins: their gradient has the direction of the loss
            gradient and does not vanish with growing confidence.
        layers: "all", or "last" for the head's parameters alone.
        loss: a name of `poisonbench.losses.LOSSES`, or a function (outputs, y) -> (B,).

    Raises:
        ValueError: there is no such loss.
        ConfigError: the margin, of a loss other than cross entropy.
    """

    objective: Objective = "loss"
    renormalize: Renormalize = "none"
    layers: Layers = "all"
    loss: Loss = CROSS_ENTROPY

    def __post_init__(self) -> None:
        check_loss(self.loss)
        seeds_of(self.objective, self.loss)

    @classmethod
    def of(
        cls,
        loss: Loss,
        renormalize: Renormalize = "none",
        layers: Layers = "all",
    ) -> "Form":
        """Returns that of the loss gradients; renormalised, of cross entropy's margin gradients."""
        objective: Objective = "loss"
        if renormalize != "none":
            objective = direction(loss)
        return cls(objective, renormalize, layers, loss)

    @property
    def seeds(self) -> Seeds:
        """What is passed back from the outputs."""
        return seeds_of(self.objective, self.loss)


RAW = Form()
