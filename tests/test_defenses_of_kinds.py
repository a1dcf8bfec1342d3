"""Every defense on every kind of data: it judges the kinds that it takes, the rest is refused."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from defenses import DETECTORS, FILTERS
from defenses.certifiers.deep_partition_aggregation import DeepPartitionAggregation
from defenses.certifiers.finite_aggregation import FiniteAggregation
from experiments.plan.parse import parse
from poisonbench.contracts.protocols import Certifier
from poisonbench.contracts.values import Evidence, Means
from poisonbench.data import KINDS, Dataset, Layout, kinds_of
from poisonbench.errors import ConfigError
from poisonbench.seeding import generator
from poisonbench.training import Recipe, train
from poisonbench.training.trace import Trace

MODELS = {
    "image": "cnn",
    "spectrogram": "cnn",
    "vector": "mlp",
    "tokens": "text-cnn",
}
LAYOUTS = {
    "image": Layout((3, 8, 8), 2, "image"),
    "spectrogram": Layout((1, 8, 16), 2, "spectrogram"),
    "vector": Layout((9,), 2, "vector"),
    "tokens": Layout((12,), 2, "tokens", 30),
}
ROWS = 200
POINTS = 40
RECIPES = {
    kind: Recipe(model, epochs=2, batch_size=50, lr=0.02, checkpoints=2)
    for kind, model in MODELS.items()
}


def some(kind: str, rows: int, seed: int) -> Dataset:
    """Random instances of two classes."""
    layout = LAYOUTS[kind]
    words = tuple(f"w{i}" for i in range(layout.vocabulary))
    x = layout.sample(rows, seed)
    return Dataset(x, torch.arange(rows) % 2, 2, layout.kind, words)


@pytest.fixture(scope="module")
def traces() -> dict[str, Trace]:
    return {kind: train(some(kind, ROWS, 0), RECIPES[kind], 0) for kind in KINDS}


def evidence(trace: Trace) -> Evidence:
    points = some(str(trace.train.kind), POINTS, 1)
    values = torch.randn(POINTS, ROWS, generator=generator(0, "influence"))
    return Evidence(trace, points, values, torch.arange(POINTS) >= POINTS // 2)


def agree(a: Tensor, b: Tensor, atol: float = 1e-4) -> bool:
    return torch.allclose(a, b, rtol=1e-3, atol=atol)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_judges_the_kinds_that_it_takes_and_refuses_the_others(
    name: str, kind: str, traces: dict[str, Trace]
) -> None:
    detector = DETECTORS[name]()
    seen = evidence(traces[kind])
    if kind not in kinds_of(detector):
        with pytest.raises(ConfigError, match=f"got '{kind}'"):
            detector(seen)
        return
    scores = detector(seen)
    assert scores.shape == (POINTS,)
    assert scores.is_floating_point()
    assert bool(scores.isfinite().all())
    if name == "random":
        return
    order = torch.randperm(POINTS, generator=generator(0, "order"))
    assert seen.influence is not None
    assert seen.trusted is not None
    moved = replace(
        seen,
        test=seen.test.take(order),
        influence=seen.influence[order],
        trusted=seen.trusted[order],
    )
    # on random data STRIP's scores are so close that their tail is partly that of rounding
    atol = 0.1 if name == "rehearsed" else 1e-4
    assert agree(detector(moved), scores[order], atol)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", sorted(FILTERS.keys() - {"perfect-filter"}))
def test_a_filter_judges_the_rows_of_every_kind(
    name: str, kind: str, traces: dict[str, Trace]
) -> None:
    trace = traces[kind]
    means = Means(lambda keep: train(trace.train.take(keep), trace.recipe, trace.seed))
    scores = FILTERS[name]()(replace(evidence(trace), means=means))
    assert scores.shape == (ROWS,)
    assert scores.is_floating_point()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "certifier",
    [DeepPartitionAggregation(3, epochs=1), FiniteAggregation(2, 2, epochs=1)],
    ids=lambda certifier: type(certifier).__name__,
)
def test_a_certifier_votes_on_every_kind(certifier: Certifier, kind: str) -> None:
    found = certifier(some(kind, 30, 0), some(kind, 5, 1), RECIPES[kind], 0)
    assert found.labels.shape == found.radius.shape == (5,)


@pytest.mark.parametrize(
    ("dataset", "model", "detector", "kind"),
    [
        ("adult", "mlp", {"name": "scale-up"}, "vector"),
        ("sst2", "text-cnn", {"name": "scale-up"}, "tokens"),
        ("sst2", "text-cnn", {"name": "strip", "mode": "average"}, "tokens"),
    ],
)
def test_a_grid_with_a_detector_that_has_no_meaning_there_is_refused(
    dataset: str, model: str, detector: dict[str, str], kind: str
) -> None:
    raw = {
        "dataset": dataset,
        "recipe": {"model": model},
        "attack": [{"name": "none"}],
        "detector": [detector],
    }
    with pytest.raises(
        ConfigError, match=f"{detector['name']} takes .* of kind {kind}"
    ):
        parse(raw)
