"""The documentation: figures are on the pages that they name, and every method has its notes."""

import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from attacks import ATTACKS
from defenses import CERTIFIERS, DETECTORS, FILTERS, MITIGATIONS
from estimators import ESTIMATORS
from experiments.plan.measures.groups import GROUPS
from experiments.plan.measures.memorisation import MEMORISATIONS
from experiments.plan.measures.truth import TRUTHS

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "experiments" / "results"
CONFIG = ROOT / "docs" / "generator" / "mkdocs.yml"
NOTES = tomllib.loads((ROOT / "docs/generator/notes.toml").read_text(encoding="utf-8"))
UNMEASURED = NOTES.pop("unmeasured")
TABLES = {
    "attacks": ATTACKS,
    "estimators": ESTIMATORS,
    "detectors": DETECTORS,
    "filters": FILTERS,
    "mitigations": MITIGATIONS,
    "certifiers": CERTIFIERS,
    "groups": GROUPS,
    "memorisations": MEMORISATIONS,
    "truths": TRUTHS,
}
NUMBER = re.compile(r"(?<![\w.])\d*\.?\d+(?![\w.]*\d)")
PAGES = ["concepts.md", "traps.md"]  # that cite results in running text


def figures(text: str) -> set[str]:
    """The numbers in a text, without the zero before the point."""
    plain = re.sub(r"`[^`]*`|\]\([^)]*\)|(?<=\d),(?=\d{3})", "", text)
    return {number.removeprefix("0") or "0" for number in NUMBER.findall(plain)}


def on_page(page: str) -> set[str]:
    """The numbers of a page of results."""
    text = (RESULTS / f"{page}.md").read_text(encoding="utf-8")
    return figures(re.sub(r"`([^`]*)`", r"\1", text).replace("=", " "))


def each_note() -> list[tuple[str, str, str, str]]:
    """(kind, method, page, text) of every note."""
    found = []
    for kind, methods in NOTES.items():
        for name, notes in methods.items():
            found += [(kind, name, note["page"], note["text"]) for note in notes]
    return found


@pytest.mark.parametrize("kind", TABLES)
def test_every_method_says_where_it_works_or_that_no_page_has_it(kind: str):
    noted = set(NOTES.get(kind, {}))
    silent = set(UNMEASURED[kind])
    assert not noted & silent
    assert noted | silent == set(TABLES[kind])


@pytest.mark.parametrize(("kind", "name", "page", "text"), each_note())
def test_the_figures_of_a_note_are_on_its_page(
    kind: str, name: str, page: str, text: str
):
    assert figures(text) <= on_page(page)


def paragraphs(page: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return [part for part in text.split("\n\n") if "experiments/results/" in part]


@pytest.mark.parametrize("page", PAGES)
def test_the_figures_of_a_paragraph_are_on_the_pages_that_it_links(page: str):
    assert paragraphs(page)
    for text in paragraphs(page):
        linked = re.findall(r"experiments/results/([\w-]+)\.md", text)
        known = set().union(*(on_page(name) for name in linked))
        exact = {figure for figure in figures(text) if "." in figure}
        assert exact <= known, text


def test_figures_are_read():
    assert figures("AUROC .180, 0.5 and 1,297 rows; `k = 3` of [page](a/b-7.md)") == {
        ".180",
        ".5",
        "1297",
    }
    assert figures("2.62 or 12.") == {"2.62", "12"}


def test_the_site_is_built_strictly(tmp_path: Path):
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "-f",
            str(CONFIG),
            "-d",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for kind, table in TABLES.items():
        for name in table:
            page = tmp_path / "methods" / kind / name / "index.html"
            assert "Where it works" in page.read_text(encoding="utf-8")
    addresses = re.compile(
        r'(?:src|href)="(https?://[^"]+\.(?:js|css|woff2?|png|svg))"'
    )
    start = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert not addresses.findall(start)  # a reader's browser fetches nothing elsewhere


def test_the_example_of_every_method_is_one(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("griffe")  # the module of the pages escapes docstrings with it
    monkeypatch.syspath_prepend(CONFIG.parent)
    pages = importlib.import_module("method_pages")
    for method in pages.methods():
        if "required" in pages.fields_table(method):
            continue
        example = (
            pages.grid_example(method).removeprefix("```toml\n").removesuffix("```")
        )
        [settings] = tomllib.loads(example)[method.part]
        cls = TABLES[method.folder][settings.pop("name")]
        given = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
        assert cls(**given) == cls()


def test_every_page_of_results_has_one_place_on_the_site():
    places = tomllib.loads((CONFIG.parent / "results.toml").read_text(encoding="utf-8"))
    placed = [page for section in places["section"] for page in section["pages"]]
    assert sorted(placed) == sorted(path.stem for path in RESULTS.glob("*.md"))
