"""How clean points set a detector's threshold: the rule of the grid and of a guard.

A detector that is fitted to clean points gets half of these, and the other half alone sets its
threshold: on the points that it was fitted to its scores would be too low. One that cross-fits gets
all of them, and judges each as if it had not been given: then all of them set the threshold.
"""

from poisonbench.contracts.calibration.calibrated import (
    Calibrated,
    calibrate,
    means_in_memory,
)
from poisonbench.contracts.calibration.rules import (
    alarm_threshold,
    check_readable,
    check_trusted,
    check_unseen,
    flagged,
    p_values,
    reference_half,
    reference_of,
    too_few,
    unseen_by,
)

__all__ = [
    "Calibrated",
    "alarm_threshold",
    "calibrate",
    "check_readable",
    "check_trusted",
    "check_unseen",
    "flagged",
    "means_in_memory",
    "p_values",
    "reference_half",
    "reference_of",
    "too_few",
    "unseen_by",
]
