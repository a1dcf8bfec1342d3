"""Influence estimators, one a file; a new one is a file and a line of this table."""

from estimators.gas import GAS
from estimators.hydra import HyDRA
from estimators.influence_functions import InfluenceFunctions
from estimators.representer_point import RepresenterPoint
from estimators.tracin import TracIn

ESTIMATORS: dict[str, type] = {
    "gas": GAS,
    "hydra": HyDRA,
    "influence-functions": InfluenceFunctions,
    "representer-point": RepresenterPoint,
    "tracin": TracIn,
}
