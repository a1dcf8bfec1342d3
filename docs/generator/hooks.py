"""What the build of the documentation makes of the tree: pages, navigation, links."""

import re
from functools import cache
from typing import Any

from command_pages import commands_page
from key_pages import keys_page
from method_pages import method_pages, methods_index, titled
from method_source import PARTS
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from notebook_page import notebook_page
from result_pages import RESULTS, results_index, results_navigation
from tree_links import ROOT, relinked

INTERVAL = re.compile(
    r" (\\?\[[-+.\d]+), ([-+.\d]+\\?\])"
)  # [.09, .20], [0.091, 0.204]
COPIED = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}


@cache
def made_pages() -> dict[str, tuple[str, str]]:
    """Path of every page that is made -> its text, and the file whose links it has."""
    pages = {
        "notebook.md": (notebook_page(), "docs/notebook.md"),
        "command-line.md": (commands_page(), "docs/command-line.md"),
        "keys.md": (keys_page(), "docs/keys.md"),
        "results/index.md": (results_index(), "experiments/results/index.md"),
        "methods/index.md": (methods_index(), "docs/methods/index.md"),
    }
    for path, text in method_pages().items():
        pages[path] = (text, f"docs/{path}")
    for result in RESULTS.glob("*.md"):
        text = result.read_text(encoding="utf-8")
        pages[f"results/{result.name}"] = (text, f"experiments/results/{result.name}")
    for path, source in COPIED.items():
        pages[path] = ((ROOT / source).read_text(encoding="utf-8"), source)
    return pages


def methods_navigation() -> list[Any]:
    """The pages of the methods, a section a kind."""
    entries: list[Any] = ["methods/index.md"]
    for part in PARTS:
        title, _ = titled(part)
        start = f"methods/{part}s/"
        own = sorted(path for path in made_pages() if path.startswith(start))
        own.remove(f"{start}index.md")
        entries.append({title: [f"{start}index.md", *own]})
    return entries


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fills the parts of the navigation that name a folder."""
    made_pages.cache_clear()
    fill = {"methods/": methods_navigation, "results/": results_navigation}
    navigation = []
    for entry in config.nav or []:
        [(title, value)] = entry.items()
        if isinstance(value, str) and value in fill:
            navigation.append({title: fill[value]()})
        else:
            navigation.append(entry)
    config.nav = navigation
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made."""
    for path, (text, _) in made_pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(
    markdown: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Makes links to files of the tree links to pages, or to the repository."""
    path = page.file.src_uri
    _, source = made_pages().get(path, ("", f"docs/{path}"))
    if path == "index.md":
        page.meta["hide"] = ["navigation"]
    if path.startswith("results/"):
        page.meta["hide"] = ["toc"]  # room for wide tables
        markdown = INTERVAL.sub(r"&nbsp;\1,&nbsp;\2", markdown)
    return relinked(markdown, source, path, files.src_uris)
