"""Independent random streams from one integer seed; the global generators stay untouched."""

import hashlib

import torch


def derive(seed: int, *stream: str | int) -> int:
    """Returns a seed in [0, 2^63) for the named stream of `seed`: the same on every machine, unrelated across streams."""
    digest = hashlib.sha256(repr((seed, *stream)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *stream: str | int) -> torch.Generator:
    """Returns a CPU generator for the named stream of `seed`, e.g. `generator(seed, "batches")`."""
    return torch.Generator().manual_seed(derive(seed, *stream))
