"""The door from Python with data of every kind on the device: influence, and a guard's verdicts."""

import pytest
import torch
from on_device import agree, gpu, moved
from small_data import small_data
from test_gpu_defenses import RECIPES

import poisonbench as pb
from poisonbench.data import KINDS
from poisonbench.data.dataset import among

pytestmark = [
    *gpu,
    pytest.mark.filterwarnings("ignore:.*generic poisons succeeded.*"),
]


def run_of(kind: str) -> tuple[pb.Trace, pb.Dataset]:
    """A short run on small data of a kind in float64, and points."""
    train_set, points = [part.to(dtype=torch.float64) for part in small_data(kind)]
    few = train_set.take(torch.arange(150))
    return pb.train(few, RECIPES[kind], 0), points


@pytest.mark.parametrize("kind", KINDS)
def test_influence_of_every_kind_of_data_is_that_of_the_cpu(kind: str):
    trace, points = run_of(kind)
    few = points.take(torch.arange(10))
    want = pb.influence(trace, few)
    there = moved(trace)
    got = pb.influence(there, few.to("cuda"))
    assert got.is_cuda
    agree(got, want)
    # points elsewhere, and nothing but their values, are taken to the run
    agree(pb.influence(there, few), want)
    agree(pb.influence(there, few.x), want)


@pytest.mark.parametrize("kind", KINDS)
def test_a_guard_on_the_device_judges_as_on_the_cpu(kind: str):
    check_guard(kind, "foreign-or-fragile")


def test_a_guard_rehearses_on_the_device():
    check_guard("vector", "rehearsed")


def check_guard(kind: str, detector: str) -> None:
    """Fails unless the verdicts are those of the CPU."""
    trace, points = run_of(kind)
    points = points.take(~among(points, trace.train))  # short sentences recur
    trusted = points.take(torch.arange(60))
    rest = points.take(torch.arange(60, 70))
    want = pb.Guard(trace, trusted, detector)(rest)
    guard = pb.Guard(moved(trace), trusted.to("cuda"), detector)
    for data in (rest.to("cuda"), rest):
        got = guard(data)
        assert torch.equal(got.label, want.label)
        assert torch.equal(got.flag, want.flag)
        agree(got.suspicion, want.suspicion, rtol=1e-4)


def test_a_model_of_someone_else_is_read_on_the_device():
    trace, points = run_of("image")
    few = points.take(torch.arange(5))
    here = pb.Trace.of(trace.model(), trace.train)
    there = pb.Trace.of(trace.model().cuda(), trace.train)
    assert there.train.x.is_cuda
    got = pb.influence(there, few.x, "representer-point")
    agree(got, pb.influence(here, few.x, "representer-point"))
