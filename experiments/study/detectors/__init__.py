"""Detectors over runs of grids: pairs of data set and attack, which question told."""
