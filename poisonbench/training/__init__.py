"""Training: a recipe, its start, the loop, and many models at once.

`train` records the loop, and `replay` walks it again bit for bit.
"""

from poisonbench.training.checkpoint import Checkpoint
from poisonbench.training.loop import replay, train
from poisonbench.training.many.ensemble import Ensemble
from poisonbench.training.many.train_many import train_many
from poisonbench.training.order import batch_order, learning_rates
from poisonbench.training.recipe import (
    SCHEDULES,
    Recipe,
    starting_model,
    training_mode,
)
from poisonbench.training.start import Start, digest, without_head
from poisonbench.training.steps import Step
from poisonbench.training.trace import Trace

__all__ = [
    "SCHEDULES",
    "Checkpoint",
    "Ensemble",
    "Recipe",
    "Start",
    "Step",
    "Trace",
    "batch_order",
    "digest",
    "learning_rates",
    "replay",
    "starting_model",
    "train",
    "train_many",
    "training_mode",
    "without_head",
]
