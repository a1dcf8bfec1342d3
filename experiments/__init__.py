"""Scenes, grids, evaluation, tables, plots and the command line."""
