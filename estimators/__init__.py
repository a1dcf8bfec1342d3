"""Influence estimators, one per file; a new one is a file and a line of this table."""

from estimators.downsampling import Downsampling
from estimators.gas import GAS
from estimators.hydra import HyDRA
from estimators.influence_functions import InfluenceFunctions
from estimators.leave_one_out import LeaveOneOut
from estimators.representer_point import RepresenterPoint
from estimators.screening.screened import Screened
from estimators.shapley.shapley import Shapley
from estimators.tracin import TracIn
from estimators.trak import TRAK

ESTIMATORS: dict[str, type] = {
    "downsampling": Downsampling,
    "gas": GAS,
    "hydra": HyDRA,
    "influence-functions": InfluenceFunctions,
    "leave-one-out": LeaveOneOut,
    "representer-point": RepresenterPoint,
    "screened": Screened,
    "shapley": Shapley,
    "tracin": TracIn,
    "trak": TRAK,
}
