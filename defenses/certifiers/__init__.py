"""Certifiers: predictions with a bound on how many training instances an attack must change."""
