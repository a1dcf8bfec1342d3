"""A scene's own steps, against their definitions.

The probe, the attacked points it keeps, thresholds, budgets.
"""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from conftest import random_data
from test_run import PATCH, SMALL

from attacks import Patch
from experiments.plan.parse import parse
from experiments.plan.paths import Place
from experiments.plan.spec import Method, ProbeSpec
from experiments.plan.stages import Stage
from experiments.runner.run import Options, run
from experiments.scene import attacked as attacked_module
from experiments.scene.attacked import (
    Attacked,
    difference_bits,
    keep_attacked,
    pack_attacked,
    rows_to_keep,
    unpack_attacked,
)
from experiments.scene.clean import Clean, clean_data
from experiments.scene.kinds.cell import Cell
from experiments.scene.kinds.judge import detect
from experiments.scene.probe import (
    Probe,
    choose_probe,
    make_probe,
    pack_probe,
    unpack_probe,
)
from experiments.scene.victim import Victim, budget_reached, make_victim
from poisonbench import log
from poisonbench.contracts.calibration import alarm_threshold, flagged, p_values
from poisonbench.contracts.untouched import Untouched
from poisonbench.contracts.values import Evidence, Poisoned
from poisonbench.data import Dataset, load
from poisonbench.errors import LogError
from poisonbench.roles import ATTACKED, CALIBRATION, MATCHED, RANDOM
from poisonbench.seeding import generator
from poisonbench.training import Recipe, train

CLASSES = 4
SPEC = ProbeSpec(attacked=12, controls=30, calibration=40)


def poisoned_with(
    targets: int, test: Dataset, wanted: int = 1, seed: int = 0
) -> Poisoned:
    """A poisoning of nothing whose attacked points are changed test rows.

    The last one is from elsewhere.
    """
    train_set = random_data(20, (2, 3, 3), CLASSES)
    rows = torch.randperm(len(test), generator=generator(seed, "rows"))[:targets]
    x = test.x[rows].clone()
    x[:, 0, 0, 0] = 0.25
    origin = rows.clone()
    if targets:
        origin[-1] = -1
    return Poisoned(
        train_set,
        torch.zeros(20, dtype=torch.uint8),
        torch.arange(20),
        Dataset(x, test.y[rows], CLASSES),
        torch.full((targets,), wanted),
        origin,
    )


@pytest.fixture(scope="module")
def test_set() -> Dataset:
    return random_data(200, (2, 3, 3), CLASSES, seed=1)


def drawn(test: Dataset, targets: int = 60, spec: ProbeSpec = SPEC, seed: int = 0):
    predicted = torch.randint(
        CLASSES, (len(test),), generator=generator(seed, "predicted")
    )
    poisoned = poisoned_with(targets, test)
    return choose_probe(poisoned, test, predicted, spec, seed), poisoned, predicted


# ---- the probe


@pytest.mark.parametrize("seed", range(8))
def test_no_clean_point_of_the_probe_is_the_twin_of_an_attacked_one_or_serves_twice(
    test_set: Dataset, seed: int
):
    # all test points are attacked,
    # and those of the probe are so many that chance alone would hit one
    spec = ProbeSpec(attacked=100, controls=40, calibration=40)
    rows, poisoned, _ = drawn(test_set, len(test_set), spec, seed)
    twins = set(poisoned.target_origin[rows[ATTACKED]].tolist()) - {-1}
    clean = torch.cat([rows[MATCHED], rows[RANDOM], rows[CALIBRATION]]).tolist()
    assert len(twins) >= 99
    assert not twins & set(clean)
    assert len(set(clean)) == len(clean)


@pytest.mark.parametrize("seed", range(4))
def test_matched_controls_are_predicted_as_the_label_that_the_attacker_wants(
    test_set: Dataset, seed: int
):
    rows, _, predicted = drawn(test_set, seed=seed)
    assert len(rows[MATCHED]) == SPEC.controls // 2
    assert (predicted[rows[MATCHED]] == 1).all()
    assert not (predicted[rows[RANDOM]] == 1).all(), "random controls are of any label"
    assert not (predicted[rows[CALIBRATION]] == 1).all()


def test_the_groups_have_the_sizes_asked(test_set: Dataset):
    rows, _, _ = drawn(test_set)
    sizes = {group: len(rows[group]) for group in rows}
    assert sizes == {ATTACKED: 12, MATCHED: 15, RANDOM: 15, CALIBRATION: 40}


def test_random_controls_take_the_place_of_matched_ones_that_are_not_there(
    test_set: Dataset,
):
    predicted = torch.full((len(test_set),), 2)
    predicted[:60] = 1
    poisoned = poisoned_with(0, test_set)
    rows = choose_probe(poisoned, test_set, predicted, SPEC, 0)
    assert [len(rows[group]) for group in (ATTACKED, MATCHED, RANDOM)] == [0, 0, 30]
    few = poisoned_with(60, test_set, wanted=3)
    rows = choose_probe(few, test_set, predicted, SPEC, 0)
    assert [len(rows[group]) for group in (MATCHED, RANDOM)] == [0, 30]


def test_calibration_takes_two_thirds_of_a_small_test_set_at_most():
    small = random_data(30, (2, 3, 3), CLASSES, seed=2)
    rows, _, _ = drawn(
        small, targets=0, spec=ProbeSpec(attacked=5, controls=30, calibration=29)
    )
    assert len(rows[CALIBRATION]) == 20
    assert len(rows[RANDOM]) == 10
    rows, _, _ = drawn(
        small, targets=0, spec=ProbeSpec(attacked=5, controls=30, calibration=19)
    )
    assert len(rows[CALIBRATION]) == 19


def test_the_draw_is_that_of_its_seed_alone(test_set: Dataset):
    one, _, _ = drawn(test_set)
    torch.manual_seed(5)
    again, _, _ = drawn(test_set)
    assert all(torch.equal(one[group], again[group]) for group in one)
    poisoned = poisoned_with(60, test_set)
    predicted = torch.randint(CLASSES, (200,), generator=generator(0, "predicted"))
    other = choose_probe(poisoned, test_set, predicted, SPEC, 1)
    assert any(not torch.equal(one[group], other[group]) for group in one)


def test_calibration_does_not_depend_on_what_the_victim_predicts(test_set: Dataset):
    poisoned = poisoned_with(60, test_set)
    a, b = (
        choose_probe(poisoned, test_set, torch.full((200,), label), SPEC, 0)
        for label in (0, 1)
    )
    assert torch.equal(a[CALIBRATION], b[CALIBRATION])
    assert torch.equal(a[ATTACKED], b[ATTACKED])


def test_every_point_of_the_probe_stands_beside_its_own_label_origin_and_group(
    test_set: Dataset,
):
    rows, poisoned, _ = drawn(test_set)
    trace = train(poisoned.train, Recipe(model="linear", epochs=1), 0)
    probe = make_probe(poisoned, test_set, trace, rows)
    assert probe.group.tolist() == [0] * 12 + [1] * 15 + [2] * 15 + [3] * 40
    for j in range(len(probe.group)):
        if int(probe.group[j]) == ATTACKED:
            row = int(rows[ATTACKED][j])
            source, wanted = poisoned.targets, 1
            assert int(probe.origin[j]) == int(poisoned.target_origin[row])
        else:
            row = int(probe.origin[j])
            source, wanted = test_set, -1
        assert torch.equal(probe.points.x[j], source.x[row])
        assert int(probe.points.y[j]) == int(source.y[row])
        assert int(probe.wanted[j]) == wanted
    assert torch.equal(probe.predicted, trace.model()(probe.points.x).argmax(1))


# ---- the attacked points that a scene keeps


def log_of(
    poisoned: Poisoned, rows: torch.Tensor, test: Dataset, folder: Path
) -> log.Record:
    attacked = keep_attacked(poisoned, rows)
    data = {
        "targets/y": poisoned.targets.y,
        "targets/wanted": poisoned.wanted,
        "targets/origin": poisoned.target_origin,
        **pack_attacked(attacked, rows, test),
    }
    log.write(folder / "scene.h5", "scene", config={}, data=data)
    return log.read(folder / "scene.h5")


def no_probe(test: Dataset) -> Probe:
    empty = torch.zeros(0, dtype=torch.int64)
    return Probe(test.take(empty), empty, empty, empty, empty.to(torch.uint8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_attacked_points_come_back_bit_for_bit(dtype: torch.dtype, tmp_path: Path):
    test = random_data(50, (2, 3, 3), CLASSES, seed=3, dtype=dtype)
    poisoned = poisoned_with(20, test)
    poisoned.targets.x[3, 0, 0, 0] = -0.0  # a sign that equality does not see
    rows = rows_to_keep(poisoned, test, torch.arange(5), 0)
    assert torch.equal(rows, torch.arange(20))
    back = unpack_attacked(log_of(poisoned, rows, test, tmp_path), test, no_probe(test))
    assert back.points.x.dtype == dtype
    assert back.points.x.numpy().tobytes() == poisoned.targets.x.numpy().tobytes()
    assert torch.equal(back.points.y, poisoned.targets.y)
    assert torch.equal(back.wanted, poisoned.wanted)
    assert torch.equal(back.origin, poisoned.target_origin)
    assert back.whole


def test_a_trigger_of_few_pixels_is_stored_as_these(test_set: Dataset):
    poisoned = poisoned_with(30, test_set)
    bits = difference_bits(poisoned.targets, poisoned.target_origin, test_set)
    changed = bits != 0
    assert not changed[:-1].flatten(1)[:, 1:].any(), (
        "pixels beside the trigger are stored"
    )
    assert changed[-1].all(), "a point from elsewhere is not held whole"


def test_where_all_points_are_too_much_those_of_the_probe_and_a_stated_number_are_kept(
    test_set: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    poisoned = poisoned_with(60, test_set)
    changed = 59 + test_set.x[0].numel()  # a pixel each, and one point from elsewhere
    monkeypatch.setattr(attacked_module, "MORE", 7)
    monkeypatch.setattr(attacked_module, "MOST_BYTES", 8 * changed)
    probe_rows = torch.tensor([50, 2, 17])
    assert len(rows_to_keep(poisoned, test_set, probe_rows, 0)) == 60
    monkeypatch.setattr(attacked_module, "MOST_BYTES", 8 * changed - 1)
    rows = rows_to_keep(poisoned, test_set, probe_rows, 0)
    assert len(rows) == 10
    assert set(probe_rows.tolist()) <= set(rows.tolist())
    assert torch.equal(rows, rows.unique())
    assert torch.equal(rows, rows_to_keep(poisoned, test_set, probe_rows, 0))
    monkeypatch.setattr(attacked_module, "MORE", 57)
    every = rows_to_keep(poisoned, test_set, probe_rows, 0)
    assert torch.equal(every, torch.arange(60)), "a point of the probe is drawn again"
    monkeypatch.setattr(attacked_module, "MORE", 7)
    assert not torch.equal(rows, rows_to_keep(poisoned, test_set, probe_rows, 1))
    back = unpack_attacked(
        log_of(poisoned, rows, test_set, tmp_path), test_set, no_probe(test_set)
    )
    assert not back.whole
    assert torch.equal(back.points.x, poisoned.targets.x[rows])
    assert torch.equal(back.origin, poisoned.target_origin[rows])


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"targets/kept": torch.tensor([0, 9])}, "are not rows"),
        ({"targets/kept": torch.tensor([1, 1])}, "are not rows"),
        ({"targets/kept": torch.tensor([0.0, 1.0])}, "are not rows"),
        ({"targets/bits": torch.zeros(2, 2, 3, dtype=torch.int64)}, "not of shape"),
        ({"targets/bits": torch.zeros(2, 2, 3, 3, dtype=torch.int32)}, "int32"),
        ({"targets/origin": torch.tensor([0, 200, 1])}, "more than 200 test rows"),
    ],
    ids=["outside", "twice", "type", "shape", "width", "origin"],
)
def test_kept_points_that_do_not_fit_are_damage(
    change: dict, part: str, test_set: Dataset, tmp_path: Path
):
    poisoned = poisoned_with(3, test_set)
    record = log_of(poisoned, torch.tensor([0, 2]), test_set, tmp_path)
    log.write(tmp_path / "bad.h5", "scene", config={}, data={**record.data, **change})
    with pytest.raises(LogError, match=part):
        unpack_attacked(log.read(tmp_path / "bad.h5"), test_set, no_probe(test_set))


DEFENDED = {
    **SMALL,
    "attack": [PATCH],
    "estimator": [{"name": "gas"}],
    "detector": [{"name": "random"}],
    "filter": [{"name": "perfect-filter"}],
    "mitigation": [{"name": "filter-retrain", "fraction": [0.05, 0.1]}],
    "certifier": [{"name": "deep-partition-aggregation", "parts": 5, "epochs": 1}],
}


def test_a_scene_is_attacked_once_however_often_it_is_resumed_defended_and_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from experiments.scene.export import export

    calls = []
    original = Patch.__call__

    def counted(self: Patch, *given: object) -> Poisoned:
        calls.append(self)
        return original(self, *given)

    monkeypatch.setattr(Patch, "__call__", counted)
    folder = tmp_path / "logs"
    bare = {key: DEFENDED[key] for key in (*SMALL, "attack")}
    for raw in (bare, DEFENDED, {**DEFENDED, "certifier": []}):
        assert run(parse(raw), Place(folder), Options(workers=0)).failed == []
    for path in [*folder.rglob("mitigate-*.h5"), *folder.rglob("certify-*.h5")]:
        assert log.read(path).attributes["all_targets"] is True
        path.unlink()
        run(parse(DEFENDED), Place(folder), Options(workers=0))
        assert path.exists()
    [scene] = folder.glob("scenes/*")
    for targets in ("auto", "all", "probe"):
        export(scene, tmp_path / f"{targets}.h5", Place(Path()), targets)
    assert len(calls) == 1


def test_a_scene_of_two_classes_holds_no_row_of_the_others_and_its_size_counts_these(
    tmp_path: Path,
):
    dataset = {"name": "digits", "classes": [8, 3], "train": 60, "test": 40}
    scene = parse({"dataset": dataset, "attack": [{"name": "none"}]}).scenes[0]
    clean = clean_data(scene, Place(tmp_path))
    train, _ = load("digits")
    images = {
        x.numpy().tobytes(): int(y) for x, y in zip(train.x, train.y, strict=True)
    }
    found = [images[x.numpy().tobytes()] for x in clean.train.x]
    assert [(8, 3)[int(y)] for y in clean.train.y] == found
    assert (len(clean.train), len(clean.test)) == (60, 40)
    assert clean.train.classes == clean.test.classes == 2


def test_a_victim_read_back_holds_what_the_new_one_held(tmp_path: Path):
    scene, place = parse({**SMALL, "attack": [PATCH]}).scenes[0], Place(tmp_path)
    new, back = make_victim(scene, place), make_victim(scene, place)
    assert new.attacked.whole
    for name in ("wanted", "origin"):
        assert torch.equal(getattr(new.attacked, name), getattr(back.attacked, name))
    assert torch.equal(new.attacked.points.x, back.attacked.points.x)
    assert torch.equal(new.attacked.points.y, back.attacked.points.y)
    assert torch.equal(new.role, back.role)
    packed, again = pack_probe(new.probe), pack_probe(back.probe)
    assert all(torch.equal(packed[name], again[name]) for name in packed)
    record = log.read(place.scene(scene) / "scene.h5")
    assert torch.equal(
        unpack_probe(record, new.clean.test).points.x, new.probe.points.x
    )


# ---- what the budget reached


def test_the_log_tells_how_many_rows_a_budget_reached_beside_the_one_asked():
    data = random_data(40, (2, 3, 3), CLASSES)
    role = torch.zeros(38, dtype=torch.uint8)
    role[:6] = 1
    role[6:8] = 2
    origin = torch.cat(
        [torch.full((2,), -1), torch.arange(36)]
    )  # two new rows, four deleted
    poisoned = Poisoned(
        data.take(torch.arange(38)),
        role,
        origin,
        data,
        torch.zeros(40, dtype=torch.int64),
        origin,
    )
    told = budget_reached(Method("patch", Patch(budget=0.5)), poisoned, 40)
    assert told == {
        "budget_asked": 0.5,
        "poison_rows": 6,
        "poison_share": 6 / 40,
        "deleted_rows": 4,
        "cover_rows": 2,
        "cover_share": 2 / 40,
    } | ({"cover_asked": Patch().cover} if hasattr(Patch(), "cover") else {})


def test_a_scene_holds_the_budget_reached(tmp_path: Path):
    scene = parse({**SMALL, "attack": [PATCH]}).scenes[0]
    victim = make_victim(scene, Place(tmp_path))
    about = log.read(Place(tmp_path).scene(scene) / "scene.h5").attributes
    assert about["budget_asked"] == 0.05
    assert about["poison_rows"] == int((victim.role == 1).sum()) == 10
    assert about["poison_share"] == 10 / 200


# ---- thresholds


@pytest.mark.parametrize("alarm", [0.05, 0.1, 0.21, 0.5])
@pytest.mark.parametrize("n", [1, 7, 20, 21, 41, 75])
def test_of_clean_points_a_share_of_alarm_at_most_is_flagged(n: int, alarm: float):
    """One more clean point is in any place among n with equal probability: n + 1 places."""
    scores = torch.randn(n, generator=generator(n, "scores"), dtype=torch.float64)
    threshold = alarm_threshold(scores, alarm)
    ordered = scores.sort().values
    between = torch.cat(
        [ordered[:1] - 1, (ordered[1:] + ordered[:-1]) / 2, ordered[-1:] + 1]
    )
    flags = flagged(p_values(between, scores), alarm)
    assert torch.equal(flags, between > threshold)
    assert flags.double().mean() <= alarm
    assert (int(flags.sum()) + 1) / (n + 1) > alarm, "one place more would be too many"


def test_scores_that_differ_by_rounding_have_one_p_value():
    clean = torch.tensor([1.0, 2.0, 2.0, 2.0, 3.0], dtype=torch.float64)
    near = torch.tensor([2 - 1e-7, 2.0, 2 + 1e-7], dtype=torch.float64)
    assert p_values(near, clean).tolist() == [5 / 6] * 3
    assert p_values(torch.tensor([2.1], dtype=torch.float64), clean) == 2 / 6


def test_one_clean_score_far_beyond_all_others_makes_no_ties_of_them():
    """The tail of a label whose influences tie has a floored scale, and may be 1e7."""
    clean = torch.arange(1.0, 40.0, dtype=torch.float64)
    outlier = torch.tensor([8e6], dtype=torch.float64)
    scores = torch.tensor([-1.5, 0.5, 20.5, 39.5, 9e6, torch.inf, -torch.inf])
    found = p_values(scores.double(), torch.cat([clean, outlier]))
    expected = [41, 41, 21, 2, 1, 1, 41]
    torch.testing.assert_close(found, torch.tensor(expected).double() / 41)
    assert flagged(found, 0.05).tolist() == [False] * 3 + [True] * 3 + [False]


def test_a_score_near_zero_rounds_as_the_terms_of_others_do():
    clean = torch.tensor([-2.0, 1e-6, 0.0, 2.0, 3.0], dtype=torch.float64)
    found = p_values(torch.tensor([5e-6], dtype=torch.float64), clean)
    assert found == 5 / 6


def test_a_threshold_rests_on_finite_scores_and_without_one_nothing_is_flagged():
    scores = torch.tensor([1.0, torch.nan, torch.inf, 3.0, 2.0], dtype=torch.float64)
    assert alarm_threshold(scores, 0.25) == 3.0
    assert alarm_threshold(scores, 0.05) == torch.inf, "of three points one is 25 %"
    assert alarm_threshold(scores[1:3], 0.25) == torch.inf
    assert alarm_threshold(scores[:0], 0.25) == torch.inf


@dataclass(frozen=True, eq=False)
class Known:
    """A detector that gives the probe points prepared scores, fitted to clean points or not."""

    uses: tuple[str, ...]
    scores: torch.Tensor = field(metadata={"configured": False})
    saw: list[torch.Tensor | None] = field(
        default_factory=list, metadata={"configured": False}
    )

    def __call__(self, evidence: Evidence) -> torch.Tensor:
        self.saw.append(evidence.trusted)
        return self.scores


def detected(detector: Known, calibration: int, folder: Path) -> log.Record:
    """The log of a detector on a probe.

    Two attacked points, two controls and calibration points.
    """
    group = torch.tensor(
        [ATTACKED] * 2 + [MATCHED, RANDOM] + [CALIBRATION] * calibration
    )
    test = random_data(len(group), (2, 3, 3), CLASSES)
    labels = torch.zeros(len(group), dtype=torch.int64)
    probe = Probe(test, labels, labels, labels, group.to(torch.uint8))
    train_set = random_data(10, (2, 3, 3), CLASSES)
    trace = train(train_set, Recipe(model="linear", epochs=1), 0)
    clean = Clean(train_set, test, train_set)
    kept = Attacked(test, labels, labels, True)
    victim = Victim(trace, probe, torch.zeros(10, dtype=torch.uint8), clean, kept)
    methods = (("estimator", None), ("detector", Method("known", detector)))
    stage = Stage(folder / "detect-none-known.h5", "detect", methods)
    scene = parse({**SMALL, "attack": [PATCH]}).scenes[0]
    detect(Cell(scene, Place(folder), stage, victim, {}, 0.25, Untouched.now({})))
    return log.read(stage.path)


def test_calibration_points_that_a_fitted_detector_saw_do_not_set_its_threshold(
    tmp_path: Path,
):
    # calibration scores: the first half, which a fitted detector sees, is far below the others
    scores = torch.tensor(
        [9.0, 7.0, 5.0, 0.0] + [-90.0] * 5 + [1, 2, 3, 4, 6], dtype=torch.float64
    )
    detector = Known(("reference",), scores)
    record = detected(detector, 10, tmp_path)
    [saw] = detector.saw
    assert saw.tolist() == [False] * 4 + [True] * 5 + [False] * 5
    assert record.attributes["threshold"] == 6, "one of six places is a quarter at most"
    assert record.data["flag"].tolist() == (scores > 6).tolist()


def test_all_calibration_points_set_the_threshold_of_a_detector_that_saw_none_and_no_others(
    tmp_path: Path,
):
    scores = torch.tensor(
        [900.0, 900.0, 900.0, 900.0, 1, 2, 3, 4, 6], dtype=torch.float64
    )
    detector = Known((), scores)
    assert detected(detector, 5, tmp_path).attributes["threshold"] == 6
    assert detector.saw == [None]
