"""Scores of detectors as questions with a common form, weighed by surprise among trusted points."""
