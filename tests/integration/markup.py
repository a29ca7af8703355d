"""HTML as a tree, for tests that look at pages as a reader does."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


@dataclass
class Element:
    """One element, or a piece of text (tag "")."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: "list[Element]" = field(default_factory=list)
    content: str = ""

    def walk(self) -> "Iterator[Element]":
        yield self
        for child in self.children:
            yield from child.walk()

    def all(self, tag: str = "", **attributes: str) -> "list[Element]":
        """Those inside of that tag (any, when "") with these attributes; `_` stands for `-`, `class_` for class.

        A class fits when it is one of several; every other attribute has to be equal.
        """
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [one for one in self.walk() if one is not self and one.tag and one._fits(tag, wanted)]

    def one(self, tag: str = "", **attributes: str) -> "Element":
        """The only one."""
        found = self.all(tag, **attributes)
        assert len(found) == 1, f"{len(found)} of {tag} {attributes}"
        return found[0]

    def get(self, name: str) -> str:
        return self.attributes.get(name, "")

    @property
    def text(self) -> str:
        """What a reader reads, with single spaces."""
        return " ".join("".join(one.content for one in self.walk()).split())

    @property
    def raw(self) -> str:
        """The same with its spaces and line breaks as they are."""
        return "".join(one.content for one in self.walk())

    def rows(self) -> list[list[str]]:
        """The texts of a table's cells, heads included, row by row."""
        return [[cell.text for cell in row.children if cell.tag in ("td", "th")] for row in self.all("tr")]

    def fields(self) -> dict[str, str]:
        """Name → value of a form's inputs, as a browser would send them untouched."""
        return {one.get("name"): one.get("value") for one in self.all("input") if one.get("name")}

    def _fits(self, tag: str, wanted: dict[str, str]) -> bool:
        if tag and self.tag != tag:
            return False
        return all(
            value in self.get("class").split() if name == "class" else self.attributes.get(name) == value
            for name, value in wanted.items()
        )


def parse(html: str) -> Element:
    parser = _Parser()
    parser.feed(html)
    parser.close()
    return parser.root


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("html document")
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        made = Element(tag, {name: value or "" for name, value in attrs})
        self._open[-1].children.append(made)
        if tag not in _VOID:
            self._open.append(made)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        for depth in range(len(self._open) - 1, 0, -1):
            if self._open[depth].tag == tag:
                del self._open[depth:]
                return

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(Element("", content=data))
