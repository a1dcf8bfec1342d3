"""What a worker process does first. It needs no torch, which takes seconds to load.

So a worker whose parent is killed while it loads ends at once, too.
"""

import importlib
import os
import signal
import sys
import threading
import time

from tqdm import tqdm

from experiments.runner.gpus import Spread


def start_worker(parent: int, path: list[str], spread: Spread) -> None:
    """Prepares a worker process.

    It leaves Ctrl-C to its parent, ends with it, finds the same modules, and sees its own GPU.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    sys.path[:] = path
    spread.take()
    # tqdm's own lock is a semaphore of the system, which a process that is ended would leave there
    tqdm.set_lock(threading.RLock())
    # here, as workers load side by side; the first job is unpacked by one at a time
    importlib.import_module("experiments.runner.worker")
