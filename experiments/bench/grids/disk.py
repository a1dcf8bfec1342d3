"""A disk that can be made full: a file system in memory, mounted at a folder (Linux, as root)."""

import subprocess
from pathlib import Path

WIDE = "512m"


def remount(folder: Path, size: str) -> None:
    """Gives the file system in memory that is mounted at a folder another size."""
    command = ["mount", "-o", f"remount,size={size}", str(folder)]
    subprocess.run(command, check=True)  # noqa: S603 - a fixed command


def mounted(folder: Path) -> bool:
    """Mounts a file system in memory at a folder; returns whether that is allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={WIDE}", "poisonbench", str(folder)]
    found = subprocess.run(command, check=False, capture_output=True)  # noqa: S603
    return found.returncode == 0


def unmount(folder: Path) -> None:
    """Takes the file system away, with all that it holds."""
    subprocess.run(["umount", str(folder)], check=False)  # noqa: S603, S607
