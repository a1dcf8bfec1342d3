"""What a run tells of itself while it works, and marks that are taken once for a scene."""

import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from test_run import PATCH, grid

from experiments.plan.paths import Place
from experiments.plan.stages import Stage, jobs
from experiments.runner import tally
from experiments.runner.run import Options, run
from experiments.runner.tally import Tally
from poisonbench.contracts import untouched
from poisonbench.contracts.untouched import Untouched
from poisonbench.errors import ChangedError


def test_scenes_that_have_ended_are_looked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    work = jobs(grid(PATCH, {"name": "none"}), Place(tmp_path), 1)
    looks: Counter[str] = Counter()
    real = Stage.ended.fget
    assert real is not None

    def counted(stage: Stage) -> bool:
        looks[stage.path.parent.name] += 1
        return real(stage)

    monkeypatch.setattr(Stage, "ended", property(counted))
    monkeypatch.setattr(tally, "PAUSE", 0.0)
    first, second = work
    for stage in first.stages:
        stage.path.parent.mkdir(parents=True, exist_ok=True)
        stage.path.touch()
    second.stages[0].failure.parent.mkdir(parents=True)
    second.stages[0].failure.touch()
    with Tally(work, 3, 15) as told:
        told.look()
        told.look()
    assert looks[first.scene.id] == len(first.stages)
    assert "2 of 2 scenes, 10 of 15 cells" in capsys.readouterr().err


def test_looks_are_seconds_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    taken = []
    monkeypatch.setattr(Tally, "_look", lambda self: taken.append(time.monotonic()))
    with Tally([], 0, 0) as told:
        for _ in range(1000):
            told.look()
    assert len(taken) == 2  # at once, and at the end


def test_checksums_are_taken_before_and_after_the_first_stage_and_after_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    taken = []
    real = untouched._all_marks

    def counted(values: dict) -> dict:
        taken.append(values)
        return real(values)

    monkeypatch.setattr(untouched, "_all_marks", counted)
    summary = run(grid(PATCH), Place(tmp_path), Options(workers=0))
    assert summary.done == 6
    assert len(taken) == 6  # 5 stages after "scene", and once before them


def test_marks_that_are_renewed_still_tell_of_changes():
    value = {"x": torch.zeros(3)}
    first = Untouched.now(value)
    first.check()
    second = first.renewed()
    second.check()
    value["x"][1] = 1
    with pytest.raises(ChangedError, match="x"):
        second.check()
