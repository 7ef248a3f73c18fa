"""What is in a source of pictures, and advice; the examination itself is `leafwing.data.doctor`'s."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafwing.progress import Silent

if TYPE_CHECKING:
    from leafwing.data.doctor import Report


def doctor(source: str | Path, *, progress: Silent | None = None, **options: Any) -> Report:
    """What is in a source of pictures, what will be rejected and why, duplicates, and advice; never changes the source.

    Args:
        source: a folder, an archive or a built-in name.
        progress: who is told; None for nobody.
        **options: size, channels, fit, background, as for `train`.

    Returns:
        A report: `text()` for people, `as_dict()` for programs.
    """
    from leafwing.data.doctor import doctor as examine

    given = {name: value for name, value in options.items() if value is not None}
    return examine(source, progress=(progress or Silent()).packing, **given)
