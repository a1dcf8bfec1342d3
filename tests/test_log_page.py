"""The page on the format of the logs, held against the names of the code and the logs of a run."""

import re
import runpy
import sys
from pathlib import Path

import h5py
import pytest
from click.testing import CliRunner
from test_tutorial import blocks

from experiments.cli import main
from experiments.plan.kinds import KINDS
from poisonbench import roles
from poisonbench.log import names, provenance

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "log-format.md").read_text(encoding="utf-8")
GRID = """
name = "every kind of stage"
seeds = [0]
dataset = {name = "digits", train = 200, test = 100}
probe = {attacked = 8, controls = 8, calibration = 50}
recipe = {model = "linear", epochs = 3, checkpoints = 2}
attack = [{name = "patch", budget = 0.1}]
estimator = [{name = "downsampling", models = 4}]
detector = [
    {name = "tail-heaviness", k = 3},
    {name = "random"},
    {name = "rehearsed", rehearsals = 0},
    {name = "toy_defense:Mischievous"},
]
filter = [{name = "influence-rank"}]
mitigation = [{name = "remove-and-return"}]
certifier = [{name = "deep-partition-aggregation", parts = 3}]
group = [{name = "random", k = 3, draws = 2}]
memorisation = [{name = "self-influence"}]
truth = [{name = "datamodeling", subsets = 3, repeats = 2, points = 4}]
"""


def sections() -> dict[str, str]:
    """Heading -> text of the page."""
    parts = re.split(r"^## (.*)$", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def first_cells(text: str) -> set[str]:
    """The names in the first column of the tables of a text."""
    rows = re.findall(r"^\| ([^|]*) \|", text, flags=re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def section_of(kind: str) -> str:
    """The section on the files of a kind of log."""
    word = {"failure": "failed-", "scene": "scene.h5", "trace": "trace.h5"}
    start = word.get(kind, f"{kind}-")
    [found] = [text for title, text in sections().items() if start in title]
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The logs of a run with every kind of stage, and one that failed."""
    folder = tmp_path_factory.mktemp("every-kind")
    grid = folder / "grid.toml"
    grid.write_text(GRID)
    options = ["run", str(grid), "-o", str(folder / "run"), "--workers", "0"]
    done = CliRunner().invoke(main, options)
    assert done.exit_code == 1, done.output
    return folder / "run"


def test_every_name_of_the_code_is_on_the_page_and_no_other():
    known = {
        value
        for name, value in vars(names).items()
        if name.isupper() and isinstance(value, str)
    }
    data = [text for title, text in sections().items() if ".h5" in title]
    told = first_cells("\n".join(data)) | first_cells(sections()["In every file"])
    assert known <= told
    attributes = first_cells(sections()["In every file"])
    assert first_cells("\n".join(data)) - known <= attributes


def test_every_code_is_on_the_page():
    rows = sections()["Codes"]
    codes = {
        "attacked": roles.ATTACKED,
        "matched control": roles.MATCHED,
        "random control": roles.RANDOM,
        "calibration": roles.CALIBRATION,
        "judged": roles.JUDGED,
        "clean": roles.CLEAN,
        "poison": roles.POISON,
        "cover": roles.COVER,
        "nobody told": roles.UNTOLD,
        "padding": roles.PAD,
        "every word that": roles.UNKNOWN,
    }
    for meaning, code in codes.items():
        assert re.search(rf"\| {code} \| {meaning}\b", rows), meaning
    public = {name for name in vars(roles) if name.isupper()}
    assert len(public) == len(codes)


def test_every_kind_of_log_is_on_the_page():
    row = re.search(r"^\| `kind` .*$", PAGE, flags=re.MULTILINE)
    assert row
    told = set(re.findall(r"`(\w+)`", row[0])) - {"kind"}
    assert told == {kind.name for kind in KINDS} | {"clean", "poison"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_data_set_and_attribute_of_a_run_is_on_the_page(folder: Path):
    general = first_cells(sections()["In every file"])
    seen = set()
    for path in folder.rglob("*.h5"):
        with h5py.File(path) as file:
            kind = file.attrs["kind"].decode()
            seen.add(kind)
            told = first_cells(section_of(kind)) | {"config"}
            file.visititems(lambda name, _, told=told: check_told(name, told))
            assert set(file.attrs) <= general
            own = {name for name in file["attributes"].attrs if name[:5] != "note_"}
            assert own <= general
    assert seen == {kind.name for kind in KINDS}
    assert set(provenance()) <= general


def check_told(name: str, told: set[str]) -> None:
    """Asserts that a data set, or a group that holds some, is named; a visitor returns None."""
    if name.startswith("checkpoints/"):
        name = name.split("/", 2)[2] if name.count("/") > 1 else "checkpoints/"
        name = "state/" if name.startswith("state") else name
    groups = {entry.partition("/")[0] for entry in told}
    assert name in told or name in groups or name == "attributes", name


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_reader_of_the_page_reads(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    [code] = [text for _, title, text in blocks("log-format.md") if title]
    assert len([line for line in code.splitlines() if line]) <= 10
    script = folder.parent / "reader.py"
    script.write_text(code)
    monkeypatch.setattr(sys, "argv", ["reader.py", str(folder)])
    runpy.run_path(str(script))
    lines = capsys.readouterr().out.splitlines()
    detectors = sorted(line.split()[1] for line in lines)
    assert detectors == ["random", "rehearsed", "tail-heaviness"]
    assert all(line.startswith("patch ") for line in lines)
