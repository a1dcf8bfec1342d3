"""What a reader asks of the rows: some of them, means over others, their order, a frame."""

from pathlib import Path

import pytest
from test_evaluate import scene_config, write_detect, write_failure, write_scene

from experiments.evaluation.load import load_results
from experiments.evaluation.summary import summarise
from experiments.evaluation.views.where import where
from poisonbench.errors import ConfigError

SCORES = [9, 8, 2, 1, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Two data sets, two budgets of one attack and one without attack, two seeds."""
    folder = tmp_path_factory.mktemp("run")
    for dataset in ("digits", "mnist"):
        for seed in (0, 1):
            for attack in (
                {"name": "none"},
                {"name": "patch", "budget": 0.01},
                {"name": "patch", "budget": 0.05},
            ):
                place = write_scene(folder, scene_config(attack, seed, dataset))
                write_detect(place, SCORES, estimator="gas", k=3)
                write_detect(place, SCORES, estimator="tracin", k=10)
                write_detect(place, SCORES, estimator=None, detector="rival")
    write_failure(place, "influence-hydra", "out of memory")
    return folder


def kept(folder: Path, *conditions: str) -> tuple[int, int]:
    """How many scenes and detections meet some conditions."""
    results = where(load_results(folder), conditions)
    return len(results.of("scene")), len(results.of("detect"))


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ((), (12, 36)),
        (("attack=patch",), (8, 24)),
        (("attack!=none",), (8, 24)),
        (("attack=patch,none",), (12, 36)),
        (("attack.budget=0.05",), (4, 12)),
        (("budget=5e-2",), (4, 12)),
        (("seed=1",), (6, 18)),
        (("dataset=mnist", "seed=0"), (3, 9)),
        (("model=cnn",), (12, 36)),
        (("detector.k=3",), (12, 12)),
        (("estimator=gas",), (12, 12)),
        (("estimator=none",), (12, 12)),
        (("detector=rival", "attack=none"), (4, 4)),
    ],
    ids=str,
)
def test_conditions_keep_what_meets_them_and_what_has_no_such_part(
    run, conditions, expected
):
    assert kept(run, *conditions) == expected


def test_failures_stay_whatever_is_asked(run):
    results = where(load_results(run), ["attack=patch"])
    assert len(summarise(results).failures) == 1


@pytest.mark.parametrize(
    ("condition", "error", "hint"),
    [
        ("patch", "a condition is KEY=VALUE, got 'patch'", "for example"),
        ("attac=patch", "did you mean 'attack'?", "conditions may ask of: attack,"),
        (
            "attack=blend",
            "no log meets 'attack=blend'",
            "attack is one of: none, patch",
        ),
        ("name=patch", "'name' names several keys", "attack.name"),
        ("seed!=0,1", "no log meets 'seed!=0,1'", "seed is one of: 0, 1"),
    ],
)
def test_a_condition_that_keeps_nothing_is_told_with_what_there_is(
    run, condition, error, hint
):
    with pytest.raises(ConfigError) as raised:
        kept(run, condition)
    assert error in raised.value.message
    assert hint in raised.value.hint
