"""Faults planted by hand, one at a time, to see that the tests beside them fail.

Run by `python -m tests.faults`.
"""
