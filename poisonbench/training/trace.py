"""What a training run leaves behind: all that an influence estimator may know of it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import Tensor, nn

from poisonbench.checks import check_type, check_whole
from poisonbench.data import KINDS, Dataset
from poisonbench.errors import PointsError
from poisonbench.losses import Loss
from poisonbench.models import MODELS
from poisonbench.models.head import known_head
from poisonbench.training.checkpoint import Checkpoint
from poisonbench.training.given.fitting import check_numbers
from poisonbench.training.given.form import Given, form_of
from poisonbench.training.given.routine import Remake, TrainFunction, routine_of
from poisonbench.training.given.sanity import tell_range, tell_rates, tell_unlike
from poisonbench.training.given.states import checkpoints_of
from poisonbench.training.needs import check_needs, unmet_needs
from poisonbench.training.recipe import Recipe, starting_model
from poisonbench.training.steps import Plan


@dataclass(frozen=True, eq=False)
class Trace:
    """A finished training run: of `train`, which fills every field, or of someone else's (`of`).

    Attributes:
        train: the n training instances.
        checkpoints: ascending in step; the last is the final model.
        seed: of initialisation and batch order.
        recipe: hyperparameters, by which the run can be made again on other rows; None where it
            cannot.
        batches: (T, B) int64 on the CPU, the training instances of each step, -1 pads; None where
            nobody knows them.
        lr: (T,) float64 on the CPU, the learning rate of each step; None likewise.
        losses: (epochs,) mean training loss of each epoch, as seen by the steps; None likewise.
        scratch: folder in which a long fit may keep restart blocks, or None; no part of the
            configuration.
        given: the form of a model that was trained elsewhere; None where the recipe tells it.
    """

    train: Dataset
    checkpoints: tuple[Checkpoint, ...]
    seed: int
    recipe: Recipe | None = None
    batches: Tensor | None = None
    lr: Tensor | None = None
    losses: Tensor | None = None
    scratch: Path | None = None
    given: Given | None = None

    @staticmethod
    def of(
        model: nn.Module,
        train: object,
        checkpoints: object = None,
        *,
        head: str | None = None,
        loss: Loss = "cross-entropy",
        weight_decay: float = 0.0,
        retrain: TrainFunction | Remake | None = None,
        seed: int = 0,
        lr: object = None,
    ) -> "Trace":
        """Returns the run of a model that was trained elsewhere, by whatever loop.

        The model is copied and scored in evaluation mode; the caller's stays as it is. It warns
        where the model does not predict its training set, and of pictures outside [0, 1]. The
        training set goes where the model lies, in its floating type.

        Args:
            model: any module that maps instances to logits (B, C), or to an object that holds them
                as `.logits`; compiled and parallel wrappers are taken off.
            train: the n training instances as the model saw them, without random augmentation: a
                `Dataset`, a `TensorDataset`, a torch `Dataset` of pairs, or a pair (x, y) of
                tensors or arrays.
            checkpoints: states of the model in the order of training, the final one last, each
                `(state, lr)`, `(step, lr, state)`, `(step, state)` or a state alone. None: the
                model as it is, without a learning rate.
            head: name of the linear layer that gives the logits; None finds it.
            loss: by which it was trained: a name of `poisonbench.losses.LOSSES`, or a function
                `(outputs, y)` that returns the loss of each instance, (B,).
            weight_decay: w of the regulariser (w/2)|theta|^2 of the training.
            retrain: trains again: `(model, data, seed) -> (step, lr, state), ...`. The model that
                it gets is such a model, unwrapped, its layers reset but for what is frozen; or what
                `make()` builds, of `retrain=(make, function)`.
            seed: of what a method draws for this run.
            lr: learning rates of checkpoints without: a number, one per checkpoint, or, for
                checkpoints with a step, those of all steps (a scheduler's history).

        Raises:
            ConfigError: states or learning rates do not fit, or there is no such head.
            ModelError: (a ValueError) the model does not take the instances.
            DataError: `train` cannot be read, or its values or labels do not fit the model.
            TypeError: `model` is no module.
        """
        check_whole("seed", seed)
        given, data = form_of(model, train, head, loss, weight_decay)
        states = checkpoints_of(given.module, checkpoints, lr)
        check_numbers(states, given.module)
        recipe = None
        if retrain is not None:
            routine = routine_of(retrain, given)
            recipe = Recipe("given", weight_decay=weight_decay, routine=routine)
        run = Trace(data, states, seed, recipe, given=given)
        tell_range(data)
        tell_rates(states)
        tell_unlike(run.model(), data, given.loss)
        return run

    @cached_property
    def offers(self) -> frozenset[str]:
        """What an estimator may ask of the run, keys of `poisonbench.training.needs.NEEDS`."""
        offered = {"final model"}
        rates = [checkpoint.lr for checkpoint in self.checkpoints]
        known = all(rate >= 0 for rate in rates)  # and none is NaN
        if known and any(rates):
            offered.add("checkpoints")
        if self.batches is not None:
            offered.add("steps")
        if self.recipe is not None:
            offered.add("retraining")
        if self._has_head():
            offered.add("head")
        return frozenset(offered)

    def _has_head(self) -> bool:
        """Whether a linear layer gives the logits."""
        if self.given is not None:
            return self.given.head is not None
        if self.recipe is not None and self.recipe.model in MODELS:
            return True
        return known_head(self.model()) is not None

    @property
    def weight_decay(self) -> float:
        """Weight w of the regulariser (w/2)|theta|^2 of the objective."""
        if self.given is not None:
            return self.given.weight_decay
        return self.by_recipe.penalty

    @property
    def loss(self) -> Loss:
        """The loss that the run descended."""
        if self.given is not None:
            return self.given.loss
        return self.by_recipe.descends

    @property
    def by_recipe(self) -> Recipe:
        """The recipe; raises ConfigError where the run has none."""
        if self.recipe is None:
            raise unmet_needs(["retraining"], "this method")
        return self.recipe

    @property
    def by_step(self) -> Plan:
        """The batches and rates of all steps; raises ConfigError where nobody knows them."""
        if self.batches is None or self.lr is None:
            raise unmet_needs(["steps"], "this method")
        return Plan(self.batches, self.lr)

    def initial(self) -> nn.Module:
        """Returns the model before the first step, rebuilt from the seed.

        It lies on the device of the training set, in its dtype. Parameters that are not trained
        (frozen features, in transfer) have requires_grad=False.
        """
        return starting_model(self.by_recipe, self.train, self.seed)

    def model(self, k: int = -1) -> nn.Module:
        """Returns a copy of the model of checkpoint `k`, with its statistics, to be evaluated."""
        model = self.initial() if self.given is None else self.given.fresh()
        model.load_state_dict(self.checkpoints[k].state)
        return model


def check_trace(trace: object, method: object = None) -> None:
    """Refuses what is no finished run, and a run that does not offer what a method needs.

    Args:
        trace: the run.
        method: what asks, with its `needs`; None asks for the model alone.

    Raises:
        TypeError: `trace` is no Trace; a model alone does not tell how it was trained.
        ConfigError: names the unmet needs, and the way to meet them.
    """
    wanted = "a Trace: Trace.of(model, train), or what `train` returns"
    check_type("trace", trace, Trace, wanted)
    assert isinstance(trace, Trace)
    needs = getattr(method, "needs", ())
    check_needs(trace.offers, needs, type(method).__name__)


def check_points(trace: Trace, points: object, what: str = "points") -> None:
    """Refuses what cannot be scored by a run: no data set, or one of other instances.

    Raises:
        TypeError: `points` is no Dataset.
        PointsError: (a ValueError) its instances have another shape or number of classes than the
            training set, or lie on another device.
    """
    check_type("points", points, Dataset, "a poisonbench.data.Dataset")
    assert isinstance(points, Dataset)
    wanted = trace.train.layout
    if points.layout != wanted:
        raise PointsError(
            f"{what} must be instances as the training set, {wanted}, got {points.layout}",
            KINDS[str(trace.train.kind)].one_shape,
        )
    place = points.x.device
    home = trace.train.x.device
    if place != home:
        told = f"{what} must lie where the run does, {home}, got {place}"
        raise PointsError(told, f"points.to('{home}')")
