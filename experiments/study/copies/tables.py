"""The tables of the study of copies."""

import numpy as np

from experiments.study.copies.found import TRUTH, Found, agreement, beyond_members
from experiments.study.markdown import table
from experiments.study.means import mean
from poisonbench.log import Array

CONTROL = "typical"  # instances that move nothing: no ratio is taken of theirs


def page(found: Found) -> str:
    """Returns all tables."""
    return "\n\n".join([_truth(found), _estimators(found), _agreements(found)])


def _truth(found: Found) -> str:
    """A line for each kind of instance and number of copies.

    Where all copies have no effect beyond chance, there is none to be shared.
    """
    body = []
    for kind in found.known_kinds():
        one, every = found.of(TRUTH, kind)
        missed = beyond_members(one, every, found.counts)
        for k, count in enumerate(found.counts):
            alone = mean(one[:, k])
            together = mean(every[:, k])
            share = "-"
            if not together.low <= 0 <= together.high:
                share = f"{missed[k]:.2f}"
            cells = [str(count), str(alone), str(together), share]
            body.append([kind, *cells])
    head = [
        "instance",
        "copies",
        "one of them",
        "all of them",
        "beyond the members",
    ]
    return table(head, body)


def grown(
    found: Found,
    name: str,
    which: str,
) -> Array:
    """Returns what a source says of c copies, by what it says of a single one, (s,).

    Of each kind of instance the ratio of the means; then the mean over the kinds that move
    anything.

    Args:
        found: the study.
        name: of the source.
        which: "one" of the copies, or "every".
    """
    ratios = []
    for kind in found.known_kinds():
        if kind == CONTROL:
            continue
        one, every = found.of(name, kind)
        means = (one if which == "one" else every).mean(0)
        ratios.append(means / means[0])
    means_of_kinds: Array = np.mean(ratios, axis=0)
    return means_of_kinds


def _estimators(found: Found) -> str:
    """How the answer of each source changes with the copies."""
    asked = [k for k, count in enumerate(found.counts) if count > 1]
    body = []
    for name in found.names:
        one = grown(found, name, "one")
        every = grown(found, name, "every")
        cells = [f"{one[k]:.2f}" for k in asked] + [f"{every[k]:.2f}" for k in asked]
        body.append([name, *cells])
    counts = [found.counts[k] for k in asked]
    head = [f"one of {count}" for count in counts]
    head += [f"all {count}" for count in counts]
    return table(["source", *head], body)


def _agreements(found: Found) -> str:
    """Rank correlation with training again over instances and points."""
    body = []
    for source, name in enumerate(found.names[1:], start=1):
        one = agreement(found.one[source], found.one[0])
        every = agreement(found.every[source], found.every[0])
        cells = [f"{value:.2f}" for value in [*one, *every]]
        body.append([name, *cells])
    head = [f"one of {count}" for count in found.counts]
    head += [f"all {count}" for count in found.counts]
    return table(["estimator", *head], body)
