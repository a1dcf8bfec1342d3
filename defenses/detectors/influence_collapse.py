"""Influence collapse (Delta-Influence: Li et al. 2024, arXiv 2411.13731): a transformed trigger loses its proponents.

Needs: images and the final model; it scores transformed points itself, so it reads no influence matrix.

Cost: four times the dot products of gradients of one checkpoint.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from defenses.kit.evidence import check_images
from poisonbench.checks import check_at_least
from poisonbench.contracts.values import Evidence
from poisonbench.data import Dataset
from poisonbench.gradients.products import Form, dot_products


@dataclass(frozen=True)
class InfluenceCollapse:
    """How far the influence of a point's k strongest proponents falls when the point is blurred, flipped and cropped; the mean.

    Influence is the cosine of margin gradients at the final checkpoint, a cheap stand-in for any estimator, and proponents are
    rows of the predicted label, which stays that of the unchanged point. The paper flags training rows whose influence on a
    known poisoned point collapses; here the collapse itself marks the point.

    Attributes:
        k: proponents watched.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    uses: ClassVar[tuple[str, ...]] = ("gradients",)

    k: int = 10

    def __post_init__(self) -> None:
        check_at_least("k", self.k, 1)

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,) in [-2, 2]; NaN where no training row bears the predicted label.

        Raises:
            ConfigError: the instances are no images.
        """
        return falls(evidence, self.k).mean(0)


def falls(evidence: Evidence, k: int) -> Tensor:
    """Returns the fall of the mean cosine of the k strongest proponents for each of `TRANSFORMS`, (t, m); see the detector."""
    check_images(evidence, "influence-collapse transforms images")
    train, test, model = evidence.trace.train, evidence.test, evidence.trace.model()
    form = Form("margin", "all")
    before = dot_products(model, train, test, form)
    foreign = train.y != test.y[:, None]
    top = before.masked_fill(foreign, -torch.inf).topk(min(k, len(train))).indices
    there = ~foreign.gather(1, top)  # a label may have fewer rows than k
    changed = [
        dot_products(model, train, Dataset(change(test.x), test.y, test.classes), form)
        for change in TRANSFORMS.values()
    ]
    lost = [(before - after).gather(1, top).masked_fill(~there, 0.0).sum(1) for after in changed]
    return torch.stack(lost) / there.sum(1)


def blur(x: Tensor) -> Tensor:
    """Mean of each pixel and its neighbours in a square of 3, edges repeated; (m, c, h, w) to the same shape."""
    return F.avg_pool2d(F.pad(x, (1, 1, 1, 1), "replicate"), 3, 1)


def flip(x: Tensor) -> Tensor:
    """Left and right exchanged."""
    return x.flip(-1)


def crop(x: Tensor) -> Tensor:
    """An eighth cut from every side (at least a pixel), and enlarged to the old size."""
    h, w = (max(1, round(size / 8)) for size in x.shape[-2:])
    inside = x[..., h : x.shape[-2] - h, w : x.shape[-1] - w]
    return F.interpolate(inside, size=tuple(x.shape[-2:]), mode="bilinear", align_corners=False)


TRANSFORMS: dict[str, Callable[[Tensor], Tensor]] = {"blur": blur, "flip": flip, "crop": crop}
