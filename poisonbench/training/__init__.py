"""Training: a recipe, and one loop of SGD that `train` records and `replay` walks again bit for bit."""

from poisonbench.training.loop import Step, exact_arithmetic, predict, replay, train
from poisonbench.training.recipe import SCHEDULES, Recipe, batch_order, learning_rates

__all__ = ["SCHEDULES", "Recipe", "Step", "batch_order", "exact_arithmetic", "learning_rates", "predict", "replay", "train"]
