"""Structure of the pictures: panels, curves, frames. What is drawn must be what the logs say."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from held_matrix import Held
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from scipy.integrate import trapezoid
from test_evaluate import sample, scene_config, write_detect, write_scene

from experiments.evaluation.evaluations import rows_of
from experiments.evaluation.load import load_results
from experiments.evaluation.means import aggregate
from experiments.evaluation.rows import Row
from experiments.report.explanation.instances import Instances
from experiments.report.pictures.influence_block import GREY, ROLES, choose_points
from experiments.report.pictures.influence_picture import (
    explanation_figure,
    influence_figure,
    influence_panel,
)
from experiments.report.pictures.look import COLOURS, plain, save
from experiments.report.plots.roc import GRID, mean_roc, roc_figure
from poisonbench.errors import ConfigError
from poisonbench.log import Record


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two attacks that work in both seeds, and one that never does."""
    for seed in (0, 1):
        for name, won in (("patch", True), ("blend", True), ("clean", False)):
            place = write_scene(
                tmp_path, scene_config({"name": name}, seed), won=[won] * 4
            )
            write_detect(place, [9, 8, 2, 1, *range(11)], k=3)
            write_detect(place, [5, 5, 5, 0, *range(11)], k=9)
    return tmp_path


def rows(folder: Path) -> list[Row]:
    return aggregate(rows_of(load_results(folder), "detect"))


def panels(figure: Figure) -> list[str]:
    return [ax.get_title(loc="left") for ax in figure.axes]


def test_the_mean_curve_is_the_vertical_average_and_runs_from_chance_to_one() -> None:
    perfect, wrong = sample([2, 2], [1, 1]), sample([1, 1], [2, 2])
    curve = mean_roc([perfect, wrong])
    assert curve[0] == 0.5
    assert (curve[(GRID > 0) & (GRID < 1)] == 0.5).all()
    assert curve[-1] == 1.0
    assert np.array_equal(
        mean_roc([perfect, sample([1, 1], [1, 1])]), mean_roc([perfect])
    )  # no curve, no part of the mean


def test_the_area_under_a_drawn_curve_is_the_auroc() -> None:
    rng = np.random.default_rng(0)
    s = sample(rng.normal(1, 1, 300), rng.normal(0, 1, 300))
    wins = (s.positive[:, None] > s.negative).mean()
    assert trapezoid(mean_roc([s]), GRID) == pytest.approx(wins, abs=0.01)


def curves_of(ax) -> list:
    """The curves of a panel, without the line of chance."""
    return ax.lines[1:]


def test_a_panel_for_each_attack_with_a_curve_and_one_look_for_each_method(
    run: Path,
) -> None:
    figure = roc_figure(rows(run))
    assert sorted(panels(figure)) == ["blend", "patch"]
    drawn = [
        sorted((line.get_color(), line.get_linestyle()) for line in curves_of(ax))
        for ax in figure.axes
    ]
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 2
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == [
        "tail-heaviness k=3 · tracin",
        "tail-heaviness k=9 · tracin",
        "chance; shaded: worse",
    ]


def test_colour_tells_the_detector_and_the_line_the_estimator(tmp_path: Path) -> None:
    place = write_scene(tmp_path, scene_config({"name": "patch"}))
    for estimator in ("gas", "tracin"):
        for k in (1, 2):
            write_detect(place, np.roll(range(15), k), estimator=estimator, k=k)
    figure = roc_figure(rows(tmp_path))
    [ax] = figure.axes
    looks = [(line.get_color(), line.get_linestyle()) for line in curves_of(ax)]
    assert len(set(looks)) == 4
    assert len({colour for colour, _ in looks}) == 2
    assert len({style for _, style in looks}) == 2
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend[:4] == [
        "tail-heaviness k=1",
        "tail-heaviness k=2",
        "influence by gas",
        "influence by tracin",
    ]


def test_chance_is_a_straight_line_and_a_worse_detector_lies_below_it(
    tmp_path: Path,
) -> None:
    place = write_scene(tmp_path, scene_config({"name": "patch"}))
    write_detect(place, [0, 0, 0, 0, *range(1, 12)])
    [ax] = roc_figure(rows(tmp_path)).axes
    chance, curve = ax.lines
    assert ax.get_xscale() == ax.get_yscale() == "linear"
    assert chance.get_xydata().tolist() == [[0, 0], [1, 1]]
    x, y = curve.get_xydata()[1:-1].T
    assert (y <= x).all()


def test_the_legend_of_a_panel_gives_the_mean_auroc_in_descending_order(
    run: Path,
) -> None:
    figure = roc_figure(rows(run))
    shown = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    attack = figure.axes[0].get_title(loc="left")
    values = [
        row.metrics["auroc"].value
        for row in rows(run)
        if row.settings["attack"]["name"] == attack
    ]
    assert [text.split()[0] for text in shown] == [
        f"{value:.3f}" for value in sorted(values, reverse=True)
    ]


def many(folder: Path, attacks: int, methods: int) -> list[Row]:
    for i in range(attacks):
        place = write_scene(folder, scene_config({"name": f"attack {i}"}))
        for k in range(methods):
            write_detect(place, np.roll([9, 8, 2, 1, *range(11)], k * (i + 1)), k=k)
    return rows(folder)


@pytest.mark.parametrize(
    ("attacks", "columns"), [(1, 1), (2, 2), (3, 3), (4, 2), (5, 3), (6, 3)]
)
def test_panels_fill_their_lines(tmp_path: Path, attacks: int, columns: int) -> None:
    figure = roc_figure(many(tmp_path, attacks, 2))
    assert len(figure.axes) == attacks
    assert figure.axes[0].get_gridspec().ncols == columns


@pytest.mark.parametrize("attacks", [1, 2, 4])
def test_no_legend_lies_over_a_panel(tmp_path: Path, attacks: int) -> None:
    figure = roc_figure(many(tmp_path, attacks, 6))
    figure.draw_without_rendering()
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes)]
    boxes = [legend.get_window_extent() for legend in legends]
    areas = [ax.get_window_extent() for ax in figure.axes]
    assert not any(box.overlaps(area) for box in boxes for area in areas)
    assert all(figure.bbox.count_contains([box.p0, box.p1]) == 2 for box in boxes)


def test_looks_follow_the_names_of_the_methods_not_their_auroc(tmp_path: Path) -> None:
    figure = roc_figure(many(tmp_path, 2, 10), limit=8)
    legend = figure.legends[0]
    shown = [text.get_text() for text in legend.get_texts()][:-1]
    numbers = [int(name.split("k=")[1].split()[0]) for name in shown]
    assert numbers == sorted(numbers)
    colours = [line.get_color() for line in legend.get_lines()][:-1]
    assert colours == list(COLOURS)


def test_more_methods_than_lines_leave_those_of_the_middle_out_and_count_them(
    tmp_path: Path,
) -> None:
    place = write_scene(tmp_path, scene_config({"name": "patch"}))
    for k in range(6):
        # k of the four attacked points score below all controls
        attacked = [9, 9, 9, 9] if k == 5 else [0] * k + [9] * (4 - k)
        write_detect(place, [*attacked, *range(1, 7), *range(5)], k=k)
    figure = roc_figure(rows(tmp_path), limit=4)
    [ax] = figure.axes
    shown = [text.get_text().split()[0] for text in ax.get_legend().get_texts()]
    assert shown == ["1.000", "1.000", "0.250", "0.000"]
    assert figure.legends[0].get_title().get_text().startswith("2 of 6 methods")


def test_without_a_curve_the_picture_says_so() -> None:
    figure = roc_figure([])
    assert figure.axes == []
    assert "no attack" in figure.texts[0].get_text()


@pytest.mark.parametrize(
    ("suffix", "head"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")]
)
def test_the_suffix_decides_the_format(
    run: Path, tmp_path: Path, suffix: str, head: bytes
) -> None:
    path = save(roc_figure(rows(run)), tmp_path / "deep" / f"roc{suffix}")
    assert path.read_bytes().startswith(head)


def records(
    channels: int = 1, won: bool = True, kind: str = "image"
) -> tuple[Record, Held, Instances]:
    """12 training rows, row 0 the most influential; 1, 2, 5 poison, 3 cover.

    Probe: attacked, two controls, calibration.
    """
    rng = np.random.default_rng(0)
    role = np.zeros(12, np.uint8)
    role[[1, 2, 5]], role[3] = 1, 2
    data = {
        "probe/group": np.array([0, 2, 1, 3], np.uint8),
        "probe/predicted": np.array([8 if won else 7, 8, 8, 8]),
    }
    data |= {
        "probe/wanted": np.array([8, -1, -1, -1]),
        "probe/y": np.array([1, 8, 8, 8]),
    }
    data |= {
        "probe/x": rng.random((4, channels, 8, 8)).astype(np.float32),
        "poison/role": role,
    }
    values = np.tile(np.linspace(1, -1, 12, dtype=np.float32), (4, 1))
    images = rng.random((12, channels, 8, 8)).astype(np.float32)
    train = Instances(images, np.arange(12) % 10, kind)
    return (
        Record(Path("s"), "scene", {}, data, {}),
        Held(Path("i"), {"name": "gas"}, values),
        train,
    )


def test_the_points_are_a_successful_attack_and_the_control_most_like_it() -> None:
    scene, _, _ = records()
    assert choose_points(scene) == [
        0,
        2,
    ]  # 2 is matched, 1 is not, 3 is for calibration
    assert choose_points(records(won=False)[0]) == [2]
    scene.data["probe/predicted"][2] = (
        5  # wrong now, so no example of a right prediction
    )
    assert choose_points(scene) == [0, 1]


def test_only_poison_is_framed_red_and_marked_and_only_cover_orange() -> None:
    scene, influence, train = records()
    figure = influence_figure(scene, influence, train, top=6)
    for part in figure.subfigs:
        axes = [ax for ax in part.axes if ax.images]
        assert len(axes) == 1 + 6
        frames = [to_hex(ax.spines["left"].get_edgecolor()).upper() for ax in axes[1:]]
        red, orange = (ROLES[role][1].upper() for role in (1, 2))
        assert frames == [GREY, red, red, orange, GREY, red]
        assert [ax.get_title() for ax in axes[1:]] == [
            "",
            "POISON",
            "POISON",
            "COVER",
            "",
            "POISON",
        ]


def test_the_images_are_the_most_influential_in_descending_order_with_label_and_value() -> (
    None
):
    scene, influence, train = records()
    influence.values[0] = influence.values[0][::-1]
    axes = [
        ax
        for ax in influence_figure(scene, influence, train, top=3).subfigs[0].axes
        if ax.images
    ]
    assert axes[0].get_xlabel() == "true 1\npredicted 8"
    assert [ax.get_xlabel() for ax in axes[1:]] == [
        "label 1\n+1",
        "label 0\n+0.818",
        "label 9\n+0.636",
    ]
    assert np.allclose(axes[1].images[0].get_array(), train.x[11, 0])


def test_non_finite_influence_is_left_out_and_counted() -> None:
    scene, influence, train = records()
    influence.values[0, :4] = np.nan
    part = influence_figure(scene, influence, train, top=10).subfigs[0]
    assert len([ax for ax in part.axes if ax.images]) == 1 + 8
    assert "1 of the 8 training images that helped most" in part.get_suptitle()
    assert "4 non-finite values left out" in part.get_suptitle()


def test_an_explanation_shows_each_estimator_and_what_worked_against_it() -> None:
    scene, influence, train = records()
    other = replace(influence, config={"name": "tracin"})
    figure = explanation_figure(scene, [influence, other], train, 0, 3)
    titles = [part.get_suptitle() for part in figure.subfigs]
    want = [
        f"of the 3 training images that {what} ({name}) are poison"
        for name in (influence.estimator, "tracin")
        for what in ("helped most", "worked against it most")
    ]
    assert [title.partition(": ")[2][2:] for title in titles] == want
    lowest = influence.values[0].argmin()
    against = [ax for ax in figure.subfigs[1].axes if ax.images]
    assert np.allclose(against[1].images[0].get_array(), train.x[lowest, 0])


@pytest.mark.parametrize("channels", [1, 3])
def test_panels_of_grey_and_colour_images_are_saved_without_a_warning(
    tmp_path: Path, channels: int
) -> None:
    path = influence_panel(*records(channels), tmp_path / "panel.png", top=10)
    assert path.stat().st_size > 1000


def test_without_a_point_to_show_the_picture_says_so(tmp_path: Path) -> None:
    scene, influence, train = records(won=False)
    scene.data["probe/group"][:] = 3
    figure = influence_figure(scene, influence, train)
    assert figure.axes == []
    assert save(figure, tmp_path / "x.png").exists()


def test_sounds_stand_with_their_low_frequencies_below() -> None:
    scene, influence, train = records(kind="spectrogram")
    part = influence_figure(scene, influence, train, top=3).subfigs[0]
    drawn = [ax.images[0] for ax in part.axes if ax.images]
    assert [image.origin for image in drawn] == ["lower"] * 4
    assert "training sounds" in part.get_suptitle()
    pictures = influence_figure(*records(), top=3).subfigs[0]
    assert {ax.images[0].origin for ax in pictures.axes if ax.images} == {"upper"}


def test_only_the_points_that_are_named_are_drawn() -> None:
    scene, influence, train = records()
    assert len(influence_figure(scene, influence, train, points=[1]).subfigs) == 1


def written(kind: str) -> tuple[Record, Held, Instances]:
    """The same with instances that are written: 12 rows of two words or features each."""
    scene, influence, train = records()
    x = np.stack([np.arange(12), np.full(12, 2)], 1)
    words = tuple(f"w{index}" for index in range(12)) if kind == "tokens" else ()
    columns = () if words else ("age", "sex=Male")
    scene.data["probe/x"] = x[:4]
    return scene, influence, Instances(x, train.y, kind, words, columns)


@pytest.mark.parametrize(
    ("kind", "shown"), [("tokens", "w5 w2"), ("vector", "age 5, sex=Male 2")]
)
def test_sentences_and_vectors_are_written_and_only_poison_is_red_and_marked(
    kind: str, shown: str, tmp_path: Path
) -> None:
    scene, influence, train = written(kind)
    figure = influence_figure(scene, influence, train, top=6, points=[0])
    texts = [text for text in figure.texts if text.get_text()]
    red = {
        to_hex(text.get_color()).upper()
        for text in texts
        if text.get_text() == "POISON"
    }
    assert red == {ROLES[1][1]}
    assert sum(text.get_text() == "POISON" for text in texts) == 3
    [row] = [text for text in texts if text.get_text() == shown]
    assert to_hex(row.get_color()).upper() == ROLES[1][1]
    first = texts[0].get_text()
    assert first.startswith("Attacked test point: 3 of the 6 training")
    assert save(figure, tmp_path / "x.png").exists()


def test_a_long_sentence_is_cut_with_a_mark_and_holds_no_formula() -> None:
    scene, influence, _ = records()
    words = ("<pad>", "<unknown>", "a$b$c" * 20)
    x = np.full((12, 5), 2)
    scene.data["probe/x"] = x[:4]
    train = Instances(x, np.zeros(12, int), "tokens", words)
    figure = influence_figure(scene, influence, train, top=1, points=[0])
    texts = [text.get_text() for text in figure.texts if "$" in text.get_text()]
    assert len(texts) == 6, "three lines of the point, three of its training sentence"
    assert [text.endswith(" …") for text in texts] == [False, False, True] * 2
    assert not any("$" in text.replace(r"\$", "") for text in texts)


def test_another_suffix_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ends in \.png, \.pdf, \.svg, got 'a.gif'"):
        save(Figure(), tmp_path / "a.gif")


def test_a_name_is_shown_as_it_is_and_hides_from_no_legend() -> None:
    assert plain("cost $x$\n") == r"cost \$x\$ "
    assert plain("_hidden") == " _hidden"


def test_a_picture_that_cannot_be_written_is_one_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        save(Figure(), tmp_path / "file" / "a.png")


@pytest.mark.parametrize("top", [1, 2, 10])
def test_the_title_of_a_strip_of_images_is_not_cut(top: int):
    figure = influence_figure(*records(1), top)
    figure.draw_without_rendering()
    for part in figure.subfigs:
        title = part.get_suptitle()
        [text] = [t for t in part.texts if t.get_text() == title]
        assert text.get_window_extent().x1 <= figure.bbox.x1
