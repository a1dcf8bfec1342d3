"""What rows are worth together: first order, second order and the Newton step against retraining,
on the proponents of a patch.

The groups are the k rows of largest influence on an attacked point, by GAS, and all poison rows.
"""

import torch
from torch import Tensor
from tqdm import tqdm

from attacks.patch import Patch
from estimators.gas import GAS
from estimators.group import GroupInfluence, retrained
from estimators.kit.displacement import Order
from experiments.bench.timing import machine, table
from poisonbench.contracts.attack_rules import craft
from poisonbench.data import Dataset, load
from poisonbench.gradients import Layers
from poisonbench.models import predict
from poisonbench.objectives import margins
from poisonbench.roles import POISON
from poisonbench.seeding import derive
from poisonbench.training import Recipe, train
from poisonbench.training.trace import Trace

SIZES = (1, 4, 16, 64)
# pairs of runs per group: of points chosen as won in one run the others have less to lose
REPEATS = 5
SINGLES = 16  # of the proponents of a point that are also left out one by one
ESTIMATES: dict[str, tuple[Layers, Order]] = {
    "head, first": ("last", "first"),
    "head, second": ("last", "second"),
    "head, newton": ("last", "newton"),
    "all layers, first": ("all", "first"),
    "all layers, second": ("all", "second"),
    "all layers, newton": ("all", "newton"),
}


def victim(
    seed: int, model: str, budget: float, points: int
) -> tuple[Trace, Dataset, Tensor]:
    """Returns a run on patched digits, attacked points that it loses, and the poison rows (n,).

    The points have the labels that the run predicts.
    """
    data, test = load("digits")
    recipe = Recipe(model=model, epochs=20, batch_size=64, lr=0.05, checkpoints=6)
    attack_seed = derive(seed, "attack")
    poisoned = craft(Patch(budget=budget), data, test, recipe, attack_seed)
    trace = train(poisoned.train, recipe, seed)
    predicted = predict(trace.model(), poisoned.targets.x).argmax(1)
    won = (predicted == poisoned.wanted).nonzero().squeeze(1)
    attacked = poisoned.targets.relabel(poisoned.wanted)
    return trace, attacked.take(won[:points]), poisoned.role == POISON


def nested(influence: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Returns the groups of the largest entries of each row, (m, sizes, n) bool."""
    rank = influence.argsort(1, descending=True).argsort(1)
    return rank[:, None] < torch.tensor(sizes)[:, None]


def own(values: Tensor, m: int) -> Tensor:
    """Returns what each point's own groups are worth to it, (m, sizes + 1), the last group being
    that of all points.

    Args:
        values: (m, m sizes + 1).
        m: number of points.
    """
    each = values[:, :-1].unflatten(1, (m, -1))
    return torch.cat([each[torch.arange(m), torch.arange(m)], values[:, -1:]], 1)


def study(
    seed: int, model: str, budget: float, points: int, names: list[str]
) -> dict[str, Tensor]:
    """Returns by what each group raises a point's margin, (m, sizes + 1) by name.

    The margin itself is "margin", (m, 1).
    """
    trace, test, poison = victim(seed, model, budget, points)
    influence = GAS().fit(trace)(test)
    m = len(test)
    own_groups = nested(influence, SIZES).flatten(0, 1)
    groups = torch.cat([own_groups, poison[None]])
    logits = predict(trace.model(), test.x)
    margin = margins(logits, test.y)
    found = {"margin": margin[:, None]}
    for name in names:
        layers, order = ESTIMATES[name]
        estimate = GroupInfluence(order, layers=layers, tolerance=1e-2)
        losses = own(estimate.fit(trace, groups)(test), m)
        # a change of the loss is sigmoid(-margin) times that of the margin
        found[name] = losses / torch.sigmoid(-margin)[:, None]
    gains, _ = retrained(trace, groups, test, "margin", REPEATS)
    found["retrained"] = own(gains, m)
    found["sum of single retrainings"] = single_sums(trace, test, influence)
    return found


def single_sums(trace: Trace, test: Dataset, influence: Tensor) -> Tensor:
    """Returns what the proponents are worth one by one, summed, (m, sizes + 1).

    NaN for more than `SINGLES` of them, and for all poison rows.
    """
    top = influence.topk(SINGLES, 1).indices
    rows = top.unique()
    every_row = torch.eye(len(trace.train), dtype=torch.bool)
    alone, _ = retrained(trace, every_row[rows], test, "margin", REPEATS)
    places = torch.searchsorted(rows, top)
    sums = alone.gather(1, places).cumsum(1)
    unknown = torch.full((len(test),), torch.nan)
    known = [sums[:, size - 1] for size in SIZES if size <= SINGLES]
    missing = [unknown] * (len(SIZES) - len(known) + 1)
    return torch.stack([*known, *missing], 1)


def bench(seeds: int, model: str, points: int, budget: float, newton: bool) -> str:
    """Returns the table: means over the points of all seeds with standard errors."""
    names = [name for name in ESTIMATES if newton or name != "all layers, newton"]
    parts = [
        study(seed, model, budget, points, names)
        for seed in tqdm(range(seeds), desc="victims", disable=None)
    ]
    found = {
        name: torch.cat([part[name] for part in parts]).double() for name in parts[0]
    }
    margin = found.pop("margin")
    shown = [*names, "sum of single retrainings", "retrained"]
    rows = []
    for g, size in enumerate([*map(str, SIZES), "all poison"]):
        rows.append([size, *(_mean(found[name][:, g]) for name in shown)])
    what = (
        "By how much the rows raise an attacked point's margin "
        f"(mean {float(margin.mean()):.1f}), with standard errors"
    )
    where = (
        f"digits, {model}, patch in {budget:.0%} of the rows, seeds 0 to {seeds - 1}, "
        f"{len(margin)} points."
    )
    return f"{what}: {where} {machine(torch.device('cpu'))}.\n\n{table(('k', *shown), rows)}\n"


def _mean(values: Tensor) -> str:
    if bool(values.isnan().any()):
        return ""
    return (
        f"{float(values.mean()):.2f} ± {float(values.std() / len(values) ** 0.5):.2f}"
    )
