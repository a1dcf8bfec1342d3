"""Certifiers: predictions with a bound on how many training instances an attacker would have to change."""
