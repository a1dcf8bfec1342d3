"""Metrics against hand counts and brute force.

Every undefined case with its reason; damage is listed and never raised.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.evaluation.evaluations import rows_of
from experiments.evaluation.load import load_results
from experiments.evaluation.means import aggregate, mean_over
from experiments.evaluation.ranking import ranking, ties
from experiments.evaluation.rows import Row
from experiments.evaluation.samples import Sample
from experiments.report.render import render
from poisonbench import log
from poisonbench.errors import ConfigError
from poisonbench.log import names

GROUPS = [0] * 4 + [1] * 3 + [2] * 3 + [3] * 5  # attacked, matched, random, calibration


def scene_config(
    attack: dict[str, Any], seed: int = 0, dataset: str = "digits"
) -> dict[str, Any]:
    data = {"name": dataset, "train": None, "test": None}
    probe = {"attacked": 4, "controls": 6, "calibration": 5}
    return {
        "dataset": data,
        "recipe": {"model": "cnn", "lr": 0.1},
        "attack": attack,
        "seed": seed,
        "probe": probe,
    }


def write_scene(
    folder: Path,
    config: dict[str, Any],
    groups=GROUPS,
    won=None,
    targets=(8, 10),
    role=(1, 1, 0, 0, 0, 0, 2),
) -> Path:
    """One scene.

    Args:
        folder: of the run.
        config: of the scene.
        groups: of the probe points.
        won: (attacked,) which attacked points succeed, None for all.
        targets: successes, and all attacked test points.
        role: of the training rows.
    """
    group = np.array(groups, np.uint8)
    attacked = group == 0
    wanted = np.where(attacked, 1, -1)
    predicted = np.where(attacked, 1, 2)
    if won is not None:
        predicted[attacked] = np.where(won, 1, 5)
    data = {"probe/group": group, "probe/predicted": predicted, "probe/wanted": wanted}
    data |= {
        "targets/predicted": (np.arange(targets[1]) < targets[0]).astype(int),
        "targets/wanted": np.ones(targets[1], int),
    }
    data |= {
        "clean/correct": np.array(90),
        "clean/size": np.array(100),
        "poison/role": np.array(role, np.uint8),
        "poison/origin": np.arange(len(role)),
    }
    number = abs(hash(json.dumps(config))) % 10**8
    name = f"{config['attack']['name']}-s{config['seed']}-{number:08d}"
    place = folder / "scenes" / name
    log.write(
        place / "scene.h5",
        "scene",
        config=config,
        data=data,
        attributes={"seconds_train": 1.0},
    )
    return place


def write_detect(
    place: Path,
    scores,
    flags=None,
    estimator="tracin",
    detector="tail-heaviness",
    uses="influence",
    **fields,
) -> Path:
    config = log.read(place / "scene.h5").config
    flags = np.asarray(scores) > 2 if flags is None else np.asarray(flags, bool)
    whole = {
        "scene": config,
        "estimator": estimator and {"name": estimator},
        "detector": {"name": detector, **fields},
    }
    path = (
        place
        / f"detect-{estimator or 'none'}-{detector}-{len(list(place.iterdir()))}.h5"
    )
    attributes = {"threshold": 2.0, "alarm": 0.05, "seconds": 0.1, "uses": uses}
    log.write(
        path,
        "detect",
        config=whole,
        data={"score": np.asarray(scores, float), "flag": flags},
        attributes=attributes,
    )
    return path


def write_influence(place: Path, estimator="tracin", **attributes) -> Path:
    path = place / f"influence-{estimator}.h5"
    config = {
        "scene": log.read(place / "scene.h5").config,
        "estimator": {"name": estimator},
    }
    about = {
        "fit_seconds": 2.0,
        "score_seconds": 0.5,
        "peak_bytes": 3 * 2**20,
        **attributes,
    }
    log.write(
        path,
        "influence",
        config=config,
        data={"influence": np.zeros((15, 7), np.float32)},
        attributes=about,
    )
    return path


def write_failure(place: Path, stage: str, reason: str) -> Path:
    data = {"reason": reason, "traceback": "Traceback ..."}
    path = place / f"failed-{stage}.h5"
    log.write(path, "failure", config={"scene": {"seed": 0}}, data=data)
    return path


def sample(attacked, controls, matched=None, failed=0) -> Sample:
    controls = np.asarray(controls, float)
    matched = (
        np.zeros(len(controls), bool) if matched is None else np.asarray(matched, bool)
    )
    return Sample(np.asarray(attacked, float), controls, matched, failed)


def one_row(folder: Path) -> Row:
    [row] = rows_of(load_results(folder), "detect")
    return row


# ---- ranking metrics


def test_the_metrics_of_a_case_counted_by_hand() -> None:
    # scores, high to low: A 9, c 7, A 6, A 5, c 4, c 3, A 2, c 1; of 16 pairs A wins 4 + 3 + 3 + 1
    m = ranking(sample([9, 6, 5, 2], [7, 4, 3, 1]))
    assert m["auroc"].value == 11 / 16
    assert m["auprc"].value == pytest.approx((1 / 1 + 2 / 3 + 3 / 4 + 4 / 7) / 4)
    assert [m[f"tpr_at_{level}"].value for level in (0.001, 0.01, 0.05)] == [
        0.25,
        0.25,
        0.25,
    ]


def test_tpr_is_the_largest_whose_fpr_does_not_exceed_the_level() -> None:
    controls = np.arange(100.0)
    m = ranking(
        sample([1000, 98.5, 94.5, 93.5], controls)
    )  # above them lie 0, 1, 5 and 6 of 100 controls
    assert [m[f"tpr_at_{level}"].value for level in (0.001, 0.01, 0.05)] == [
        0.25,
        0.5,
        0.75,
    ]


def test_a_tie_at_the_top_gives_no_true_positives_without_false_ones() -> None:
    assert ranking(sample([5, 5], [5, 1]))["tpr_at_0.05"].value == 0.0


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=8),
    st.lists(st.integers(0, 6), min_size=1, max_size=8),
)
def test_auroc_is_the_share_of_pairs_won_where_a_tie_is_half_a_win(
    attacked: list[int], controls: list[int]
) -> None:
    wins = [(a > c) + 0.5 * (a == c) for a in attacked for c in controls]
    value = ranking(sample(attacked, controls))["auroc"].value
    constant = len({*attacked, *controls}) == 1
    assert value is None if constant else value == pytest.approx(sum(wins) / len(wins))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.floats(allow_nan=False, allow_infinity=False),
        min_size=4,
        max_size=12,
        unique=True,
    )
)
def test_no_metric_changes_under_a_monotone_change_of_the_scores_however_large(
    scores: list[float],
) -> None:
    ranks = np.argsort(np.argsort(scores))
    assert ranking(sample(scores[:2], scores[2:])) == ranking(
        sample(ranks[:2], ranks[2:])
    )


def test_the_matched_metrics_look_at_matched_controls_alone() -> None:
    s = sample([2, 4], [1, 1, 3, 5], [False, False, True, True])
    assert ranking(s)["auroc"].value == (2 + 3) / 8
    assert ranking(s, matched=True)["auroc_matched"].value == (0 + 1) / 4


def test_ties_are_the_share_of_points_that_share_their_score() -> None:
    assert ties(sample([1, 2], [2, 3, 3])).value == 4 / 5
    assert ties(sample([1], [2])).value == 0.0


UNDEFINED = {
    "no attack": (sample([], [1, 2]), "no attacked points"),
    "all failed": (sample([], [1, 2], failed=4), "none of 4 attacks succeeded"),
    "no controls": (sample([1, 2], []), "no controls"),
    "nan": (sample([1, np.nan], [0, np.inf]), "2 of 4 scores not finite"),
    "constant": (sample([1, 1], [1, 1]), "constant scores"),
}


@pytest.mark.parametrize(("case", "reason"), UNDEFINED.values(), ids=UNDEFINED)
def test_an_undefined_metric_says_why(case: Sample, reason: str) -> None:
    for metric in ranking(case).values():
        assert (metric.value, metric.reason) == (None, reason)


def test_without_matched_controls_only_the_matched_metrics_are_undefined() -> None:
    s = sample([2], [1], [False])
    assert ranking(s)["auroc"].value == 1.0
    assert ranking(s, matched=True)["auroc_matched"].reason == "no matched controls"


def test_a_nan_among_random_controls_leaves_the_matched_metrics_defined() -> None:
    s = sample([2], [1, np.nan], [True, False])
    assert ranking(s)["auroc"].reason == "1 of 3 scores not finite"
    assert ranking(s, matched=True)["auroc_matched"].value == 1.0


# ---- rows from logs


def test_a_row_from_logs_counts_failed_attacks_and_ignores_calibration(
    tmp_path: Path,
) -> None:
    place = write_scene(
        tmp_path, scene_config({"name": "patch"}), won=[True, True, True, False]
    )
    scores = [9, 8, 2.5, 100, 1, 2, 3, 0, 0, 8.5]
    for calibration in ([-1e9] * 5, [np.nan] * 5):
        path = write_detect(
            place,
            scores + calibration,
            flags=[1, 1, 0, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1],
        )
        row = one_row(tmp_path)
        assert row.metrics["auroc"].value == (6 + 5 + 4) / 18
        assert row.metrics["auroc_matched"].value == pytest.approx((3 + 3 + 2) / 9)
        assert (row.metrics["flag_tpr"].value, row.metrics["flag_fpr"].value) == (
            2 / 3,
            1 / 6,
        )
        assert row.metrics["flag_fpr_matched"].value == 1 / 3
        assert row.counts == {
            "successful": 3,
            "failed": 1,
            "controls": 6,
            "matched": 3,
            "nonfinite": 0,
        }
        path.unlink()


def test_flags_are_undefined_if_a_score_is_not_finite_and_the_count_is_kept(
    tmp_path: Path,
) -> None:
    place = write_scene(tmp_path, scene_config({"name": "patch"}))
    write_detect(place, [np.nan] + [1.0] * 9 + [0.0] * 5)
    row = one_row(tmp_path)
    assert row.counts["nonfinite"] == 1
    assert {
        row.metrics[key].reason
        for key in ("auroc", "auprc", "flag_tpr", "flag_fpr", "ties")
    } == {"1 of 10 scores not finite"}


def test_a_scene_without_attacked_points_still_has_false_alarms(tmp_path: Path) -> None:
    place = write_scene(
        tmp_path,
        scene_config({"name": "none"}),
        groups=[1] * 2 + [2] * 2,
        targets=(0, 0),
    )
    write_detect(place, [1, 3, 1, 1])
    row = one_row(tmp_path)
    assert (row.metrics["flag_fpr"].value, row.metrics["flag_tpr"].reason) == (
        0.25,
        "no attacked points",
    )
    [victim] = rows_of(load_results(tmp_path), "scene")
    assert (victim.metrics["asr"].value, victim.metrics["asr"].reason) == (
        None,
        "no attacked points",
    )
    assert victim.metrics["clean_accuracy"].value == 0.9


def test_uses_beyond_the_victim_are_carried_into_the_row(tmp_path: Path) -> None:
    place = write_scene(tmp_path, scene_config({"name": "patch"}))
    write_detect(place, np.arange(15), uses="influence, probe,oracle")
    assert one_row(tmp_path).uses == "probe, oracle"
    assert aggregate([one_row(tmp_path)])[0].uses == "probe, oracle"


def test_seeds_are_averaged_and_all_else_is_kept_apart(tmp_path: Path) -> None:
    for budget in (0.01, 0.05):
        for seed in (0, 1):
            place = write_scene(
                tmp_path, scene_config({"name": "patch", "budget": budget}, seed)
            )
            attacked = [9, 9, 9, 9] if seed else [0, 0, 9, 9]
            write_detect(place, attacked + [1] * 11)
    merged = aggregate(rows_of(load_results(tmp_path), "detect"))
    assert [(row.metrics["auroc"].value, row.seeds, row.scenes) for row in merged] == [
        (0.75, (0, 1), 2)
    ] * 2
    low, high = merged[0].metrics["auroc"].interval or (1, 0)
    assert low < 0.75 < high


def test_a_mean_says_which_part_of_it_is_undefined(tmp_path: Path) -> None:
    for seed in (0, 1):
        place = write_scene(
            tmp_path, scene_config({"name": "patch"}, seed), won=[seed == 0] * 4
        )
        write_detect(place, [9] * 4 + [1] * 11)
    [row] = aggregate(rows_of(load_results(tmp_path), "detect"))
    assert row.metrics["auroc"].value == 1.0
    assert row.metrics["auroc"].defined == 1
    assert (
        row.metrics["auroc"].reason == "over 1 of 2 scenes: none of 4 attacks succeeded"
    )
    assert row.counts["failed"] == 4


def test_the_mean_over_attacks_takes_each_alike_and_shows_the_worst(
    tmp_path: Path,
) -> None:
    for name, attacked, seeds in (
        ("patch", [9] * 4, 1),
        ("blend", [0, 0, 9, 9], 2),
        ("other", [0] * 4, 1),
    ):
        for seed in range(seeds):
            write_detect(
                write_scene(tmp_path, scene_config({"name": name}, seed)),
                attacked + [1] * 11,
            )
    [mean] = mean_over(
        aggregate(rows_of(load_results(tmp_path), "detect")), ["patch", "blend"]
    )
    assert (mean.metrics["auroc"].value, mean.metrics["auroc_worst"].value) == (
        0.75,
        0.5,
    )
    assert mean.settings["attack"]["name"] == "mean of 2 attacks"
    assert mean.scenes == 3


def test_costs_are_means_with_the_largest_peak_and_unmeasured_memory_is_undefined(
    tmp_path: Path,
) -> None:
    for seed, peak in ((0, 5), (1, 7)):
        write_influence(
            write_scene(tmp_path, scene_config({"name": "patch"}, seed)),
            fit_seconds=float(seed),
            peak_bytes=peak,
        )
    [row] = aggregate(rows_of(load_results(tmp_path), "influence"), drop=("attack",))
    assert {key: m.value for key, m in row.metrics.items()} == {
        "fit_seconds": 0.5,
        "score_seconds": 0.5,
        "peak_bytes": 7,
    }
    write_influence(
        write_scene(tmp_path / "b", scene_config({"name": "patch"})), peak_bytes=-1
    )
    assert (
        rows_of(load_results(tmp_path / "b"), "influence")[0]
        .metrics["peak_bytes"]
        .reason
        == "peak_bytes was not measured"
    )


# ---- damage


def test_every_damaged_file_is_listed_and_the_rest_is_evaluated(tmp_path: Path) -> None:
    place = write_scene(tmp_path, scene_config({"name": "patch"}))
    good = write_detect(place, np.arange(15))
    write_influence(place)
    truncated = write_detect(place, np.arange(15))
    truncated.write_bytes(truncated.read_bytes()[:500])
    (place / "detect-foreign.h5").write_bytes(b"hello")
    short = write_detect(place, np.arange(14))
    other = write_scene(tmp_path, scene_config({"name": "blend"}))
    orphan = write_detect(other, np.arange(15))
    (other / "scene.h5").write_bytes(b"")
    failed = write_failure(place, "influence-hydra", "OutOfMemoryError: 3 GiB")
    results = load_results(tmp_path)
    assert {e.path for e in results.damaged} == {
        truncated,
        place / "detect-foreign.h5",
        short,
        other / "scene.h5",
        orphan,
    }
    assert [r.path for r in results.of("detect")] == [good]
    assert [r.path for r in results.of("failure")] == [failed]


def flip(path: Path) -> None:
    """Flips a bit in the stored bytes of the only chunked data set of a log."""
    import h5py

    with h5py.File(path) as file:
        info = file["influence"].id.get_chunk_info(0)
    raw = bytearray(path.read_bytes())
    raw[info.byte_offset + info.size // 2] ^= 1
    path.write_bytes(raw)


def test_a_flipped_bit_in_data_that_no_metric_needs_is_found_unless_told_not_to_look(
    tmp_path: Path,
) -> None:
    place = write_scene(tmp_path, scene_config({"name": "patch"}))
    path = write_influence(place)
    flip(path)
    assert [e.path for e in load_results(tmp_path).damaged] == [path]
    assert load_results(tmp_path, verify=False).damaged == ()


FOREIGN = {
    "no attack": {"attack": {}},
    "no seed": {"seed": "x"},
    "attack a text": {"attack": "patch"},
    "name a number": {"attack": {"name": 3}},
    "seed infinite": {"seed": float("inf")},
    "recipe a list": {"recipe": [1, 2]},
    "probe a text": {"probe": "\x1b[31mx"},
}


@pytest.mark.parametrize("change", FOREIGN.values(), ids=FOREIGN)
def test_a_configuration_of_the_wrong_form_is_damage(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    place = write_scene(tmp_path, scene_config({"name": "patch"}))
    record = log.read(place / "scene.h5")
    log.write(
        place / "scene.h5",
        "scene",
        config={**record.config, **change},
        data=record.data,
    )
    assert [e.path.name for e in load_results(tmp_path).damaged] == ["scene.h5"]


@pytest.mark.parametrize("size", [np.nan, -1, 2.5], ids=str)
def test_a_count_of_points_that_is_none_is_damage(tmp_path: Path, size: float) -> None:
    place = write_scene(tmp_path, scene_config({"name": "patch"}))
    record = log.read(place / "scene.h5")
    data = {**record.data, names.CLEAN_SIZE: np.array(size)}
    log.write(place / "scene.h5", "scene", config=record.config, data=data)
    [error] = load_results(tmp_path).damaged
    assert "no count of points" in str(error)


def test_no_form_of_the_results_can_steer_a_terminal(tmp_path: Path) -> None:
    config = scene_config({"name": "patch", "place": "\x1b[2J\x9b31m"})
    write_scene(tmp_path, config)
    results = load_results(tmp_path)
    for form in ("table", "csv", "markdown", "latex", "json"):
        text = render(results, form)
        assert "[2J" in text or form in ("table", "markdown", "latex")
        assert all(c.isprintable() or c == "\n" for c in text), form


DATA = {
    "text for numbers": {"score": "abc", "flag": np.zeros(3, bool)},
    "a matrix": {"score": np.zeros((15, 1)), "flag": np.zeros(15, bool)},
    "unequal lengths": {"score": np.zeros(15), "flag": np.zeros(14, bool)},
    "no flag": {"score": np.zeros(15)},
}


@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_data_of_the_wrong_form_are_damage(
    tmp_path: Path, data: dict[str, Any]
) -> None:
    place = write_scene(tmp_path, scene_config({"name": "patch"}))
    path = write_detect(place, np.arange(15))
    log.write(path, "detect", config=log.read(path).config, data=data)
    assert [e.path for e in load_results(tmp_path).damaged] == [path]


def test_a_detection_of_another_scene_is_damage(tmp_path: Path) -> None:
    one, two = (
        write_scene(tmp_path, scene_config({"name": "patch"}, seed)) for seed in (0, 1)
    )
    path = write_detect(one, np.arange(15))
    moved = path.rename(two / path.name)
    [error] = load_results(tmp_path).damaged
    assert (error.path, error.reason) == (
        moved,
        "belongs to another scene than scene.h5 beside it",
    )


def test_a_folder_without_results_is_a_mistake_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no results"):
        load_results(tmp_path)
