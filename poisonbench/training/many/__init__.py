"""Many models trained at once, bit-equal for equal seeds."""
