"""Many models trained on subsets of one training set, to be asked about any test points."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from poisonbench.data import Dataset
from poisonbench.functional import names_of_keys
from poisonbench.losses import CROSS_ENTROPY, Loss, has_labels, minus_loss
from poisonbench.models.head import head_name
from poisonbench.objectives import Measure, utility
from poisonbench.training.many.choice import way_of
from poisonbench.training.many.stacked import States, outputs_of, predictions, split
from poisonbench.training.recipe import Recipe, starting_model


@dataclass(frozen=True, eq=False)
class Part:
    """Some models of an ensemble.

    Attributes:
        rows: (k,) int64, which of the K models.
        load: reads what is kept of them, on the CPU: name in `functional.whole_state` ->
            (k, *shape), or "logits" -> (k, m, C).
    """

    rows: Tensor
    load: Callable[[], States]


@dataclass(frozen=True, eq=False)
class Ensemble:
    """K trained models.

    Attributes:
        masks: (K, n) bool on the CPU, the training instances of each.
        seeds: K ints, of initialisation and batch order.
        recipe: hyperparameters.
        train: the n instances.
        diverged: (K,) bool, the models whose training left the finite numbers; they predict NaN.
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
        """Returns the predictions (K, m, C), on the device and in the dtype of the training set.

        Those of a model that diverged are NaN.

        Args:
            data: m points; None for those whose predictions alone were kept.

        Raises:
            ValueError: points are given and only predictions were kept, or the other way round.
        """
        return self._gather(data, lambda logits: logits)

    def utility(
        self, data: Dataset, measure: Measure, loss: Loss = CROSS_ENTROPY
    ) -> Tensor:
        """Returns `objectives.utility` of every model at m points with the labels data.y, (K, m).

        The K m C predictions are never held at once. Where predictions alone were kept, `data` are
        the points of these.
        """

        def measured(logits: Tensor) -> Tensor:
            if measure == "loss" and not has_labels(loss):
                return minus_loss(loss, logits, data.y)
            return utility(logits, data.y, measure)

        if self.points is not None:
            return self._gather(None, measured)
        return self._gather(data, measured)

    def state(self, k: int) -> dict[str, Tensor]:
        """Returns the state dict of model k, on the CPU."""
        self._check(self.train)
        kept, row = self._kept_of(k)
        whole = starting_model(self.recipe, self.train, self.seeds[k])
        frozen, model = split(self.recipe, self.train, self.seeds[k])
        state = {key: value.cpu() for key, value in whole.state_dict().items()}
        for key, name in names_of_keys(model).items():
            own = key
            if not isinstance(frozen, nn.Identity):  # the head alone was trained
                own = f"{head_name(whole)}.{key.removeprefix('head.')}"
            state[own] = kept[name][row]
        return state

    def _kept_of(self, k: int) -> tuple[States, int]:
        """Returns what is kept of the models beside model k, and its row among them."""
        for part in self.parts:
            own = part.rows == k
            if bool(own.any()):
                return part.load(), int(own.nonzero())
        raise IndexError(f"model {k} is not one of {len(self)}")

    def _gather(
        self, data: Dataset | None, reduce: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Returns (K, ...): what `reduce` makes of the predictions of each model."""
        found: Tensor | None = None
        for rows, logits in self._predictions(data):
            values = reduce(logits)
            if found is None:
                found = values.new_empty(len(self), *values.shape[1:])
            found[rows.to(found.device)] = values
        assert found is not None  # K >= 1
        return found

    def _predictions(self, data: Dataset | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields which models, (k,) int64, and their predictions (k, m, C)."""
        self._check(data)
        found = self._kept()
        if data is not None:
            found = self._computed(data)
        for rows, logits in found:
            diverged = self.diverged[rows]
            logits[diverged.to(logits.device)] = torch.nan
            yield rows, logits

    def _kept(self) -> Iterator[tuple[Tensor, Tensor]]:
        for part in self.parts:
            logits = part.load()["logits"]
            yield part.rows, logits.to(self.train.x.device, self.train.dtype)

    def _computed(self, data: Dataset) -> Iterator[tuple[Tensor, Tensor]]:
        frozen, model = split(self.recipe, self.train, self.seeds[0])
        inputs = outputs_of(frozen, data.to(self.train.x.device, self.train.dtype).x)
        way = way_of(model, inputs, len(inputs))
        for part in self.parts:
            logits = predictions(model, way, part.load(), inputs)
            yield part.rows, logits

    def _check(self, data: Dataset | None) -> None:
        if data is not None and self.points is not None:
            raise ValueError(
                f"this ensemble kept its predictions on {self.points} points alone: "
                "train it without `points`"
            )
        if data is None and self.points is None:
            raise ValueError(
                "this ensemble kept its models: name the points to predict"
            )
