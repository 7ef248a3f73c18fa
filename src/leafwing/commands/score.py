"""The discriminator's scores of a user's own pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from leafwing.commands.first_checks import check_run, require_folder
from leafwing.commands.originals import find_pictures, open_pictures
from leafwing.errors import LeafwingError
from leafwing.files import write
from leafwing.progress import Progress, Reporter, counted, reporter_of
from leafwing.quantities import check_seed
from leafwing.runs import ROOT, Run

if TYPE_CHECKING:
    from leafwing.data.sources import Source
    from leafwing.model import Model

EXAMPLES = 16
"""Captions, attributes and so on that nothing specifies are those of this number of real samples."""
IGNORED = (
    "the discriminator of this run does not look at classes or other conditions: a score says how real a picture looks, not whether "
    "it shows what it should"
)


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

    The score of a picture does not depend on the other pictures. If each lies in a folder with the name of a class, that is its
    class. With conditions that nothing specifies, the score is the mean over all classes, or over those of some real samples.

    Args:
        run: the run, its folder, name or number, or `last`.
        pictures: an image file, a folder or an archive.
        conditions: what the pictures should match, by name or as texts such as `label=cat`; see `sample`.
        seed: random seed of the real samples that unspecified conditions are taken from.
        checkpoint: images shown, `last` (None) or `best`.
        out: a CSV file, which must not exist, in a folder that exists; None: none is written.
        device: auto, cpu, cuda or mps.
        trust: execute the folder's `recipe.py` even if it is not an installed recipe.
        root: folder of the numbered run folders.
        progress: True or None: shown; False: not; or a `leafwing.Reporter`, which receives messages and progress.

    Raises:
        LeafwingError: invalid input, a run without a discriminator of single samples, or not one usable picture.
    """
    seed = check_seed(seed)
    check_run(run, root, checkpoint=checkpoint, conditions=conditions, out=out)
    if out is not None:
        require_folder(out)
    find_pictures(pictures)
    import numpy as np
    import torch

    from leafwing.conditions import from_settings, pixel_conditions, read_settings
    from leafwing.data.pictures import strict
    from leafwing.engine import choose
    from leafwing.fields import Image
    from leafwing.model import Model

    path, progress = find_pictures(pictures), reporter_of(progress)
    opened = Run.open(run, root=root, trust=trust)
    device = choose(device, "fp32", torch.get_num_threads()).device
    model = Model.load(opened, checkpoint=opened.resolve_checkpoint(checkpoint), device=device)
    kind = model.kind(model.output)
    if model.game.abilities.judge is None:
        raise LeafwingError(f"{opened.folder} has no discriminator that scores single samples: see `leafwing recipes`")
    if not isinstance(kind, Image):
        raise LeafwingError(f"{opened.folder} generates {kind}, not images: use model.judge from Python")
    if names := pixel_conditions(model.output, model.spec):
        raise LeafwingError(
            f"{opened.folder} generates its {model.output.field} from {' and '.join(names)}, at which its discriminator may look, "
            f"too: from Python, model.judge(samples, {', '.join(f'{name}=...' for name in names)})"
        )
    settings = read_settings(conditions, model.output, model.spec)
    values = from_settings(model.output, model.spec, settings)
    result = Scores()
    with strict(), open_pictures(path) as source:
        result.rejected = [{"name": item.name, "reason": item.reason} for item in source.rejects]
        classes = {} if values.get("label") is not None else _classes(source, model)
        meant: dict[str | None, list[dict[str, Any]]] = {
            label: _conditions(model, seed, values if label is None else values | {"label": label})
            for label in ({*classes.values()} or (None,))
        }
        note, animated = _describe(model, values, classes, len(next(iter(meant.values())))), list[str]()
        for names, pixels in _read(source, opened, kind, result.rejected, animated, progress):
            if names:
                samples = kind.to_network(torch.from_numpy(np.stack(pixels)))
                labels = [classes.get(name) for name in names]
                scores = torch.empty(len(names))
                for label in {*labels}:
                    rows = torch.tensor([other == label for other in labels])
                    each = torch.stack([model.judge(samples[rows], **row).cpu() for row in meant[label]])
                    if len(each) > 1 and bool((each == each[0]).all()):
                        meant[label], note = meant[label][:1], IGNORED
                    scores[rows] = each.mean(0)
                if note:
                    progress.say(note)
                    note = ""
                result.scores += scores.tolist()
                result.names += names
    if animated:
        progress.say(f"Files with several frames or pages: {len(animated)}; only the first was scored.")
    if not result.names:
        first = result.rejected[0] if result.rejected else {"name": str(path), "reason": "no images"}
        raise LeafwingError(f"{path}: no picture can be used. {first['name']}: {first['reason']}")
    if out is not None:
        write(Path(out), result.table())
        result.out = str(out)
    return result


def _classes(source: Source, model: Model) -> dict[str, str]:
    """The class of each picture by its name in the source: that of its folder; empty if some lie in no folder of a class."""
    known = {*model.labels}
    folders = {entry.name: reversed(PurePosixPath(entry.name).parts[:-1]) for entry in source.entries}
    classes = {name: next((part for part in parts if part in known), None) for name, parts in folders.items()}
    return {name: label for name, label in classes.items() if label is not None} if all(classes.values()) else {}


def _conditions(model: Model, seed: int, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Different conditions that pictures may have: those specified, with all classes and those of some real samples for the others."""
    is_open = "label" in model.output.conditions and values.get("label") is None
    n = len(model.labels) if is_open else EXAMPLES
    conditions = model.conditions(n, seed, **values)
    rows = [{name: column[i] for name, column in conditions.items()} for i in range(n)]
    return [*{str([value.tolist() for value in row.values()]): row for row in rows}.values()]


def _describe(model: Model, values: Mapping[str, Any], classes: Mapping[str, str], n: int) -> str:
    """Which conditions the pictures are scored under, in words; empty if these are specified; n: number of different ones."""
    if classes:
        return "each picture is scored as of the class that its folder is named after; --set label=NAME sets another"
    if n > 1 and "label" in model.output.conditions and values.get("label") is None:
        return (
            f"each score is the mean over {n} classes, because nothing says which class a picture shows: put the pictures into "
            "folders that are named after their classes, or --set label=NAME"
        )
    return f"each score is the mean over {n} conditions of real samples: --set says what the pictures show" if n > 1 else ""


def _read(
    source: Any, run: Run, kind: Any, rejected: list[dict[str, str]], animated: list[str], progress: Reporter
) -> Iterator[tuple[list[str], list[Any]]]:
    """Names and pixels of pictures in the format of the training images, some at a time; adds those that cannot be used to `rejected`,
    and the names of those with several frames to `animated`."""
    from leafwing.data.options import like
    from leafwing.data.pictures import UnusableImageError, decode, header

    target = like(kind, run.data.options)
    total = len(source.entries)
    for chunk in counted(source.chunks(source.entries), "scoring pictures", total, progress.report_progress, len):
        names, pixels = [], []
        for entry, load, _ in chunk:
            try:
                content = load()
                image = target.centre(decode(content, target, source.raw).pixels)
                animated += [entry.name] if header(content, source.raw).frames else []
                pixels.append(image)
                names.append(entry.name)
            except UnusableImageError as error:
                rejected.append({"name": entry.name, "reason": error.reason})  # no hint: --size is that of the run
        yield names, pixels
