"""Which question told, against a case counted by hand."""

from pathlib import Path

import numpy as np
from click.testing import CliRunner
from test_evaluate import scene_config, write_scene

from experiments.study.__main__ import main
from experiments.study.detectors.told import told_in
from poisonbench import log


def test_a_question_adds_its_weight_times_the_surprise_beyond_that_of_clean_controls(
    tmp_path: Path,
):
    # 4 attacked points, of which the last fails; 6 controls; 5 calibration points
    won = [True, True, True, False]
    place = write_scene(tmp_path, scene_config({"name": "patch"}), won=won)
    surprises = np.zeros((3, 15))
    surprises[0] = [4, 5, 6, 99, *[1] * 6, *[77] * 5]  # 5 - 1
    surprises[1] = [0, 0, 0, 99, *[2] * 6, *[77] * 5]  # 0 - 2
    surprises[2] = 3
    config = log.read(place / "scene.h5").config
    log.write(
        place / "detect-gas-rehearsed-1.h5",
        "detect",
        config={
            "scene": config,
            "estimator": {"name": "gas"},
            "detector": {"name": "rehearsed", "leave_out": ["patch"], "stream": False},
        },
        data={
            "score": np.zeros(15),
            "flag": np.zeros(15, bool),
            "weights": np.array([0.5, 0.25, 8.0]),
            "surprises": surprises,
        },
        attributes={"note_questions": "tails\nfeatures\nsame", "uses": ""},
    )
    [found] = told_in(tmp_path, "rehearsed")
    assert found.adds == {"tails": 2.0, "features": -0.5, "same": 0.0}
    assert found.detector == {"name": "rehearsed", "stream": False}
    said = CliRunner().invoke(main, ["told", str(tmp_path)]).stdout
    row = "| +1.5 | tails +2.0, same +0.0, features -0.5 | features -0.5 |"
    assert f"| rehearsed | digits: patch {row}" in said
