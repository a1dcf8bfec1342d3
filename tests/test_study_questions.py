"""Questions asked of a run: every cell against scikit-learn on the answer of the question alone."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.metrics import roc_auc_score

from defenses.baselines.confidence import Confidence
from experiments.cli import main as poisonbench
from experiments.plan.gridfile import read
from experiments.plan.parse import parse
from experiments.plan.paths import Place
from experiments.scene.victim import make_victim
from experiments.study.__main__ import main
from experiments.study.detectors.questions import Asked, as_tables, asked
from poisonbench.contracts.values import Evidence
from poisonbench.roles import ATTACKED, MATCHED, RANDOM

GRID = """
name = "small"
dataset = { name = "digits", train = 300, test = 200 }
seeds = [0]

[recipe]
model = "mlp"
epochs = 12
checkpoints = 2

[probe]
attacked = 20
controls = 30
calibration = 40

[[attack]]
name = "patch"
budget = 0.1

[[attack]]
name = "none"

[[estimator]]
name = "tracin"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("run")
    path = place / "small.toml"
    path.write_text(GRID, encoding="utf-8")
    command = ["run", str(path), "-o", str(place / "out"), "--workers", "0"]
    done = CliRunner().invoke(poisonbench, command)
    assert done.exit_code == 0, done.output
    return place / "out"


@pytest.mark.filterwarnings("ignore:.*no score")
def test_a_cell_is_the_auroc_of_the_questions_answer(folder: Path) -> None:
    [patched] = asked(folder, "tracin", False)
    scene = parse(read(folder / "grid.toml")).scenes[0]
    victim = make_victim(scene, Place(folder))
    scores = Confidence()(Evidence(victim.trace, victim.test)).numpy()
    group = victim.probe.group.numpy()
    hit = (victim.probe.predicted == victim.probe.wanted).numpy()
    won = (group == ATTACKED) & hit
    place = patched.names.index("confidence")
    for found, controls in (
        (patched.auroc, np.isin(group, (MATCHED, RANDOM))),
        (patched.matched, group == MATCHED),
    ):
        seen = won | controls
        want = roc_auc_score(won[seen], scores[seen])
        assert found[place] == pytest.approx(want)
    assert patched.success == won.sum() / (group == ATTACKED).sum()
    assert list(asked(folder, "tracin", False, least=1.01)) == []


@pytest.mark.filterwarnings("ignore:.*no score")
def test_the_command_prints_a_table_of_what_was_asked(folder: Path) -> None:
    command = ["questions", str(folder), "--estimator", "tracin", "--every"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("| digits, mlp | seconds |")
    assert "| shared proponents, mean |" in done.stdout
    assert "| removal of 10 % |" in done.stdout
    assert "All questions took" in done.stdout


def test_an_estimator_that_the_grid_lacks_is_refused(folder: Path) -> None:
    from poisonbench.errors import ConfigError

    with pytest.raises(ConfigError, match="no estimator 'gas'"):
        list(asked(folder, "gas", False))


def scene(attack: str, success: float, told: float, seconds: float) -> Asked:
    return Asked(
        data="digits, mlp",
        attack=attack,
        success=success,
        names=("one",),
        auroc=np.array([told]),
        matched=np.array([np.nan]),
        seconds=np.array([seconds]),
        influence_seconds=2.0,
    )


def test_cells_are_means_over_the_seeds_that_have_an_answer() -> None:
    scenes = [
        scene("patch", 0.9, 0.5, 1.0),
        scene("patch", 1.0, 0.7, 3.0),
        scene("patch", 1.0, np.nan, np.nan),
    ]
    assert as_tables(scenes).splitlines() == [
        "| digits, mlp | seconds | patch |",
        "| --- | --- | --- |",
        "| one | 2.00 | 0.60 / - |",
        "",
        "All questions took 1.33 s, the influence matrix 2.00 s.",
    ]
