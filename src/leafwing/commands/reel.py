"""The progress of a run as an animation."""

from __future__ import annotations

from pathlib import Path

from leafwing.errors import LeafwingError
from leafwing.runs import ROOT, Run


def reel(run: str | Path, *, out: str | Path | None = None, seconds: float = 6.0, root: str | Path = ROOT) -> Path:
    """The progress of a run as an animation.

    Args:
        run: folder, name, number or `last`.
        out: a .webp, .gif or .mp4 file (.mp4 needs ffmpeg); None: `reel.webp` in the run folder.
        seconds: how long it lasts.
        root: where numbered run folders lie.

    Returns:
        The file.

    Raises:
        LeafwingError: the run has no progress pictures, or the file exists.
    """
    from leafwing import pictures

    opened = Run.open(run, root=root)
    if out is not None and Path(out).exists():
        raise LeafwingError(f"{out} exists: choose another --out")
    if not 0 < seconds < 3600:
        raise LeafwingError(f"seconds {seconds}: a reel lasts more than 0 and less than 3600 seconds")
    frames = sorted(path for path in opened.samples.glob("*.png") if path.stem.isdigit())
    if not frames:
        raise LeafwingError(f"{opened.folder} has no progress pictures")
    target = Path(out) if out else opened.folder / "reel.webp"
    pictures.reel(frames, [f"{int(path.stem):,} images" for path in frames], target, seconds)
    return target
