"""A least-squares head on a victim's features."""
