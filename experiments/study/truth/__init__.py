"""How right each estimator is, against models trained without parts of the data."""
