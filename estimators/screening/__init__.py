"""The most influential rows of a point alone."""
