"""Training: a recipe, its start, a loop of SGD that `train` records and `replay` walks again bit for bit, many models at once."""

from poisonbench.training.bulk import train_many
from poisonbench.training.ensemble import Ensemble
from poisonbench.training.loop import Step, exact_arithmetic, predict, replay, train
from poisonbench.training.recipe import SCHEDULES, Recipe, batch_order, learning_rates, starting_model, training_mode
from poisonbench.training.start import Start, body_of, digest

__all__ = [
    "SCHEDULES",
    "Ensemble",
    "Recipe",
    "Start",
    "Step",
    "batch_order",
    "body_of",
    "digest",
    "exact_arithmetic",
    "learning_rates",
    "predict",
    "replay",
    "starting_model",
    "train",
    "train_many",
    "training_mode",
]
