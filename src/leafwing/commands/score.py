"""The discriminator's scores of a user's own pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leafwing.commands.first_checks import check_run
from leafwing.commands.originals import find_pictures, open_pictures, training_levels
from leafwing.errors import LeafwingError
from leafwing.files import write
from leafwing.progress import Progress, reporter_of
from leafwing.quantities import check_seed
from leafwing.runs import ROOT, Run


@dataclass
class Scores:
    """Scores of pictures.

    Args:
        names: names of the files, in the order of the source.
        scores: their scores; higher is more realistic to the discriminator, on a scale that depends on the run.
        rejected: names of files that cannot be used, with the reason.
        out: the CSV file that was written, if any.
    """

    names: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    rejected: list[dict[str, str]] = field(default_factory=list)
    out: str | None = None

    def table(self) -> str:
        """The scores as CSV, with the columns file,score."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["file", "score"])
        rows.writerows([name, f"{score:.6g}"] for name, score in zip(self.names, self.scores, strict=True))
        return text.getvalue()


def score(
    run: str | Path | Run,
    pictures: str | Path,
    *,
    conditions: Mapping[str, Any] | Sequence[str] = (),
    seed: int = 0,
    checkpoint: int | str | None = None,
    out: str | Path | None = None,
    device: str = "cpu",
    trust: bool = False,
    root: str | Path = ROOT,
    progress: Progress = None,
) -> Scores:
    """The discriminator's scores of pictures, which are read as the training images were; whole, where these were tiles or halves.

    Args:
        run: the run, its folder, name or number, or `last`.
        pictures: an image file, a folder or an archive.
        conditions: what the pictures should match, by name or as texts such as `label=cat`; see `sample`. Others follow the data.
        seed: random seed of unspecified conditions.
        checkpoint: images shown, `last` (None) or `best`.
        out: a CSV file, which must not exist; None: none is written.
        device: auto, cpu, cuda or mps.
        trust: execute the folder's `recipe.py` even if it is not an installed recipe.
        root: folder of the numbered run folders.
        progress: True or None: shown; False: not; or a `leafwing.Reporter`, which receives messages and progress.

    Raises:
        LeafwingError: invalid input, a run without a discriminator of single samples, or not one usable picture.
    """
    check_run(run, root, checkpoint=checkpoint, conditions=conditions, out=out)
    find_pictures(pictures)
    import numpy as np
    import torch

    from leafwing.conditions import from_settings, read_settings
    from leafwing.data.pictures import strict
    from leafwing.engine import choose
    from leafwing.fields import Image
    from leafwing.model import Model

    if out is not None and Path(out).exists():
        raise LeafwingError(f"{out} exists: choose another --out")
    seed, path, progress = check_seed(seed), find_pictures(pictures), reporter_of(progress)
    opened = Run.open(run, root=root, trust=trust)
    device = choose(device, "fp32", torch.get_num_threads()).device
    model = Model.load(opened, checkpoint=opened.resolve_checkpoint(checkpoint), device=device)
    kind = model.kind(model.output)
    if model.game.abilities.judge is None:
        raise LeafwingError(f"{opened.folder} has no discriminator that scores single samples: see `leafwing recipes`")
    if not isinstance(kind, Image):
        raise LeafwingError(f"{opened.folder} generates {kind}, not images: use model.judge from Python")
    settings = read_settings(conditions, model.output, model.spec)
    values = from_settings(model.output, model.spec, settings)
    result = Scores()
    with strict(), open_pictures(path) as source:
        result.rejected = [{"name": item.name, "reason": item.reason} for item in source.rejects]
        done = 0
        for names, pixels in _read(source, opened, kind, result.rejected):
            if names:
                samples = kind.to_network(torch.from_numpy(np.stack(pixels)))
                result.scores += model.judge(samples, seed=seed, **values).tolist()
                result.names += names
            done = len(result.names) + len(result.rejected)
            progress.report_progress("scoring pictures", done, len(source.entries))
    if not result.names:
        first = result.rejected[0] if result.rejected else {"name": str(path), "reason": "no images"}
        raise LeafwingError(f"{path}: no picture can be used. {first['name']}: {first['reason']}")
    if out is not None:
        write(Path(out), result.table())
        result.out = str(out)
    return result


def _read(source: Any, run: Run, kind: Any, rejected: list[dict[str, str]]) -> Iterator[tuple[list[str], list[Any]]]:
    """Names and pixels of pictures in the format of the training images, some at a time."""
    from leafwing.data import options
    from leafwing.data.pictures import UnusableImageError, decode

    reading = run.data.options
    fit, background = reading.get("fit", "crop"), reading.get("background", "white")
    rgb = options.check(None, None, "stretch", background).rgb
    whole = options.check(reading.get("crop_from") or f"{kind.height}x{kind.width}", None, "crop", background).size
    height, width = whole or (kind.height, kind.width)
    top, left = (
        (height - kind.height) // 2,
        (width - kind.width) // 2,
    )  # the centre of larger images, see `Dataset.with_windows`
    target = options.Target(
        height, width, kind.channels, "crop" if fit == "tiles" else fit, background, rgb, bits=kind.bits,
        levels=training_levels(run, of_inputs=False),
    )  # fmt: skip
    for chunk in source.chunks(source.entries):
        names, pixels = [], []
        for entry, load, _ in chunk:
            try:
                image = decode(load(), target, source.raw).pixels
                pixels.append(image[top : top + kind.height, left : left + kind.width])
                names.append(entry.name)
            except UnusableImageError as reason:
                rejected.append({"name": entry.name, "reason": str(reason)})
        yield names, pixels
