"""The table of planted faults fits the tree: each text occurs once, each test file exists."""

from pathlib import Path

import pytest

from tests.faults.fault import Fault, all_faults

ROOT = Path(__file__).parent.parent
FAULTS = all_faults()
METHOD_FOLDERS = (
    *("attacks", "estimators", "estimators/shapley"),
    *("defenses/detectors", "defenses/baselines", "defenses/filters"),
    *("defenses/mitigations", "defenses/certifiers", "experiments/evaluation/kinds"),
)
WITHOUT_A_FORMULA = {"attacks/none.py", "defenses/baselines/random.py"}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.title[:80])
def test_a_fault_can_be_planted_and_names_its_tests(fault: Fault):
    text = (ROOT / fault.file).read_text(encoding="utf-8")
    assert fault.planted_in(text) != text
    assert (ROOT / fault.tests.split()[0].split("::")[0]).is_file()


@pytest.mark.parametrize("folder", METHOD_FOLDERS)
def test_every_method_file_has_a_fault(folder: str):
    files = {str(path.relative_to(ROOT)) for path in (ROOT / folder).glob("[a-z]*.py")}
    assert files - {fault.file for fault in FAULTS} <= WITHOUT_A_FORMULA
