"""The roles of a training row in the ground truth of an attack."""

CLEAN, POISON, COVER = 0, 1, 2
