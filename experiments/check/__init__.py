"""The contract of a method, checked rule by rule, for those who write one.

For example: `poisonbench check attack my_attack:MyAttack`. A check is a row of a table: the name of
its rule, the rule in words, and a function that returns what it found or raises a `FindingError`.
Tests of the built-in methods use the same tables.
"""

from experiments.check.attack import ATTACK
from experiments.check.detector import DETECTOR, DetectorSubject
from experiments.check.estimator import ESTIMATOR, EstimatorSubject
from experiments.check.runs import AttackSubject
from experiments.check.target import verdicts
from experiments.check.verdict import Check, Verdict, judge

__all__ = [
    "ATTACK",
    "DETECTOR",
    "ESTIMATOR",
    "AttackSubject",
    "Check",
    "DetectorSubject",
    "EstimatorSubject",
    "Verdict",
    "judge",
    "verdicts",
]
