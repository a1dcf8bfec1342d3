"""How plain the code is: one thing a line, short functions, short files, held against limits."""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("poisonbench", "attacks", "defenses", "estimators", "experiments")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MOST_NODES_PER_LINE = 9.0
MOST_TUPLE_ASSIGNMENTS = 5  # per thousand code lines
MOST_CONDITIONAL_EXPRESSIONS = 15  # per thousand code lines
MOST_COLUMNS = 100
LONGEST_FUNCTION = 60
LONGEST_FILE = 220
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def docstring_lines(node: ast.AST) -> int:
    """Lines of a node's docstring, 0 without one."""
    if not isinstance(node, DOCUMENTED) or ast.get_docstring(node) is None:
        return 0
    first = node.body[0]
    assert first.end_lineno is not None
    return first.end_lineno - first.lineno + 1


def count(text: str) -> Counter[str]:
    """Counts code lines, syntax nodes, tuple assignments and conditional expressions of a file."""
    counts: Counter[str] = Counter()
    lines = [line.strip() for line in text.splitlines()]
    counts["lines"] = sum(bool(line) and not line.startswith("#") for line in lines)
    for node in ast.walk(ast.parse(text)):
        counts["nodes"] += 1
        counts["lines"] -= docstring_lines(node)
        counts["conditional expressions"] += isinstance(node, ast.IfExp)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
            counts["tuple assignments"] += any(
                isinstance(t, ast.Tuple) for t in node.targets
            )
    return counts


def total() -> Counter[str]:
    """The counts of the whole tree."""
    counts: Counter[str] = Counter()
    for path in FILES:
        counts += count(path.read_text(encoding="utf-8"))
    return counts


def test_a_line_does_one_thing():
    counts = total()
    thousand = counts["lines"] / 1000
    assert counts["nodes"] / counts["lines"] <= MOST_NODES_PER_LINE
    assert counts["tuple assignments"] / thousand <= MOST_TUPLE_ASSIGNMENTS
    assert counts["conditional expressions"] / thousand <= MOST_CONDITIONAL_EXPRESSIONS


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_functions_and_lines_are_short(path: Path):
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    assert len(lines) <= LONGEST_FILE
    assert max(map(len, lines), default=0) <= MOST_COLUMNS
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = [
                part
                for part in node.body
                if docstring_lines(node) == 0 or part is not node.body[0]
            ]
            if body:
                assert (body[-1].end_lineno or 0) - body[0].lineno < LONGEST_FUNCTION, (
                    node.name
                )


def test_the_count_is_right():
    counts = count(
        '"""Two\nlines."""\n\n# a comment\na, b = 1, 2\nc = a if b else 3\nd, e = c\n'
    )
    assert counts["lines"] == 3
    assert counts["tuple assignments"] == 1
    assert counts["conditional expressions"] == 1
