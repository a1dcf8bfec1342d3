"""How a grid is run: no part of any configuration, and of no influence on the results."""

from dataclasses import dataclass

from experiments.runner.lock import WHOLE, Shard


@dataclass(frozen=True)
class RayOptions:
    """The tasks of a run on a Ray cluster.

    Attributes:
        address: of the cluster, HOST:PORT; None for $RAY_ADDRESS, or else a Ray of its own on this
            machine.
        cpus: that a task asks for; a share of one is allowed.
        gpus: likewise; a share of one is allowed, more than one only whole.

    Raises:
        ValueError: a number that Ray cannot give.
    """

    address: str | None = None
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("cpus", self.cpus), ("gpus", self.gpus)):
            if value < 0:
                raise ValueError(f"{name} must be 0 or more, got {value:g}")
            if value > 1 and value != int(value):
                raise ValueError(f"{name} above 1 must be whole, got {value:g}")


@dataclass(frozen=True)
class Options:
    """How to run.

    Attributes:
        workers: processes at a time; 0 runs in this process. Of a Ray cluster: tasks at a time; 0
            for as many as it can take.
        threads: torch threads of each; results are bit-equal for equal threads.
        timeout: seconds that a scene may take, None for ever.
        retry_failed: do failed cells again.
        shard: which part of the scenes is done.
        gpus: the GPUs, as CUDA_VISIBLE_DEVICES names them, over which workers of this machine are
            spread, each seeing one; none: all see all.
        ray: where the scenes are tasks of a Ray cluster.
    """

    workers: int = 1
    threads: int = 1
    timeout: float | None = None
    retry_failed: bool = False
    shard: Shard = WHOLE
    gpus: tuple[str, ...] = ()
    ray: RayOptions | None = None
