"""Pictures outside [0, 1]: who takes them, who refuses them, and points on another scale."""

import re
import warnings
from fractions import Fraction

import pytest
import torch
from conftest import random_data
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from torchvision.transforms import Normalize

import poisonbench as pb
from defenses import DETECTORS
from defenses.baselines.strip import Strip
from defenses.detectors.rehearsed import Rehearsed
from estimators import GAS
from poisonbench.contracts.values import Evidence
from poisonbench.data import KINDS, Dataset
from poisonbench.data.points import as_points
from poisonbench.data.rescale import into_model
from poisonbench.errors import ConfigError, DataError, RunWarning
from poisonbench.training.trace import Trace

SHAPE = (3, 8, 8)
MEAN = (0.5, 0.4, 0.3)
DEVIATION = (0.25, 0.3, 0.2)
SCALES = {
    "normalised": Normalize(MEAN, DEVIATION),
    "bytes as floats": lambda x: x * 255,
    "from -1": lambda x: 2 * x - 1,
}
CHANGING = (
    "rehearsed",
    "strip",
    "scale-up",
)  # they clip at 1, or plant what lies in [0, 1]


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)
        )


def data(rows: int = 60, kind: str = "image", seed: int = 0) -> Dataset:
    found = random_data(rows, SHAPE, 3, seed, torch.float32)
    return Dataset(found.x, found.y, 3, kind=kind)


def scaled(scale: str, part: Dataset) -> Dataset:
    return part.rows(SCALES[scale](part.x), part.y)


def run_on(train: object, model: nn.Module | None = None) -> Trace:
    model = model or network()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RunWarning)
        return Trace.of(model, train, [(network().state_dict(), 0.1)])


def constants(word: str, told: str) -> torch.Tensor:
    """The numbers that the way out names, one for each channel or for all."""
    found = re.search(rf"{word} \(?([-0-9./ ,]+)", told.partition("these values:")[2])
    assert found
    numbers = found[1].strip(" ,").split(", ")
    return torch.tensor([float(Fraction(n.replace(" ", ""))) for n in numbers])


@pytest.mark.parametrize("scale", SCALES)
def test_a_run_outside_the_unit_interval_is_told_of_with_the_way_in(scale: str):
    train = scaled(scale, data())
    with pytest.warns(RunWarning, match=r"pixels from .*Normalize\(mean, std\), model"):
        Trace.of(network(), train)
    mean, std = (constants(word, into_model(train)) for word in ("mean", "std"))
    inside = train.x * std.view(-1, 1, 1) + mean.view(-1, 1, 1)
    assert inside.min() == pytest.approx(0, abs=1e-3)
    assert inside.max() == pytest.approx(1, abs=1e-3)
    vectors = Dataset(train.x, train.y, 3, kind="vector")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Trace.of(network(), data())
        Trace.of(network(), vectors)


def test_methods_that_change_pictures_say_so():
    told = {name for name, cls in DETECTORS.items() if getattr(cls(), "unit", False)}
    assert told == set(CHANGING)
    assert not Strip(mode="average").unit


@pytest.mark.parametrize("detector", CHANGING)
@pytest.mark.parametrize("scale", SCALES)
def test_methods_that_change_pictures_refuse_others_before_any_work(
    scale: str, detector: str
):
    run = run_on(scaled(scale, data()))
    trusted = scaled(scale, data(80, seed=1))

    class Idle(GAS):
        def fit(self, trace: Trace):
            raise AssertionError("worked")

    with pytest.raises(ConfigError, match=r"in \[0, 1\], and the training set has"):
        pb.Guard(run, trusted, detector, Idle())


@pytest.mark.parametrize("kind", ["image", "spectrogram"])
@pytest.mark.parametrize("detector", [Strip(), DETECTORS["scale-up"](), Rehearsed()])
def test_a_detector_refuses_them_whoever_calls_it(detector: object, kind: str):
    train = scaled("from -1", data(kind=kind))
    run = run_on(train)
    trusted = torch.ones(len(train), dtype=torch.bool)
    influence = torch.zeros(len(train), len(train))
    evidence = Evidence(run, train, influence=influence, trusted=trusted)
    with pytest.raises(ConfigError, match=r"takes \w+s in \[0, 1\]"):
        detector(evidence)


def test_points_alone_outside_the_unit_interval_are_refused_too():
    run = run_on(data())
    guard = pb.Guard(run, data(80, seed=1), "strip")
    beyond = data(4).x
    beyond[0, 0, 0, 0] = 1.2
    with pytest.raises(ConfigError, match="the points have pixels"):
        guard(beyond)


def test_what_arithmetic_leaves_beyond_is_no_other_range():
    run = run_on(data())
    guard = pb.Guard(run, data(80, seed=1), "strip")
    beyond = data(4).x
    beyond[0, 0, 0, 0] = 1 + 1e-6
    assert guard(beyond).suspicion.isfinite().all()


@pytest.mark.parametrize("scale", SCALES)
def test_methods_that_need_no_range_take_all(scale: str):
    run = run_on(scaled(scale, data()))
    guard = pb.Guard(run, scaled(scale, data(80, seed=1)), "tail-heaviness")
    assert guard(scaled(scale, data(4))).suspicion.isfinite().all()


def test_a_normalisation_in_the_model_is_the_way_out_that_it_is_said_to_be():
    outside = run_on(scaled("normalised", data()))
    inside = run_on(data(), nn.Sequential(Normalize(MEAN, DEVIATION), network()))
    points = data(5)
    for estimator in ("tracin", "gas"):
        wanted = pb.influence(outside, scaled("normalised", points), estimator)
        found = pb.influence(inside, points, estimator)
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-6)
    assert (
        pb.Guard(inside, data(80, seed=1), "strip")(points).suspicion.isfinite().all()
    )


def test_states_of_another_model_fit_no_part():
    other = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    whole = nn.Sequential(Normalize(MEAN, DEVIATION), network())
    with pytest.raises(ConfigError, match=re.escape("lacks '1.0.weight'")):
        Trace.of(whole, data(), [(other.state_dict(), 0.1)])


# ---- points beside a training set


WAYS = {"unit": lambda x: x, "byte": lambda x: (x * 255).byte(), **SCALES}
WRONG = [
    ("bytes as floats", "byte"),
    ("bytes as floats", "unit"),
    ("normalised", "byte"),
    ("from -1", "byte"),
    ("unit", "bytes as floats"),
    ("byte", "bytes as floats"),
    ("unit", "normalised"),
    ("normalised", "bytes as floats"),
    ("unit", "from -1"),
]
RIGHT = [(way, way) for way in WAYS] + [("unit", "byte"), ("byte", "unit")]
FORMS = {
    "x": lambda x, y: x,
    "pair": lambda x, y: (x, y),
    "pairs": lambda x, y: TensorDataset(x, y),
    "array": lambda x, y: x.numpy(),
}


def beside(train: str, points: str, form: str) -> Dataset:
    part = data()
    prepared = WAYS[train](part.x)
    run = run_on((prepared, part.y))
    few = data(7)
    x: Tensor = WAYS[points](few.x)
    return as_points(FORMS[form](x, few.y), run.train).data


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("train", "points"), WRONG)
def test_points_on_another_scale_than_the_training_set_are_refused(
    train: str, points: str, form: str
):
    with pytest.raises(DataError, match="training set"):
        beside(train, points, form)


@pytest.mark.parametrize(("train", "points"), RIGHT)
def test_points_on_the_scale_of_the_training_set_are_taken(train: str, points: str):
    assert len(beside(train, points, "x")) == 7


def test_points_that_were_not_normalised_are_told_of():
    with pytest.warns(RunWarning, match="the same normalisation"):
        beside("normalised", "unit", "x")


def test_black_points_and_vectors_lie_on_any_scale():
    part = data()
    run = run_on((part.x * 255, part.y))
    assert len(as_points(torch.zeros(2, *SHAPE), run.train).data) == 2
    vectors = Dataset(part.x, part.y, 3, kind="vector")
    assert len(as_points(vectors.rows(vectors.x * 999, part.y), vectors).data) == 60


def test_dark_points_are_on_the_scale_of_bright_ones():
    part = data()
    dark = data(3).rows(data(3).x / 300, data(3).y)
    run = run_on(part)
    assert len(as_points(dark, run.train).data) == 3
    levels = run_on((part.x * 255, part.y))
    frame = torch.randint(2, (3, *SHAPE), generator=torch.Generator().manual_seed(0))
    assert len(as_points(frame.float(), levels.train).data) == 3
    dim = run_on(part.rows(part.x / 5, part.y))
    assert len(as_points(part.take(torch.arange(3)), dim.train).data) == 3
    flat = run_on(part.rows(part.x * 0 + 0.5, part.y))
    assert len(as_points(part.take(torch.arange(3)), flat.train).data) == 3


def test_levels_to_16_are_told_from_shares():
    part = data()
    run = run_on(((part.x * 16).round(), part.y))
    with pytest.raises(DataError, match="to 16"):
        as_points(part.x[:4], run.train)


def test_only_kinds_with_a_range_are_held_to_it():
    assert {name for name, kind in KINDS.items() if kind.unit} == {
        "image",
        "spectrogram",
    }
