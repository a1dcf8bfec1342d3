"""The tables of the study of the long tail."""

import numpy as np

from experiments.study.long_tail.found import (
    TOP,
    Found,
    rank_agreement,
    reliability,
    shared_top,
)
from experiments.study.markdown import table
from experiments.study.means import mean

LEVELS = (0.1, 0.25, 0.5, 0.9)  # of memorisation


def page(found: Found) -> str:
    """Returns all tables."""
    parts = [
        _counts(found),
        _agreements(found),
        _accuracies(found),
        _differences(found),
    ]
    return "\n\n".join(parts)


def _counts(found: Found) -> str:
    """How many rows are memorised beyond each level."""
    n = len(found.memorised)
    words = []
    for level in LEVELS:
        count = int((found.memorised > level).sum())
        words.append(f"{count} ({count / n:.1%}) above {level}")
    error = float(np.nanmean(found.error))
    return (
        f"Of {n:,} rows {', '.join(words)}; mean standard error {error:.3f}; "
        f"reliability of the ranks {reliability(found.halves):.2f}."
    )


def _agreements(found: Found) -> str:
    """How far each estimator ranks rows as their memorisation does; intervals over the runs."""
    body = []
    for name, of_runs in zip(found.names, found.own, strict=True):
        ranks = [rank_agreement(own, found.memorised) for own in of_runs]
        tops = [shared_top(own, found.memorised) for own in of_runs]
        cells = [str(mean(ranks)), str(mean(tops))]
        body.append([name, *cells])
    first, second = found.halves
    top = shared_top(first, second)
    between = rank_agreement(first, second)
    body.append(["*one half of the models, the other*", f"{between:.3g}", f"{top:.3g}"])
    head = ["estimator", "rank correlation", f"shared of the top {TOP:.0%}"]
    return table(head, body)


def _accuracies(found: Found) -> str:
    """Accuracy without the rows of each way to choose them."""
    body = []
    for way, of_shares in zip(found.ways, found.accuracy, strict=True):
        cells = [str(mean(runs)) for runs in of_shares]
        body.append([way, *cells])
    return table(["removed", *_shares(found)], body)


def _differences(found: Found) -> str:
    """Accuracy less that without as many random rows, paired by the seed of the training."""
    floor = found.accuracy[-1]
    body = []
    for way, of_shares in zip(found.ways, found.accuracy, strict=True):
        if way == found.ways[-1]:
            continue
        apart = of_shares - floor
        cells = [
            _signed(mean(runs).value, mean(runs).low, mean(runs).high)
            for runs in apart[1:]
        ]
        body.append([way, *cells])
    return table(["less random removal", *_shares(found)[1:]], body)


def _signed(
    value: float,
    low: float,
    high: float,
) -> str:
    if np.isnan(low):
        return f"{value:+.4f}"
    return f"{value:+.4f} [{low:+.4f}, {high:+.4f}]"


def _shares(found: Found) -> list[str]:
    return [f"{share:.3g}" for share in found.shares]
