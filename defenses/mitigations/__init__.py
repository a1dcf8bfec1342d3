"""Mitigations: training again without what a detector or filter points at."""
