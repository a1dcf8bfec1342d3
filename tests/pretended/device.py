"""Switches the pretended device on and off."""

import contextlib
import types
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch

from pretended.functions import Functions
from pretended.labels import Labels, tensors
from pretended.operations import Operations

MEMORY = 80 << 30  # bytes
PROPERTIES = types.SimpleNamespace(
    name="pretended",
    total_memory=MEMORY,
    major=9,
    minor=0,
    multi_processor_count=132,
)
STREAM = types.SimpleNamespace(is_capturing=lambda: False)
ANSWERS: dict[str, object] = {
    "is_available": True,
    "is_initialized": True,
    "device_count": 1,
    "current_device": 0,
    "get_device_name": PROPERTIES.name,
    "get_device_capability": (PROPERTIES.major, PROPERTIES.minor),
    "get_device_properties": PROPERTIES,
    "mem_get_info": (MEMORY, MEMORY),
    "memory_allocated": 0,
    "memory_reserved": 0,
    "max_memory_allocated": 0,
    "max_memory_reserved": 0,
    "is_current_stream_capturing": False,
}
DOES_NOTHING = (
    "init",
    "_lazy_init",
    "synchronize",
    "empty_cache",
    "manual_seed",
    "manual_seed_all",
    "set_device",
    "set_rng_state",
    "reset_peak_memory_stats",
    "set_per_process_memory_fraction",
)


class Pretended:
    """The device while it is on.

    Attributes:
        labels: of storages, and what was mixed.
    """

    def __init__(self) -> None:
        self.labels = Labels()

    @property
    def mixed(self) -> list[str]:
        """What was mixed, also where the error was caught."""
        return self.labels.mixed


def _answering(value: object) -> Callable[..., object]:
    return lambda *args, **kwargs: value


def _rng_state(*args: object) -> torch.Tensor:
    return torch.zeros(16, dtype=torch.uint8)


def _device(device: object) -> contextlib.nullcontext[None]:
    """Stands for `torch.cuda.device`, which makes a device the current one for a block."""
    return contextlib.nullcontext()


def _backward(labels: Labels) -> Callable[..., None]:
    """`torch.autograd.backward`, whose formulas make tensors of nothing where the loss lies."""
    real = torch.autograd.backward

    def backward(losses: Any, *args: Any, **kwargs: Any) -> None:
        before = labels.inside
        labels.inside = any(map(labels.on_device, tensors(losses)))
        try:
            real(losses, *args, **kwargs)
        finally:
            labels.inside = before

    return backward


@contextlib.contextmanager
def _answers(labels: Labels) -> Iterator[None]:
    """`torch.cuda` as it is where a device is there."""
    cuda = torch.cuda
    graphs = cuda.graphs
    answers = {name: _answering(value) for name, value in ANSWERS.items()}
    answers |= {name: _answering(None) for name in DOES_NOTHING}
    changes: list[tuple[object, str, object]]
    changes = [(cuda, name, answer) for name, answer in answers.items()]
    changes.append((cuda, "get_rng_state", _rng_state))
    changes.append((cuda, "device", _device))
    changes.append((graphs, "is_current_stream_capturing", _answering(False)))
    changes.append((torch.accelerator, "current_stream", _answering(STREAM)))
    changes.append((torch.autograd, "backward", _backward(labels)))
    with contextlib.ExitStack() as stack:
        for owner, name, change in changes:
            stack.enter_context(mock.patch.object(owner, name, change))
        yield


@contextlib.contextmanager
def pretended_cuda() -> Iterator[Pretended]:
    """Makes "cuda" a device for a block."""
    device = Pretended()
    with _answers(device.labels), Functions(device.labels), Operations(device.labels):
        yield device
