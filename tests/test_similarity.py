"""What defenses compute some points at a time, or by groups, against plain definitions."""

import warnings

import pytest
import torch
from conftest import random_data
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from defenses import DETECTORS, FILTERS
from defenses.detectors.concentration import Gini
from defenses.detectors.tail_heaviness import TailHeaviness
from defenses.kit import blocks
from defenses.kit.evidence import sound_influence
from defenses.kit.similarity import cosines
from defenses.kit.similarity.cosines import Cosines
from defenses.kit.similarity.nearest import largest
from defenses.questions.table import EVERY_QUESTION
from poisonbench.contracts.scope import Scope
from poisonbench.contracts.values import Evidence
from poisonbench.data import Dataset
from poisonbench.seeding import generator
from poisonbench.training import Trace


@pytest.mark.parametrize("n", [7, 320, 1003])
@pytest.mark.parametrize("k", [1, 4, 7])
def test_the_largest_by_groups_are_those_of_a_whole_sort(n: int, k: int) -> None:
    values = torch.randn(5, n, generator=generator(0, "values"))
    values[0, -3:] = 9.0 + torch.arange(3)  # in no whole group of columns
    values[1, : min(n, 32)] += 9.0  # all in one group
    values[2, ::2] = -torch.inf
    found = largest(values, k)
    want = values.sort(1, descending=True).values[:, :k]
    assert torch.equal(values.gather(1, found), want)
    assert all(len(set(row)) == k for row in found.tolist())


def test_cosines_are_those_of_unit_vectors_and_zero_for_a_row_of_zeros(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cosines, "_BLOCK", 23)  # two points a block
    points = torch.randn(5, 4, generator=generator(0, "points"), dtype=torch.float64)
    rows = torch.randn(11, 4, generator=generator(0, "rows"), dtype=torch.float64)
    rows *= torch.logspace(-3, 3, 11, dtype=torch.float64)[:, None]
    rows[3] = 0.0
    found = list(Cosines(points, rows).blocks())
    assert [len(index) for index, _ in found] == [2, 2, 1]
    every = torch.cat([block for _, block in found])
    want = F.normalize(points) @ F.normalize(rows).T
    assert torch.allclose(every, want, rtol=1e-12, atol=1e-12)
    assert (every[:, 3] == 0).all()
    asked = torch.tensor([4, 1])
    ((index, some),) = Cosines(points, rows).blocks(asked)
    assert torch.equal(index, asked)
    assert torch.allclose(some, want[asked], rtol=1e-12, atol=1e-12)


class Largest(TorchDispatchMode):
    """Keeps the number of entries of the largest result of an operation."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor):
            self.entries = max(self.entries, found.numel())
        return found


@pytest.mark.parametrize("reads", ["all", "label"])
def test_points_with_finite_influence_are_found_some_at_a_time(
    reads: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    m, n = 300, 20_000
    g = generator(0, "values")
    influence = torch.randn(m, n, generator=g)
    train = random_data(n, shape=(1, 2, 2), dtype=torch.float32)
    test = random_data(m, shape=(1, 2, 2), dtype=torch.float32)
    places = torch.randint(n, (60,), generator=g)
    influence[torch.arange(60), places] = torch.nan
    influence[70, 5] = -torch.inf
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 10))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = Evidence(Trace.of(model, train), test, influence)
        with Largest() as kept:
            _, sound = sound_influence(given, reads)
    assert 0 < kept.entries < influence.numel() / 2, "never the whole matrix anew"
    counted = torch.ones(m, n, dtype=torch.bool)
    if reads == "label":
        counted = train.y == test.y[:, None]
    assert torch.equal(sound, ~(~influence.isfinite() & counted).any(1))
    assert 0 < int((~sound).sum()) <= 61


IN_PARTS = {
    **{question.name: question.score for question in EVERY_QUESTION},
    **{name: detector() for name, detector in DETECTORS.items()},
    **{f"filter {name}": made() for name, made in FILTERS.items()},
    "tail, all rows": TailHeaviness(3, scope="all"),
    "gini, all rows": Gini(scope="all"),
}
READ = {"influence", "reference", "probe"}
OF_INFLUENCE = [
    name
    for name, method in IN_PARTS.items()
    if method.uses and set(method.uses) <= READ
]


@pytest.mark.parametrize("name", OF_INFLUENCE)
def test_the_influence_is_copied_in_parts_which_change_no_score(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    m, n = 60, 4000
    g = generator(0, "values")
    influence = torch.randn(m, n, generator=g)
    influence[7, 5] = torch.nan
    train = Dataset(torch.rand(n, 4, generator=g), torch.arange(n) % 2, 2)
    test = Dataset(torch.rand(m, 4, generator=g), torch.arange(m) // 2 % 2, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = Trace.of(nn.Linear(4, 2), train)
        trusted = torch.arange(m) % 3 == 0
        given = Evidence(run, test, influence, trusted)
        whole = IN_PARTS[name](given)
        monkeypatch.setattr(blocks, "AT_ONCE", 3 * n)
        monkeypatch.setattr("defenses.kit.evidence._AT_ONCE", 3 * n)
        with Largest() as kept:
            found = IN_PARTS[name](given)
    assert torch.allclose(found, whole, rtol=1e-6, atol=1e-6, equal_nan=True)
    assert found.isfinite().any()
    if "two-way" not in name:  # which standardises every value
        assert kept.entries < 0.45 * influence.numel(), "whole rows for some columns"
