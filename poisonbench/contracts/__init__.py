"""The contracts of the methods: values between the parts, protocols, and the rules of an attack."""

from poisonbench.contracts.attack_rules import (
    RULES,
    attempt,
    broken_rules,
    check_poisoned,
    count,
    craft,
)
from poisonbench.contracts.protocols import (
    Attack,
    Certifier,
    Detector,
    Estimator,
    Filter,
    Mitigation,
    Scorer,
)
from poisonbench.contracts.values import Certified, Evidence, Means, Mitigated, Poisoned
from poisonbench.roles import CLEAN, COVER, POISON

__all__ = [
    "CLEAN",
    "COVER",
    "POISON",
    "RULES",
    "Attack",
    "Certified",
    "Certifier",
    "Detector",
    "Estimator",
    "Evidence",
    "Filter",
    "Means",
    "Mitigated",
    "Mitigation",
    "Poisoned",
    "Scorer",
    "attempt",
    "broken_rules",
    "check_poisoned",
    "count",
    "craft",
]
