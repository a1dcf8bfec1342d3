"""The library Ray, which may be absent, and the connection of a run to a cluster."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from experiments.runner.lock import Interrupted
from experiments.runner.options import RayOptions
from poisonbench.errors import ConfigError

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # or Ray reports to its makers
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a task without a GPU sees none
}


def imported_ray() -> Any:
    """Returns the module ray.

    Raises:
        ConfigError: it is not installed.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        way = "install it: pip install 'poisonbench[ray]', or run with --executor local"
        raise ConfigError([f"--executor ray needs Ray: {error}"], way) from error
    return ray


@contextmanager
def connected(ray: Any, how: RayOptions) -> Iterator[None]:
    """Connects to the cluster while it lasts, unless this process is connected already.

    Raises:
        ConfigError: the cluster cannot be reached.
    """
    if ray.is_initialized():
        yield
        return
    address = how.address or os.environ.get("RAY_ADDRESS") or "local"
    ending = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address=address,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="WARNING",
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        told = f"--ray-address {address}: {error}"
        raise ConfigError([told], "name the address that `ray status` shows") from error
    with suppress(ValueError):  # Ray sets a handler of its own; here is a main thread
        signal.signal(signal.SIGTERM, ending)
    try:
        yield
    except SystemError as error:  # so compiled code of Ray tells what a signal raised
        if isinstance(error.__cause__, Interrupted):
            raise error.__cause__ from None
        raise
    finally:
        ray.shutdown()
