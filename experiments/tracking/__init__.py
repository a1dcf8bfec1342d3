"""Trackers: the curves and metrics of a run, told to a tool that shows them while it goes on."""
