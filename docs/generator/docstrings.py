"""Docstrings as Markdown: what is a formula in them is no markup."""

import re
from typing import Any

from griffe import Extension, Object

CODE = re.compile(r"(`[^`]*`)")
# of (m, *shape), and not of a bullet or **names
STAR = re.compile(r"(?<![*\\])\*(?=\w)")
ANGLE = re.compile(r"<(?=[A-Za-z|/])")  # of <g_i, g_j>


def escaped(text: str) -> str:
    """A docstring whose stars and angles are themselves; what is in backticks stays."""
    parts = CODE.split(text)
    for place in range(0, len(parts), 2):
        parts[place] = ANGLE.sub("&lt;", STAR.sub(r"\\*", parts[place]))
    return "".join(parts)


class Escaping(Extension):
    """Escapes every docstring that mkdocstrings shows."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Changes the docstring of an object that has one."""
        if obj.docstring is not None:
            obj.docstring.value = escaped(obj.docstring.value)
