"""A model and its plan in bfloat16, whose numbers have 8 bits: a test that it still works so."""

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from poisonbench.data import Dataset
from poisonbench.device.faults import is_of_device
from poisonbench.errors import ConfigError, ModelError
from poisonbench.gradients.calls import undisturbed
from poisonbench.gradients.passes import Plan

PROBED = 4  # instances on which the models are compared
APART = 0.25  # of the largest logit; what rounding moves is a few hundredths
WAY_OUT = "take precision 'full', or 'tf32'"


def lowered(
    model: nn.Module,
    how: Plan,
    data: Dataset,
) -> tuple[nn.Module, Plan]:
    """Returns a copy of the model with parameters and statistics in bfloat16, and its plan.

    Args:
        model: in float32 and evaluation mode.
        how: made for the model in float32.
        data: a few instances, on which the models are compared.

    Raises:
        ConfigError: the data are not of float32.
        ModelError: the model does not run in bfloat16, or its logits are far from what they were,
            as of a model that reads its inputs as whole numbers.
    """
    if data.dtype != torch.float32:
        raise ConfigError([f"bf16 works on float32, got {data.dtype}"], WAY_OUT)
    low = copy.deepcopy(model).to(torch.bfloat16)
    hooked = {name: low.get_submodule(name) for name in how.hooked}
    plan = replace(how, hooked=hooked, low=True)
    with torch.no_grad():
        with undisturbed(model):
            exact = model(data.x)
        found = _run(low, plan.inputs(data.x))
    error = (found - exact).abs().max()
    largest = exact.abs().max()
    if bool(largest.isfinite()) and not bool(error <= APART * largest):
        reason = f"has logits in bfloat16 that are {float(error / largest):.0%} off"
        raise ModelError.of_layer("", model, reason, WAY_OUT)
    return low, plan


def _run(low: nn.Module, x: Tensor) -> Tensor:
    """Returns the logits in float32."""
    try:
        with undisturbed(low):
            logits: Tensor = low(x)
    except (RuntimeError, TypeError) as error:
        if is_of_device(error):
            raise
        told = str(error).strip().splitlines()[0]
        reason = f"cannot be run in bfloat16: {told}"
        raise ModelError.of_layer("", low, reason, WAY_OUT) from error
    return logits.float()
