"""Every attack crafts where its data lie, and what it crafts on the CPU."""

from collections.abc import Iterator

import pytest
import torch
from on_device import gpu
from test_attacks import FIRST, QUICK, data_for, name_of

from experiments.check.runs import QUICK_TEXT, tensors
from poisonbench.contracts.attack_rules import craft
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset, kinds_of

pytestmark = [
    *gpu,
    pytest.mark.filterwarnings("ignore::poisonbench.errors.BudgetWarning"),
]

# of the values that an attack optimised: a step by a gradient's sign may go the other way
SAME_SHARE = 0.98


def crafted(attack: object, parts: tuple[Dataset, Dataset], device: str) -> Poisoned:
    """What the attack returns, its whole contract enforced, in float64."""
    train, test = [part.to(device, torch.float64) for part in parts]
    recipe = QUICK_TEXT if train.kind == "tokens" else QUICK
    return craft(attack, train, test, recipe, 0)


def rows() -> Iterator[object]:
    """Every attack on the kinds that it takes; one that optimises on the first of them."""
    for attack in FIRST.values():
        kinds = kinds_of(attack)
        if hasattr(attack, "surrogate"):
            kinds = kinds[:1]
        for kind in kinds:
            yield pytest.param(attack, kind, id=f"{name_of(attack)} {kind}")


@pytest.mark.parametrize(("attack", "kind"), list(rows()))
def test_an_attack_crafts_on_the_device_what_it_crafts_on_the_cpu(
    attack: object, kind: str
):
    parts = data_for(attack, kind)
    got = crafted(attack, parts, "cuda")
    assert all(found.is_cuda for found in tensors(got))
    want = crafted(attack, parts, "cpu")
    optimised = hasattr(attack, "surrogate")
    for one, other in zip(tensors(got), tensors(want), strict=True):
        assert one.shape == other.shape
        one = one.cpu()
        if not one.is_floating_point():
            assert torch.equal(one, other)
            continue
        near = torch.isclose(one, other, rtol=1e-6, atol=1e-6)
        away = int((~near).sum())
        assert away <= (1 - SAME_SHARE) * near.numel() * optimised
