"""The layering: every import of our own packages, held against what each may import."""

import ast
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
FILES = sorted(path for package in MAY for path in (ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Top-level packages that a file imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_package_imports_only_what_lies_below_it(path: Path):
    package = path.relative_to(ROOT).parts[0]
    assert imported(path) & MAY.keys() <= MAY[package]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_hdf5_is_read_and_written_in_one_place(path: Path):
    assert "h5py" not in imported(path) or path.parent == ROOT / "poisonbench" / "log"


def test_the_walk_sees_imports_inside_functions(tmp_path: Path):
    file = tmp_path / "x.py"
    file.write_text("def f():\n    from experiments.grid import parse\n    import attacks.patch\n")
    assert imported(file) == {"experiments", "attacks"}
