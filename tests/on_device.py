"""What the tests on a CUDA device share: moving what was made on the CPU, and comparing."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from poisonbench.contracts.values import Evidence
from poisonbench.training import Checkpoint, Trace

# asked before any device is pretended
REAL = torch.cuda.is_available()
gpu = [pytest.mark.gpu, pytest.mark.usefixtures("cuda")]
real = pytest.mark.skipif(not REAL, reason="needs a real CUDA device")


def moved(trace: Trace, device: str = "cuda") -> Trace:
    """The same training run with its data and checkpoints on another device."""
    checkpoints = []
    for one in trace.checkpoints:
        state = {name: value.to(device) for name, value in one.state.items()}
        checkpoints.append(Checkpoint(one.step, one.lr, state))
    return replace(trace, train=trace.train.to(device), checkpoints=tuple(checkpoints))


def moved_evidence(evidence: Evidence, device: str = "cuda") -> Evidence:
    """The same evidence on another device, without means to train again."""
    parts = {}
    for name in ("influence", "trusted", "role"):
        value = getattr(evidence, name)
        parts[name] = None if value is None else value.to(device)
    trace = moved(evidence.trace, device)
    return Evidence(trace, evidence.test.to(device), **parts)


def agree(got: Tensor, want: Tensor, rtol: float = 1e-6) -> None:
    """Fails unless values on the device are those of the CPU, to a share of the largest."""
    sound = want[want.isfinite()].double()
    largest = float(sound.abs().max()) if len(sound) else 0.0
    torch.testing.assert_close(
        got.cpu(), want, rtol=rtol, atol=rtol * largest, equal_nan=True
    )
