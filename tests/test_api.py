"""The door from Python: influence, proponents and verdicts, against the grid and definitions."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from conftest import random_data
from torch import Tensor
from torch.utils.data import TensorDataset

import poisonbench as pb
from defenses.detectors.tail_heaviness import TailHeaviness
from estimators import GAS, TracIn
from experiments.plan.parse import parse
from experiments.plan.paths import Place
from experiments.plan.spec import Scene
from experiments.runner.run import Options, run
from experiments.scene.victim import Victim, make_victim
from poisonbench import log
from poisonbench.contracts.calibration import p_values
from poisonbench.contracts.values import Evidence
from poisonbench.errors import ConfigError, DataError
from poisonbench.log import names
from poisonbench.models import build, predict
from poisonbench.roles import CALIBRATION
from poisonbench.seeding import generator

GRID = {
    "dataset": {"name": "digits", "train": 400, "test": 300},
    "recipe": {"model": "cnn", "epochs": 4, "checkpoints": 2},
    "probe": {"attacked": 15, "controls": 30, "calibration": 80},
    "attack": [{"name": "patch", "budget": 0.05}],
    "estimator": [{"name": "tracin"}, {"name": "gas"}],
    "detector": [
        {"name": "rehearsed"},
        {"name": "foreign-or-fragile"},
        {"name": "tail-heaviness", "k": 3, "standardise": "row"},
        {"name": "tail-heaviness", "k": 3, "standardise": "reference"},
        {"name": "strip"},
    ],
}


# ---- import


def test_importing_is_cheap():
    code = (
        "import sys, time; start = time.perf_counter(); import poisonbench as pb; "
        "assert 'Guard' in dir(pb); assert 'torch' not in sys.modules; "
        "assert time.perf_counter() - start < .2"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there():
    for name in pb.__all__:
        assert getattr(pb, name).__name__ == name
    with pytest.raises(AttributeError, match="nothing"):
        pb.nothing  # noqa: B018


# ---- influence


@pytest.fixture(scope="module")
def small() -> pb.Trace:
    return pb.train(random_data(40), pb.Recipe(model="mlp", epochs=2), 0)


@pytest.fixture(scope="module")
def points() -> pb.Dataset:
    return random_data(6, seed=1)


def test_influence_is_the_estimators(small: pb.Trace, points: pb.Dataset):
    predicted = points.relabel(predict(small.model(), points.x).argmax(1))
    want = TracIn().fit(small)(predicted)
    assert torch.equal(pb.influence(small, points, "tracin"), want)
    assert torch.equal(pb.influence(small, points, TracIn()), want)
    last = TracIn(layers="last").fit(small)(predicted)
    assert torch.equal(pb.influence(small, points, "tracin", layers="last"), last)
    assert torch.equal(pb.influence(small, points), GAS().fit(small)(predicted))


def test_given_labels_are_explained_when_asked(small: pb.Trace, points: pb.Dataset):
    given = pb.influence(small, points, "tracin", labels="given")
    assert torch.equal(given, TracIn().fit(small)(points))
    assert not torch.equal(given, pb.influence(small, points, "tracin"))
    with pytest.raises(ConfigError, match="test has none"):
        pb.influence(small, points.x, "tracin", labels="given")


def test_points_come_in_many_forms(small: pb.Trace, points: pb.Dataset):
    want = pb.influence(small, points)
    forms = [
        points.x,
        points.x.numpy(),
        (points.x, points.y),
        (points.x.numpy(), points.y.numpy()),
        TensorDataset(points.x, points.y),
    ]
    for form in forms:
        assert torch.equal(pb.influence(small, form), want)
    one = pb.influence(small, points.x[2])
    assert one.shape == (1, 40)
    assert torch.allclose(one, want[2:3])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tracinn",), "unknown estimator 'tracinn'; did you mean 'tracin'"),
        ((TracIn(), {"layers": "last"}), "has its own hyperparameters"),
        (("tracin", {"layer": "last"}), "no hyperparameter 'layer'; did you mean"),
    ],
)
def test_mistakes_in_names_are_told(
    small: pb.Trace, points: pb.Dataset, arguments, message
):
    settings = dict(*arguments[1:])
    with pytest.raises(ConfigError, match=message):
        pb.influence(small, points, arguments[0], **settings)


def test_points_of_another_shape_are_refused(small: pb.Trace):
    with pytest.raises(ValueError, match="as the training set"):
        pb.influence(small, random_data(3, (1, 9, 9)))
    with pytest.raises(DataError, match="the test points"):
        pb.influence(small, ["a", "b"])
    with pytest.raises(TypeError, match="must be a Trace"):
        pb.influence(small.model(), random_data(3))  # type: ignore[arg-type]


def test_points_that_hold_no_number_are_refused(small: pb.Trace, guard: pb.Guard):
    x = random_data(3).x
    x[1] = torch.nan
    with pytest.raises(DataError, match=r"the test points .*row 1"):
        pb.influence(small, x)
    with pytest.raises(DataError, match=r"the points .*row 1"):
        guard(x)


def test_a_run_is_told_in_few_words(small: pb.Trace):
    assert repr(small.train).startswith("Dataset(40 instances of kind image")
    given = pb.Trace.of(small.model(), small.train)
    assert len(repr(given)) < 400


def test_the_lines_of_the_readme_run(small: pb.Trace):
    text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    block = text.split("import poisonbench as pb\n", 1)[1].split("```", 1)[0]
    lines = block.replace("[(state, lr), ...]", "[(state, lr)]")
    test = random_data(4, seed=1)
    names = {
        "pb": pb,
        "model": small.model(),
        "train": (small.train.x.numpy(), small.train.y.numpy()),
        "state": small.checkpoints[-1].state,
        "lr": 0.1,
        "test": test,
        "clean": random_data(60, seed=2).x,
        "x": test.x,
    }
    exec(lines, names)
    assert names["scores"].shape == (4, 40)
    assert names["guard"](test.x[0]).label.shape == ()


# ---- proponents


def test_proponents_are_the_largest_and_the_least():
    scores = torch.tensor([[3.0, -1.0, 5.0, torch.nan, 0.0], [0.0, 1.0, 2.0, 3.0, 4.0]])
    found = pb.proponents(scores, k=2)
    assert found.helpful.tolist() == [[2, 0], [4, 3]]
    assert found.harmful.tolist() == [[1, 4], [0, 1]]
    assert found.helpful_scores.tolist() == [[5, 3], [4, 3]]
    assert found.harmful_scores.tolist() == [[-1, 0], [0, 1]]
    assert pb.proponents(scores[1], k=1).helpful.tolist() == [4]
    assert pb.proponents(scores, k=9).helpful.shape == (2, 5)
    assert pb.proponents(scores, k=9).helpful[0, -1] == 3, "NaN is last"
    with pytest.raises(ValueError, match="k must be at least 1"):
        pb.proponents(scores, k=0)


# ---- guard


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Scene, Victim]:
    """A grid with an attacked victim, and that victim."""
    place = Place(tmp_path_factory.mktemp("run"))
    grid = parse(GRID)
    assert not run(grid, place, Options(workers=0)).failed
    scene = grid.scenes[0]
    return place.scene(scene), scene, make_victim(scene, place)


def verdict_of_the_grid(folder: Path, estimator: str, detector: dict) -> log.Record:
    for path in folder.glob("detect-*.h5"):
        record = log.read(path, "detect")
        used = record.config["estimator"]
        same = {**record.config["detector"], **detector} == record.config["detector"]
        if same and (used is None or used["name"] == estimator):
            return record
    raise AssertionError((estimator, detector))


@pytest.mark.filterwarnings("ignore:.* generic poisons succeeded")
@pytest.mark.parametrize("estimator", ["tracin", "gas"])
@pytest.mark.parametrize("number", range(len(GRID["detector"])))
def test_a_guard_flags_as_the_grid(judged, estimator: str, number: int):
    folder, _, victim = judged
    wanted = GRID["detector"][number]
    settings = {key: value for key, value in wanted.items() if key != "name"}
    record = verdict_of_the_grid(folder, estimator, wanted)
    from defenses import DETECTORS

    detector = DETECTORS[wanted["name"]](**settings)
    calibration = victim.probe.group == CALIBRATION
    trusted = victim.probe.points.take(calibration)
    guard = pb.Guard(victim.trace, trusted, detector, estimator, seed=None)
    verdict = guard(victim.probe.points.take(~calibration))
    kept = ~calibration.numpy()
    score = torch.as_tensor(record.data[names.SCORE][kept])
    flag = torch.as_tensor(record.data[names.FLAG][kept])
    assert guard.threshold == pytest.approx(record.attributes["threshold"], rel=1e-4)
    assert torch.allclose(verdict.suspicion, score, rtol=1e-4, atol=1e-6)
    assert torch.equal(verdict.flag, flag)
    assert torch.equal(verdict.label, victim.probe.predicted[~calibration])


@pytest.fixture(scope="module")
def guard(small: pb.Trace) -> pb.Guard:
    return pb.Guard(small, random_data(60, seed=2), "foreign-or-fragile", k=3)


def test_one_point_at_a_time_is_the_batch(guard: pb.Guard):
    x = random_data(12, seed=3).x
    batch = guard(x)
    for row in range(len(x)):
        one = guard(x[row])
        assert one.label == batch.label[row]
        assert one.flag == batch.flag[row]
        assert one.p_value == batch.p_value[row]
        assert torch.allclose(one.suspicion, batch.suspicion[row], rtol=1e-9)
        assert torch.equal(one.proponents.helpful, batch.proponents.helpful[row])
        assert torch.equal(one.proponents.harmful, batch.proponents.harmful[row])
    assert batch.proponents.helpful.shape == (12, 3)


@pytest.mark.parametrize(
    "estimator", ["gas", "influence-functions", "representer-point"]
)
def test_an_autocast_of_the_caller_rounds_nothing(estimator: str):
    rows = random_data(20, dtype=torch.float32)
    model = build("mlp", rows.layout, 0)
    run = pb.Trace.of(model, rows, [(model.state_dict(), 0.1)])
    trusted = random_data(60, seed=2, dtype=torch.float32)
    want = pb.influence(run, rows, estimator)
    judged = pb.Guard(run, trusted, "class-similarity", estimator)(rows)
    with torch.autocast("cpu", torch.bfloat16):
        found = pb.influence(run, rows, estimator)
        again = pb.Guard(run, trusted, "class-similarity", estimator)(rows)
        assert torch.is_autocast_enabled("cpu")
    assert torch.equal(found, want)
    assert torch.allclose(
        again.suspicion, judged.suspicion, rtol=0, atol=0, equal_nan=True
    )


def test_blocks_do_not_change_a_verdict(
    guard: pb.Guard, monkeypatch: pytest.MonkeyPatch
):
    x = random_data(7, seed=3).x
    whole = guard(x)
    monkeypatch.setattr("poisonbench.api.MOST_BYTES", 3 * 40 * 8)
    parts = guard(x)
    assert torch.equal(whole.flag, parts.flag)
    assert torch.allclose(whole.suspicion, parts.suspicion, rtol=1e-9)


def test_labels_of_the_trusted_points_are_not_read(small: pb.Trace, guard: pb.Guard):
    trusted = random_data(60, seed=2)
    other = pb.Guard(small, trusted.x, "foreign-or-fragile")
    assert other.threshold == guard.threshold


def test_the_order_of_the_trusted_points_is_drawn(small: pb.Trace):
    trusted = random_data(60, seed=2)
    by_class = trusted.take(trusted.y.argsort())
    drawn = [
        pb.Guard(small, by_class, "strip", seed=seed).threshold for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    ("detector", "message"),
    [
        ("tail", "unknown detector 'tail'"),
        ("removal-suport", "did you mean 'removal-support'"),
    ],
)
def test_unknown_detectors_are_told(small: pb.Trace, detector: str, message: str):
    with pytest.raises(ConfigError, match=message):
        pb.Guard(small, random_data(60), detector)


def test_a_detector_that_looks_at_the_batch_is_refused(small: pb.Trace):
    from defenses import TailHeaviness

    with pytest.raises(ConfigError, match="the other points of a batch"):
        pb.Guard(small, random_data(60), TailHeaviness(k=2, standardise="two-way"))


def test_a_detector_of_other_data_is_refused():
    rows = random_data(40, (5,))
    run = pb.train(rows, pb.Recipe(model="linear", epochs=1), 0)
    with pytest.raises(ConfigError, match="takes data of kind"):
        pb.Guard(run, random_data(60, (5,), seed=1), ForImages())


@dataclass(frozen=True)
class ForImages:
    """A detector that takes images alone."""

    uses: ClassVar[tuple[str, ...]] = ()
    kinds: ClassVar[tuple[str, ...]] = ("image",)

    def __call__(self, evidence: Evidence) -> Tensor:
        return evidence.test.x.flatten(1).sum(1)


def test_too_few_trusted_points(small: pb.Trace):
    with pytest.raises(ConfigError, match="0 trusted points"):
        pb.Guard(small, random_data(40).take(torch.arange(0)), "confidence")
    with pytest.warns(UserWarning, match="few for alarm 0.05: give 40 or more"):
        pb.Guard(small, random_data(30, seed=4), "confidence")
    with pytest.raises(ValueError, match="alarm must"):
        pb.Guard(small, random_data(60), alarm=0)


# ---- p-values


def test_p_values_by_their_definition():
    clean = torch.tensor([1.0, 2.0, 2.0, 5.0, torch.nan], dtype=torch.float64)
    scores = torch.tensor([0.0, 2.0, 3.0, 6.0, torch.nan], dtype=torch.float64)
    found = p_values(scores, clean)
    assert found[:4].tolist() == pytest.approx([5 / 5, 4 / 5, 2 / 5, 1 / 5])
    assert found[4].isnan()


def test_p_values_of_clean_points_are_rarely_small():
    g = generator(0, "p-values")
    draws: list[Tensor] = []
    for _ in range(400):
        scores = torch.randn(41, generator=g, dtype=torch.float64)
        draws.append(p_values(scores[:1], scores[1:]))
    p = torch.cat(draws)
    for level in (0.1, 0.3, 0.7):
        assert float((p <= level).double().mean()) < level + 0.06


def test_a_guard_refuses_scores_that_its_detector_cannot_do_without(small: pb.Trace):
    trusted = random_data(60, seed=2)
    told = "Rehearsed reads the influence of every training row"
    with pytest.raises(ConfigError, match=told):
        pb.Guard(small, trusted, "rehearsed", GAS(scope="label"))
    detector = TailHeaviness(2)
    whole = pb.Guard(small, trusted, detector, "gas")
    part = pb.Guard(small, trusted, detector, GAS(scope="label"))
    assert part.threshold == pytest.approx(whole.threshold, abs=1e-6)
