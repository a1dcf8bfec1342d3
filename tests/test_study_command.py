"""Studies as a person meets them: bad input gets a line, results of other options are refused."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from experiments.bench.__main__ import main as benchmarks
from experiments.cli import main as product
from experiments.cli.errors import Told
from experiments.gpu.__main__ import main as check
from experiments.study.__main__ import main
from experiments.study.runs import kept
from poisonbench.errors import ConfigError


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize("command", [main, benchmarks, check], ids=lambda c: str(c))
def test_errors_are_told_in_a_line(command: click.Command):
    assert isinstance(command, Told)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["copies", "--estimator", "oracle"], "no estimator 'oracle' in this study"),
        (["long-tail", "--estimator", "oracle"], "no estimator 'oracle' in this study"),
        (["copies", "--model", "oracle"], "unknown model 'oracle'"),
        (["copies", "--dataset", "oracle"], "unknown dataset 'oracle'"),
        (["copies", "--copies", "0"], "0 is not in the range"),
        (["certified", "--removed", "0"], "0 is not in the range"),
        (["certified", "--parts", "0"], "0 is not in the range"),
        (["long-tail", "--runs", "0"], "0 is not in the range"),
        (["long-tail", "--dataset", "digits"], "2000 rows cannot be drawn from 1297"),
        (["cost", "--only", "oracle"], "no estimator has oracle"),
    ],
)
def test_bad_input_is_told_before_any_work(arguments: list[str], told: str):
    result = call(*arguments)
    assert result.exit_code == 2
    assert told in result.output
    assert "Traceback" not in result.output


def options_of(command: click.Command, name: str) -> list[click.Parameter]:
    """Returns the options of that name of a command and all below it."""
    if isinstance(command, click.Group):
        found = [options_of(one, name) for one in command.commands.values()]
        return [option for some in found for option in some]
    return [option for option in command.params if name in option.opts]


@pytest.mark.parametrize(
    ("command", "least"), [(product, 2), (main, 2), (benchmarks, 1)], ids=str
)
def test_every_command_with_workers_takes_none_and_refuses_fewer(
    command: click.Command, least: int
):
    options = options_of(command, "--workers")
    assert len(options) >= least
    for option in options:
        assert option.type.convert("0", option, None) == 0
        with pytest.raises(click.BadParameter, match="range"):
            option.type.convert("-1", option, None)


@pytest.mark.parametrize(
    ("command", "least"), [(product, 1), (main, 6), (benchmarks, 1)], ids=str
)
@pytest.mark.parametrize("name", ["--figure", "--pictures"])
def test_a_picture_of_no_known_format_is_refused_before_any_work(
    command: click.Command, least: int, name: str
):
    options = options_of(command, name)
    assert len(options) >= least or name == "--pictures"
    for option in options:
        assert option.type.convert("a.svg", option, None) == Path("a.svg")
        with pytest.raises(ConfigError, match="a picture ends in"):
            option.type.convert("a.gif", option, None)


def test_a_figure_of_no_known_format_is_told():
    page = "experiments/results/truth.md"
    result = call("truth-figure", page, "--scene", "digits mlp", "-o", "a.gif")
    assert result.exit_code == 2
    assert "a picture ends in .png, .pdf, .svg" in result.output


def test_a_grid_of_another_attack_is_no_study_of_random_labels(tmp_path: Path):
    result = call("random-labels", "experiments/grids/demo.toml", "-o", str(tmp_path))
    assert result.exit_code == 2
    assert "patch: the study is of random labels" in result.output
    assert not list(tmp_path.iterdir())


class Number:
    """A result: a number."""

    def __init__(self, value: int) -> None:
        self.value = value

    @classmethod
    def read(cls, path: Path) -> "Number":
        return cls(json.loads(path.read_text()))

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.value))


@click.command(cls=Told)
@click.option("--value", type=int)
@click.option("--numbers", type=click.Path(path_type=Path))
@click.option("--figure")
def study(value: int, numbers: Path | None, figure: str | None) -> None:
    click.echo(kept(numbers, Number, lambda: Number(value)).value)


def test_what_is_kept_is_read_for_the_same_options_and_refused_for_others(
    tmp_path: Path,
):
    path = tmp_path / "numbers.json"
    keep = ["--numbers", str(path)]
    first = CliRunner().invoke(study, ["--value", "3", *keep])
    path.write_text("4")
    again = CliRunner().invoke(study, ["--value", "3", "--figure", "a.png", *keep])
    assert (first.output, again.output) == ("3\n", "4\n")
    other = CliRunner().invoke(study, ["--value", "5", *keep])
    assert other.exit_code == 2
    assert "was made with other options: value = 3" in other.output
    (tmp_path / "numbers.json.options.json").unlink()
    unknown = CliRunner().invoke(study, ["--value", "3", *keep])
    assert "it is not known with which options" in unknown.stderr
    assert unknown.stdout == "4\n"
    assert CliRunner().invoke(study, ["--value", "6"]).output == "6\n"


MAY_BE_NONE = {"seed", "kills", "parents", "full", "workers"}


@pytest.mark.parametrize("group", [main, benchmarks], ids=["study", "bench"])
def test_counts_are_whole_numbers_from_one(group: click.Group):
    counts = {}
    for name, command in group.commands.items():
        for option in command.params:
            default = option.default
            counted = isinstance(default, int) and not isinstance(default, bool)
            if counted and option.name not in MAY_BE_NONE:
                counts[f"{name} {option.name}"] = getattr(option.type, "min", None)
    assert len(counts) > 20
    assert not [
        option for option, least in counts.items() if least is None or least < 1
    ]


def test_a_measurement_that_is_not_there_is_told(tmp_path: Path):
    told = ["bench", "tests", "--only", "nonsense", "--device", "cpu"]
    result = CliRunner().invoke(check, [*told, "-o", str(tmp_path / "new")])
    assert result.exit_code == 2
    assert "begins with 'nonsense' (there are: gas, resnet9, tf32; " in result.output
    assert not (tmp_path / "new").exists()


def test_a_folder_without_a_large_run_is_told(tmp_path: Path):
    result = CliRunner().invoke(benchmarks, ["large", "--folder", str(tmp_path)])
    assert result.exit_code == 2
    assert "must hold one influence matrix, got 0" in result.output
    assert "name a new folder" in result.output
