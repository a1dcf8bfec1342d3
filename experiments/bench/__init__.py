"""Benchmarks against the floor and against peers: python -m experiments.bench NAME."""
