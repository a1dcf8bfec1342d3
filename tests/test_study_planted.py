"""How planted rows are ranked, against scikit-learn and a case counted by hand."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.metrics import average_precision_score
from test_evaluate import scene_config, write_influence, write_scene

from experiments.study.__main__ import main
from experiments.study.detectors.planted import average_precision, ranked
from poisonbench import log


def test_average_precision_is_that_of_scikit_learn_without_ties():
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth = rng.random(30) < 0.2
        truth[rng.integers(30)] = True
        score = rng.permutation(30)
        hits = truth[np.argsort(-score)]
        want = average_precision_score(truth, score)
        assert average_precision(hits) == pytest.approx(want)


def test_ranks_counted_by_hand(tmp_path: Path):
    # rows 0 and 1 are planted; 4 attacked points, of which the last fails
    won = [True, True, True, False]
    place = write_scene(tmp_path, scene_config({"name": "patch"}), won=won)
    path = write_influence(place)
    record = log.read(path)
    influence = np.zeros((15, 7))
    influence[0] = [9, 8, 1, 1, 1, 1, 1]  # both first
    influence[1] = [9, 0, 8, 7, 6, 5, 4]  # first and last
    influence[2] = [-9, -8, 1, 2, 3, 4, 5]  # last and before it
    influence[3] = [9, 8, 1, 1, 1, 1, 1]
    path.unlink()
    log.write(
        path,
        "influence",
        config=record.config,
        data={"influence": influence},
        attributes={"fit_seconds": 0.0},
    )
    [found] = ranked(tmp_path)
    assert found.precision.tolist() == pytest.approx(
        [1, (1 + 2 / 7) / 2, (1 / 6 + 2 / 7) / 2]
    )
    assert found.first.tolist() == [1, 0.5, 0]
    assert found.rank.tolist() == pytest.approx([0.5 / 7, 3 / 7, 5.5 / 7])

    said = CliRunner().invoke(main, ["planted", str(tmp_path)]).stdout
    assert "| patch | tracin | 0.623 [0.623] | 0.500 | 42.9% | 3 |" in said
