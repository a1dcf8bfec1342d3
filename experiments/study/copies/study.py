"""The study of copies, from the data to the arrays of what was found."""

from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from experiments.study.copies.cases import Size, choose, split
from experiments.study.copies.effects import Effects, estimated, retrained, seeds_of
from experiments.study.copies.found import TRUTH, Found
from poisonbench.data import Dataset
from poisonbench.training import Recipe


def study(
    train: Dataset,
    test: Dataset,
    recipe: Recipe,
    size: Size,
    counts: Sequence[int],
    repeats: int,
    seed: int,
    estimators: Sequence[str],
) -> Found:
    """Returns the effects of copies on all instances that are chosen.

    Args:
        train: of which a part is trained on, and instances are drawn from the rest.
        test: of which points are chosen.
        recipe: of all models.
        size: how much is drawn.
        counts: numbers of copies, ascending.
        repeats: seeds of each training again.
        seed: of everything that is drawn.
        estimators: names of those that are asked.
    """
    base, spare = split(train, size.train, seed)
    cases = choose(
        base,
        spare,
        test,
        recipe,
        size,
        seed,
    )
    found: dict[str, list[Effects]] = {}
    for case in tqdm(cases, desc="instances", disable=None):
        seeds = seeds_of(seed, repeats)
        truth = retrained(
            base,
            case,
            counts,
            recipe,
            seeds,
        )
        averaged = Effects(truth.one.mean(0), truth.every.mean(0))
        answers = {TRUTH: averaged}
        answers |= estimated(
            base,
            case,
            counts,
            recipe,
            seed,
            estimators,
        )
        for name, effects in answers.items():
            found.setdefault(name, []).append(effects)
    one = []
    every = []
    for of_source in found.values():
        one.append([effects.one.numpy() for effects in of_source])
        every.append([effects.every.numpy() for effects in of_source])
    return Found(
        kinds=tuple(case.kind for case in cases),
        counts=tuple(counts),
        names=tuple(found),
        one=np.array(one),
        every=np.array(every),
    )
