"""The gradient engine: per-example gradients, their products, and curvature."""
