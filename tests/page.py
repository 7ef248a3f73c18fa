"""A strict HTML parser for tests."""

from __future__ import annotations

from html.parser import HTMLParser


class Page(HTMLParser):
    """Checks that elements are closed in order, and collects tags, references and text."""

    ALONE = ("meta", "img", "br", "line", "circle", "polyline")

    def __init__(self) -> None:
        super().__init__()
        self.open, self.seen, self.references, self.text = list[str](), list[str](), list[str](), list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.references += [
            value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action", "xlink:href")
        ]
        assert not [name for name, _ in attrs if name.startswith("on")], "a script"
        if tag not in self.ALONE:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.ALONE:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)
