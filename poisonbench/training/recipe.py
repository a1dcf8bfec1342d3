"""The recipe of a training run, and the model from which it starts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from poisonbench.checks import (
    check_at_least,
    check_choice,
    check_not_negative,
    check_number,
    check_positive,
    check_share,
    check_type,
    check_whole,
)
from poisonbench.data import Dataset
from poisonbench.losses import CROSS_ENTROPY, LabelSmoothing, Loss
from poisonbench.models import build
from poisonbench.models.arguments import NONE, Arguments
from poisonbench.registry import lookup
from poisonbench.training.given.routine import (
    Routine,
    TrainFunction,
    check_loss_of_loop,
    untrained,
)
from poisonbench.training.start import Start

SCHEDULES = ("constant", "cosine", "one-cycle")
OPTIMIZERS = ("sgd", "adamw")
AUGMENTATIONS = ("none", "flip", "shift-flip", "crop-flip")
# a field that came later: configurations tell it where it is changed, so that older ones hold
LATER = {"configured": "when changed"}


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of a training run, in PyTorch's meaning of each.

    Attributes:
        model: name for `poisonbench.models.build`.
        model_args: keyword arguments for a model from outside, such as {"num_classes": 10} of
            "torchvision.models:resnet18".
        epochs: passes over the training set.
        batch_size: instances of a step; the last batch of an epoch may be smaller.
        lr: peak learning rate.
        momentum: of "sgd", mu in [0, 1); the buffer starts without dampening.
        nesterov: of "sgd", Nesterov momentum.
        weight_decay: w. With "sgd" the gradient of (w/2)|theta|^2 is added to that of the loss;
            "adamw" decays the parameters themselves, by the learning rate times w.
        schedule: "constant", "cosine" (to 0), or "one-cycle" (linear up over the first 30 % of the
            steps, then cosine to 0).
        checkpoints: number of checkpoints kept, evenly spaced over the steps; the last is the
            final model.
        optimizer: "sgd" or "adamw".
        betas: of "adamw", the decays of its two means, each in [0, 1).
        eps: of "adamw", added to the root of the second.
        warmup: share of the steps, in [0, 1), over which the learning rate first rises linearly;
            "one-cycle" has its own.
        label_smoothing: share of a label's weight that all C classes have in equal parts, in
            [0, 1): the run descends, and `losses` are, cross entropy with these labels.
        augment: "none", "flip" (images mirrored with probability 1/2), "crop-flip" (also padded
            with zeros by an eighth of each side, 4 pixels of 32, and cropped at random), or
            "shift-flip" (the same with a sixteenth, for runs of few epochs). Drawn anew in every
            step. Per-example gradients are of the rows as they are.
        mixed_precision: the forward pass of a training step computes in bfloat16 where PyTorch's
            autocast does so, and in GroupNorm; parameters, predictions and gradients for influence
            stay in float32.
        train: "package.module:function" of a training loop in the place of ours, see
            `given.routine.TrainFunction`: of the fields above it leaves only `model`,
            `weight_decay` and `label_smoothing` a meaning, which tell the objective.
        loss: that such a loop descends: "cross-entropy", "mean-squared-error", or
            "package.module:function" of (outputs, y) that returns that of each instance.
        routine: the loop and the model of a run of someone else's; left out as `start` is.
        start: the pretrained model from which training starts (transfer); None starts from the
            seed. It is left out of the repr and of configurations, which tell how it was made.

    Raises:
        TypeError: a value of another type, such as a model in the place of its name.
        ValueError: a value out of its range, naming the rule and the value.
    """

    model: str = "cnn"
    epochs: int = 20
    batch_size: int = 32
    lr: float = 0.05
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    schedule: str = "cosine"
    checkpoints: int = 6
    optimizer: str = field(default="sgd", metadata=LATER)
    betas: tuple[float, float] = field(default=(0.9, 0.999), metadata=LATER)
    eps: float = field(default=1e-8, metadata=LATER)
    warmup: float = field(default=0.0, metadata=LATER)
    label_smoothing: float = field(default=0.0, metadata=LATER)
    augment: str = field(default="none", metadata=LATER)
    mixed_precision: bool = field(default=False, metadata=LATER)
    train: str | None = field(default=None, metadata=LATER)
    loss: str = field(default=CROSS_ENTROPY, metadata=LATER)
    model_args: Mapping[str, Any] = field(default=NONE, metadata=LATER)
    routine: Routine | None = field(
        default=None, repr=False, metadata={"configured": False, "settable": False}
    )
    start: Start | None = field(
        default=None, repr=False, metadata={"configured": False, "settable": False}
    )

    def __post_init__(self) -> None:
        check_type("model", self.model, str, "a name of a model, or 'module:callable'")
        check_type("model_args", self.model_args, Mapping, "keyword arguments by name")
        object.__setattr__(self, "model_args", Arguments(self.model_args))
        for name in ("epochs", "batch_size", "checkpoints"):
            value = getattr(self, name)
            check_whole(name, value)
            check_at_least(name, value, 1)
        for name in ("lr", "weight_decay", "eps"):
            check_number(name, getattr(self, name))
        for name in ("momentum", "warmup", "label_smoothing"):
            check_number(name, getattr(self, name))
            check_share(name, getattr(self, name))
        check_positive("lr", self.lr)
        check_not_negative("weight_decay", self.weight_decay)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_choice("augment", self.augment, AUGMENTATIONS)
        for name in ("nesterov", "mixed_precision"):
            check_type(name, getattr(self, name), bool, "True or False")
        if self.warmup and self.schedule == "one-cycle":
            raise ValueError(
                f"warmup must be 0 with one-cycle, which has its own, got {self.warmup}"
            )
        self._check_optimizer()
        if self.train is not None:
            check_type("train", self.train, str, "'package.module:function'")
        check_loss_of_loop(self.loss, self.train, self.label_smoothing)
        if self.start is not None:
            check_type("start", self.start, Start, "a Start or None")

    def _check_optimizer(self) -> None:
        """Refuses values of the optimiser that it does not take, or would not look at."""
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_type("betas", self.betas, tuple, "two numbers in [0, 1)")
        for beta in self.betas:
            check_number("each of betas", beta)
            check_share("each of betas", beta)
        if len(self.betas) != 2:
            raise ValueError(f"betas must be two numbers, got {len(self.betas)}")
        check_positive("eps", self.eps)
        if self.optimizer == "adamw":
            if self.nesterov:
                raise ValueError("nesterov must be False with adamw, got True")
            return
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0, got 0")
        if self.betas != (0.9, 0.999) or self.eps != 1e-8:
            raise ValueError(f"betas and eps must be left out with {self.optimizer}")

    @property
    def loop(self) -> TrainFunction | None:
        """The loop of someone else's by which it trains; None: ours.

        Raises:
            ConfigError: no such function.
        """
        if self.routine is not None:
            return self.routine.function
        if self.train is None:
            return None
        found: TrainFunction = lookup({}, self.train, "training function")
        return found

    @property
    def descends(self) -> Loss:
        """The loss of an instance that the run descends."""
        smoothing = self.label_smoothing
        return LabelSmoothing(smoothing) if smoothing else self.loss

    @property
    def penalty(self) -> float:
        """The w of the objective, mean loss + (w/2)|theta|^2, that the run descends.

        AdamW's decay is no part of an objective: 0.
        """
        if self.optimizer == "adamw":
            return 0.0
        return self.weight_decay


def starting_model(
    recipe: Recipe,
    data: Dataset,
    seed: int,
) -> nn.Module:
    """Builds the model from which a run with this seed starts, in evaluation mode.

    It lies on the device of the data, in their dtype. In transfer it has the pretrained state, and
    parameters that are not trained do not require a gradient.

    Raises:
        ConfigError: no such model, or the pretrained state does not fit it.
    """
    if recipe.routine is not None:
        return untrained(recipe.routine, seed)
    model = build(recipe.model, data.layout, seed, recipe.model_args)
    model = model.to(device=data.x.device, dtype=data.dtype)
    if recipe.start is not None:
        recipe.start.enter(model)
    return model


def training_mode(model: nn.Module, recipe: Recipe) -> None:
    """Puts a model into training mode; frozen features compute as in evaluation."""
    if recipe.start is None:
        model.train()
    else:
        recipe.start.begin_step(model)
