"""What the documents name is there."""

import re
import warnings
from pathlib import Path

import click
import pytest

from experiments.cli import main

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
FAULTS = (DOCS / "reliability.md").read_text(encoding="utf-8")


def names_of_tests() -> list[tuple[str, str]]:
    """(file, test) of every test that the table of faults names; `::name` means the file before."""
    found = []
    file = ""
    for name, test in re.findall(r"`(\w+\.py)?::(\w+)`", FAULTS):
        file = name or file
        found.append((file, test))
    return found


@pytest.mark.parametrize(("file", "test"), names_of_tests())
def test_every_fault_has_the_test_that_its_row_names(file: str, test: str):
    assert f"def {test}(" in (ROOT / "tests" / file).read_text(encoding="utf-8")


def test_every_row_of_the_table_of_faults_names_a_test():
    rows = [line for line in FAULTS.splitlines() if line.startswith("| ")]
    for row in rows[1:]:
        assert "::" in row or "the same" in row, row


PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in DOCS.glob("*.md"))]


@pytest.mark.parametrize("page", sorted(PAGES))
def test_links_to_files_of_the_tree_lead_somewhere(page: str):
    path = ROOT / page
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text(encoding="utf-8"))
    for link in links:
        made = path.parent == DOCS and is_made(link)
        assert made or (path.parent / link).exists(), link


def is_made(link: str) -> bool:
    """Whether the build of the site makes that page, which it tells of if it does not."""
    return link.startswith("methods/") or link in ("command-line.md", "keys.md")


def test_no_page_of_results_calls_a_former_default_the_default():
    for path in sorted((ROOT / "experiments" / "results").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(?i)\bthe default,? `foreign-or-fragile`", text), path


SITE = "https://poisonbench.github.io/poisonbench/"
TREE = re.compile(
    r"https://(?:github|raw\.githubusercontent)\.com/poisonbench/poisonbench/"
    r"(?:(?:blob|tree)/)?main/(.+)"
)


def heads(text: str) -> set[str]:
    """The anchors of a page's headings."""
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def test_the_links_of_the_readme_are_absolute_and_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    defined = dict(re.findall(r"^\[([^\]]+)\]: (\S+)$", text, flags=re.MULTILINE))
    links = [*re.findall(r"\]\(([^)\s]+)\)", text), *defined.values()]
    assert len(links) > 20
    for link in links:
        found = TREE.fullmatch(link)
        if found:
            assert (ROOT / found[1]).exists(), link
            continue
        assert link.startswith(SITE), link
        page, _, anchor = link.removeprefix(SITE).partition("#")
        file = DOCS / f"{page.strip('/') or 'index'}.md"
        made = is_made(page) or is_made(file.name)
        assert made or file.exists(), link
        assert not anchor or anchor in heads(file.read_text(encoding="utf-8")), link
    labels = {label.lower() for label in defined}
    used = re.findall(r"(?<!!)\[([^\]\[`]+)\](?![(:])", text)
    assert labels == {" ".join(label.lower().split()) for label in used}


def test_the_readme_is_shown_by_a_package_index():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        markdown = pytest.importorskip("readme_renderer.markdown")
    shown = markdown.render((ROOT / "README.md").read_text(encoding="utf-8"))
    assert shown
    assert "<table>" in shown
    assert f'href="{SITE}quickstart/"' in shown


def called(page: str) -> list[list[str]]:
    """The words of every line of code of a page that calls poisonbench with arguments."""
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^```.*?^```$", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line.partition(" #")[0] for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`(poisonbench [a-z]+ [^`|]+)`", text)
    words = [re.split(r"[\s=]+", line) for line in lines]
    return [line[1:] for line in words if line[0].endswith("poisonbench")]


@pytest.mark.parametrize("page", sorted(PAGES))
def test_the_commands_that_a_page_shows_exist_with_their_options(page: str):
    for name, *words in called(page):
        command = main.commands[name]
        with click.Context(command) as context:
            parameters = command.get_params(context)
        known = {option for parameter in parameters for option in parameter.opts}
        for word in words:
            assert word in known or not re.match("--?[a-z]", word), (name, word)
