"""Benchmarks of runs of someone else's."""
