"""A page of HTML as its elements, read by the standard library."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "input", "link", "hr"}


@dataclass
class Element:
    """An element with its attributes, its text, and its children."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: "list[Element | str]" = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text in it."""
        return "".join(
            child if isinstance(child, str) else child.text for child in self.children
        )

    @property
    def classes(self) -> list[str]:
        return self.attributes.get("class", "").split()

    def all(self, tag: str = "", of_class: str = "") -> "Iterator[Element]":
        """All elements below it of a tag and a class, in their order."""
        for child in self.children:
            if isinstance(child, Element):
                if tag in ("", child.tag) and (
                    not of_class or of_class in child.classes
                ):
                    yield child
                yield from child.all(tag, of_class)

    def named(self, name: str) -> "Element":
        """The element below it of that id."""
        [found] = [e for e in self.all() if e.attributes.get("id") == name]
        return found


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("")
        self.open = [self.root]

    def handle_starttag(self, tag, attrs):
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data):
        self.open[-1].children.append(data)


def read_html(text: str) -> Element:
    """Returns the page; fails where an element is not closed in its place."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert len(reader.open) == 1, f"<{reader.open[-1].tag}> is not closed"
    return reader.root


def tables_of(page: Element) -> dict[str, list[list[str]]]:
    """Heads and cells of each table, by its title."""
    found = {}
    for box in page.all("div", "table"):
        [title] = box.all("h3")
        lines = [
            [cell.text.strip() for cell in line.children if isinstance(cell, Element)]
            for line in box.all("tr")
        ]
        found[title.text] = lines
    return found
