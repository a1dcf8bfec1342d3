"""The choice of a way through K models at once, which is tried on real rows before it is trusted.

`Chain` serves linear layers, rectifiers, pooling and convolutions of small images in a row; `vmap`
other models. It turns convolutions into grouped ones, which are slow on a CPU, and on a GPU for
large models: these go one by one. So do models that draw random numbers in training, keep
statistics, or compute in any way that the faster one does not see (hooks, values kept outside).
"""

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from poisonbench.notes import note
from poisonbench.training.many.chain import Chain, is_chain, patch_entries
from poisonbench.training.many.stacked import Mapped, Way
from poisonbench.training.many.trial import agrees

# bytes of patches of a model's batch up to which products with them are faster than convolutions,
# measured on a CPU
PATCHES = 1 << 20
# and up to which grouped convolutions are faster on a GPU than one model after another, which fills
# it alone: measured at 32 MiB (5 times as fast) and 1 GiB (0.7 times)
GROUPED = 1 << 27
ROWS = 4  # on which a way is tried


def way_of(
    model: nn.Module,
    x: Tensor,
    batch: int,
) -> Way | None:
    """Returns the fastest exact way through K models of this kind at once.

    Args:
        model: in evaluation mode, on its device; what it holds is put back.
        x: (m, *shape) some instances, to try the model on.
        batch: instances a pass.

    Returns:
        None where one after another is best, or nothing else is right. A way that was refused
        leaves a note, since it costs time.
    """
    if not len(x):
        return None
    refused = []
    for way in _candidates(model, x, batch):
        if agrees(way, model, x[:ROWS]):
            return way
        refused.append(way.__name__)
    if refused:
        note(
            "trained_one_by_one",
            f"the model does not train as {', '.join(refused)} would",
        )
    return None


def _candidates(
    model: nn.Module,
    x: Tensor,
    batch: int,
) -> Iterator[type[Chain | Mapped]]:
    chained = is_chain(model)
    patches = 0
    if chained or x.is_cuda:
        patches = batch * patch_entries(model, x) * x.element_size()
    if chained and patches <= PATCHES:
        yield Chain
    convolutions = [module for module in model.modules() if isinstance(module, _ConvNd)]
    if not convolutions or (x.is_cuda and patches <= GROUPED):
        yield Mapped
