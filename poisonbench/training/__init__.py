"""Training: a recipe, its start, a loop of SGD that `train` records and `replay` walks again bit for bit, many models at once."""

from poisonbench.training.loop import Step, replay, train
from poisonbench.training.many.ensemble import Ensemble
from poisonbench.training.many.train_many import train_many
from poisonbench.training.recipe import (
    SCHEDULES,
    Recipe,
    batch_order,
    learning_rates,
    starting_model,
    training_mode,
)
from poisonbench.training.start import Start, body_of, digest
from poisonbench.training.trace import Checkpoint, Trace

__all__ = [
    "SCHEDULES",
    "Checkpoint",
    "Ensemble",
    "Recipe",
    "Start",
    "Step",
    "Trace",
    "batch_order",
    "body_of",
    "digest",
    "learning_rates",
    "replay",
    "starting_model",
    "train",
    "train_many",
    "training_mode",
]
