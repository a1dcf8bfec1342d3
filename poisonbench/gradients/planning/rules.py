"""The test of the layer rules, and of `vmap(grad)`, against what autograd finds on a probe.

A rule that a layer's type suggests may be wrong: its class may have a forward function of its own,
its weight may be read elsewhere too, its first axis may not be the batch's.
"""

import torch
from torch import Tensor, nn

from poisonbench.errors import ModelError
from poisonbench.gradients.embedding import Sparse
from poisonbench.gradients.forms import Dense, Grad
from poisonbench.gradients.layers import layer_grad, layer_vectors
from poisonbench.gradients.passes import Plan, Vectors, capture, flat_rows
from poisonbench.gradients.planning.check import Probe, close
from poisonbench.gradients.planning.names import member
from poisonbench.gradients.row_by_row import by_vmap


def wrong_rules(
    probe: Probe,
    how: Plan,
) -> list[str]:
    """Returns the layers of the plan whose rule does not give what autograd does on the probe."""
    _, reference = probe.reference
    try:
        taken = capture(probe.model, how, probe.parameters, probe.x)
        gradients = taken.output_gradients(probe.seed)
    except (RuntimeError, ModelError):  # such as of an output changed in place
        return list(how.hooked)
    wrong = []
    for name, d in gradients.items():
        module = how.hooked[name]
        keys = [key for key, _ in module.named_parameters(recurse=False)]
        own = {key: reference[member(name, key)] for key in keys}
        if d is None:
            right = not any(bool(g.any()) for g in own.values())
        else:
            right = _agrees(module, own, taken.inputs[name], d, how.pixelwise)
        if not right:
            wrong.append(name)
    return wrong


def _agrees(
    module: nn.Module,
    own: Vectors,
    a: Tensor,
    d: Tensor,
    pixelwise: bool,
) -> bool:
    """Compares a layer's rule with its gradients by autograd; where all are zero: not shown."""
    try:
        found, _ = layer_grad(module, a, d, False, False, pixelwise)
        wanted = layer_vectors(module, own, pixelwise)
    except (RuntimeError, ValueError, IndexError):
        return False
    gradients = _joined(wanted)
    shown = bool(gradients.any())
    return shown and close(_joined(found), gradients)


def _joined(form: Grad) -> Tensor:
    """Returns the gradients (B, p) of weight and bias side by side."""
    if isinstance(form, Sparse):
        form = form.whole()
    assert isinstance(form, Dense)
    if form.bias is None:
        return form.g
    return torch.cat([form.g, form.bias], 1)


def vmap_is_right(
    probe: Probe,
    names: tuple[str, ...],
) -> bool:
    """Tells whether `vmap(grad)` differentiates the parameters `names` as autograd does."""
    if not names:
        return True
    _, reference = probe.reference
    try:
        found = by_vmap(probe.model, names, probe.parameters, probe.x, probe.seed)
    except (RuntimeError, ValueError, TypeError, NotImplementedError, AssertionError):
        return False
    if not probe.is_finite():
        return True
    return close(flat_rows(found, names), flat_rows(reference, names))


def widest(hooked: dict[str, nn.Module], held: int) -> int:
    """Returns the entries of the largest layer, or of the tables and the rest together."""
    others = held
    largest = 0
    for module in hooked.values():
        if isinstance(module, nn.Embedding):
            continue
        own = module.parameters(recurse=False)
        size = sum(p.numel() for p in own)
        others -= size
        largest = max(largest, size)
    return max(largest, others)
