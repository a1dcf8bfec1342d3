"""Mitigations: what they remove against definitions written out.

Also their stage in a grid, kills, and logs that do not fit.
"""

import statistics
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_evaluate import scene_config, write_scene
from test_run import PATCH, SMALL, assert_same, command, environment, results, start
from torch import Tensor

from defenses import MITIGATIONS
from defenses.kit.scale import QN_FACTOR
from defenses.mitigations.filter_retrain import FilterRetrain
from defenses.mitigations.remove_and_return import RemoveAndReturn
from defenses.mitigations.target_driven import TargetDriven
from estimators import ESTIMATORS
from experiments.evaluation.evaluations import rows_of
from experiments.evaluation.load import load_results
from experiments.plan.parse import parse
from experiments.plan.paths import Place
from experiments.plan.spec import Grid
from experiments.plan.stages import jobs
from experiments.report.render import render
from experiments.runner.run import Options, run
from poisonbench import log
from poisonbench.contracts.protocols import Mitigation
from poisonbench.contracts.values import Evidence, Means
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.models import predict
from poisonbench.roles import POISON
from poisonbench.seeding import generator
from poisonbench.training import Recipe, train
from poisonbench.training.trace import Trace

GAS = {"name": "gas"}
SUPPORT = {"name": "support-without-the-few", "few": 10, "neighbours": 10}
TARGET = {"name": "target-driven", "least": 1}
FILTER = {"name": "filter-retrain"}


ATTACKED, POISONED = 10, 12


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    """Three clusters, and a backdoor that works.

    12 rows of the second with a trigger bear label 0, as do 10 probe points.
    """
    g = generator(0, "backdoor")
    true = torch.cat(
        [torch.arange(3).repeat_interleave(40), torch.ones(POISONED, dtype=torch.int64)]
    )
    cluster = torch.cat(
        [torch.ones(ATTACKED, dtype=torch.int64), torch.arange(3).repeat(10)]
    )

    def draw(of: Tensor, triggered: Tensor) -> Tensor:
        x = 2 * torch.eye(3, 8, dtype=torch.float64)[of] + 0.3 * torch.randn(
            len(of), 8, generator=g, dtype=torch.float64
        )
        x[triggered, 7] += 4
        return x

    bad = torch.arange(len(true)) >= 120
    data = Dataset(draw(true, bad), true.masked_fill(bad, 0), 3)
    trace = train(
        data,
        Recipe(model="mlp", epochs=20, lr=0.05, batch_size=16, checkpoints=4),
        seed=1,
    )
    points = draw(cluster, torch.arange(len(cluster)) < ATTACKED)
    test = Dataset(points, predict(trace.model(), points).argmax(1), 3)
    return Evidence(trace, test, role=bad.to(torch.uint8) * POISON)


def means(
    evidence: Evidence, flagged: int = ATTACKED, scores: Tensor | None = None
) -> Means:
    """Real training and a real estimator.

    The first `flagged` probe points are flagged, all of which are attacked.
    """
    trace = evidence.trace
    flags = torch.arange(len(evidence.test)) < flagged
    gas = ESTIMATORS["gas"]()
    return Means(
        lambda keep: train(trace.train.take(keep), trace.recipe, trace.seed),
        lambda run, points: gas.fit(run)(points),
        flags.double(),
        flags,
        scores,
    )


def poison(evidence: Evidence) -> Tensor:
    assert evidence.role is not None
    return evidence.role == 1


ROWS = [
    FilterRetrain(0.1),
    RemoveAndReturn(),
    TargetDriven(2.0),
    TargetDriven(1.0, scale="mad", stay=0.0),
]


@pytest.mark.parametrize("mitigation", ROWS, ids=repr)
def test_a_mitigation_keeps_its_contract(
    mitigation: Mitigation, evidence: Evidence
) -> None:
    assert {type(row) for row in ROWS} == set(MITIGATIONS.values())
    assert isinstance(mitigation, Mitigation)
    assert set(mitigation.uses) <= {
        "influence",
        "features",
        "detector",
        "filter",
        "reference",
        "probe",
        "retraining",
        "oracle",
    }
    before = evidence.trace.train.x.clone()
    done = mitigation(evidence, means(evidence, scores=poison(evidence).double()))
    assert done.keep.dtype == torch.bool
    assert len(done.trace.train) == int(done.keep.sum())
    assert torch.equal(done.trace.train.x, evidence.trace.train.x[done.keep])
    again = train(
        evidence.trace.train.take(done.keep), evidence.trace.recipe, evidence.trace.seed
    )
    for name, value in again.checkpoints[-1].state.items():
        assert torch.equal(done.trace.checkpoints[-1].state[name], value), (
            "the new victim is the run on the rows kept"
        )
    assert torch.equal(evidence.trace.train.x, before)


def test_filter_retrain_removes_the_top_rows_and_ties_by_position(
    evidence: Evidence,
) -> None:
    n = len(evidence.trace.train)
    scores = torch.zeros(n)
    scores[[5, 9, 7]] = torch.tensor([1.0, 3.0, 1.0])
    gone = (
        (~FilterRetrain(2 / n)(evidence, means(evidence, scores=scores)).keep)
        .nonzero()
        .squeeze(1)
    )
    assert gone.tolist() == [5, 9]
    scores[20] = torch.nan
    with pytest.warns(
        UserWarning, match="1 of 132 rows have a score that is not finite"
    ):
        kept = FilterRetrain(2 / n)(evidence, means(evidence, scores=scores)).keep
    assert (~kept).nonzero().squeeze(1).tolist() == [5, 9]


def test_target_driven_takes_the_poison_out_and_the_points_leave_the_label(
    evidence: Evidence,
) -> None:
    assert (
        predict(evidence.trace.model(), evidence.test.x[:ATTACKED]).argmax(1) == 0
    ).all(), "the attack works at first"
    done = TargetDriven(1.5)(evidence, means(evidence))
    gone, bad = ~done.keep, poison(evidence)
    assert int((gone & bad).sum()) >= POISONED - 2
    assert int((gone & ~bad).sum()) <= 1
    assert (
        predict(done.trace.model(), evidence.test.x[:ATTACKED]).argmax(1) == 0
    ).float().mean() <= 0.25


def test_a_round_removes_the_rows_of_the_label_above_the_cutoff_and_no_other(
    evidence: Evidence,
) -> None:
    """Written out: mean influence on the flagged points, and rows above the cutoff.

    Its median and Qn come from sorting all pairs.
    """
    done = TargetDriven(1.2, rounds=1)(evidence, means(evidence))
    influence = (
        ESTIMATORS["gas"]()
        .fit(evidence.trace)(evidence.test.take(torch.arange(ATTACKED)))
        .mean(0)
    )
    own = [i for i, y in enumerate(evidence.trace.train.y.tolist()) if y == 0]
    values = [float(influence[i]) for i in own]
    middle, h = statistics.median(values), len(values) // 2 + 1
    pairs = sorted(abs(a - b) for k, a in enumerate(values) for b in values[:k])
    qn = QN_FACTOR * pairs[h * (h - 1) // 2 - 1]
    want = {i for i, v in zip(own, values, strict=True) if (v - middle) / qn > 1.2}
    assert want
    assert set((~done.keep).nonzero().squeeze(1).tolist()) == want
    assert done.retrainings == 1


def test_nothing_is_done_where_too_few_points_are_flagged(evidence: Evidence) -> None:
    for flagged in (0, 2):
        done = TargetDriven(least=3)(evidence, means(evidence, flagged))
        assert done.keep.all()
        assert done.trace is evidence.trace
        assert done.retrainings == 0


@pytest.mark.parametrize("left", [0, 1])
def test_of_a_label_with_fewer_than_two_rows_none_stands_out(
    left: int, evidence: Evidence
) -> None:
    """As of a rare class, or after rounds that removed the others."""
    own = (evidence.trace.train.y == 0).nonzero().squeeze(1)
    stays = torch.ones_like(evidence.trace.train.y, dtype=torch.bool)
    stays[own[left:]] = False
    rare = replace(evidence.trace, train=evidence.trace.train.take(stays))
    seen = replace(evidence, trace=rare)
    done = TargetDriven()(seen, means(seen))
    assert done.keep.all()
    assert done.retrainings == 0


def test_a_cutoff_that_no_row_passes_is_lowered_or_given_up(evidence: Evidence) -> None:
    assert TargetDriven(1e6, lower=1.0)(evidence, means(evidence)).keep.all()
    assert not TargetDriven(1e6, lower=0.5)(evidence, means(evidence)).keep.all()


def test_rounds_and_the_share_of_the_label_are_caps(evidence: Evidence) -> None:
    assert (
        TargetDriven(1e6, lower=0.9, rounds=2, stay=0.0)(
            evidence, means(evidence)
        ).retrainings
        <= 2
    )
    with pytest.warns(UserWarning, match="no more is removed"):
        done = TargetDriven(0.1, most=0.01)(evidence, means(evidence))
    assert done.keep.all()


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: FilterRetrain(1.0), r"fraction must lie in \(0, 1\), got 1.0"),
        (lambda: TargetDriven(0.0), "cutoff must be positive and finite, got 0.0"),
        (lambda: TargetDriven(lower=0.0), r"lower must lie in \(0, 1\], got 0.0"),
        (lambda: TargetDriven(stay=1.0), r"stay must lie in \[0, 1\), got 1.0"),
        (lambda: TargetDriven(rounds=0), "rounds must be at least 1, got 0"),
        (lambda: TargetDriven(scale="sd"), "scale must be one of qn, mad, got 'sd'"),
    ],
)
def test_a_bad_value_is_named(make, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        make()


def test_without_a_verdict_a_mitigation_says_what_it_needs(evidence: Evidence) -> None:
    bare = replace(means(evidence), flags=None)
    with pytest.raises(ValueError, match=r"flags \(m,\)"):
        TargetDriven()(evidence, bare)
    with pytest.raises(ValueError, match=r"scores \(n,\)"):
        FilterRetrain()(evidence, bare)


# ---- the stage


def grid(*mitigations: dict, **more: object) -> Grid:
    base = {
        **SMALL,
        "attack": [PATCH],
        "estimator": [GAS],
        "detector": [SUPPORT, {"name": "random"}],
    }
    return parse(
        {
            **base,
            "filter": [{"name": "perfect-filter"}],
            "mitigation": list(mitigations),
            **more,
        }
    )


def test_mitigations_run_in_a_grid_and_their_log_tells_before_and_after(
    tmp_path: Path,
) -> None:
    summary = run(
        grid({**TARGET, "detector": "random"}, FILTER),
        Place(tmp_path),
        Options(workers=0),
    )
    assert summary.failed == []
    rows = {
        row.settings["mitigation"]["name"]: row
        for row in rows_of(load_results(tmp_path), "mitigate")
    }
    assert rows["filter-retrain"].settings["filter"]["name"] == "perfect-filter"
    assert (
        rows["filter-retrain"].metrics["poison_removed"].value,
        rows["filter-retrain"].metrics["clean_removed"].value,
    ) == (
        1,
        0,
    )
    assert rows["target-driven"].settings["detector"]["name"] == "random"
    scene = log.read(next(tmp_path.rglob("scene.h5")))
    for row in rows.values():
        asr = float(
            (scene.data["targets/predicted"] == scene.data["targets/wanted"]).mean()
        )
        assert row.metrics["asr_before"].value == pytest.approx(asr), (
            "before is the victim of the scene"
        )
        right = int(scene.data["clean/correct"]) / int(scene.data["clean/size"])
        assert row.metrics["accuracy_before"].value == pytest.approx(right)
    assert not list(tmp_path.rglob("run-*.h5")), (
        "restart files go when the stage is done"
    )
    text = render(load_results(tmp_path))
    assert "MITIGATION" in text
    assert rows["filter-retrain"].uses == "oracle", (
        "a mitigation takes what its filter takes"
    )


def test_a_mitigation_is_told_the_alarm_of_its_detector(tmp_path: Path) -> None:
    told = {"name": "toy_defense:NotesAlarm", "detector": "random"}
    summary = run(grid(told, alarm=0.2), Place(tmp_path), Options(workers=0))
    assert summary.failed == []
    [found] = tmp_path.rglob("mitigate-*.h5")
    assert log.read(found).attributes["note_alarm_told"] == 0.2


def test_a_victim_read_back_gives_the_same_log(tmp_path: Path) -> None:
    """Its attacked points are not in its files.

    The attack is run again, and all of them come back.
    """
    one = grid(FILTER)
    run(one, Place(tmp_path), Options(workers=0))
    before = results(tmp_path)
    path = next(tmp_path.rglob("mitigate-*.h5"))
    path.unlink()
    assert run(one, Place(tmp_path), Options(workers=0)).done == 1
    assert_same(results(tmp_path), before)
    assert log.read(path).attributes["all_targets"] is True


def test_those_that_misbehave_fail_alone_and_wait_for_what_failed(
    tmp_path: Path,
) -> None:
    names = ("KeepsAll", "Lies")
    bad = grid(
        *({"name": f"toy_defense:{name}"} for name in names),
        FILTER,
        filter=[{"name": "toy_defense:Raises"}],
    )
    summary = run(bad, Place(tmp_path), Options(workers=0))
    assert sorted(
        reason.split(": ", 1)[1].split(" ")[0] for reason in summary.failed
    ) == [
        "RuntimeError:",
        "ValueError:",
    ]
    assert "tells of 0 rows kept, but trained on 200" in "".join(summary.failed)
    [row] = rows_of(load_results(tmp_path), "mitigate")
    assert row.metrics["asr_before"] == replace(row.metrics["asr_after"])
    [job] = jobs(bad, Place(tmp_path), 1)
    assert job.open == (), "what waits for a failed filter is not open"


def test_a_mitigation_names_whose_verdicts_it_works_on(tmp_path: Path) -> None:
    everything = grid(TARGET)
    chosen = grid({**TARGET, "detector": ["random"]})
    count = [
        sum(s.kind == "mitigate" for s in jobs(g, Place(tmp_path), 1)[0].stages)
        for g in (everything, chosen)
    ]
    assert count == [2, 1]
    for stage in jobs(everything, Place(tmp_path), 1)[0].stages:
        if stage.kind == "mitigate":
            assert dict(stage.methods)["estimator"] is not None, (
                "it reads influence itself"
            )
    with pytest.raises(
        ConfigError,
        match=r"mitigation\[0\].detector: the grid has no \[\[detector\]\] 'randm'; "
        "did you mean 'random'",
    ):
        grid({**TARGET, "detector": "randm"})
    with pytest.raises(
        ConfigError,
        match=r"works on the verdict of a filter: name at least one \[\[filter\]\]",
    ):
        grid(FILTER, filter=[])
    with pytest.raises(ConfigError, match="a mitigation of the grid reads influence"):
        grid(TARGET, estimator=[], detector=[{"name": "random"}])


def killed_and_whole(
    tmp_path: Path, defense: str, blocks: str, output: str
) -> tuple[Path, Path]:
    """Runs a grid twice, killed and whole; returns both folders.

    One run is killed once the first restart file is there and run again, the other has no break.
    """
    text = (
        'dataset = {name = "digits", train = 300, test = 150}\n'
        '[recipe]\nmodel = "cnn"\nepochs = 12\n'
        "[probe]\nattacked = 10\ncontrols = 20\ncalibration = 20\n"
        f'[[attack]]\nname = "patch"\nbudget = 0.05\n{defense}\n'
    )
    for folder in ("whole", "killed"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "g.toml").write_text(text)
    whole, killed = (tmp_path / folder / "logs" for folder in ("whole", "killed"))
    assert (
        subprocess.run(
            command(whole), env=environment(), check=False, capture_output=True
        ).returncode
        == 0
    )
    process, end = start(killed, "--workers", "0"), time.monotonic() + 120
    while (
        not list(killed.rglob(blocks))
        and process.poll() is None
        and time.monotonic() < end
    ):
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert list(killed.rglob(blocks)), "killed too late"
    assert not list(killed.rglob(output))
    assert (
        subprocess.run(
            command(killed), env=environment(), check=False, capture_output=True
        ).returncode
        == 0
    )
    return killed, whole


@pytest.mark.slow
def test_killed_between_its_trainings_a_mitigation_goes_on_to_the_same_log(
    tmp_path: Path,
) -> None:
    mitigation = '[[mitigation]]\nname = "toy_defense:RetrainsOnHalves"'
    killed, whole = killed_and_whole(tmp_path, mitigation, "run-*.h5", "mitigate-*.h5")
    assert_same(results(killed), results(whole))


# ---- logs that do not fit


def write_mitigation(place: Path, **changes: np.ndarray) -> Path:
    config = {
        "scene": log.read(place / "scene.h5").config,
        "estimator": None,
        "filter": {"name": "toy"},
    }
    data = {
        "removed": np.array([1, 0, 1, 0, 0, 0, 1], bool),
        "test/before": np.ones(4, bool),
        "test/after": np.array([1, 1, 1, 0], bool),
    }
    data |= {
        "targets/wanted": np.ones(3, int),
        "targets/before": np.ones(3, int),
        "targets/after": np.array([1, 0, 0]),
    }
    path = place / "mitigate-none-toy.h5"
    about = {"retrainings": 2, "seconds": 1.5, "uses": "filter"}
    log.write(
        path,
        "mitigate",
        config=config | {"mitigation": {"name": "toy"}},
        data={**data, **changes},
        attributes=about,
    )
    return path


def test_the_row_of_a_mitigation_counted_by_hand(tmp_path: Path) -> None:
    write_mitigation(
        write_scene(tmp_path, scene_config({"name": "patch"}))
    )  # two poison rows, four clean ones, a cover row
    [row] = rows_of(load_results(tmp_path), "mitigate")
    values = {name: metric.value for name, metric in row.metrics.items()}
    assert (values["asr_before"], values["asr_after"]) == (1, pytest.approx(1 / 3))
    assert (values["accuracy_before"], values["accuracy_after"]) == (1, 0.75)
    assert (
        values["poison_removed"],
        values["clean_removed"],
        values["cover_removed"],
    ) == (
        0.5,
        0.25,
        1,
    )
    assert (values["retrainings"], values["seconds"]) == (2, 1.5)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"removed": np.zeros(6, bool)}, "has 6 verdicts for 7 training rows"),
        ({"targets/after": np.zeros(2, int)}, "are not vectors of one length"),
        ({"test/after": np.zeros((4, 1), bool)}, "are not vectors of one length"),
    ],
    ids=["rows", "targets", "matrix"],
)
def test_a_log_that_does_not_fit_is_damaged(
    tmp_path: Path, changes: dict, part: str
) -> None:
    write_mitigation(write_scene(tmp_path, scene_config({"name": "patch"})), **changes)
    [error] = load_results(tmp_path).damaged
    assert part in error.reason


def test_a_run_is_restarted_from_its_file_and_a_damaged_file_is_made_again(
    tmp_path: Path, evidence: Evidence
) -> None:
    from experiments.scene.kinds.retraining import Retrainer

    keep = torch.arange(len(evidence.trace.train)) > 20
    first: Trace = Retrainer(evidence.trace, tmp_path).on_rows(keep)
    [path] = tmp_path.glob("run-*.h5")
    stamp = path.stat().st_mtime_ns
    again = Retrainer(evidence.trace, tmp_path).on_rows(keep)
    assert path.stat().st_mtime_ns == stamp
    path.write_bytes(b"?")
    mended = Retrainer(evidence.trace, tmp_path).on_rows(keep)
    for trace in (again, mended):
        assert isinstance(trace.train, Dataset)
        for a, b in zip(trace.checkpoints, first.checkpoints, strict=True):
            assert all(torch.equal(a.state[name], b.state[name]) for name in b.state)
    with pytest.raises(ValueError, match="keep must be"):
        Retrainer(evidence.trace, tmp_path).on_rows(
            torch.zeros(len(keep), dtype=torch.bool)
        )
