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
    first = over.to(leads.dtype).argmax(1, keepdim=True)
    previous = (first - 1).clamp(min=0)
    before = leads.gather(1, previous)
    after = leads.gather(1, first)
    share = before / (before - after)
    between = (first - 1 + share).squeeze(1)
    start = leads[:, 0]
    left = (leads.amin(1) / start).clamp(0, 1)
    never = n * (1 + left)
    changes = over.any(1)
    count = torch.where(changes, between, never)
    return torch.where(over[:, 0], start, count)


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
    none = torch.zeros_like(sums[:, :1])
    total = torch.cat([none, sums], 1)
    goal = lead[:, None]
    used_up = (sums < goal).sum(1)
    last = used_up[:, None].clamp(max=n - 1)
    rest = goal - total.gather(1, last)
    worth = ordered.gather(1, last).clamp(min=smallest)
    share = (rest / worth).squeeze(1)
    enough = used_up + share.clamp(0, 1)
    everything = sums[:, -1]
    reached = everything / lead.clamp(min=smallest)
    missing = (1 - reached).clamp(0, 1)
    too_few = n * (1 + missing)
    return torch.where(used_up < n, enough, too_few)
