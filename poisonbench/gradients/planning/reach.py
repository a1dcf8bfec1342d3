"""The test that a call with other values in the place of the parameters reaches every one of them.

A weight that a module reads through a plain list, a closure or a global name keeps its own value in
such a call, and what flows through it is missing from the gradient. Outputs that are cut off from
all parameters have no gradient at all.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from poisonbench.errors import ModelError
from poisonbench.gradients.calls import undisturbed
from poisonbench.gradients.passes import constants_of
from poisonbench.gradients.planning.check import Probe, close
from poisonbench.gradients.planning.refusals import told
from poisonbench.gradients.row_by_row import gradients_of_outputs, one_by_one

ROUNDING = 1000  # errors of a sum, in units of the last place of the largest gradient
WAY_OUT = "read it as an attribute of the module that registers it, not through a list or a closure"
TRACKED = (
    "no torch.no_grad(), inference_mode(), detach() or argmax on the way to the logits"
)


def check_reach(probe: Probe) -> None:
    """Compares the gradients at replaced parameters with those of plain backward passes.

    Both are of one instance at a time: in a batch a sum may be rounded to the other side of a
    rectifier's edge. Cost: two forward and backward passes of each instance.

    Raises:
        ModelError: names the first parameter that the model reads from elsewhere, too; or no output
            depends on a parameter, so that all scores would be 0.
    """
    model = probe.model
    parameters = dict(model.named_parameters())
    with told(model, "cannot be differentiated"):
        _, rows = one_by_one(
            model, probe.names, constants_of(model), probe.x, probe.seed
        )
        sources = [parameters[name] for name in probe.names]
        plain = _plain_sums(probe, sources)
    rounding = ROUNDING * max(float(gradient.abs().max()) for gradient in plain)
    for name, gradient in zip(probe.names, plain, strict=True):
        found = rows[name].sum(0)
        error = float((found - gradient).abs().max())
        # a gradient of zero, as of a shift that is normalised away, is rounding on both sides
        noise = rounding * torch.finfo(gradient.dtype).eps
        if error > noise and not close(found, gradient):
            place, _, key = name.rpartition(".")
            reason = f"has a parameter {key!r} that the model also reads from elsewhere"
            raise ModelError.of_layer(
                place, model.get_submodule(place), reason, WAY_OUT
            )


def _plain_sums(probe: Probe, sources: Sequence[Tensor]) -> list[Tensor]:
    """Returns the gradients of the model as it is, summed over the instances."""
    sums = [torch.zeros_like(source) for source in sources]
    tracked = False
    pairs = zip(probe.x.split(1), probe.seed.split(1), strict=True)
    with torch.enable_grad(), undisturbed(probe.model):
        for one, seed in pairs:
            out = probe.model(one)
            tracked = tracked or out.requires_grad
            found = gradients_of_outputs(out, sources, seed)
            for total, gradient in zip(sums, found, strict=True):
                total += gradient
    if not tracked:
        reason = "gives logits that autograd does not follow back to a parameter"
        raise ModelError.of_layer("", probe.model, reason, TRACKED)
    return sums
