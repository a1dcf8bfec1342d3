"""Whether a probe has enough points that are known to be clean, told before any work."""

from collections.abc import Sequence

from experiments.plan.fields import Faults
from experiments.plan.spec import Applied, ProbeSpec
from poisonbench.contracts.calibration import too_few


def check_calibration(
    probes: Sequence[ProbeSpec], applied: Sequence[Applied], faults: Faults
) -> None:
    """Adds a fault for each method that needs more trusted points than a probe has.

    Args:
        probes: of the grid.
        applied: its methods.
        faults: gets them.
    """
    if not probes:
        return
    fewest = min(probe.calibration for probe in probes)
    for one in applied:
        why = too_few(one.method.value, fewest)
        if why:
            faults.add("probe.calibration", f"{one.method.name} {why}")
