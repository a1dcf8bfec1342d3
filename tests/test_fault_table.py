"""The table of planted faults fits the tree: each text occurs once, each test is there."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from _pytest.mark.expression import Expression

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


@pytest.mark.slow
def test_the_tests_of_every_fault_are_there():
    """A word behind -k that no test has would leave its fault without one, and nobody told."""
    call = [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests"]
    told = subprocess.run(
        call, cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    lines = told.splitlines()
    nodes = [line.lower() for line in lines if line.startswith("tests/")]
    assert len(nodes) > 1000
    skipped = "".join(line for line in lines if line.startswith("SKIPPED"))
    lacking = []
    for fault in FAULTS:
        files, _, words = fault.tests.partition(" -k ")
        own = [node for node in nodes if node.startswith(tuple(files.lower().split()))]
        if words:
            wanted = Expression.compile(" ".join(shlex.split(words)))
            own = [n for n in own if wanted.evaluate(lambda w, n=n: w.lower() in n)]
        absent = any(file.partition("::")[0] in skipped for file in files.split())
        if not own and not absent:
            lacking.append(fault.tests)
    assert lacking == []


@pytest.mark.parametrize("folder", METHOD_FOLDERS)
def test_every_method_file_has_a_fault(folder: str):
    files = {str(path.relative_to(ROOT)) for path in (ROOT / folder).glob("[a-z]*.py")}
    assert files - {fault.file for fault in FAULTS} <= WITHOUT_A_FORMULA
