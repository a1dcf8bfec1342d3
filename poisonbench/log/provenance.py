"""What every log says of its origin: versions, processor, GPU, commit and date."""

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
CPUINFO = Path("/proc/cpuinfo")
MODEL = {  # what tells processors of one name apart: key there -> word
    "cpu family": "family",
    "model": "model",
}
DESCRIBE = ("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def provenance() -> dict[str, str]:
    """The attributes that every log gets.

    Versions, the processor, the commit of the checkout (empty if there is none), and the date in
    UTC; where this process has used CUDA, its GPUs and the versions of CUDA and cuDNN.
    """
    packages = {name: _version(name) for name in PACKAGES}
    return {
        **packages,
        **_gpu(),
        "processor": processor(),
        "python": platform.python_version(),
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@cache
def processor() -> str:
    """Returns the name, family and model of this machine's processor: they move roundings."""
    try:
        text = CPUINFO.read_text()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    first, _, _ = text.partition("\n\n")  # of as many alike as there are cores
    pairs = [line.partition(":") for line in first.splitlines()]
    found = {key.strip(): value.strip() for key, _, value in pairs}
    name = found.get("model name", platform.machine())
    model = [f"{word} {found[key]}" for key, word in MODEL.items() if key in found]
    return ", ".join([name, *model])


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


def processors_of(logs: Iterable[Mapping[str, object]]) -> Counter[str]:
    """Returns on which processors logs were made, and how many on each.

    Args:
        logs: the attributes of each; older ones name none, and are left out.
    """
    names = (attributes.get("processor") for attributes in logs)
    return Counter(str(name) for name in names if name)


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
