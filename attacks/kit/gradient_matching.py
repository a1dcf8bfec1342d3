"""What gradient-matching attacks share: the wanted gradient, and its cosine with the poison's."""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from poisonbench.checks import check_choice
from poisonbench.data import Dataset
from poisonbench.losses import CROSS_ENTROPY, Loss, each
from poisonbench.objectives import margins
from poisonbench.seeding import exact_arithmetic, generator

Augmentation = Literal["none", "shift", "shift-flip"]
# images (k, c, h, w), step -> the same, differentiable
Augment = Callable[[Tensor, int], Tensor]
WIDEST = 1 / 8  # of an image's side, by which an augmentation moves it at most


def mean_gradient(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    create_graph: bool = False,
) -> list[Tensor]:
    """Returns the gradient of the mean cross entropy in the trained parameters, a tensor each."""
    trained = [p for p in model.parameters() if p.requires_grad]
    with torch.enable_grad():
        mean = _losses(CROSS_ENTROPY, model(x), y).mean()
        return list(torch.autograd.grad(mean, trained, create_graph=create_graph))


def _losses(loss: Loss, outputs: Tensor, y: Tensor) -> Tensor:
    """Returns the loss of each row, (B,).

    Cross entropy is written as softplus(-margin), whose direction is right in float32 at any
    confidence.
    """
    if loss == CROSS_ENTROPY:
        return F.softplus(-margins(outputs, y))
    return each(loss, outputs, y)


def gradients_of(
    model: nn.Module, x: Tensor, y: Tensor, loss: Loss = CROSS_ENTROPY
) -> Tensor:
    """Returns each row's loss gradient in the trained parameters, (k, p), differentiable in x.

    Args:
        model: in evaluation mode.
        x: (k, *shape).
        y: (k,) labels.
        loss: that the model descends.
    """
    everything = {name: p.detach() for name, p in model.named_parameters()}
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    trained = {name: everything[name] for name in names}

    def along(parameters: dict[str, Tensor], one: Tensor, slope: Tensor) -> Tensor:
        state = {**everything, **parameters}
        logits = functional_call(model, state, (one[None],))
        product: Tensor = logits[0] * slope
        return product.sum()

    of_each = vmap(grad(along), in_dims=(None, 0, 0))
    gradients = of_each(trained, x, _slopes(model, x, y, loss))
    return torch.cat([g.flatten(1) for g in gradients.values()], 1)


def _slopes(model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> Tensor:
    """Returns each row's loss gradient at the outputs, (k, C), differentiable in x.

    A loss may look at the values of labels, as `one_hot` does: `vmap` allows that to none.
    """
    with torch.enable_grad():
        outputs = model(x)
        total = _losses(loss, outputs, y).sum()
        (slopes,) = torch.autograd.grad(total, outputs, create_graph=True)
    found: Tensor = slopes
    return found


def wanted_gradient(model: nn.Module, data: Dataset, batch: int = 512) -> list[Tensor]:
    """Returns the gradient of the mean cross entropy over `data`, whose labels are the wanted ones.

    It is scaled to norm 1 over all parameters together.
    """
    parts = []
    with exact_arithmetic():
        for rows in torch.arange(len(data)).split(batch):
            part = data.take(rows)
            share = len(part) / len(data)
            gradient = mean_gradient(model, part.x, part.y)
            parts.append([g * share for g in gradient])
    columns = zip(*parts, strict=True)
    total = [torch.stack(column).sum(0) for column in columns]
    size = norm(total)
    return [(g / size).detach() for g in total]


def norm(gradient: list[Tensor]) -> Tensor:
    """Returns the Euclidean norm over all parameters, a scalar; small numbers do not underflow."""
    tiny = torch.finfo(gradient[0].dtype).tiny
    sizes = [g.detach().abs().max() for g in gradient]
    largest = torch.stack(sizes).max().clamp(min=tiny)
    scaled = [g / largest for g in gradient]
    squares = [g.square().sum() for g in scaled]
    return torch.stack(squares).sum().sqrt() * largest


def misalignment(
    models: list[nn.Module],
    goals: list[list[Tensor]],
    x: Tensor,
    y: Tensor,
) -> Tensor:
    """Returns 1 - cos(wanted gradient, gradient of the poison), the mean over the models: a scalar.

    That is equation (3) of Geiping et al. (ICLR 2021). Of cross entropy, also where the models
    descend smoothed labels: poison whose gradient of these was turned moved victims less.

    Args:
        models: in evaluation mode.
        goals: of each, from `wanted_gradient`.
        x: (k, *shape), the poison.
        y: (k,) its labels.
    """
    parts = []
    for model, goal in zip(models, goals, strict=True):
        own = mean_gradient(model, x, y, create_graph=True)
        pairs = zip(own, goal, strict=True)
        products = [(a * b).sum() for a, b in pairs]
        cosine = torch.stack(products).sum() / norm(own)
        parts.append(1 - cosine)
    return torch.stack(parts).mean()


class Augmenting:
    """The field that attacks share which augment the poison while they craft it.

    Attributes:
        augment: of `Augmentation`.
    """

    augment: Augmentation

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of data that it takes: a sound is not mirrored."""
        if self.augment == "shift-flip":
            return ("image",)
        return ("image", "spectrogram")

    def check_augment(self) -> None:
        """Raises ValueError unless the field names an augmentation."""
        check_choice("augment", self.augment, get_args(Augmentation))


def augmenting(kind: Augmentation, seed: int) -> Augment:
    """Returns the augmentation of the poison that `kind` names: the identity, or `shifting`."""
    if kind == "none":
        return lambda x, _: x
    return shifting(seed, flip=kind == "shift-flip")


def shifting(seed: int, flip: bool) -> Augment:
    """Returns a differentiable augmentation: images move by up to an eighth of a side.

    They are read bilinearly, and may be flipped. The draws follow from the seed and the step alone;
    on CUDA the gradient is right, but not bit-equal from run to run.
    """

    def augment(x: Tensor, step: int) -> Tensor:
        g = generator(seed, "augment", step)
        k = len(x)
        # frames reach from -1 to 1, two a side
        uniform = torch.rand((k, 2), generator=g)
        move = (uniform * 2 - 1) * (2 * WIDEST)
        zero = torch.zeros(k)
        one = torch.ones(k)
        right, below = move.unbind(1)
        sign = one
        if flip:
            heads = torch.randint(2, (k,), generator=g)
            sign = heads * 2.0 - 1
        across = torch.stack([sign, zero, right], 1)
        down = torch.stack([zero, one, below], 1)
        frames = torch.stack([across, down], 1)
        grid = F.affine_grid(frames.to(x), list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, padding_mode="border", align_corners=False)

    return augment
