"""Labels of the model's own prediction: what Gauss-Newton matrices are expectations over."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from poisonbench.data import Dataset
from poisonbench.models import predict


@dataclass(frozen=True, eq=False)
class Labelled:
    """The instances with labels of the model's, each with a weight.

    Attributes:
        data: n instances.
        weight: (n,); the weights of all parts of an expectation sum to 1.
    """

    data: Dataset
    weight: Tensor


def labelled(
    model: nn.Module,
    data: Dataset,
    samples: int,
    draws: torch.Generator,
) -> list[Labelled]:
    """Returns the parts of an expectation over labels drawn from the model's prediction.

    Args:
        model: in evaluation mode.
        data: n instances; their own labels are not used.
        samples: labels drawn per instance, at least 1, a part each.
        draws: where the drawn labels come from.
    """
    probability = predict(model, data.x).softmax(1)
    drawn = torch.multinomial(
        probability.cpu(),
        samples,
        replacement=True,
        generator=draws,
    )
    share = 1 / (samples * len(data))
    weight = torch.full_like(probability[:, 0], share)
    return [Labelled(data.relabel(y), weight) for y in drawn.T]
