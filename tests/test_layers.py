"""The layering: every import of our own packages, held against what each file may import."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY = {
    "poisonbench": {"poisonbench"},
    "attacks": {"attacks", "poisonbench"},
    "estimators": {"estimators", "poisonbench"},
    "defenses": {"defenses", "poisonbench"},
    "experiments": {"experiments", "attacks", "estimators", "defenses", "poisonbench"},
}
DOOR = "poisonbench/api.py"  # the one file that looks upwards, inside its functions
ROOMS = {  # folders of experiments -> the other folders that each may import
    "cli": {
        "plan",
        "scene",
        "runner",
        "evaluation",
        "report",
        "check",
        "audit",
        "cleaning",
        "tracking",
    },
    "audit": {"plan", "scene", "runner"},
    "cleaning": {"plan", "scene", "runner", "evaluation", "report"},
    "plan": set(),
    "scene": {"plan"},
    "runner": {"plan", "scene"},
    "evaluation": {"plan"},
    "report": {"plan", "evaluation"},
    "tracking": {"plan", "evaluation"},
    "check": {"plan", "evaluation"},
    "bench": {"plan", "scene", "runner", "evaluation", "report", "cli"},
    "study": {"plan", "scene", "runner", "evaluation", "report", "cli"},
    "gpu": {"plan", "scene", "runner", "evaluation", "bench", "cli"},
}
MOST_FILES = 12  # in a folder, method folders excepted
METHOD_FOLDERS = {"attacks", "defenses/detectors", "defenses/filters"}
FILES = sorted(path for package in MAY for path in (ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    """The dotted name of a module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def modules_imported(path: Path) -> Iterator[str]:
    """Dotted names of the modules that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                yield inner if inner in MODULES else module


def packages_imported(path: Path) -> set[str]:
    """Top-level packages that a file imports."""
    return {name.split(".")[0] for name in modules_imported(path)}


def check_no_circle(imports: dict[str, set[str]]) -> None:
    """Fails with the modules of a circle where there is one."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(f"imports in a circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_package_imports_only_what_lies_below_it(path: Path):
    package = path.relative_to(ROOT).parts[0]
    may = MAY[package]
    if path == ROOT / DOOR:
        may = may | {"estimators", "defenses"}
    assert packages_imported(path) & MAY.keys() <= may


def test_the_door_looks_upwards_only_inside_its_functions():
    tree = ast.parse((ROOT / DOOR).read_text(encoding="utf-8"))
    at_import = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert {str(node.module).split(".")[0] for node in at_import} & MAY.keys() == {
        "poisonbench"
    }


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_hdf5_is_read_and_written_in_one_place(path: Path):
    assert (
        "h5py" not in packages_imported(path)
        or path.parent == ROOT / "poisonbench" / "log"
    )


def test_no_files_import_each_other_in_a_circle():
    imports = {}
    for name, path in MODULES.items():
        imports[name] = {
            other for other in modules_imported(path) if other in MODULES
        } - {name}
    check_no_circle(imports)


@pytest.mark.parametrize("room", ROOMS)
def test_the_rooms_of_experiments_import_one_way(room: str):
    for path in (ROOT / "experiments" / room).rglob("*.py"):
        rooms = {
            name.split(".")[1]
            for name in modules_imported(path)
            if name.startswith("experiments.") and name.count(".") > 1
        }
        assert rooms - {room} <= ROOMS[room], path


def test_every_room_of_experiments_is_in_the_table():
    found = {path.parent.name for path in (ROOT / "experiments").glob("*/__init__.py")}
    assert found == set(ROOMS)


@pytest.mark.parametrize("folder", sorted({path.parent for path in FILES}), ids=str)
def test_a_folder_holds_few_files(folder: Path):
    files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    name = str(folder.relative_to(ROOT))
    assert name in METHOD_FOLDERS or len(files) <= MOST_FILES


def test_the_walk_sees_imports_inside_functions(tmp_path: Path):
    file = tmp_path / "x.py"
    file.write_text(
        "def f():\n    from experiments.plan.parse import parse\n    import attacks.patch\n"
    )
    assert packages_imported(file) == {"experiments", "attacks"}
    assert "experiments.plan.parse" in set(modules_imported(file))


def test_a_circle_is_found():
    with pytest.raises(pytest.fail.Exception, match=r"a -> b -> a|b -> a -> b"):
        check_no_circle({"a": {"b"}, "b": {"a"}, "c": {"a"}})
