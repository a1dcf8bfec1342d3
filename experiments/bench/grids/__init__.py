"""Benchmarks of running grids: what the runner costs, and what it survives."""
