"""Independent random streams from one integer seed; the global generators stay untouched."""

import hashlib

import torch


def derive(seed: int, *stream: str | int) -> int:
    """Returns a seed in [0, 2^63) for the named stream of `seed`: the same on every machine, unrelated across streams."""
    digest = hashlib.sha256(repr((seed, *stream)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def seed_global(seed: int, device: torch.device | None = None) -> None:
    """Seeds PyTorch's global generators of the CPU and of a CUDA device, as layers draw from these: fork them before.

    `torch.manual_seed` gives the same streams, but records a stack trace for every kind of device that is not there: at a few
    tenths of a millisecond that is a third of a small model's step.
    """
    torch.default_generator.manual_seed(seed)
    if device is not None and device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def generator(seed: int, *stream: str | int) -> torch.Generator:
    """Returns a CPU generator for the named stream of `seed`, e.g. `generator(seed, "batches")`."""
    return torch.Generator().manual_seed(derive(seed, *stream))
