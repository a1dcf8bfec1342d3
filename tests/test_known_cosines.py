"""Influence that is the cosines at the final model: who says so, and what is not computed again."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import random_data
from test_defenses_of_kinds import LAYOUTS, MODELS, some
from torch import Tensor

import defenses.detectors.influence_collapse
import poisonbench as pb
from defenses.detectors.foreign_or_fragile import ForeignOrFragile
from defenses.detectors.influence_collapse import falls
from defenses.detectors.rehearsed import Rehearsed
from estimators.gas import GAS
from estimators.tracin import TracIn
from experiments.plan.parse import parse
from experiments.plan.paths import Place
from experiments.runner.run import Options, run
from poisonbench import log
from poisonbench.contracts.scope import per_cosine
from poisonbench.contracts.values import Evidence
from poisonbench.gradients import Form, dot_products
from poisonbench.training import Recipe
from poisonbench.training.trace import Trace


@dataclass(frozen=True)
class Changed(GAS):
    """An estimator of a user's own, built on another."""


@dataclass(frozen=True)
class Asks:
    """A detector that says what it is told of the influence."""

    uses: tuple[str, ...] = ("influence",)

    def __call__(self, evidence: Evidence) -> Tensor:
        told = evidence.per_cosine or 0.0
        return evidence.test.zeros(len(evidence.test)) + told


def one_checkpoint(kind: str) -> Trace:
    recipe = Recipe(MODELS[kind], epochs=2, batch_size=50, lr=0.02, checkpoints=1)
    return pb.train(some(kind, 200, 0), recipe, 0)


def seen(kind: str) -> Evidence:
    """What a detector sees of a run with one checkpoint, with nothing said of its influence."""
    trace = one_checkpoint(kind)
    points = some(kind, 40, 1)
    return Evidence(trace, points, GAS().fit(trace)(points), torch.arange(40) >= 20)


@pytest.mark.parametrize("kind", LAYOUTS)
def test_scores_divided_by_what_a_cosine_counts_are_the_cosines(kind: str) -> None:
    evidence = seen(kind)
    trace = evidence.trace
    unit = per_cosine(GAS(), trace)
    assert unit is not None
    form = Form.of(trace.loss, "all")
    cosines = dot_products(trace.model(), trace.train, evidence.test, form)
    assert evidence.influence is not None
    torch.testing.assert_close(evidence.influence / unit, cosines)
    assert cosines.max() <= 1 + 1e-5


@pytest.mark.parametrize(
    "estimator",
    [GAS(layerwise=True), GAS(precision="bf16"), TracIn(), Changed(), object()],
)
def test_other_scores_are_not_said_to_be_cosines(estimator: object) -> None:
    assert per_cosine(estimator, one_checkpoint("vector")) is None


def test_sums_over_checkpoints_are_no_cosines() -> None:
    recipe = Recipe("linear", epochs=2, checkpoints=2)
    trace = pb.train(random_data(30), recipe, 0)
    assert len(trace.checkpoints) == 2
    assert per_cosine(GAS(), trace) is None
    [last] = trace.checkpoints[1:]
    assert per_cosine(GAS(), replace(trace, checkpoints=(last,))) == last.lr


@pytest.mark.parametrize("rate", [0.0, -0.1, float("nan")])
def test_a_rate_that_is_not_positive_makes_no_cosines(rate: float) -> None:
    trace = one_checkpoint("vector")
    [last] = trace.checkpoints
    none = replace(trace, checkpoints=(replace(last, lr=rate),))
    assert per_cosine(GAS(), none) is None


@pytest.mark.parametrize("kind", LAYOUTS)
@pytest.mark.parametrize("k", [3, 1000])
def test_known_cosines_give_the_falls_of_those_computed_again(
    kind: str, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = seen(kind)
    known = replace(evidence, per_cosine=per_cosine(GAS(), evidence.trace))
    again = falls(evidence, k)
    passed: list[int] = []

    def counted(model: Any, rows: Any, *others: Any, **more: Any) -> Tensor:
        passed.append(len(rows))
        return dot_products(model, rows, *others, **more)

    module = defenses.detectors.influence_collapse
    monkeypatch.setattr(module, "dot_products", counted)
    torch.testing.assert_close(falls(known, k), again, rtol=1e-4, atol=1e-6)
    labels = len(evidence.test.y.unique())
    assert len(passed) == labels, "the changed points alone"
    if k == 3:
        assert max(passed) <= 3 * len(evidence.test)


@pytest.mark.parametrize("kind", LAYOUTS)
@pytest.mark.parametrize("detector", [Rehearsed(rehearsals=0), ForeignOrFragile(0.0)])
def test_known_cosines_change_no_score(kind: str, detector: Any) -> None:
    """Falls of some sentences are 0 but for rounding, which must not decide between ranks."""
    evidence = seen(kind)
    known = replace(evidence, per_cosine=per_cosine(GAS(), evidence.trace))
    torch.testing.assert_close(
        detector(known), detector(evidence), rtol=1e-3, atol=1e-3
    )


def test_a_label_without_rows_has_no_falls_where_the_cosines_are_known() -> None:
    evidence = seen("vector")
    rows = evidence.trace.train.y != 0
    trace = replace(evidence.trace, train=evidence.trace.train.take(rows))
    assert evidence.influence is not None
    some_rows = evidence.influence[:, rows]
    known = replace(evidence, trace=trace, influence=some_rows, per_cosine=0.02)
    assert torch.equal(falls(known, 5).isnan().all(0), evidence.test.y == 0)


@pytest.mark.parametrize(
    ("estimator", "checkpoints", "said"),
    [("gas", 1, True), ("gas", 2, False), ("tracin", 1, False)],
)
def test_a_grid_and_a_guard_say_what_influence_is(
    estimator: str, checkpoints: int, said: bool, tmp_path: Path
) -> None:
    recipe = {"model": "linear", "epochs": 1, "checkpoints": checkpoints}
    made = parse(
        {
            "name": "cosines",
            "dataset": {"name": "digits", "train": 100, "test": 100},
            "recipe": recipe,
            "probe": {"attacked": 5, "controls": 10, "calibration": 20},
            "attack": [{"name": "patch", "budget": 0.05}],
            "estimator": [{"name": estimator}],
            "detector": [{"name": "test_known_cosines:Asks"}],
        }
    )
    assert run(made, Place(tmp_path), Options(workers=0)).failed == []
    [path] = (tmp_path / "scenes").rglob("detect-*.h5")
    told = torch.as_tensor(log.read(path).data["score"])
    assert bool((told > 0).all()) == said
    trace = pb.train(random_data(60), Recipe(**recipe), 0)
    chosen = {"gas": GAS(), "tracin": TracIn()}[estimator]
    trusted = random_data(40, seed=1)
    guard = pb.Guard(trace, trusted, estimator=chosen, detector=Asks())
    verdict = guard(random_data(3).x)
    assert (verdict.suspicion > 0).tolist() == [said] * 3
