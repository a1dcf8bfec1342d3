"""At how many rows a lead is used up: from the leads left, or from what each row is worth."""

import torch
from torch import Tensor


def crossing(leads: Tensor, n: int) -> Tensor:
    """Returns at how many rows the lead is used up, (b,), linear in between.

    A lead that is negative with all rows counts as it is; one never used up as n, and up to n more
    the more is left of it.

    Args:
        leads: (b, K + 1), without the first k rows, k = 0..K.
        n: training rows.
    """
    over = leads <= 0
    first = over.to(leads.dtype).argmax(1)[:, None]
    before = leads.gather(1, (first - 1).clamp(min=0))
    after = leads.gather(1, first)
    share = before / (before - after)
    between = (first - 1 + share).squeeze(1)
    left = (leads.amin(1) / leads[:, 0]).clamp(0, 1)
    count = torch.where(over.any(1), between, n * (1 + left))
    return torch.where(over[:, 0], leads[:, 0], count)


def needed(helps: Tensor, lead: Tensor) -> Tensor:
    """Returns how many of the largest values of each row of `helps` sum to `lead`, (m,) in [0, 2n].

    Continuous: of the last one the share that is needed. Where all do not suffice: n, and up to n
    more the larger the rest is.

    Args:
        helps: (m, n) >= 0.
        lead: (m,) >= 0.
    """
    n = helps.shape[1]
    smallest = torch.finfo(helps.dtype).tiny
    ordered = helps.sort(1, descending=True).values
    sums = ordered.cumsum(1)
    none = torch.zeros_like(lead)[:, None]
    total = torch.cat([none, sums], 1)
    used_up = (sums < lead[:, None]).sum(1)
    last = used_up.clamp(max=n - 1)[:, None]
    rest = lead[:, None] - total.gather(1, last)
    share = (rest / ordered.gather(1, last).clamp(min=smallest)).squeeze(1)
    missing = 1 - sums[:, -1] / lead.clamp(min=smallest)
    enough = used_up + share.clamp(0, 1)
    return torch.where(used_up < n, enough, n * (1 + missing.clamp(0, 1)))
