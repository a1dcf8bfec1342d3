"""Detectors that train again: what they are given, whose runs they share, what that costs."""

import gc
import weakref
from pathlib import Path

import pytest
import torch
from conftest import random_data
from toy_defense import MeansThere, Mirrored, RetrainsMirrored, states_equal

import poisonbench as pb
from estimators.gas import GAS
from experiments.plan.parse import parse
from experiments.plan.paths import Place
from experiments.plan.spec import Grid
from experiments.runner.run import Options, run
from experiments.scene.kinds import retraining
from experiments.scene.kinds.retraining import Retrainer
from experiments.scene.victim import make_victim
from poisonbench import log
from poisonbench.contracts.calibration import means_in_memory
from poisonbench.contracts.values import Evidence, Means
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.log import names
from poisonbench.roles import CALIBRATION

SMALL = {
    "name": "retraining",
    "dataset": {"name": "digits", "train": 100, "test": 100},
    "recipe": {"model": "linear", "epochs": 1, "checkpoints": 2},
    "probe": {"attacked": 5, "controls": 10, "calibration": 40},
    "attack": [{"name": "patch", "budget": 0.05}],
    "estimator": [{"name": "gas"}, {"name": "tracin"}],
}
MIRRORED = {"name": "toy_defense:RetrainsMirrored"}


def grid(*detectors: dict) -> Grid:
    return parse({**SMALL, "detector": list(detectors)})


def verdicts(folder: Path) -> dict[str, log.Record]:
    files = sorted((folder / "scenes").rglob("detect-*.h5"))
    return {path.name: log.read(path) for path in files}


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Dataset]:
    """The sets on which the runner trains again, in order."""
    sets: list[Dataset] = []
    train = retraining.train

    def counting(data: Dataset, recipe: pb.Recipe, seed: int) -> pb.Trace:
        sets.append(data)
        return train(data, recipe, seed)

    monkeypatch.setattr(retraining, "train", counting)
    return sets


def test_cells_of_a_scene_share_a_run_and_each_tells_its_seconds(
    tmp_path: Path, trained: list[Dataset], monkeypatch: pytest.MonkeyPatch
):
    # each reading of the clock is 1000 s after the last: a training takes 1000, and the stage that
    # does it reads the clock twice more
    clock = iter(range(0, 10**6, 1000))
    monkeypatch.setattr(retraining.time, "perf_counter", lambda: next(clock))
    detectors = [MIRRORED, {**MIRRORED, "shift": 1.0}]
    summary = run(grid(*detectors), Place(tmp_path), Options(workers=0))
    assert summary.failed == []
    assert len(trained) == 1
    records = verdicts(tmp_path).values()
    seconds = sorted(float(record.attributes["seconds"]) for record in records)
    assert seconds == [2000, 2000, 2000, 3000]
    assert not list(tmp_path.rglob("scratch")), "the shared runs are left there"


def test_the_order_of_cells_does_not_change_a_verdict(tmp_path: Path):
    first = [MIRRORED, {**MIRRORED, "shift": 1.0}]
    run(grid(*first), Place(tmp_path / "a"), Options(workers=0))
    run(grid(*reversed(first)), Place(tmp_path / "b"), Options(workers=0))
    run(grid(first[1]), Place(tmp_path / "c"), Options(workers=0))
    a, b, c = (verdicts(tmp_path / name) for name in "abc")
    assert a.keys() == b.keys() > c.keys()
    for name, record in a.items():
        assert log.same_results(record, b[name])
    for name, record in c.items():
        assert log.same_results(record, a[name])


def test_what_a_guard_trains_is_kept_until_it_trains_something_else():
    recipe = pb.Recipe(model="linear", epochs=1, checkpoints=1)
    data = random_data(12)
    means = means_in_memory(pb.train(data, recipe, 0), GAS())
    keep = torch.arange(12) != 3
    first = means.retrain(keep)
    assert means.retrain(keep.clone()) is first
    told = weakref.ref(first)
    del first
    gc.collect()
    assert told() is not None
    means.retrain(~keep)
    gc.collect()
    assert told() is None, "its rows are still held"


def test_a_guard_trains_once_and_says_what_the_grid_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made = grid(MIRRORED)
    place = Place(tmp_path)
    run(made, place, Options(workers=0))
    [path] = (tmp_path / "scenes").rglob("detect-gas*.h5")
    record = log.read(path)
    victim = make_victim(made.scenes[0], place)
    known = victim.probe.group == CALIBRATION
    trained = []
    module = "poisonbench.contracts.calibration.calibrated.train"

    def counting(data: Dataset, recipe: pb.Recipe, seed: int) -> pb.Trace:
        trained.append(data)
        return pb.train(data, recipe, seed)

    monkeypatch.setattr(module, counting)
    fits = []
    fit = RetrainsMirrored.fit

    def counted(detector: RetrainsMirrored, evidence: Evidence) -> Mirrored:
        fits.append(evidence)
        return fit(detector, evidence)

    monkeypatch.setattr(RetrainsMirrored, "fit", counted)
    points = victim.test
    guard = pb.Guard(
        victim.trace, points.take(known), RetrainsMirrored(), "gas", seed=None
    )
    for part in (slice(0, 8), slice(8, 15)):
        said = guard(points.x[part])
        want = torch.as_tensor(record.data[names.SCORE])[part]
        assert torch.allclose(said.suspicion, want, rtol=1e-4)
        assert said.flag.tolist() == record.data[names.FLAG][part].tolist()
    assert len(trained) == len(fits) == 1


@pytest.mark.parametrize(("name", "given"), [("MeansThere", 1), ("MeansHidden", 0)])
def test_means_are_given_to_those_who_declare_it(
    name: str, given: float, tmp_path: Path
):
    detector = {"name": f"toy_defense:{name}"}
    run(grid(detector), Place(tmp_path), Options(workers=0))
    [record] = verdicts(tmp_path).values()
    assert set(record.data[names.SCORE]) == {given}


def test_a_run_that_cannot_be_made_again_gives_no_means():
    data = random_data(60)
    trace = pb.train(data, pb.Recipe(model="mlp", epochs=1), 0)
    trusted = random_data(60, seed=1)
    guard = pb.Guard(trace, trusted, MeansThere())
    assert guard(data.x[0]).suspicion == 1
    given = pb.Trace.of(trace.model(), data)
    guard = pb.Guard(given, trusted, MeansThere(), "influence-functions")
    assert guard(data.x[0]).suspicion == 0


def test_a_run_on_other_data_is_the_recipes_and_lies_in_the_folder(tmp_path: Path):
    trace = pb.train(random_data(40), pb.Recipe(model="mlp", epochs=1), 3)
    other = random_data(50, seed=9)
    retrainer = Retrainer(trace, tmp_path)
    made = retrainer.on(other)
    assert retrainer.seconds_found == 0
    again = Retrainer(trace, tmp_path)
    read = again.on(other)
    want = pb.train(other, trace.by_recipe, 3)
    assert states_equal(made, want)
    assert states_equal(read, want)
    assert torch.equal(read.batches, want.batches)
    assert again.seconds_found > 0
    with pytest.raises(ValueError, match="the victim trains on data"):
        retrainer.on(random_data(10, (3,)))


def test_means_without_training_say_so():
    means = Means(retrain=lambda keep: pytest.fail("not asked"))
    with pytest.raises(ConfigError, match="do not train on other data"):
        means.train(random_data(5))


def test_clean_points_are_told_to_mitigations_that_declare_it(tmp_path: Path):
    """The calibration points of the probe: 40 of 55, on digits with 5 attacked and 10 controls."""
    asks = [{"name": f"toy_defense:{name}"} for name in ("NotesKnown", "NotesUntold")]
    made = parse({**SMALL, "mitigation": asks})
    assert run(made, Place(tmp_path), Options(workers=0)).failed == []
    told = {}
    for path in (tmp_path / "scenes").rglob("mitigate-*.h5"):
        told |= dict(log.read(path).attributes)
    assert told["note_known"] == 40
    assert told["note_points"] == 55
    assert told["note_told"] == 0
