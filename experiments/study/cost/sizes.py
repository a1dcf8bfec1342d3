"""The sizes that costs depend on, and the runs of those sizes."""

from dataclasses import dataclass, replace

import torch
from torch import nn

from poisonbench.data import Dataset
from poisonbench.models.pictures import Classifier
from poisonbench.seeding import generator
from poisonbench.training import Recipe, train
from poisonbench.training.trace import Trace

AXES = ("n", "p", "T", "K", "m")
FEATURES = 64
CLASSES = 10
MODEL = "experiments.study.cost.sizes:perceptron"


@dataclass(frozen=True)
class Sizes:
    """How large a case is.

    Attributes:
        n: training instances.
        width: hidden units; the parameters p grow in proportion.
        steps: T, of training.
        models: K: checkpoints, models trained again, permutations.
        m: test points of a call.
        batch: instances of a step.
    """

    n: int
    width: int
    steps: int
    models: int
    m: int
    batch: int

    def grown(self, axis: str, factor: int) -> "Sizes":
        """Returns the sizes of which that of one axis is multiplied.

        Args:
            axis: one of `AXES`.
            factor: a power of two.
        """
        fields = {"n": "n", "p": "width", "T": "steps", "K": "models", "m": "m"}
        field = fields[axis]
        value = getattr(self, field) * factor
        return replace(self, **{field: value})

    def divided(self, by: int) -> "Sizes":
        """Returns the sizes with fewer instances, steps and hidden units, for a quick look."""
        return replace(
            self,
            n=max(1, self.n // by),
            steps=max(1, self.steps // by),
            width=max(4, self.width // by),
        )


@dataclass(frozen=True, eq=False)
class Case:
    """A training run and test points.

    Attributes:
        sizes: what was asked for.
        trace: of n instances, T steps and K checkpoints.
        test: m points.
        more: m further points.
    """

    sizes: Sizes
    trace: Trace
    test: Dataset
    more: Dataset

    def size(self, axis: str) -> int:
        """Returns the size along an axis."""
        if axis == "p":
            model = self.trace.model()
            return sum(parameter.numel() for parameter in model.parameters())
        sizes = self.sizes
        values = {"n": sizes.n, "T": sizes.steps, "K": sizes.models, "m": sizes.m}
        return values[axis]


def perceptron(shape: tuple[int, ...], classes: int, width: int) -> Classifier:
    """Returns a model of one hidden layer, with (64 + 11) width + 10 parameters."""
    inputs = torch.Size(shape).numel()
    hidden = nn.Linear(inputs, width)
    features = nn.Sequential(nn.Flatten(), hidden, nn.ReLU())
    return Classifier(features, nn.Linear(width, classes))


def clusters(n: int, seed: int) -> Dataset:
    """Returns n vectors around the centres of ten classes."""
    draws = generator(0, "centres")
    centres = torch.randn((CLASSES, FEATURES), generator=draws)
    draws = generator(seed, "vectors")
    y = torch.randint(CLASSES, (n,), generator=draws)
    noise = torch.randn((n, FEATURES), generator=draws)
    return Dataset(centres[y] + 2 * noise, y, CLASSES, "vector")


def case(sizes: Sizes) -> Case:
    """Trains on n vectors: as many steps of equal size, whatever n is.

    Raises:
        ValueError: the steps are not whole passes over the n instances.
    """
    seen = sizes.steps * sizes.batch
    if seen % sizes.n:
        told = (
            f"{sizes.steps} steps of {sizes.batch} are no whole passes over {sizes.n}"
        )
        raise ValueError(f"{told} instances: double one of them")
    points = clusters(2 * sizes.m, 1)
    recipe = Recipe(
        model=MODEL,
        model_args={"width": sizes.width},
        epochs=seen // sizes.n,
        batch_size=sizes.batch,
        lr=0.02,
        momentum=0.5,
        checkpoints=min(sizes.models, sizes.steps),
    )
    first = torch.arange(sizes.m)
    return Case(
        sizes=sizes,
        trace=train(clusters(sizes.n, 0), recipe, 0),
        test=points.take(first),
        more=points.take(first + sizes.m),
    )
