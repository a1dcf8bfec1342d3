"""What defenses that look at the victim's features share: the features themselves, and a statistic class by class."""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from poisonbench.data import Dataset
from poisonbench.models import predict
from poisonbench.training.trace import Trace

Layer = Literal["inner", "penultimate"]


def check_layer(layer: str) -> None:
    """Raises ValueError for an unknown layer."""
    if layer not in get_args(Layer):
        raise ValueError(f"layer must be 'inner' or 'penultimate', got {layer!r}")


def encoder(model: nn.Module, layer: Layer) -> nn.Module:
    """Returns the part of `model` whose outputs are compared.

    Args:
        model: features followed by a head.
        layer: "penultimate": what leaves `features`; "inner": what enters the last layer with parameters of `features`, where
            that is an nn.Sequential with such a layer. The last hidden layer has often made up its mind; the layer below tells.
    """
    features = model.get_submodule("features")
    if layer == "inner" and isinstance(features, nn.Sequential):
        trained = [i for i, part in enumerate(features) if any(True for _ in part.parameters())]
        return features[: trained[-1]] if trained else features
    return features


def features_of(trace: Trace, layer: Layer, *parts: Dataset) -> list[Tensor]:
    """Returns the final model's features of each part, (n, d)."""
    encode = encoder(trace.model(), layer)
    return [predict(encode, part.x).flatten(1) for part in parts]


def by_class(
    rows: Tensor, labels: Tensor, score: Callable[[Tensor], Tensor], least: int = 2
) -> Tensor:
    """Applies `score`, (r, d) -> (r,), to the rows of each class alone; 0 for a class with fewer rows than `least`, (n,)."""
    out = rows.new_zeros(len(rows))
    for label in labels.unique():
        own = labels == label
        if int(own.sum()) >= least:
            out[own] = score(rows[own])
    return out


def centred(rows: Tensor) -> Tensor:
    """Returns the rows (r, d) minus their mean; exactly 0 where they differ by no more than rounding."""
    apart = rows - rows.mean(0)
    floor = rows.abs().max() * torch.finfo(rows.dtype).eps * len(rows) ** 0.5
    return torch.where(apart.abs().max() > floor, apart, torch.zeros_like(apart))
