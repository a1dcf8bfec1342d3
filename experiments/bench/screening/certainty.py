"""What certain bounds exclude: Cauchy-Schwarz on all layers but the head."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from experiments.bench.screening.setting import TOP, Setting
from poisonbench.data import Dataset
from poisonbench.gradients import Form, dot_products, layer_norms
from poisonbench.losses import Loss


def excluded(setting: Setting, scores: Tensor) -> Tensor:
    """Returns which rows a certain bound on their GAS excludes from the ten largest, (m, n) bool.

    <g, g'> = <h, h'> + <r, r'> with the gradients h of the head, whose products are cheap, and r of
    the other layers, and <r, r'> is at most |r| |r'|.

    Args:
        setting: the run and m points.
        scores: (m, n), exact: the tenth largest is what a bound must stay below.
    """
    bounds = torch.zeros_like(scores)
    for k, checkpoint in enumerate(setting.trace.checkpoints):
        bounds += checkpoint.lr * _cosine_at_most(setting, k)
    largest = scores.topk(TOP).values
    tenth = largest[:, -1:]
    return bounds < tenth


def _cosine_at_most(setting: Setting, k: int) -> Tensor:
    """Returns what the cosines at checkpoint k cannot exceed, (m, n)."""
    trace = setting.trace
    model = trace.model(k)
    rows = _Norms.of(model, trace.train, trace.loss)
    points = _Norms.of(model, setting.test, trace.loss)
    head = dot_products(
        model=model,
        train=trace.train,
        test=setting.test,
        form=Form("margin", layers="last", loss=trace.loss),
    )
    rest = torch.outer(points.rest, rows.rest)
    size = torch.outer(points.whole, rows.whole)
    return (head + rest) / size


@dataclass(frozen=True, eq=False)
class _Norms:
    """Norms of gradients, (n,).

    Attributes:
        whole: of all layers.
        rest: of all layers but the head.
    """

    whole: Tensor
    rest: Tensor

    @classmethod
    def of(cls, model: nn.Module, data: Dataset, loss: Loss) -> "_Norms":
        """Returns those of n instances."""
        each = layer_norms(model, data, Form("margin", loss=loss))
        body = each[:-1]
        return cls(
            whole=each.norm(dim=0).to(data.dtype),
            rest=body.norm(dim=0).to(data.dtype),
        )
