"""What a guard says of test points, and the training rows behind it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from poisonbench.checks import check_at_least


@dataclass(frozen=True, eq=False)
class Proponents:
    """The training rows that help and that harm a prediction most, by influence.

    For one point without the axis m.

    Attributes:
        helpful: (m, k) int64, the rows of largest influence, the largest first.
        helpful_scores: (m, k), their influence.
        harmful: (m, k) int64, the rows of least influence, the least first.
        harmful_scores: (m, k), their influence.
    """

    helpful: Tensor
    helpful_scores: Tensor
    harmful: Tensor
    harmful_scores: Tensor


@dataclass(frozen=True, eq=False)
class Verdict:
    """What a guard says of m points; for one point without the axis m. All on the CPU.

    Attributes:
        label: (m,) int64, the model's prediction.
        suspicion: (m,) float64, the detector's score, larger = more suspicious; NaN where it has no
            answer.
        p_value: (m,) float64, how seldom a clean point scores so high, see
            `poisonbench.contracts.calibration.p_values`.
        flag: (m,) bool, whether the suspicion is above the guard's threshold.
        proponents: of each prediction.
    """

    label: Tensor
    suspicion: Tensor
    p_value: Tensor
    flag: Tensor
    proponents: Proponents


def proponents(scores: Tensor, k: int = 10) -> Proponents:
    """Returns the k most helpful and the k most harmful training rows of each point.

    Args:
        scores: influence (m, n), or (n,) of one point. Rows that have none (NaN) come last.
        k: how many; at most n.

    Raises:
        ValueError: k is below 1.
    """
    check_at_least("k", k, 1)
    count = min(k, scores.shape[-1])
    unknown = scores.isnan()
    helpful = scores.masked_fill(unknown, -torch.inf).topk(count).indices
    harmful = scores.masked_fill(unknown, torch.inf).topk(count, largest=False).indices
    return Proponents(
        helpful=helpful,
        helpful_scores=scores.gather(-1, helpful),
        harmful=harmful,
        harmful_scores=scores.gather(-1, harmful),
    )


def joined(parts: Sequence[Verdict], single: bool) -> Verdict:
    """Returns the verdicts on all points in one, or that on the one point without the axis m.

    Args:
        parts: at least one.
        single: whether there is one point, given alone.
    """
    of = [part.proponents for part in parts]

    def whole(tensors: list[Tensor]) -> Tensor:
        every = torch.cat(tensors)
        return every[0] if single else every

    return Verdict(
        label=whole([part.label for part in parts]),
        suspicion=whole([part.suspicion for part in parts]),
        p_value=whole([part.p_value for part in parts]),
        flag=whole([part.flag for part in parts]),
        proponents=Proponents(
            helpful=whole([rows.helpful for rows in of]),
            helpful_scores=whole([rows.helpful_scores for rows in of]),
            harmful=whole([rows.harmful for rows in of]),
            harmful_scores=whole([rows.harmful_scores for rows in of]),
        ),
    )


def of_nothing(n: int, k: int) -> Verdict:
    """Returns the verdict on no points of a run on n rows, with k proponents each."""
    nothing = torch.zeros(0, dtype=torch.float64)
    return Verdict(
        label=torch.zeros(0, dtype=torch.int64),
        suspicion=nothing,
        p_value=nothing,
        flag=nothing > 0,
        proponents=proponents(torch.zeros(0, n), k),
    )
