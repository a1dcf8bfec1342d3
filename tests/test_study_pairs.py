"""Detectors over several runs: which pairs count, what a mean over pairs is, paired differences."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from test_evaluate import scene_config, write_detect, write_scene

from experiments.study.__main__ import main
from experiments.study.detectors.runs import attack_of, counting, read

BEST = [9] * 4 + [1] * 11
WORST = [0] * 4 + [1] * 11
HALF = [9, 9, 0, 0] + [1] * 11


def runs(folder: Path) -> list[Path]:
    """Two runs: a pair with two seeds, one with one seed, one whose attack fails, two controls."""
    first = folder / "first"
    second = folder / "second"
    for seed, scores in ((0, BEST), (1, HALF)):
        config = scene_config({"name": "patch"}, seed)
        place = write_scene(first, config, targets=(9, 10))
        write_detect(place, scores, detector="judge", prior="without-digits")
        write_detect(place, WORST, detector="other")
        write_detect(place, HALF, estimator=None, detector="plain")
    config = scene_config({"name": "blend"}, 0, dataset="mnist")
    place = write_scene(second, config, targets=(8, 10))
    write_detect(place, WORST, detector="judge", leave_out=["blend"])
    write_detect(place, WORST, detector="other")
    write_detect(place, BEST, estimator=None, detector="plain")
    config = scene_config({"name": "warp"}, 0, dataset="mnist")
    place = write_scene(second, config, targets=(7, 10))
    write_detect(place, BEST, detector="judge")
    for run, dataset in ((first, "digits"), (second, "mnist")):
        config = scene_config({"name": "none"}, 0, dataset=dataset)
        place = write_scene(run, config, groups=[1] * 5 + [2] * 5, targets=(0, 0))
        flags = [True] + [False] * 9
        write_detect(place, [1] * 10, flags=flags, detector="judge")
    return [first, second]


def test_pairs_count_from_a_success_of_four_fifths(tmp_path: Path):
    victims, _ = read(runs(tmp_path))
    assert counting(victims) == {"digits: patch", "mnist: blend"}
    assert "mnist: warp" in counting(victims, least=0.7)
    assert "mnist: warp" not in counting(victims, least=0.71)


def test_fields_set_for_an_attack_do_not_make_another_detector(tmp_path: Path):
    _, detections = read(runs(tmp_path))
    found = {str(row.settings["detector"]) for row in detections}
    assert found == {str({"name": name}) for name in ("judge", "other", "plain")}
    assert {attack_of(row) for row in detections} > {"mnist: warp", "digits: none"}


def test_a_mean_weighs_pairs_alike_whatever_their_seeds(tmp_path: Path):
    folders = [str(folder) for folder in runs(tmp_path)]
    said = CliRunner().invoke(main, ["pairs", *folders, "--against", "judge"]).stdout
    lines = [line.split(" | ") for line in said.splitlines()]

    # digits: (1 + .5) / 2, mnist: 0
    judge = [line for line in lines if line[:2] == ["| tracin", "judge"]]
    assert float(judge[0][2].split()[0]) == pytest.approx(0.375)
    assert float(judge[0][3]) == 0.0
    assert judge[0][-1] == "2 |"
    # against the one with influence: (1 + .5) / 2 and 0; against the plain one: .25 and -1
    above = {line[2]: line[3].split()[0] for line in lines if line[0] == "| judge"}
    assert above == {"other": "+0.375", "plain": "-0.375"}
    assert judge[1][2:] == ["0.100", "0.100", "0.100 |"]

    alone = [*folders, "--against", "judge", "--without", "mnist: blend"]
    said = CliRunner().invoke(main, ["pairs", *alone]).stdout
    assert "| tracin | judge | 0.750 " in said
