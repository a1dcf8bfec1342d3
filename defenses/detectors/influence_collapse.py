"""Influence collapse: a transformed trigger loses its proponents.

Source: Delta-Influence (Li et al. 2024, arXiv 2411.13731).

Needs: images and the final model; it scores transformed points itself, so it reads no influence
matrix.

Cost: four times the dot products of gradients of one checkpoint.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from defenses.kit.evidence import check_images, check_points
from poisonbench.checks import check_at_least
from poisonbench.contracts.values import Evidence
from poisonbench.gradients.products import Form, dot_products


@dataclass(frozen=True)
class InfluenceCollapse:
    """How far the influence of a point's proponents falls when the point is transformed; the mean.

    Transformed is: blurred, flipped and cropped. Influence is the cosine of margin gradients at the
    final checkpoint, a cheap stand-in for any estimator, and proponents are the k strongest rows of
    the predicted label, which stays that of the unchanged point. The paper flags training rows
    whose influence on a known poisoned point collapses; here the collapse itself marks the point.

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
        check_points(evidence)
        return falls(evidence, self.k).mean(0)


def falls(evidence: Evidence, k: int) -> Tensor:
    """Returns the fall of the mean cosine of the k strongest proponents, (3, m); see the detector.

    Row by row for the point blurred, flipped and cropped.
    """
    check_images(evidence, "influence-collapse transforms images")
    train = evidence.trace.train
    test = evidence.test
    model = evidence.trace.model()
    form = Form("margin", "all")
    before = dot_products(model, train, test, form)
    foreign = train.y != test.y[:, None]
    count = min(k, len(train))
    own = before.masked_fill(foreign, -torch.inf)
    proponents = own.topk(count).indices
    there = ~foreign.gather(1, proponents)  # a label may have fewer rows than k
    lost = []
    for transformed in (blur(test.x), flip(test.x), crop(test.x)):
        changed = replace(test, x=transformed)
        after = dot_products(model, train, changed, form)
        fall = (before - after).gather(1, proponents)
        of_proponents = fall.masked_fill(~there, 0.0)
        lost.append(of_proponents.sum(1))
    return torch.stack(lost) / there.sum(1)


def blur(x: Tensor) -> Tensor:
    """Returns the mean of each pixel and its neighbours in a square of 3, edges repeated.

    Args:
        x: (m, c, h, w); the shape stays.
    """
    padded = F.pad(x, (1, 1, 1, 1), "replicate")
    return F.avg_pool2d(padded, 3, 1)


def flip(x: Tensor) -> Tensor:
    """Returns the images with left and right exchanged."""
    return x.flip(-1)


def crop(x: Tensor) -> Tensor:
    """Returns the images less an eighth of every side (at least a pixel), at their old size."""
    height = x.shape[-2]
    width = x.shape[-1]
    top = max(1, round(height / 8))
    left = max(1, round(width / 8))
    bottom = height - top
    right = width - left
    inside = x[..., top:bottom, left:right]
    return F.interpolate(
        inside,
        size=(height, width),
        mode="bilinear",
        align_corners=False,
    )
