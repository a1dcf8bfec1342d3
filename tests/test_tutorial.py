"""The tutorial is run as it stands.

Its files are written, its commands run, and what it shows is what they print.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(
    r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


def blocks(page: str) -> Iterator[tuple[str, str, str]]:
    """Yields language, title and content of every code block of a page."""
    for match in BLOCK.finditer((ROOT / "docs" / page).read_text(encoding="utf-8")):
        yield match[1], match[2] or "", match[3]


def shape(text: str) -> str:
    """A line as it is compared: figures stand for any figures, white space for any white space."""
    return " ".join(re.sub(r"\d+(\.\d+)?", "#", text).split())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_tutorial_of_an_attack_does_what_it_says(
    tmp_path: Path, environment: dict[str, str]
):
    folder = tmp_path / "tutorial"
    folder.mkdir()
    printed = ""
    for language, title, content in blocks("tutorial-attack.md"):
        if title:
            (folder / title).write_text(content)
        elif language == "sh":
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", content],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{content}\n{done.stdout}\n{done.stderr}"
            assert "Traceback" not in done.stderr
            printed = done.stdout
        elif language == "text":
            shown = shape(printed)
            missing = [
                line for line in content.splitlines() if shape(line) not in shown
            ]
            assert not missing, f"not printed: {missing}\n{printed}"
    assert (folder / "replay-logs" / "scenes").is_dir()


def test_the_attack_of_the_tutorial_has_at_most_40_lines():
    (attack,) = [
        content
        for _, title, content in blocks("tutorial-attack.md")
        if title == "corner_cross.py"
    ]
    assert len(attack.splitlines()) <= 40
