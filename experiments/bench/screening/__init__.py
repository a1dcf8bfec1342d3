"""Screened influence against the exact: recall over speed-up."""
