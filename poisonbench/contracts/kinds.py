"""The rule that comes before all others: an attack takes the data of this kind."""

from poisonbench.data import Dataset, kinds_of
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
