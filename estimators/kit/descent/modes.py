"""The layers that compute otherwise in training than in evaluation, found by trying."""

import torch
from torch import Tensor, nn

from poisonbench.seeding import drawing, exact_arithmetic
from poisonbench.training import training_mode
from poisonbench.training.trace import Trace

PROBES = 64  # training instances on which layers are tried


def changing_layers(trace: Trace) -> list[str]:
    """Names the layers of the final model that give other outputs in training mode, by trying."""
    model = trace.model()
    x = trace.train.x[:PROBES]
    with drawing(0, x.device), exact_arithmetic(), torch.no_grad():
        training_mode(model, trace.by_recipe)
        live = {
            name: module for name, module in model.named_modules() if module.training
        }
        model.eval()
        if not _moved(model, x, list(live.values())):
            return []
        names = [
            f"{name} ({type(module).__name__})"
            for name, module in live.items()
            if _moved(model, x, [module])
        ]
    return names or [type(model).__name__]


def _moved(model: nn.Module, x: Tensor, modules: list[nn.Module]) -> bool:
    """Whether the outputs for x change when these modules are in training mode."""
    calm = model(x)  # anew each time: training mode may move running statistics
    for module in modules:
        module.training = True
    got = model(x)
    for module in modules:
        module.training = False
    return not torch.allclose(got, calm, equal_nan=True)
