"""What the nodes of a Ray cluster have, against what a task asks for: Ray itself waits for ever."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from experiments.runner.options import RayOptions
from poisonbench.errors import ConfigError


@dataclass(frozen=True)
class Node:
    """What a node has in all, free or not."""

    cpus: float
    gpus: float

    def __str__(self) -> str:
        return _words(self.cpus, self.gpus)


def nodes_of(told: Iterable[Mapping[str, Any]]) -> list[Node]:
    """Returns the nodes that are alive, of what `ray.nodes()` tells."""
    found = []
    for node in told:
        if node["Alive"]:
            has = node["Resources"]
            found.append(Node(has.get("CPU", 0.0), has.get("GPU", 0.0)))
    return found


def fits(how: RayOptions, nodes: Iterable[Node]) -> bool:
    """Whether one node has all that a task asks for."""
    return any(node.cpus >= how.cpus and node.gpus >= how.gpus for node in nodes)


def check_request(how: RayOptions, nodes: list[Node]) -> None:
    """Refuses what no node could ever give.

    Raises:
        ConfigError: no node has all that a task asks for.
    """
    if fits(how, nodes):
        return
    have = "; ".join(sorted({str(node) for node in nodes})) or "none"
    told = f"a task asks for {_words(how.cpus, how.gpus)}, and no node has that"
    raise ConfigError([told], f"nodes have: {have}; see --ray-cpus and --ray-gpus")


def _words(cpus: float, gpus: float) -> str:
    return f"{cpus:g} CPUs and {gpus:g} GPUs"
