"""A report on the content of a source, before a training run.

It reads exactly as `load` does (through `loading.Surveyed` and `reading`), keeps no pixels, writes nothing and does not import
torch. `duplicates` finds duplicate images.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from leafwing.data import duplicates, pictures, reading, sources
from leafwing.data import labels as naming
from leafwing.data.dataset import Dataset
from leafwing.data.loading import Surveyed, find, load
from leafwing.data.options import Size, Wanted, check
from leafwing.data.reading import Decoded, Progress, Seen
from leafwing.data.sources import Reject
from leafwing.data.stacked import is_stacked
from leafwing.data.worlds import WORLDS, modes, sigma

_FEW, _SOME, _MANY = 500, 2_000, 10_000
_BALANCED = 0.2
"""Minimum of smallest class / largest class for which a conditional GAN is recommended without a warning."""
_SHOWN = 8
_ATTRIBUTES = 64
_RARE = 50


@dataclass
class Report:
    """The doctor's findings. `as_dict` returns them as plain JSON, `text` for a terminal.

    Args:
        source: as given.
        kind: `folder`, `zip`, `tar`, `idx`, `world of pictures` or `world of points`.
        pictures: number of candidates (points, for a data set of points).
        accepted: number that `load` would use.
        rejected: the others, with reasons.
        sizes: `min`, `median` and `max` as [height, width] in pixels, each side separately; of accepted images.
        modes: Pillow's mode -> count (`RGB`, `L`, `P` palette, `RGBA` ...), of accepted images.
        formats: file format -> count, of accepted images.
        classes: label -> count of accepted images; empty without labels.
        balance: smallest class / largest class; None without labels.
        attributes: name -> number of accepted images that have it; empty without attributes.
        exact_duplicates: groups of names with byte-identical files.
        near_duplicates: groups of names with nearly the same image; of an exact group only the first is listed.
        options: options for `load`: size, channels, fit, background.
        notes: how the source was read.
        advice: recommendations for the user.
    """

    source: str
    kind: str
    pictures: int = 0
    accepted: int = 0
    rejected: list[Reject] = field(default_factory=list)
    sizes: dict[str, list[int]] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)
    balance: float | None = None
    attributes: dict[str, int] = field(default_factory=dict)
    exact_duplicates: list[list[str]] = field(default_factory=list)
    near_duplicates: list[list[str]] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain JSON, with the names above as keys."""
        return asdict(self)

    def text(self) -> str:
        """The report for a terminal: several lines, no colours."""
        what = "points" if self.kind == "world of points" else "images"
        lines = [f"{self.source}  ({self.kind})"]
        lines.append(f"  {what + ':':11}{self.accepted:,} usable of {self.pictures:,}")
        if self.sizes:
            low, middle, high = ("x".join(map(str, self.sizes[key])) for key in ("min", "median", "max"))
            lines.append(f"  {'sizes:':11}{low} to {high}, median {middle} (height x width)")
        for title, counts in (("modes", self.modes), ("formats", self.formats), ("classes", self.classes)):
            if counts:
                lines.append(f"  {title + ':':11}{_counts(counts)}")
        if self.attributes:
            shares = [f"{name} {count / self.accepted:.0%}" for name, count in self.attributes.items()]
            shown = (
                shares if len(shares) <= _ATTRIBUTES else [*shares[:_ATTRIBUTES], f"and {len(shares) - _ATTRIBUTES} more"]
            )
            lines.append(f"  {'attributes:':11} {', '.join(shown)}")
        for title, groups in (("identical files", self.exact_duplicates), ("near-duplicate images", self.near_duplicates)):
            if groups:
                lines.append(f"  {title}, groups: {len(groups)}")
                lines += [f"    {_listed(group, 4)}" for group in groups[:_SHOWN]] + _more(groups)
        if self.rejected:
            lines.append(f"  not used, {len(self.rejected)}:")
            lines += [f"    {one.name}: {one.reason}" for one in self.rejected[:_SHOWN]] + _more(self.rejected)
        for title, words in (("notes", self.notes), ("advice", self.advice)):
            if words:
                lines += [f"  {title}:", *(f"    - {one}" for one in words)]
        return "\n".join(lines)


def doctor(
    source: str | Path,
    *,
    size: Size | None = None,
    channels: int | None = None,
    fit: str = "crop",
    background: str = "white",
    progress: Progress | None = None,
) -> Report:
    """Examines every image of a source; changes nothing.

    Args:
        source: as for `load`.
        size: as for `load`.
        channels: as for `load`.
        fit: as for `load`.
        background: as for `load`.
        progress: called with the number of images done and the total.

    Raises:
        LeafwingError: no such source, a damaged archive, or invalid options; never because of bad images.
    """
    wanted = check(size, channels, fit, background)
    place = find(source)
    if isinstance(place, str):
        return _world(place, wanted)
    files, refused = sources.list_files(place)
    with pictures.strict(), Surveyed.open(place, files, refused, wanted, progress) as found:
        good: list[Seen] = []
        failed: list[Seen | Decoded] = [one for one in found.seen if one.failure is not None]
        sketches: list[duplicates.Sketch] = []
        with closing(reading.decode(found.source, found.seen, found.target, duplicates.sketch, progress)) as outcomes:
            for one in outcomes:
                if one.picture is None:
                    failed.append(one)
                else:
                    good.append(one.seen)
                    sketches.append(one.measured)
    report = Report(os.fspath(source), found.source.kind)
    report.rejected = sorted(found.source.rejects + reading.rejects(failed), key=lambda one: one.name)
    report.accepted = len(good)
    report.pictures = report.accepted + len(report.rejected)
    report.notes = list(found.source.notes)
    report.options = found.target.as_dict()
    headers = [one.header for one in good if one.header]
    if headers:
        sides = np.array([(one.height, one.width) for one in headers])
        report.sizes = {"min": _pair(sides.min(0)), "median": _pair(np.median(sides, axis=0)), "max": _pair(sides.max(0))}
    report.modes = _most(Counter(one.mode for one in headers))
    report.formats = _most(Counter(one.format for one in headers))
    _classes(report, [one.entry.label for one in good if one.entry.label is not None])
    if good and found.source.attributes:
        _attributes(report, found.source.attributes, np.array([one.entry.attributes for one in good]))
    _duplicates(report, [one.entry.name for one in good], [one.sha256 for one in good], sketches)
    if trouble := found.trouble(len(good), failed, report.rejected):
        report.advice.append(f"This source cannot be trained on: {trouble}")
    if good:
        _advise(report)
    if progress:
        progress(len(found.seen), len(found.seen))
    return report


def _world(name: str, wanted: Wanted) -> Report:
    """The report on a built-in data set."""
    data = load(name, size=wanted.size, channels=wanted.channels, fit=wanted.fit, background=wanted.background)
    if data.spec.points:
        report = Report(name, "world of points", len(data), len(data), options=data.options, notes=[WORLDS[name]])
        report.advice.append(
            f"Points with {len(modes(name))} known modes (sigma {sigma(name):g}), to show which modes a GAN misses. "
            "Start with recipe gan."
        )
        return report
    notes = [WORLDS[name.partition(":")[0]]]
    report = Report(name, "world of pictures", len(data), len(data), options=data.options, notes=notes)
    side = [data.spec.height, data.spec.width]
    report.sizes = {"min": side, "median": side, "max": side}
    report.modes = {("L", "LA", "RGB", "RGBA")[data.spec.channels - 1]: len(data)}
    assert data.labels is not None
    _classes(report, [data.spec.labels[index] for index in data.labels])
    if data.attributes is not None:
        _attributes(report, data.spec.attributes, data.attributes)
    if is_stacked(name):  # the digits repeat by design
        report.advice.append("Three digits per image, 50 images of each triple, to show which of 1,000 modes a GAN misses.")
        return report
    _array_duplicates(report, data)
    _advise(report)
    return report


def _array_duplicates(report: Report, data: Dataset) -> None:
    names = [str(index) for index in range(len(data))]
    _duplicates(report, names, [one.tobytes().hex() for one in data.array], [duplicates.sketch(one) for one in data.array])


def _classes(report: Report, labels: Sequence[str]) -> None:
    counts = Counter(labels)
    report.classes = {name: counts[name] for name in naming.classes(set(counts))}
    if counts:
        report.balance = round(min(counts.values()) / max(counts.values()), 4)


def _attributes(report: Report, names: Sequence[str], rows: np.ndarray) -> None:
    """Counts binary attributes (n, attributes)."""
    report.attributes = dict(zip(names, rows.sum(axis=0, dtype=np.int64).tolist(), strict=True))


def _duplicates(report: Report, names: list[str], hashes: list[str], sketches: list[duplicates.Sketch]) -> None:
    """Fills in both kinds of duplicates; near ones are searched among one member of each exact group."""
    groups = duplicates.exact(hashes)
    report.exact_duplicates = [[names[index] for index in group] for group in groups]
    again = {index for group in groups for index in group[1:]}
    single = [index for index in range(len(names)) if index not in again]
    near = duplicates.near([sketches[index] for index in single])
    report.near_duplicates = [[names[single[place]] for place in group] for group in near]


def _advise(report: Report) -> None:
    """Recommends a recipe and a size, and says what to expect."""
    say, n = report.advice.append, report.accepted
    distinct = n - sum(len(group) - 1 for group in report.exact_duplicates + report.near_duplicates)
    small = min(report.sizes["median"])
    if report.classes and len(report.classes) > 1:
        if n / len(report.classes) < 50:
            say(
                f"Only {n / len(report.classes):.0f} images per class: train without labels (recipe dcgan) or merge classes."
            )
        elif report.balance is not None and report.balance >= _BALANCED:
            say(
                f"{len(report.classes)} reasonably balanced classes: recipe cgan generates a requested class; "
                "dcgan ignores labels."
            )
        else:
            least, most = min(report.classes.items(), key=_count), max(report.classes.items(), key=_count)
            say(
                f"Classes are imbalanced: {least[0]} has {least[1]:,} images, {most[0]} has {most[1]:,}. cgan will do poorly on "
                "the small ones: add images, merge or drop small classes, or use dcgan, which ignores labels."
            )
    elif not report.attributes:
        say(
            "No labels: start with recipe dcgan. If it collapses or is unstable, wgan_gp is slower and more stable; r3gan is newer."
        )
    if report.attributes:
        say(
            f"{len(report.attributes)} attributes: recipe cgan generates requested ones"
            + (" with --condition-on attributes." if len(report.classes) > 1 else "; dcgan ignores them.")
        )
        if rare := [name for name, count in report.attributes.items() if min(count, n - count) < _RARE]:
            say(
                f"Attributes that fewer than {_RARE} images have, or lack, are hardly learnt: {', '.join(rare[:_SHOWN])}"
                f"{' ...' * (len(rare) > _SHOWN)}."
            )
    if n < _FEW:
        say(
            f"{n:,} images are few: a GAN will memorise them. Add mirrored images (mirror) if left and right are "
            "interchangeable. Keep the size small, prefer wgan_gp or r3gan, and stop early; "
            f"collect more: {_SOME:,} are a start."
        )
    elif n < _SOME:
        say(f"{n:,} images are rather few: use mirroring if you can, and watch for memorisation.")
    elif n < _MANY:
        say(f"{n:,} images are workable; {_MANY:,} and more are comfortable.")
    else:
        say(f"{n:,} images are comfortable.")
    say(
        f"Size {report.options['size']}, channels {report.options['channels']}; a typical image has "
        f"{'x'.join(map(str, report.sizes['median']))} pixels (height x width)."
        + (" Twice the side takes about four times as long." if small >= 128 else "")
    )
    if set(report.modes) & {"RGBA", "LA", "PA"}:
        say(
            f"Some images are transparent: they are composited on {report.options['background']}; channels=4 keeps transparency."
        )
    if report.exact_duplicates or report.near_duplicates:
        say(
            f"Groups of identical files: {len(report.exact_duplicates)}, of near duplicates: {len(report.near_duplicates)}. "
            f"About {distinct:,} images are distinct. A GAN generates duplicates more often and memorises them first: keep one."
        )
    heights, widths = (
        {report.sizes["min"][side], report.sizes["median"][side], report.sizes["max"][side]} for side in (0, 1)
    )
    ratio = report.sizes["median"][1] / report.sizes["median"][0]
    wanted_height, wanted_width = (int(side) for side in report.options["size"].split("x"))
    if report.options["fit"] == "crop" and not 0.67 < ratio / (wanted_width / wanted_height) < 1.5:
        say(
            "Cropping cuts off much of these images: consider a size with their aspect ratio (64x96: height x width), or fit=pad."
        )
    elif len(heights) > 1 or len(widths) > 1:
        say("The sizes differ; every image is resized with the chosen fit.")
    if report.rejected:
        say(f"{len(report.rejected)} files are not used; the reasons are listed. The files themselves are not modified.")


def _count(item: tuple[str, int]) -> int:
    return item[1]


def _pair(sides: np.ndarray) -> list[int]:
    return [int(sides[0]), int(sides[1])]


def _most(counts: Counter[str]) -> dict[str, int]:
    return dict(counts.most_common())


def _counts(counts: dict[str, int]) -> str:
    items = [f"{name} {count:,}" for name, count in counts.items()]
    return ", ".join(items[:12]) + (f" and {len(items) - 12} more" if len(items) > 12 else "")


def _listed(names: list[str], most: int) -> str:
    return " = ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _more(items: Sequence[object]) -> list[str]:
    return [f"    and {len(items) - _SHOWN} more"] if len(items) > _SHOWN else []
