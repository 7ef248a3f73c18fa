"""What notebooks show: pictures, tables and progress bars as HTML. All text is escaped. Nothing here imports IPython by itself."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any


def is_running() -> bool:
    """Whether this code runs in a notebook (Jupyter, VS Code, Colab), which has then imported IPython."""
    get_shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return getattr(get_shell() if get_shell else None, "kernel", None) is not None


class Bar:
    """A progress bar below the cell that is running, updated in place."""

    def __init__(self) -> None:
        self._handle: Any = None

    def update(self, done: int, total: int, text: str) -> None:
        """Shows the bar with a line of text beside it."""
        bar = f'<progress value="{done}" max="{max(total, 1)}" style="width: 16em; vertical-align: middle"></progress>'
        content = {"text/plain": text, "text/html": f'{bar} <span style="white-space: pre-wrap">{escape(text)}</span>'}
        if self._handle is None:
            from IPython.display import display  # type: ignore[import-not-found, unused-ignore]

            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)


def picture(content: bytes, kind: str = "png") -> str:
    """An encoded image as HTML, in its own size unless the page is narrower.

    Args:
        content: the bytes of the file.
        kind: its type: png, webp or gif.
    """
    return f'<img style="max-width: 100%" src="data:image/{kind};base64,{base64.b64encode(content).decode()}">'


def video(content: bytes) -> str:
    """An .mp4 film as HTML, likewise; it is repeated."""
    source = f"data:video/mp4;base64,{base64.b64encode(content).decode()}"
    return f'<video style="max-width: 100%" controls loop src="{source}"></video>'


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows of text as an HTML table."""

    def line(texts: Sequence[str], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{escape(text)}</{tag}>' for text in texts)}</tr>"

    return f"<table>{line(heads, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"


def preformatted(text: str) -> str:
    """Text with aligned columns as HTML."""
    return f"<pre>{escape(text)}</pre>"


def lines(texts: Iterable[str]) -> str:
    """Lines of text as HTML, one below the other."""
    return "".join(f"<div>{escape(text)}</div>" for text in texts)
