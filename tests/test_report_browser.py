"""The report in a browser: it asks the network for nothing, sorts, filters, and runs no one's code.

Skips without a Chromium and playwright (extra `browser`).
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from test_evaluate import (
    scene_config,
    write_detect,
    write_failure,
    write_influence,
    write_scene,
)

from experiments.cli import main

playwright = pytest.importorskip("playwright.sync_api")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
HOSTILE = (
    '<img src="http://x.example/a.png" onerror="window.ran = 1">'
    "<script>window.ran = 1</script>"
)
SERIOUS = ("serious", "critical")
DETECTION = "div.table:has(> h3:text-is('Detection'))"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run with many rows, failures, and a name of markup."""
    folder = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    attacks: list[dict[str, Any]] = [
        {"name": "patch", "budget": b} for b in (0.05, 0.1)
    ]
    for seed in (0, 1):
        for number, attack in enumerate([*attacks, {"name": HOSTILE}]):
            made = write_scene(folder, scene_config(attack, seed))
            place = made.rename(folder / "scenes" / f"{number}-{seed}")
            write_influence(place)
            for k in (3, 10, 20):
                write_detect(place, rng.normal(size=15), k=k)
    write_failure(place, "certify-x", HOSTILE)
    done = CliRunner().invoke(main, ["report", str(folder)])
    assert done.exit_code == 0, done.output
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = [path for path in map(shutil.which, BROWSERS) if path]
    if not found:
        pytest.skip(f"no browser is there: {', '.join(BROWSERS)}")
    with playwright.sync_playwright() as started:
        # in a container the process has no rights to make a sandbox of its own
        opened = started.chromium.launch(
            executable_path=found[0], args=["--no-sandbox"]
        )
        yield opened
        opened.close()


class Watched:
    """A page, and what it asked for and said."""

    def __init__(self, browser: Any, file: Path, **look: Any) -> None:
        self.context = browser.new_context(**look)
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.said: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.goto(file.as_uri())

    def column(self, head: str) -> list[str]:
        """The visible cells of a column of the table of detection."""
        table = self.page.locator(DETECTION)
        heads = table.locator("th").all_inner_texts()
        number = [text.strip() for text in heads].index(head)
        cells = table.locator(f"tbody tr:visible td:nth-child({number + 1})")
        return [text.strip() for text in cells.all_text_contents()]


@pytest.fixture
def watched(browser: Any, file: Path) -> Iterator[Watched]:
    made = Watched(browser, file)
    yield made
    made.context.close()


def numbers(texts: list[str]) -> list[float]:
    return [float(text.split()[0]) for text in texts]


def test_no_request_leaves_the_page_and_nothing_is_wrong(watched: Watched, file: Path):
    watched.page.wait_for_timeout(200)
    asked = [address for address in watched.asked if not address.startswith("data:")]
    assert asked == [file.as_uri()]
    assert watched.said == []
    assert watched.page.evaluate("window.ran") is None
    assert HOSTILE in watched.page.locator("#undone").inner_text()


def test_a_click_on_a_head_sorts_and_the_third_restores(watched: Watched):
    before = watched.column("AUROC [95 %]")
    values = numbers(before)
    assert values != sorted(values)
    head = watched.page.locator(DETECTION).get_by_role("button", name="AUROC [95 %]")
    head.click()
    assert numbers(watched.column("AUROC [95 %]")) == sorted(values)
    head.click()
    assert numbers(watched.column("AUROC [95 %]")) == sorted(values, reverse=True)
    column = watched.page.locator(DETECTION).locator("th[aria-sort]")
    assert column.get_attribute("aria-sort") == "descending"
    head.click()
    assert watched.column("AUROC [95 %]") == before


def test_the_keyboard_sorts(watched: Watched):
    before = watched.column("detector")
    head = watched.page.locator(DETECTION).get_by_role("button", name="detector")
    head.focus()
    watched.page.keyboard.press("Enter")
    after = watched.column("detector")
    assert after != before
    numbers_in_names = [int(text.split("k=")[1]) for text in after]
    assert numbers_in_names == sorted(numbers_in_names)
    assert set(numbers_in_names) == {3, 10, 20}


def test_the_tab_key_reaches_the_heads_and_the_filters(watched: Watched):
    table = watched.page.locator(DETECTION)
    table.get_by_role("searchbox").focus()
    reached = set()
    for _ in range(16):
        watched.page.keyboard.press("Tab")
        reached.add(watched.page.evaluate("document.activeElement.tagName"))
    assert {"SUMMARY", "BUTTON"} <= reached


def test_filters_by_text_by_choice_and_by_number_hold_together(watched: Watched):
    table = watched.page.locator(DETECTION)
    values = numbers(watched.column("AUROC [95 %]"))
    table.get_by_role("searchbox").fill("K=10")
    shown = watched.column("detector")
    assert {text.split("k=")[1] for text in shown} == {"10"}
    told = f"{len(values) // 3} of {len(values)} rows"
    assert table.get_by_role("status").inner_text() == told
    table.get_by_role("searchbox").fill("")
    table.locator("summary").click()
    attack = watched.column("attack")[0]
    table.get_by_label("attack").select_option(attack)
    assert set(watched.column("attack")) == {attack}
    table.get_by_label("attack").select_option("")
    limit = sorted(values)[4]
    table.get_by_label("AUROC [95 %]").fill(f"> {limit}")
    left = numbers(watched.column("AUROC [95 %]"))
    assert sorted(left) == sorted(value for value in values if value > limit)
    table.get_by_label("AUROC [95 %]").fill("")
    assert len(watched.column("attack")) == len(values)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_as_wide_as_the_screen_and_accessible(
    browser: Any, file: Path, scheme: str, width: int
):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    look = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
    # the checker is a script from outside, which the policy of the page would not run
    made = Watched(browser, file, bypass_csp=True, **look)
    try:
        assert made.page.evaluate("document.documentElement.scrollWidth") <= width
        for details in made.page.locator("details").all():
            details.evaluate("element => { element.open = true; }")
        found = axe.Axe().run(made.page).response["violations"]
    finally:
        made.context.close()
    grave = [(f["id"], f["help"]) for f in found if f["impact"] in SERIOUS]
    assert grave == []
