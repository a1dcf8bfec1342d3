"""What every log says of its origin: versions, commit and date."""

import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGES = ("poisonbench", "torch", "numpy", "h5py")
DESCRIBE = ("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def provenance() -> dict[str, str]:
    """The attributes that every log gets.

    Versions, the commit of the checkout (empty if there is none), and the date in UTC.
    """
    packages = {name: _version(name) for name in PACKAGES}
    return {
        **packages,
        "python": platform.python_version(),
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
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
