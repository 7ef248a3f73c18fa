"""The training progress of a run as an animation."""

from __future__ import annotations

from pathlib import Path

from leafwing.errors import LeafwingError
from leafwing.progress import Reporter
from leafwing.runs import ROOT, Run


def reel(
    run: str | Path,
    *,
    out: str | Path | None = None,
    seconds: float = 6.0,
    root: str | Path = ROOT,
    progress: Reporter | None = None,
) -> Path:
    """Animates the sample grids of a run.

    Args:
        run: folder, name, number or `last`.
        out: a .webp, .gif or .mp4 file (.mp4 needs PyAV, `leafwing[film]`) that must not exist; None: `reel.webp` in the run folder.
        seconds: duration, more than 0 and less than 3600.
        root: folder of the numbered run folders.
        progress: receives messages; None: nothing is shown.

    Returns:
        The file.

    Raises:
        LeafwingError: the run has no sample grids, the file exists, or its type is not supported.
    """
    opened = Run.open(run, root=root)
    if out is not None and Path(out).exists():
        raise LeafwingError(f"{out} exists: choose another --out")
    from leafwing import films, pictures  # imports torch

    films.check_seconds(seconds)
    frames = sorted(path for path in opened.samples.glob("*.png") if path.stem.isdigit())
    if not frames:
        raise LeafwingError(f"{opened.folder} has no sample grids")
    target = Path(out) if out else opened.folder / "reel.webp"
    if note := pictures.reel(frames, [f"{int(path.stem):,} images" for path in frames], target, seconds):
        (progress or Reporter()).say(f"{target}: {note}")
    return target
