"""False alarms of a detector in the mix of points that a stream brings.

Half of the controls are drawn from points predicted as a label that the attacker wants, which in a
stream are as rare as that label is.
"""

import numpy as np
from numpy.typing import NDArray

from experiments.evaluation.metrics import Metric, undefined
from experiments.evaluation.samples import Sample
from poisonbench.log import Record, names
from poisonbench.roles import ATTACKED, CALIBRATION, MATCHED, RANDOM

NO_CALIBRATION = "no calibration points"
ONE_KIND = "controls of one kind of label alone"


def in_stream(flag: NDArray[np.bool_], scene: Record) -> Metric:
    """Returns the share of clean points that are flagged, where they come as in a stream.

    The rate among the controls predicted as a label that the attacker wants, and the rate among the
    others, each weighed by how many of the calibration points are predicted so: these are drawn at
    random.

    Args:
        flag: (m,) bool, of all probe points.
        scene: their groups and labels.
    """
    group = scene.data[names.PROBE_GROUP]
    predicted = scene.data[names.PROBE_PREDICTED]
    wanted = scene.data[names.PROBE_WANTED][group == ATTACKED]
    controls = (group == MATCHED) | (group == RANDOM)
    calibration = group == CALIBRATION
    if not controls.any():
        return undefined(Sample.NO_NEGATIVE)
    if not calibration.any():
        return undefined(NO_CALIBRATION)
    own = np.isin(predicted, wanted)
    total = 0.0
    for kind in (own, ~own):
        share = float(kind[calibration].mean())
        alike = controls & kind
        if share and not alike.any():
            return undefined(ONE_KIND)
        if share:
            total += share * float(flag[alike].mean())
    return Metric(total)
