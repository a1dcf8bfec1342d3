"""The notebook on a user's own model runs from top to bottom, and finds the backdoor.

Skipped where the extra `notebook` is not installed.
"""

import os
import re
import sys
import warnings
from pathlib import Path

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    nbclient = pytest.importorskip("nbclient")

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "docs" / "own-model.ipynb"


def said(book: object) -> list[str]:
    """What the cells of a notebook gave, as text."""
    outputs = [output for cell in book.cells for output in cell.get("outputs", ())]
    shown = [output["data"] for output in outputs if "data" in output]
    return [data.get("text/plain", "") for data in shown]


def numbers(texts: list[str], pattern: str) -> list[float]:
    """The numbers in the one text that matches."""
    found = [re.search(pattern, text) for text in texts]
    matched = [match for match in found if match]
    assert len(matched) == 1, texts
    return [float(group) for group in matched[0].groups()]


def check(book: object) -> None:
    texts = said(book)
    accuracy, success = numbers(texts, r"accuracy ([.\d]+), attack success ([.\d]+)")
    assert accuracy > 0.8
    assert success > 0.6
    flagged, false = numbers(texts, r"(\d+) of 20 attacked.*and (\d+) of 20 clean")
    assert flagged >= 12
    assert false <= 5


def test_what_is_committed_was_run():
    book = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    check(book)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore")
def test_it_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    assert os.access(sys.executable, os.X_OK)
    book = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(book, timeout=1800, kernel_name="python3")
    client.execute(cwd=str(tmp_path))
    check(book)
