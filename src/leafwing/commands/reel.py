"""The training progress of a run as a film."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from leafwing import files
from leafwing.commands.results import Written
from leafwing.errors import InvalidOption, LeafwingError
from leafwing.progress import Progress, reporter_of
from leafwing.quantities import whole
from leafwing.runs import ROOT, Run

SECONDS = 6.0
"""The duration unless another one is chosen."""
MIN_SIZE, MAX_SIZE = 64, 4_096
"""The longer side in pixels."""


def reel(
    run: str | Path | Run,
    *,
    out: str | Path | None = None,
    seconds: float = SECONDS,
    size: int | None = None,
    root: str | Path = ROOT,
    progress: Progress = None,
) -> Path:
    """Animates the sample grids of a run; where their intervals differ, because it was resumed for instance, not all: see `spread`.

    Args:
        run: the run, its folder, name or number, or `last`.
        out: a .webp, .gif or .mp4 file (.mp4 needs PyAV, `leafwing[film]`) that must not exist. None: `reel.webp` in the run folder,
            which training writes too, and which is replaced; with other `seconds` or `size` a new file in the folder `outputs`.
        seconds: duration, more than 0 and less than 3600.
        size: the longer side in pixels; None: that of the grids, small ones enlarged, at most 1080.
        root: folder of the numbered run folders.
        progress: True or None: messages are shown; False: not; or a `leafwing.Reporter`, which receives them.

    Returns:
        The file, which notebooks show.

    Raises:
        LeafwingError: the run has no sample grids, the file exists, or its type is not supported.
    """
    opened = Run.open(run, root=root)
    if out is not None and Path(out).exists():
        raise LeafwingError(f"{out} exists: choose another --out")
    from leafwing import films

    if out is not None:
        films.require(Path(out))
    films.check_seconds(seconds)
    if size is not None and not MIN_SIZE <= whole(size, "size", 1) <= MAX_SIZE:
        raise InvalidOption("size", size, f"choose from {MIN_SIZE} to {MAX_SIZE} pixels for the longer side")
    grids = [*opened.sheets().values()]
    if not grids:
        raise LeafwingError(f"{opened.folder} has no sample grids")
    frames = spread(grids)
    if out is not None:
        target = Path(out)
    elif (seconds, size) == (SECONDS, None):
        target = opened.folder / "reel.webp"
    else:
        target = files.unused(opened.outputs, f"{frames[-1].stem}-reel", ".webp")
    from leafwing import pictures  # imports torch

    with files.storage(str(target)):
        target.parent.mkdir(parents=True, exist_ok=True)
    captions, is_smooth = [f"{int(path.stem):,} images" for path in frames], pictures.is_smooth(opened.spec.fields["image"])
    left_out = f"{len(frames)} of {len(grids)} sample grids, about evenly spaced" if len(frames) < len(grids) else ""
    if note := "; ".join(filter(None, (left_out, pictures.reel(frames, captions, target, seconds, size, is_smooth)))):
        reporter_of(progress).say(f"{target}: {note}")
    return Written(target)


def spread(grids: Sequence[Path]) -> list[Path]:
    """Grids that are at least half of the longest interval between two of them apart, and the last one.

    Where some are closer, as the first ones of a training that was slow at first, the film would show little else.
    """
    images = [int(path.stem) for path in grids]
    apart = max((after - before for before, after in pairwise(images)), default=0) / 2
    chosen: list[Path] = []
    for path in grids[:-1]:
        if not chosen or int(path.stem) - int(chosen[-1].stem) >= apart:
            chosen.append(path)
    return [*chosen, grids[-1]]
