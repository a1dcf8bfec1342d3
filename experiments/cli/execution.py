"""From the options of a command to how its grid is run."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.runner.options import Options, RayOptions


def options_of(how: dict[str, Any], device: str) -> "Options":
    """Returns how a grid is run.

    Args:
        how: the options of the command, by name.
        device: of training and scoring.

    Raises:
        ConfigError: options that contradict each other.
    """
    from experiments.runner.lock import Shard
    from experiments.runner.options import Options

    ray = None
    gpus: tuple[str, ...] = ()
    if how["executor"] == "ray":
        ray = _ray_options(how, device)
        workers = how["workers"] or 0
    else:
        _refuse_ray_options(how)
        gpus = _gpus(device)
        workers = how["workers"]
        if workers is None:
            workers = _default_workers(device, len(gpus), how["threads"])
    return Options(
        workers=workers,
        threads=how["threads"],
        timeout=how["timeout"],
        retry_failed=how["retry_failed"],
        shard=Shard(*how["shard"]),
        gpus=gpus,
        ray=ray,
    )


def ray_device(how: dict[str, Any]) -> str:
    """Returns the device of the tasks of Ray, which this machine need not have.

    Raises:
        ConfigError: a device with a number: a task sees its own GPUs alone.
    """
    from poisonbench.errors import ConfigError

    device: str = how["device"]
    if device == "auto":
        return "cuda" if how["ray_gpus"] else "cpu"
    if device in ("cpu", "cuda"):
        return device
    told = f"--device {device}: a task of Ray sees its own GPUs alone"
    raise ConfigError([told], "auto, cpu, cuda")


def _ray_options(how: dict[str, Any], device: str) -> "RayOptions":
    from experiments.runner.options import RayOptions
    from poisonbench.errors import ConfigError

    address = how["ray_address"]
    cpus = how["ray_cpus"]
    gpus = how["ray_gpus"]
    if cpus is None:
        cpus = how["threads"]
    if gpus is None:
        gpus = float(device == "cuda")
    faults = []
    if address and address.startswith("ray://"):
        faults.append(
            f"--ray-address {address}: a grid is run on a node of its cluster"
        )
    if (device == "cuda") != (gpus > 0):
        faults.append(f"--device {device} with --ray-gpus {gpus:g}")
    try:
        found = RayOptions(address, cpus, gpus)
    except ValueError as error:
        faults.append(str(error))
    if faults:
        raise ConfigError(faults, "see docs/clusters.md; on a node: --ray-address auto")
    return found


def _refuse_ray_options(how: dict[str, Any]) -> None:
    """Raises ConfigError for options of Ray without Ray."""
    from poisonbench.errors import ConfigError

    given = [name for name in how if name.startswith("ray_") and how[name] is not None]
    flags = [f"--{name.replace('_', '-')}" for name in given]
    if flags:
        raise ConfigError([f"{', '.join(flags)}: without Ray"], "add --executor ray")


def _gpus(device: str) -> tuple[str, ...]:
    """The GPUs over which workers are spread: all, where the device names none of them."""
    import torch

    from experiments.runner.gpus import visible_gpus

    if device != "cuda":
        return ()
    return visible_gpus(torch.cuda.device_count())


def _default_workers(device: str, gpus: int, threads: int) -> int:
    if device.startswith("cuda"):
        return max(1, gpus)
    return max(1, (os.cpu_count() or 1) // threads)
