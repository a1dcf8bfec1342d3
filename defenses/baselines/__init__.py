"""Detectors that read no influence: floors and rivals of those that do."""
