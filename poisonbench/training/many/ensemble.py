"""Many models trained on subsets of one training set, to be asked about any test points without training again."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from poisonbench.data import Dataset
from poisonbench.models import predict
from poisonbench.objectives import Measure, utility
from poisonbench.training.many.stacked import predictions, split
from poisonbench.training.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Part:
    """Some models of an ensemble.

    Attributes:
        rows: (k,) int64, which of the K models.
        load: reads what is kept of them, on the CPU: state name -> (k, *shape), or "logits" -> (k, m, C).
    """

    rows: Tensor
    load: Callable[[], dict[str, Tensor]]


@dataclass(frozen=True, eq=False)
class Ensemble:
    """K trained models.

    Attributes:
        masks: (K, n) bool on the CPU, the training instances of each.
        seeds: K ints, of initialisation and batch order.
        recipe: hyperparameters.
        train: the n instances.
        diverged: (K,) bool, the models whose training left the finite numbers; their predictions are NaN.
        parts: the models themselves, or their predictions alone.
        points: number of points whose predictions alone were kept, None where the models were.
    """

    masks: Tensor
    seeds: tuple[int, ...]
    recipe: Recipe
    train: Dataset
    diverged: Tensor
    parts: tuple[Part, ...]
    points: int | None = None

    def __len__(self) -> int:
        return len(self.masks)

    def logits(self, data: Dataset | None = None) -> Tensor:
        """Returns the predictions (K, m, C), on the device and in the dtype of the training set; NaN for a model that diverged.

        Args:
            data: m points; None for those whose predictions alone were kept.

        Raises:
            ValueError: points are given and only predictions were kept, or the other way round.
        """
        return self._gather(data, lambda logits: logits)

    def utility(self, data: Dataset, measure: Measure) -> Tensor:
        """Returns `objectives.utility` of every model at m points with the labels data.y, (K, m), without K m C numbers.

        Where predictions alone were kept, `data` are the points of these.
        """
        return self._gather(
            None if self.points is not None else data,
            lambda logits: utility(logits, data.y, measure),
        )

    def state(self, k: int) -> dict[str, Tensor]:
        """Returns the state dict of model k, on the CPU."""
        self._check(self.train)
        part = next(part for part in self.parts if bool((part.rows == k).any()))
        row = int((part.rows == k).nonzero())
        frozen, _ = split(self.recipe, self.train, self.seeds[k])
        own = {f"features.{name}": value.cpu() for name, value in frozen.state_dict().items()}
        return own | {name: value[row] for name, value in part.load().items()}

    def _gather(self, data: Dataset | None, reduce: Callable[[Tensor], Tensor]) -> Tensor:
        out: Tensor | None = None
        for rows, logits in self._predictions(data):
            values = reduce(logits)
            if out is None:
                out = values.new_empty(len(self), *values.shape[1:])
            out[rows.to(out.device)] = values
        assert out is not None  # K >= 1
        return out

    def _predictions(self, data: Dataset | None) -> Iterator[tuple[Tensor, Tensor]]:
        self._check(data)
        like = self.train.x
        frozen, model = split(self.recipe, self.train, self.seeds[0])
        inputs = None if data is None else predict(frozen, data.x.to(like))
        for part in self.parts:
            kept = part.load()
            logits = kept["logits"].to(like) if inputs is None else predictions(model, kept, inputs)
            logits[self.diverged[part.rows].to(like.device)] = torch.nan
            yield part.rows, logits

    def _check(self, data: Dataset | None) -> None:
        if data is not None and self.points is not None:
            raise ValueError(
                f"this ensemble kept its predictions on {self.points} points alone: train it without `points`"
            )
        if data is None and self.points is None:
            raise ValueError("this ensemble kept its models: name the points to predict")
