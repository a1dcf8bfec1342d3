"""The notebook on a model of one's own as a page."""

import json
from typing import Any

from tree_links import ROOT

NOTEBOOK = ROOT / "docs" / "own-model.ipynb"


def notebook_page() -> str:
    """The cells of the notebook and what they gave, in Markdown."""
    book = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    parts = []
    for cell in book["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        else:
            parts.append(f"```python\n{source}\n```")
            parts += [shown(output) for output in cell["outputs"]]
    parts.append(
        "*This page is [a notebook](own-model.ipynb) that the tests run: download it there.*"
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def shown(output: dict[str, Any]) -> str:
    """An output of a cell: its picture, or its text."""
    data = output.get("data", {})
    if "image/png" in data:
        picture = "".join(data["image/png"]).replace("\n", "")
        return f'<img alt="Output of the cell above" src="data:image/png;base64,{picture}">'
    text = "".join(data.get("text/plain", output.get("text", "")))
    return f"```text\n{text}\n```" if text else ""
