"""Filters: scores of the training instances, larger for suspicious ones."""
