"""Values, models, training, gradients and the log of poisonbench: knows no method."""
