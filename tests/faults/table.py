"""The planted faults, one or two per method and per function of evaluation."""

from tests.faults.fault import Fault

FAULTS: list[Fault] = []
