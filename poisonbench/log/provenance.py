"""What every log says of its origin: versions, GPU, commit and date."""

import os
import platform
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGES = ("poisonbench", "torch", "numpy", "h5py")
TOLD = ("poisonbench", "torch")  # versions that change results
DESCRIBE = ("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def provenance() -> dict[str, str]:
    """The attributes that every log gets.

    Versions, the commit of the checkout (empty if there is none), and the date in UTC; where this
    process has used CUDA, its GPUs and the versions of CUDA and cuDNN.
    """
    packages = {name: _version(name) for name in PACKAGES}
    return {
        **packages,
        **_gpu(),
        "python": platform.python_version(),
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def versions_of(logs: Iterable[Mapping[str, object]]) -> Counter[str]:
    """Returns by which versions logs were made, in words, and how many by each.

    Args:
        logs: the attributes of each.
    """
    found: Counter[str] = Counter()
    for attributes in logs:
        words = [f"{name} {attributes.get(name) or 'unknown'}" for name in TOLD]
        found[", ".join(words)] += 1
    return found


def versions_here() -> str:
    """Returns the versions of this process in the words of `versions_of`."""
    return next(iter(versions_of([provenance()])))


def _gpu() -> dict[str, str]:
    """The GPUs that this process sees and the versions of their libraries, all empty without."""
    # a process that has not loaded torch has used no GPU
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {"gpu": "", "cuda": "", "cudnn": ""}
    return _gpu_in_use()


@cache
def _gpu_in_use() -> dict[str, str]:
    import torch

    numbers = range(torch.cuda.device_count())
    # each kind once, in order
    kinds = dict.fromkeys(torch.cuda.get_device_name(number) for number in numbers)
    return {
        "gpu": ", ".join(kinds),
        "cuda": torch.version.cuda or "",
        "cudnn": str(torch.backends.cudnn.version() or ""),
    }


@cache
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # run from a source tree
        return ""


@cache
def _commit() -> str:
    root = Path(__file__).resolve().parents[2]
    git = shutil.which("git")
    # An installed package may lie inside the checkout of something else, whose commit would be a
    # lie: hence no search upwards.
    if git is None or not (root / ".git").exists():
        return ""
    command = [git, "--no-optional-locks", "-C", str(root), *DESCRIBE]
    # set in hooks, for another tree
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("GIT_")
    }
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
