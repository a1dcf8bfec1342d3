"""`poisonbench audit`: the verdicts of a guard, in logs that everything else reads."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from html_reader import read_html, tables_of
from torch import nn
from torch.nn import functional as F

import poisonbench as pb
from experiments.cli import main
from experiments.evaluation.kinds.points import judged_points
from experiments.evaluation.load import load_results
from experiments.report.pictures.influence_scene import chosen
from experiments.scene.sources import read_data
from poisonbench import log
from poisonbench.data.points import as_points
from poisonbench.log import names
from poisonbench.roles import CALIBRATION, JUDGED

MODULE = """
from torch import nn

def net(width=12):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))

def fails():
    raise RuntimeError("no such weights")

def nothing():
    return 3
"""
AUDIT = """
name = "digits"
model = "audited_net:net"
model_args = {width = 12}
checkpoints = ["half.pt", "end.pt"]
lr = 0.5
train = "train.npz"
points = "points.npz"
trusted = "trusted.npz"
detector = ["rehearsed", {name = "tail-heaviness", k = 3}, "confidence"]
"""


def net(width: int = 12) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a backdoor, trained by a loop of its own, and what an audit reads."""
    folder = tmp_path_factory.mktemp("audited")
    (folder / "audited_net.py").write_text(MODULE)
    train, test = pb.load("digits")
    x = train.x[:400].clone()
    y = train.y[:400].clone()
    x[:30, :, 6:, 6:] = 1
    y[:30] = 0
    torch.manual_seed(0)
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for epoch in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        if epoch == 30:
            torch.save(model.state_dict(), folder / "half.pt")
    torch.save(model.state_dict(), folder / "end.pt")
    points = test.x[:12].clone()
    points[:4, :, 6:, 6:] = 1
    np.savez(folder / "train.npz", x=x.numpy(), y=y.numpy())
    np.savez(folder / "points.npz", x=points.numpy())
    np.savez(folder / "lost.npz", x=points.numpy() * np.nan)
    np.savez(folder / "wide.npz", x=np.zeros((100, 1, 8, 9), dtype="float32"))
    np.savez(folder / "white.npz", x=points.numpy() * 255)
    np.savez(folder / "trusted.npz", x=test.x[100:180].numpy())
    np.savez(folder / "bare.npz", x=x.numpy())
    np.savez(folder / "one.npz", x=x.numpy(), y=y.numpy() + 1)
    np.save(folder / "array", x.numpy())
    (folder / "array.npy").rename(folder / "array.npz")
    (folder / "text.npz").write_text("x y")
    (folder / "cut.npz").write_bytes((folder / "train.npz").read_bytes()[:900])
    np.savez_compressed(folder / "damaged.npz", x=points.numpy())
    packed = bytearray((folder / "damaged.npz").read_bytes())
    packed[60:90] = b"?" * 30
    (folder / "damaged.npz").write_bytes(packed)
    (folder / "audit.toml").write_text(AUDIT)
    return folder


@pytest.fixture(autouse=True)
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture(scope="module")
def audited(folder: Path) -> Path:
    """The logs of the audit, below a relative path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        result = call("audit", "audit.toml", "-o", "out")
        assert result.exit_code == 0, result.output
    return folder / "out"


def run_of(folder: Path) -> pb.Trace:
    with np.load(folder / "train.npz") as file:
        train = (file["x"], file["y"])
    states = [torch.load(folder / name) for name in ("half.pt", "end.pt")]
    return pb.Trace.of(net(), train, states, lr=0.5)


@pytest.mark.parametrize("detector", ["rehearsed", "confidence"])
def test_its_verdicts_are_those_of_a_guard(folder: Path, audited: Path, detector: str):
    with np.load(folder / "trusted.npz") as trusted, np.load("points.npz") as points:
        guard = pb.Guard(run_of(folder), trusted["x"], detector)
        want = guard(points["x"])
    found = judged_points(load_results(audited)).points
    mine = sorted(
        (p for p in found if p.detector["name"] == detector), key=lambda p: p.point
    )
    assert [point.label for point in mine] == want.label.tolist()
    assert [point.flag for point in mine] == want.flag.tolist()
    assert [p.suspicion for p in mine] == pytest.approx(
        want.suspicion.tolist(), rel=1e-4, abs=1e-5
    )
    assert [p.p_value for p in mine] == pytest.approx(want.p_value.tolist())
    if detector == "rehearsed":
        rows = [list(point.proponents) for point in mine]
        assert rows == want.proponents.helpful[:, :5].tolist()


def test_files_of_sentences_hold_their_words(tmp_path: Path):
    g = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 9, (40, 5), generator=g)
    y = torch.arange(40) % 2
    words = np.array([f"w{i}" for i in range(9)])
    train = tmp_path / "train.npz"
    np.savez(train, x=ids.numpy(), y=y.numpy(), vocabulary=words)
    found = read_data(str(train), "the training set")
    want = pb.Dataset(ids, y, 2, vocabulary=words.tolist())
    assert torch.equal(found.x, want.x)
    assert torch.equal(found.y, want.y)
    assert found.layout == want.layout
    assert found.vocabulary == want.vocabulary
    np.savez(tmp_path / "points.npz", x=ids[:3].numpy(), y=1 - y[:3].numpy())
    given = read_data(str(tmp_path / "points.npz"), "the points")
    points = as_points(given, found)
    assert torch.equal(points.data.x, ids[:3])
    assert torch.equal(points.data.y, 1 - y[:3])
    assert points.data.vocabulary == want.vocabulary


def test_points_come_by_suspicion(audited: Path):
    points = judged_points(load_results(audited)).points
    assert len(points) == 3 * 12
    for detector in ("rehearsed", "tail-heaviness", "confidence"):
        scores = [p.suspicion for p in points if p.detector["name"] == detector]
        assert scores == sorted(scores, reverse=True)


def test_its_logs_are_like_any_others(audited: Path):
    scene = log.read(next(audited.glob("scenes/*/scene.h5")), "scene")
    group = scene.data[names.PROBE_GROUP]
    assert (group == JUDGED).sum() == 12
    assert (group == CALIBRATION).sum() == 80
    assert not load_results(audited).damaged
    shown = call("evaluate", "out")
    assert shown.exit_code == 0
    assert "POINTS" in shown.output
    assert "COSTS" in shown.output
    assert "VICTIMS" not in shown.output, "nobody knows the truth"
    assert "DETECTION" not in shown.output
    status = call("status", "out")
    assert "5 cells, 5 done, 0 failed" in status.output
    assert call("show", str(scene.path)).exit_code == 0


def test_programs_read_the_points(audited: Path):
    content = json.loads(call("evaluate", "out", "--format", "json").output)
    assert len(content["points"]) == 36
    assert content["detections"] == []
    first = content["points"][0]
    assert first["detector"]["name"] == "rehearsed" or first["estimator"] is None
    lines = call("evaluate", "out", "--format", "csv").output.splitlines()
    assert sum(line.startswith("points,") for line in lines) == 36


def test_it_goes_on_where_it_stopped(folder: Path, audited: Path):
    before = {path: path.stat().st_mtime_ns for path in audited.rglob("*.h5")}
    assert call("audit", "audit.toml", "-o", "out").exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in audited.rglob("*.h5")} == before
    gone = next(audited.glob("scenes/*/detect-*confidence*.h5"))
    want = log.read(gone, "detect")
    gone.unlink()
    assert call("audit", "out/audit.toml", "-o", "out").exit_code == 0
    assert log.same_results(log.read(gone, "detect"), want)


def test_a_pipeline_is_told_of_a_flag(audited: Path):
    flags = [point.flag for point in judged_points(load_results(audited)).points]
    assert any(flags)
    result = call("audit", "audit.toml", "-o", "out", "--fail-on-flag")
    assert result.exit_code == 1
    quiet = call(
        "audit", "audit.toml", "-o", "quiet", "--alarm", "0.03", "--fail-on-flag"
    )
    points = judged_points(load_results("quiet")).points
    assert quiet.exit_code == int(any(point.flag for point in points))


def test_what_is_told_is_of_this_audit_alone_whatever_lies_in_its_folder(
    audited: Path, tmp_path: Path
):
    one = ["--set", 'detector="tail-heaviness"', "--set", 'estimator="gas"']
    one += ["--alarm", "0.3"]
    out = ["-o", str(tmp_path / "out"), "--fail-on-flag"]
    whole = tmp_path / "whole"
    assert call("audit", "audit.toml", *one, "-o", str(whole)).exit_code == 0
    judged = judged_points(load_results(whole)).points
    flagged = [point.point for point in judged if point.flag]
    others = [point.point for point in judged if not point.flag]
    assert flagged
    assert others
    with np.load("points.npz") as file:
        np.savez("some.npz", x=file["x"][flagged])
        np.savez("others.npz", x=file["x"][others])
    first = call("audit", "audit.toml", *one, "--points", "some.npz", *out)
    alone = call(
        *("audit", "audit.toml", *one, "--points", "others.npz"),
        *("-o", str(tmp_path / "fresh"), "--fail-on-flag"),
    )
    second = call("audit", "audit.toml", *one, "--points", "others.npz", *out)
    assert first.exit_code == 1
    assert second.exit_code == alone.exit_code == 0
    assert second.stdout.split("COSTS")[0] == alone.stdout.split("COSTS")[0]
    assert "holds verdicts of other audits too: poisonbench evaluate" in second.stderr
    assert "other audits" not in alone.stderr + first.stderr
    every = call("evaluate", str(tmp_path / "out")).output
    scenes = [path.name for path in (tmp_path / "out").glob("scenes/*/")]
    assert len(scenes) == 2
    assert all(scene in every for scene in scenes)
    points = judged_points(load_results(tmp_path / "out"))
    assert points.flagged == len(flagged)
    report = call("report", str(tmp_path / "out"))
    assert report.exit_code == 0, report.output


def test_options_do_instead_of_a_file(audited: Path):
    result = call(
        *("audit", "-o", "by-options", "--model", "audited_net:net"),
        *("--set", "model_args={width=12}", "--checkpoint", "half.pt"),
        *("--checkpoint", "end.pt", "--lr", "0.5", "--train", "train.npz"),
        *("--points", "points.npz", "--trusted", "trusted.npz"),
    )
    assert result.exit_code == 0, result.output
    mine = {path.name for path in Path("by-options").glob("scenes/*/*.h5")}
    assert mine <= {path.name for path in audited.glob("scenes/*/*.h5")}
    assert len(mine) == 3


def test_a_point_is_explained(folder: Path, audited: Path, tmp_path: Path):
    scene = str(next(audited.glob("scenes/audit-*")))
    told = call("explain", scene, "--test", "1", "-o", str(tmp_path / "point.png"))
    assert told.exit_code == 0, told.output
    assert "point to be judged 1: predicted" in told.output
    assert "gas: what helped this prediction most\n" in told.output
    points = judged_points(load_results(audited)).points
    first = next(p.proponents[0] for p in points if p.point == 1 and p.proponents)
    assert f"row {first}" in told.output
    assert (tmp_path / "point.png").stat().st_size > 1000


def test_the_most_suspicious_point_is_explained_where_none_is_named(audited: Path):
    scene = next(audited.glob("scenes/audit-*"))
    first = sorted(scene.glob("detect-*.h5"))[0]
    scores = log.read(first, "detect").data["score"][:12]
    told = call("explain", str(scene)).output
    assert f"point to be judged {scores.argmax()}: predicted" in told
    assert scores.argmax() != 0


def test_it_has_a_report_without_a_rate_of_success(audited: Path):
    done = call("report", "out")
    assert done.exit_code == 0, done.output
    page = read_html((audited / "report.html").read_text())
    told = page.named("summary").text
    assert "nobody told which points are attacked" in told
    points = judged_points(load_results(audited)).points
    for name in ("tail-heaviness", "confidence"):
        flags = sum(p.flag for p in points if p.detector["name"] == name)
        assert f"flags {flags} of 12 points" in told
    shown = list(page.named("points").all("div", "strip"))
    assert len(shown) == 5
    assert not list(page.named("points").all(of_class="poison"))
    assert "poison" not in shown[0].text
    assert "Poison" not in page.named("points").text
    assert "attacked" not in page.named("plots").text
    assert "Victims" not in tables_of(page)
    assert len(tables_of(page)["Points"]) == 1 + 36


def test_its_plot_shows_the_most_suspicious_point(audited: Path):
    results = load_results(audited)
    shown = chosen(results)
    assert shown is not None
    first = results.of("detect")[0].config["detector"]
    points = judged_points(results).points
    worst = next(p.point for p in points if p.detector == first)
    assert worst != 0, "otherwise this test is empty"
    [row] = shown.points
    assert shown.scene.data[names.PROBE_GROUP][row] == JUDGED
    assert row == worst, "the points that are judged come first in the probe"
    assert shown.title.startswith("audit")


def test_another_training_set_explains_nothing(
    folder: Path, audited: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    with np.load(folder / "train.npz") as file:
        np.savez("train.npz", x=file["x"], y=9 - file["y"])
    scene = str(next(audited.glob("scenes/audit-*")))
    told = call("explain", scene)
    assert told.exit_code == 2
    assert "is not the training set that was audited" in told.output


def test_there_is_no_poison_to_export(audited: Path, tmp_path: Path):
    scene = str(next(audited.glob("scenes/audit-*")))
    told = call("export", scene, "-o", str(tmp_path / "poison.h5"))
    assert told.exit_code == 2
    assert told.output.startswith("Error: ")
    assert told.output.count("Error: ") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("lr = 0.5", "rate = 0.5"), "rate: unknown key"),
        (('"half.pt", "end.pt"', ""), "checkpoints must name at least one"),
        (('"half.pt"', '"none.pt"'), "there is no file 'none.pt'"),
        (('"half.pt"', '"train.npz"'), "train.npz cannot be read"),
        (("audited_net:net", "audited_net:fails"), "width"),
        (("audited_net:net", "audited_net:nott"), "has no 'nott'"),
        (('"points.npz"', '"points.csv"'), "is no function and no file .npz"),
        (('"points.npz"', '"absent.npz"'), "absent.npz"),
        (('"points.npz"', '"lost.npz"'), "the points are not finite in row 0"),
        (('"points.npz"', '"wide.npz"'), "the points must be instances as the"),
        (('"trusted.npz"', '"wide.npz"'), "the trusted points must be instances as"),
        (('"points.npz"', '"white.npz"'), "the points have pixels from 0 to 255"),
        (("lr = 0.5", 'lr = 0.5\nloss = "huber"'), "audit: loss must be one of"),
        (("lr = 0.5", "lr = -1.0"), "audit: lr must be non-negative"),
        (("lr = 0.5", "lr = [0.5, -1.0]"), "audit: lr must be non-negative"),
        (('"points.npz"', '"text.npz"'), "text.npz is no archive of arrays"),
        (('"points.npz"', '"array.npz"'), "array.npz is no archive of arrays"),
        (('"points.npz"', '"cut.npz"'), "cut.npz"),
        (('"points.npz"', '"damaged.npz"'), "damaged.npz"),
        (('train = "train.npz"', 'train = "bare.npz"'), "bare.npz holds no array y"),
        (('train = "train.npz"', 'train = "one.npz"'), "label 10 in row"),
        (('"trusted.npz"', '"train.npz"'), "400 of 400 trusted points are rows of the"),
        (('train = "train.npz"', 'train = "points.npz"'), "the training set"),
        (("width = 12", "width = 7"), "shape"),
        (('"confidence"', '"confidance"'), "did you mean 'confidence'"),
        (("lr = 0.5", "alarm = 2.0"), "alarm must"),
        (("lr = 0.5", ""), "gas needs checkpoints with their learning rates"),
        (("lr = 0.5", "lr = 0.0"), "gas needs checkpoints with their learning rates"),
    ],
)
def test_a_mistake_costs_a_line(folder: Path, tmp_path: Path, change, message: str):
    assert change[0] in AUDIT
    file = tmp_path / "audit.toml"
    file.write_text(AUDIT.replace(*change))
    result = call("audit", str(file), "-o", str(tmp_path / "out"))
    assert result.exit_code == 2, result.output
    lines = result.output.splitlines()
    assert any(line.startswith("Error: ") and message in line for line in lines), lines
    assert not list(tmp_path.glob("out/scenes/*/*.h5"))


@pytest.mark.filterwarnings("ignore::poisonbench.errors.RunWarning")
def test_an_audit_of_pictures_outside_the_unit_interval_tells_the_way_in(
    folder: Path, tmp_path: Path
):
    for name in ("train", "points", "trusted"):
        with np.load(folder / f"{name}.npz") as file:
            arrays = dict(file)
        arrays["x"] = 2 * arrays["x"] - 1
        np.savez(folder / f"signed-{name}.npz", **arrays)
    text = AUDIT
    for name in ("train", "points", "trusted"):
        text = text.replace(f'"{name}.npz"', f'"signed-{name}.npz"')
    file = tmp_path / "audit.toml"
    file.write_text(text)
    told = call("audit", str(file), "-o", str(tmp_path / "out"))
    assert told.exit_code == 2
    fault = "Rehearsed takes images in [0, 1], and the training set has pixels from -1"
    assert f"Error: {fault}" in told.output
    assert "nn.Sequential(torchvision.transforms.Normalize" in told.output
    file.write_text(text.replace('"rehearsed", ', "").replace('"audit"', '"some"'))
    done = call("audit", str(file), "-o", str(tmp_path / "some"))
    assert done.exit_code == 0, done.output


def test_labels_from_1_are_told_before_a_model_has_a_class_too_many(
    folder: Path, tmp_path: Path
):
    file = tmp_path / "audit.toml"
    text = AUDIT.replace("audited_net:net", "mlp").replace('"train.npz"', '"one.npz"')
    file.write_text(text.replace("model_args = {width = 12}", ""))
    result = call("audit", str(file), "-o", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert "labels of the training set run from 1 to 10" in result.output
    assert "Hint: subtract 1" in result.output


@pytest.mark.parametrize(
    "options",
    [("--lr", "-1"), ("--set", "loss=huber"), ("--set", "seed=-1"), ("--alarm", "2")],
)
def test_a_value_out_of_range_gets_no_hint_of_what_is_not_missing(
    folder: Path, tmp_path: Path, options: tuple[str, str]
):
    result = call("audit", "audit.toml", *options, "-o", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert "an audit needs" not in result.output
    assert "checkpoints=[" not in result.output


def test_a_need_that_a_flag_meets_names_the_flag(folder: Path, tmp_path: Path):
    file = tmp_path / "audit.toml"
    file.write_text(AUDIT.replace("lr = 0.5", ""))
    result = call("audit", str(file), "-o", str(tmp_path / "out"))
    assert "--checkpoint FILE and --lr RATE, a constant" in result.output


def test_all_that_is_missing_is_told_at_once():
    result = call("audit", "-o", "nothing")
    assert result.exit_code == 2
    for key in ("model", "checkpoints", "train", "points", "trusted"):
        assert f"{key}: is missing" in result.output


def test_a_loss_of_ones_own_is_named_as_code_is(folder: Path, tmp_path: Path):
    (folder / "my_losses.py").write_text(
        "from torch.nn import functional as F\n\n\n"
        "def tripled(outputs, y):\n"
        '    return 3 * F.cross_entropy(outputs, y, reduction="none")\n'
    )
    words = ["audit", "audit.toml", "--detector", "tail-heaviness"]
    words += ["--set", 'estimator="tracin"']
    plain = call(*words, "-o", str(tmp_path / "plain"))
    own = call(
        *words, "--set", "loss=my_losses:tripled", "-o", str(tmp_path / "tripled")
    )
    assert plain.exit_code == own.exit_code == 0, own.output
    found = []
    for name in ("plain", "tripled"):
        [path] = (tmp_path / name).glob("scenes/*/influence-*.h5")
        found.append(torch.as_tensor(log.read(path, "influence").data["influence"]))
    torch.testing.assert_close(found[1], 9 * found[0], rtol=1e-2, atol=1e-4)
    lacking = call(*words, "--set", "loss=my_losses:halved", "-o", str(tmp_path / "no"))
    assert lacking.exit_code == 2
    assert "loss 'my_losses:halved'" in lacking.stderr
