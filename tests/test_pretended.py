"""The pretended device refuses what CUDA refuses, and takes what CUDA takes."""

import contextlib
import copy
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from on_device import real
from pretended import MixedDevicesError, Pretended, pretended_cuda
from torch import Tensor, nn

from poisonbench.seeding import drawing, generator

Operation = Callable[[Tensor, Tensor], object]


@pytest.fixture
def device() -> Iterator[Pretended]:
    with pretended_cuda() as device:
        yield device


MIXED: dict[str, Operation] = {
    "sum": lambda here, there: here + there,
    "sum, the other way": lambda here, there: there + here,
    "in place": lambda here, there: there.mul_(here),
    "product": lambda here, there: there @ here,
    "choice": lambda here, there: torch.where(here > 0.5, there, 0.0),
    "mask": lambda here, there: there.masked_fill_(here > 0.5, 0.0),
    "cat": lambda here, there: torch.cat([here, there]),
    "stack with a number": lambda here, there: torch.stack([there[0], here[0]]),
    "gather": lambda here, there: there.gather(0, here.long()),
    "equal": torch.equal,
    "a number on the device beside values that are not": lambda here, there: (
        here + there[0]
    ),
    "a number on the CPU changed by the device": lambda here, there: here[0].add_(
        there[0]
    ),
    "index on the device": lambda here, there: here[there.long()],
    "values put": lambda here, there: there.index_put_((here.long(),), here),
    "layer": lambda here, there: nn.functional.linear(there, here[None]),
    "layer under vmap": lambda here, there: torch.vmap(lambda x: x * here)(there),
    "generator": lambda here, there: there.uniform_(generator=generator(0, "x")),
    "generator of a new tensor": lambda here, there: torch.rand(
        3, generator=generator(0, "x"), device="cuda"
    ),
    "permutation": lambda here, there: torch.randperm(
        3, generator=generator(0, "x"), device="cuda"
    ),
}


@pytest.mark.parametrize("name", MIXED)
def test_an_operation_that_mixes_devices_raises(name: str, device: Pretended):
    here = torch.full((3,), 0.7)
    there = torch.full((3,), 0.7, device="cuda")
    with pytest.raises(MixedDevicesError):
        MIXED[name](here, there)
    assert len(device.mixed) == 1


TAKEN: dict[str, Operation] = {
    "a number on the CPU": lambda here, there: there + here[0],
    "a number on the CPU, the other way": lambda here, there: here[0] * there,
    "a number on the CPU, in place": lambda here, there: there.mul_(here[0]),
    "a number in a choice": lambda here, there: torch.where(there > 0, there, here[0]),
    "a number laid over": lambda here, there: there.masked_fill(there > 0, here[0]),
    "index on the CPU": lambda here, there: there[here.long()],
    "mask on the CPU": lambda here, there: there[here > 0],
    "number put at an index on the CPU": lambda here, there: there.index_put_(
        (here.long(),), here[0]
    ),
    "copy": lambda here, there: there.copy_(here),
    "moved": lambda here, there: there + here.to("cuda"),
    "moved as another": lambda here, there: there + here.to(there),
    "made alike": lambda here, there: there + torch.ones_like(here, device="cuda"),
    "under vmap": lambda here, there: torch.vmap(lambda x: x * there)(there),
    "gradient": lambda here, there: torch.func.grad(lambda x: (x * there).sum())(there),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_cuda_takes_lies_on_the_device(name: str, device: Pretended):
    here = torch.full((3,), 0.7)
    there = torch.full((3,), 0.7, device="cuda")
    want = TAKEN[name](here.cuda(), there.clone())
    got = TAKEN[name](here, there)
    assert got.device == torch.device("cuda", 0)
    assert got.is_cuda
    assert not got.is_cpu
    assert torch.equal(got.cpu(), want.cpu())
    assert here.device.type == "cpu"
    assert device.mixed == []


def test_where_a_tensor_lies_follows_what_is_done_to_it(device: Pretended):
    there = torch.arange(6.0).to("cuda")
    assert there.view(2, 3).T[1].device.type == "cuda"
    assert there.to(torch.float64).is_cuda
    assert there.to(device="cuda", dtype=torch.float64).dtype == torch.float64
    assert there.cpu().cuda().is_cuda
    assert torch.zeros_like(there).is_cuda
    assert there.new_zeros(3).is_cuda
    assert copy.deepcopy(there).is_cuda
    assert not torch.tensor([there[0], there[1]]).is_cuda
    assert not torch.zeros_like(there, device="cpu").is_cuda
    assert not there.to("cpu").is_cuda
    here = there.cpu()
    here += 1
    assert float(there[0]) == 0.0, "the copy on the CPU shares its values"


def test_a_model_and_its_gradients_go_where_the_model_goes(device: Pretended):
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).to("cuda")
    x = torch.rand(5, 3, device="cuda")
    nn.functional.cross_entropy(model(x), torch.zeros(5).long().cuda()).backward()
    for weight in model.parameters():
        assert weight.is_cuda
        assert weight.grad.is_cuda
    optimizer = torch.optim.AdamW(model.parameters())
    optimizer.step()
    with pytest.raises(MixedDevicesError):
        model(torch.rand(5, 3))
    model.cpu()(torch.rand(5, 3))


def test_values_on_the_device_are_no_array(device: Pretended):
    there = torch.rand(3, device="cuda")
    with pytest.raises(TypeError, match="can't convert cuda"):
        there.numpy()
    with pytest.raises(TypeError, match="can't convert cuda"):
        np.asarray(there)
    assert there.tolist() == there.cpu().numpy().tolist()


def test_an_error_that_is_caught_is_kept(device: Pretended):
    with contextlib.suppress(RuntimeError):
        torch.rand(3, device="cuda") + torch.rand(3)
    [told] = device.mixed
    assert "found cuda:0 and cpu, shapes (3,) on cuda, (3,) on cpu" in told
    assert "test_an_error_that_is_caught_is_kept" in told


def test_streams_of_the_device_are_put_back(device: Pretended):
    before = torch.random.get_rng_state()
    with drawing(0, torch.device("cuda")):
        assert torch.rand(3, device="cuda").is_cuda
    assert torch.equal(torch.random.get_rng_state(), before)


@real
def test_cuda_itself_refuses_and_takes_the_same():
    here = torch.full((3,), 0.7)
    for operation in MIXED.values():
        with pytest.raises(RuntimeError):
            operation(here, torch.full((3,), 0.7, device="cuda"))
    for operation in TAKEN.values():
        assert operation(here, torch.full((3,), 0.7, device="cuda")).is_cuda


def test_nothing_stays_pretended():
    found = torch.cuda.is_available
    with pretended_cuda():
        there = torch.rand(3, device="cuda")
        assert torch.cuda.is_available()
    assert torch.cuda.is_available is found
    assert there.device.type == "cpu"
