"""The gradient engine: per-example gradients, their products, and curvature."""

from poisonbench.gradients.backprop import gradient_vectors
from poisonbench.gradients.passes import Layers, Plan
from poisonbench.gradients.planning.names import parameter_names
from poisonbench.gradients.planning.plan import plan
from poisonbench.gradients.products import (
    dot_products,
    gradient_norms,
    layer_norms,
    project,
)
from poisonbench.gradients.selection import RAW, Form
from poisonbench.gradients.sketch import Sketch

__all__ = [
    "RAW",
    "Form",
    "Layers",
    "Plan",
    "Sketch",
    "dot_products",
    "gradient_norms",
    "gradient_vectors",
    "layer_norms",
    "parameter_names",
    "plan",
    "project",
]
