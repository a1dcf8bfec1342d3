"""The table of the truth study on planted label noise, against areas counted from the logs."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from sklearn.metrics import roc_auc_score

from experiments.evaluation.load import load_results
from experiments.study.__main__ import main
from experiments.study.truth.noise import finders
from poisonbench import log
from poisonbench.log import names
from poisonbench.roles import POISON

GRID = """
name = "noise"
[dataset]
name = "digits"
classes = [3, 8]
train = 80
test = 60
[recipe]
model = "linear"
epochs = 3
[probe]
controls = 10
calibration = 2
[[attack]]
name = "label-flip"
budget = 0.2
[[memorisation]]
name = "self-influence"
estimator = ["tracin"]
[[estimator]]
name = "tracin"
[[estimator]]
name = "representer-point"
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a run, and what the command says of it."""
    place = tmp_path_factory.mktemp("noise")
    grid = place / "noise.toml"
    grid.write_text(GRID, encoding="utf-8")
    folder = place / "run"
    arguments = ["truth", str(grid), "-o", str(folder), "--workers", "0"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return folder, result.stdout


def test_the_areas_are_those_of_the_logs(ran: tuple[Path, str]):
    folder, _ = ran
    (able,) = finders(load_results(folder)).values()
    assert {one.name for one in able} == {"tracin", "representer-point"}
    for one in able:
        path = next(folder.rglob(f"influence-{one.name}-*.h5"))
        role = log.read(path.parent / "scene.h5").data[names.POISON_ROLE]
        wrong = role == POISON
        assert one.poison == wrong.sum() == 16
        harm = -log.read(path).data[names.INFLUENCE].mean(0)
        assert one.held_out.value == pytest.approx(roc_auc_score(wrong, harm))
        own = list(folder.rglob(f"memorisation-{one.name}-*.h5"))
        if not own:
            assert one.own.value is None
            continue
        score = log.read(own[0]).data[names.SCORE]
        assert one.own.value == pytest.approx(roc_auc_score(wrong, score))
    assert able[0].held_out.value >= able[1].held_out.value


def test_without_grids_the_command_shows_what_is_there(ran: tuple[Path, str]):
    folder, shown = ran
    again = CliRunner().invoke(main, ["truth", "-o", str(folder)])
    assert again.exit_code == 0, again.output
    assert again.stdout == shown
    assert "16 rows with a wrong label" in shown
    assert "| representer-point |" in shown
