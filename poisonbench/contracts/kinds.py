"""The rules that come before all others: a method takes data of this kind, and of this range."""

from collections.abc import Mapping

from poisonbench.data import Dataset, kinds_of
from poisonbench.data.rescale import into_model, outside_unit
from poisonbench.errors import ConfigError


def check_kind(data: Dataset, attack: object) -> None:
    """Refuses data of a kind that an attack does not take, see `poisonbench.data.kinds_of`.

    Raises:
        ConfigError: names the attack, the kinds that it takes, and that of the data.
    """
    kinds = kinds_of(attack)
    if data.kind in kinds:
        return
    told = " or ".join(f"{kind}s" if kind != "tokens" else kind for kind in kinds)
    what = f"{type(attack).__name__} works on {told}, got data of kind {data.kind}"
    other = "an attack that only changes labels, such as label-flip, takes all"
    raise ConfigError([what], f"choose other data; {other}")


def range_fault(method: object, parts: Mapping[str, Dataset]) -> tuple[str, str]:
    """Returns why a method cannot work on data, and the way out; both "" if it can.

    A method that changes pictures says `unit = True`: it takes them in [0, 1] alone.

    Args:
        method: that is to be applied.
        parts: all data that it sees, each by its name, e.g. "the training set".
    """
    if not getattr(method, "unit", False):
        return "", ""
    for what, data in parts.items():
        told = outside_unit(data, what)
        if told:
            name = type(method).__name__
            why = f"{name} takes {data.kind}s in [0, 1], and {told}"
            return why, f"{into_model(data)}; or take another method"
    return "", ""


def check_range(method: object, parts: Mapping[str, Dataset]) -> None:
    """Raises ConfigError where a method takes pictures in [0, 1] alone and others are given."""
    why, way = range_fault(method, parts)
    if why:
        raise ConfigError([why], way)
