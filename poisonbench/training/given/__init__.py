"""Runs of someone else's: the model, its data, its checkpoints, and its own loop of training."""
