"""Benchmarks of what judges points and rows."""
