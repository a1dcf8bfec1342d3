"""Links of a page to files of the tree, as links to pages of the site or to the repository."""

import posixpath
import re
from collections.abc import Collection
from pathlib import Path

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://github.com/poisonbench/poisonbench"
LINK = re.compile(r"(\]\()([^)#\s]+)(#[^)\s]*)?(\))")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
PAGES = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "docs/own-model.ipynb": "notebook.md",
    "experiments/results": "results/index.md",
}


def page_of(path: str) -> str:
    """The page, by its path below docs, that shows a file of the tree."""
    if path in PAGES:
        return PAGES[path]
    if path.startswith("experiments/results/"):
        return path.removeprefix("experiments/")
    return path.removeprefix("docs/")


def repository_link(path: str) -> str:
    """The address of a file or folder of the tree."""
    kind = "tree" if (ROOT / path).is_dir() else "blob"
    return f"{REPOSITORY}/{kind}/main/{path}"


def relinked(text: str, source: str, page: str, pages: Collection[str]) -> str:
    """A page with its relative links changed, code blocks excepted.

    Args:
        text: the page in Markdown.
        source: the file of the tree to which its links are relative.
        page: its path below docs.
        pages: of the site. A link to a page or file that is neither there nor in the tree is left
            as it is, and the strict build fails.
    """

    def changed(match: re.Match[str]) -> str:
        target = match[2]
        if ":" in target:
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        shown = page_of(path)
        if shown in pages:
            target = posixpath.relpath(shown, posixpath.dirname(page) or ".")
        elif (ROOT / path).exists():
            target = repository_link(path)
        return f"{match[1]}{target}{match[3] or ''}{match[4]}"

    parts = []
    end = 0
    for fence in FENCE.finditer(text):
        parts.append(LINK.sub(changed, text[end : fence.start()]))
        parts.append(fence[0])
        end = fence.end()
    parts.append(LINK.sub(changed, text[end:]))
    return "".join(parts)
