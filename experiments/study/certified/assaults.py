"""Real attacks on a model and on votes, held against the certificates of these."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from attacks.blend import Blend
from attacks.label_flip import LabelFlip
from attacks.patch import Patch
from defenses.certifiers.deep_partition_aggregation import DeepPartitionAggregation
from defenses.certifiers.finite_aggregation import FiniteAggregation
from defenses.certifiers.votes import row_hash
from experiments.study.certified.records import Assault
from poisonbench.contracts.protocols import Attack, Certifier
from poisonbench.contracts.values import Certified, Poisoned
from poisonbench.data import Dataset
from poisonbench.models import predict
from poisonbench.training import Recipe, train

TARGETS = 100  # attacked points that are looked at, at most


def attacks_of(
    rows: int,
    n: int,
) -> dict[str, Attack]:
    """Returns the attacks with a budget of so many of n rows."""
    budget = rows / n
    return {
        "patch": Patch(budget=budget),
        "blend": Blend(budget=budget),
        "label flip, a pair": LabelFlip("pair", budget=budget),
    }


def certifiers_of(
    parts: int,
    epochs: int,
) -> dict[str, Certifier]:
    """Returns the votes: of `parts` models on parts, and of as many on larger overlapping ones."""
    return {
        f"{parts} parts": DeepPartitionAggregation(parts, epochs),
        f"{parts} models, 2 a part": FiniteAggregation(parts // 2, 2, epochs),
    }


def changes(
    clean: Dataset,
    poisoned: Dataset,
) -> int:
    """Returns what an attack did, in the unit of a radius.

    That is the rows deleted and those inserted, a row with another content both, and the labels
    changed of rows that stayed.
    """
    before = row_hash(clean.x).tolist()
    after = row_hash(poisoned.x).tolist()
    stayed = Counter(before) & Counter(after)
    pairs_before = Counter(zip(before, clean.y.tolist(), strict=True))
    pairs_after = Counter(zip(after, poisoned.y.tolist(), strict=True))
    unchanged = pairs_before & pairs_after
    kept = stayed.total()
    deleted = len(before) - kept
    inserted = len(after) - kept
    relabelled = kept - unchanged.total()
    return deleted + inserted + relabelled


def assaults(
    train_set: Dataset,
    test: Dataset,
    recipe: Recipe,
    budgets: Sequence[int],
    certifiers: dict[str, Certifier],
    seed: int,
) -> list[Assault]:
    """Returns what each attack does with each number of rows.

    Args:
        train_set: n clean rows.
        test: from which targets come.
        recipe: of model and attack.
        budgets: numbers of poisoned rows.
        certifiers: name -> how a vote is made.
        seed: of everything.
    """
    found = []
    n = len(train_set)
    for name in attacks_of(1, n):
        known: Dataset | None = None
        clean: dict[str, Certified] = {}
        for rows in budgets:
            attack = attacks_of(rows, n)[name]
            poisoned = attack(train_set, test, recipe, seed)
            few = _few(poisoned)
            poisoned = replace(
                poisoned,
                targets=poisoned.targets.take(few),
                wanted=poisoned.wanted[few],
                target_origin=poisoned.target_origin[few],
            )
            targets = poisoned.targets
            if known is None or not torch.equal(known.x, targets.x):
                known = targets
                clean = {
                    vote: certifier(train_set, targets, recipe, seed)
                    for vote, certifier in certifiers.items()
                }
            model = train(poisoned.train, recipe, seed).model()
            hit = predict(model, targets.x).argmax(1) == poisoned.wanted
            done = changes(train_set, poisoned.train)
            for vote, certifier in certifiers.items():
                after = certifier(poisoned.train, targets, recipe, seed)
                assault = Assault(
                    seed=seed,
                    attack=name,
                    certifier=vote,
                    rows=rows,
                    changes=done,
                    targets=len(targets),
                    model=_share(hit),
                    **_held(clean[vote], after, poisoned.wanted, done),
                )
                found.append(assault)
    return found


def _held(
    before: Certified,
    after: Certified,
    wanted: Tensor,
    done: int,
) -> dict[str, Any]:
    """Returns the fields of an assault that hold a vote against its certificate.

    Args:
        before: of the vote on clean rows.
        after: of the vote on poisoned ones.
        wanted: (t,) int64, the label that the attacker wants.
        done: changes of the training set.
    """
    changed = before.labels != after.labels
    within = before.radius >= done
    return {
        "vote": _share(after.labels == wanted),
        "changed": _share(changed),
        "open": _share(~within),
        "contradicted": int((changed & within).sum()),
    }


def _few(poisoned: Poisoned) -> Tensor:
    """Returns the first targets whose label the attacker wants to change, (t,) int64."""
    attacked = poisoned.targets.y != poisoned.wanted
    return attacked.nonzero().squeeze(1)[:TARGETS]


def _share(flags: Tensor) -> float:
    return float(flags.to(torch.float64).mean())
