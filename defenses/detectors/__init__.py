"""Detectors that judge test points by the influence of the training instances."""
