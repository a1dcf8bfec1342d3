"""A method that needs more trusted points than there are is refused before any work."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted import planted, triggered
from test_audit import audited as audited  # fixtures
from test_audit import call
from test_audit import folder as folder

import poisonbench as pb
from defenses import DETECTORS, FILTERS
from defenses.baselines.strip import Strip
from defenses.detectors.foreign_or_fragile import ForeignOrFragile
from defenses.detectors.foreign_support import ForeignSupport
from defenses.detectors.rehearsed import Rehearsed
from defenses.detectors.tail_heaviness import TailHeaviness
from experiments.plan.parse import parse
from poisonbench.contracts.calibration import too_few
from poisonbench.contracts.values import Evidence
from poisonbench.errors import ConfigError

GRID: dict[str, Any] = {
    "attack": [{"name": "patch"}],
    "estimator": [{"name": "gas"}],
}


def reading(methods: list[object]) -> list[object]:
    return [one for one in methods if "reference" in one.uses]  # type: ignore[attr-defined]


METHODS = reading(
    [
        *(kind() for kind in [*DETECTORS.values(), *FILTERS.values()]),
        TailHeaviness(standardise="reference"),
        Rehearsed(0),
        Rehearsed(0, cross_fit=True),
    ]
)


@pytest.fixture(scope="module")
def pictures() -> Evidence:
    return triggered()


def knowing(evidence: Evidence, count: int) -> Evidence:
    """The same with fewer trusted points."""
    assert evidence.trusted is not None
    few = evidence.trusted & (evidence.trusted.cumsum(0) <= count)
    assert int(few.sum()) == count
    return replace(evidence, trusted=few)


@pytest.mark.filterwarnings("ignore:more than half of the values tie")
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_method_works_on_as_many_as_it_says_and_on_no_fewer(
    method: Any, pictures: Evidence
):
    if isinstance(method, Rehearsed):
        method = replace(method, rehearsals=0)
    least = getattr(method, "least_trusted", 1)
    scores = method(knowing(pictures, least))
    assert bool(scores.isfinite().any())
    with pytest.raises(ValueError, match="trusted"):
        method(knowing(pictures, least - 1))


@pytest.mark.parametrize(
    ("method", "least"),
    [
        (Rehearsed(), 20),  # of which it is given half
        (Rehearsed(0, cross_fit=True), 20),  # all
        (ForeignOrFragile(), 20),
        (ForeignSupport(), 20),
        (Strip(), 4),
        (TailHeaviness(standardise="reference"), 4),
        (TailHeaviness(), 0),  # reads none
        (DETECTORS["closeness"](), 2),
    ],
    ids=repr,
)
def test_how_many_a_probe_must_have(method: object, least: int):
    assert too_few(method, least) == ""
    if least:
        got = f"at least {least} points known to be clean"
        assert got in too_few(method, least - 1)
        assert f"got {least - 1}" in too_few(method, least - 1)


@pytest.mark.parametrize(
    "detector",
    [
        {"name": "rehearsed"},
        {"name": "rehearsed", "cross_fit": [False, True]},
        {"name": "foreign-or-fragile"},
        {"name": "foreign-support"},
    ],
    ids=str,
)
def test_a_grid_is_refused_with_the_size_of_its_probe(detector: dict[str, Any]):
    raw = {**GRID, "detector": [detector]}
    parse({**raw, "probe": {"calibration": 20}})
    for probe in ({"calibration": 19}, {"calibration": [50, 19]}):
        with pytest.raises(ConfigError) as told:
            parse({**raw, "probe": probe})
        assert "probe.calibration: " in str(told.value)
        assert "needs at least 20 points known to be clean" in str(told.value)
        assert "got 19" in str(told.value)


def test_methods_that_read_none_take_any_probe():
    detectors = [{"name": "tail-heaviness"}, {"name": "confidence"}]
    grid = parse({**GRID, "detector": detectors, "probe": {"calibration": 1}})
    assert [scene.probe.calibration for scene in grid.scenes] == [1]


def test_a_guard_is_refused_before_anything_is_computed():
    def never(_: object) -> None:
        raise AssertionError("worked before it refused")

    evidence = planted()
    few = evidence.test.x[:1].repeat(19, *[1] * (evidence.test.x.ndim - 1))
    with pytest.raises(ConfigError, match="needs at least 20 points") as told:
        pb.Guard(evidence.trace, few, "foreign-or-fragile", never)
    assert "ForeignOrFragile" in str(told.value)


@pytest.mark.usefixtures("audited")
def test_an_audit_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)
    with np.load(folder / "trusted.npz") as trusted:
        np.savez(folder / "few.npz", x=trusted["x"][:19])
    done = call("audit", "audit.toml", "-o", "few", "--set", "trusted=few.npz")
    assert done.exit_code != 0
    assert "needs at least 20 points known to be clean" in done.output
    assert not list(Path("few").glob("scenes/*/*.h5"))
