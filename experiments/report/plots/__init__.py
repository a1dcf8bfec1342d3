"""Plots of a run, from its logs alone: each is a function of rows or logs to a figure."""
