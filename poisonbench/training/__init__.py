"""Training: a recipe, its start, and one loop of SGD that `train` records and `replay` walks again bit for bit."""

from poisonbench.training.loop import Step, exact_arithmetic, predict, replay, train
from poisonbench.training.recipe import SCHEDULES, Recipe, batch_order, learning_rates, starting_model, training_mode
from poisonbench.training.start import Start, body_of, digest

__all__ = [
    "SCHEDULES",
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
    "training_mode",
]
