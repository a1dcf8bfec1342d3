"""Whether the parts of a grid fit together, told before any work."""
