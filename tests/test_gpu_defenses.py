"""Every defense judges on the device as on the CPU, from its table and on every kind of data.

In float64, for the scores of many are steps: ranks, neighbours, thresholds.
"""

from dataclasses import replace
from functools import cache

import pytest
import torch
from on_device import REAL, agree, gpu, moved_evidence
from planted import ATTACKED, planted, triggered
from small_data import small_data
from test_defenses import ROWS as DETECTOR_ROWS
from test_filters import ROWS as FILTER_ROWS
from torch import Tensor

from defenses import CERTIFIERS, DETECTORS, FILTERS, MITIGATIONS
from defenses.detectors.rehearsed import Rehearsed
from estimators.gas import GAS
from poisonbench.contracts.calibration.calibrated import means_in_memory
from poisonbench.contracts.protocols import Detector, Filter
from poisonbench.contracts.values import Evidence, Mitigated
from poisonbench.data import KINDS, Dataset, kinds_of
from poisonbench.models import predict
from poisonbench.training import Recipe, train

pytestmark = [
    *gpu,
    pytest.mark.filterwarnings("ignore:.*generic poisons succeeded.*"),
]
# what a model must have learned for scores that are more than rounding
RECIPES = {
    "image": Recipe("cnn", epochs=4, batch_size=32, lr=0.05, checkpoints=2),
    "spectrogram": Recipe("cnn", epochs=4, batch_size=32, lr=0.05, checkpoints=2),
    "vector": Recipe("mlp", epochs=4, batch_size=32, lr=0.05, checkpoints=2),
    "tokens": Recipe(
        "text-cnn",
        epochs=4,
        batch_size=32,
        lr=0.01,
        optimizer="adamw",
        checkpoints=2,
    ),
}
ROWS = 130
POINTS = 30
# of certifiers, to train few models; another one is taken as it is
FEW_MODELS = {
    "deep-partition-aggregation": {"parts": 5, "epochs": 2},
    "finite-aggregation": {"k": 3, "d": 2, "epochs": 2},
}


@cache
def problem(kind: str, images: bool = False) -> Evidence:
    """A planted problem, or instances of a kind, of which half the points are trusted."""
    if kind == "planted":
        return triggered() if images else planted()
    parts = [part.to(dtype=torch.float64) for part in small_data(kind)]
    data = parts[0].take(torch.arange(ROWS))
    trace = train(data, RECIPES[kind], 0)
    points = parts[1].take(torch.arange(POINTS))
    points = points.relabel(predict(trace.model(), points.x).argmax(1))
    role = (torch.arange(ROWS) < ROWS // 10).to(torch.uint8)
    trusted = torch.arange(POINTS) >= POINTS // 2
    return Evidence(trace, points, GAS().fit(trace)(points), trusted, role)


def judged(
    judge: Detector | Filter, seen: Evidence, again: bool = True
) -> tuple[Tensor, Tensor]:
    """Scores on the device, and on the CPU, with means to train again or without."""
    there = moved_evidence(seen)
    if again and "retraining" in judge.uses:
        there = replace(there, means=means_in_memory(there.trace, GAS()))
        seen = replace(seen, means=means_in_memory(seen.trace, GAS()))
    found = judge(there)
    assert found.is_cuda
    return found, judge(seen)


@pytest.mark.parametrize("row", DETECTOR_ROWS, ids=lambda row: repr(row.detector))
def test_a_detector_finds_on_the_device_what_it_finds_on_the_cpu(row):
    agree(*judged(row.detector, problem("planted", row.images)))


def test_a_rehearsal_on_the_device_teaches_what_one_on_the_cpu_does():
    agree(*judged(Rehearsed(1), problem("planted")), rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_takes_its_kinds_of_data_on_the_device(name: str, kind: str):
    """A rehearsal is in a test of its own.

    Points with the same proponents tie but for rounding, which then decides a rank among the
    trusted points. On a real device a score that goes by such ranks is held to about one of them.
    """
    detector = DETECTORS[name]()
    if kind not in kinds_of(detector):
        pytest.skip(f"{name} takes no {kind}")
    again = name != "rehearsed"
    ranked = REAL and "reference" in detector.uses
    found, want = judged(detector, problem(kind), again)
    agree(found, want, rtol=0.1 if ranked else 1e-4)


@pytest.mark.parametrize("row", FILTER_ROWS, ids=lambda row: repr(row.filter))
def test_a_filter_finds_on_the_device_what_it_finds_on_the_cpu(row):
    agree(*judged(row.filter, problem("planted")))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_takes_every_kind_of_data_on_the_device(name: str, kind: str):
    agree(*judged(FILTERS[name](), problem(kind)), rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CERTIFIERS)
def test_a_certifier_votes_on_the_device_as_on_the_cpu(name: str, kind: str):
    certifier = CERTIFIERS[name](**FEW_MODELS.get(name, {}))
    train_set, points = problem(kind).trace.train, problem(kind).test

    def votes(*parts: Dataset) -> tuple[Tensor, Tensor]:
        found = certifier(*parts, RECIPES[kind], 0)
        return found.labels, found.radius

    here = votes(train_set, points)
    there = votes(train_set.to("cuda"), points.to("cuda"))
    for one, other in zip(there, here, strict=True):
        assert torch.equal(one.cpu(), other)


def mitigated(name: str, seen: Evidence) -> Mitigated:
    """What a mitigation does about the attacked points, all of which are flagged."""
    device = seen.test.x.device
    flags = torch.arange(len(seen.test), device=device) < ATTACKED
    assert seen.role is not None
    means = replace(
        means_in_memory(seen.trace, GAS()),
        suspicion=flags.double(),
        flags=flags,
        scores=seen.role.double(),
    )
    return MITIGATIONS[name]()(seen, means)


@pytest.mark.parametrize("name", MITIGATIONS)
def test_a_mitigation_removes_on_the_device_what_it_removes_on_the_cpu(name: str):
    seen = problem("planted")
    here, there = mitigated(name, seen), mitigated(name, moved_evidence(seen))
    assert torch.equal(there.keep.cpu(), here.keep)
    assert there.retrainings == here.retrainings
    assert there.trace.train.x.is_cuda
    want = here.trace.checkpoints[-1].state
    for name, value in there.trace.checkpoints[-1].state.items():
        agree(value, want[name])
