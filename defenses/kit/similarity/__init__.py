"""Cosines of features, and the nearest rows by them."""
