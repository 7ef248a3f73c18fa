"""A report on the content of a source, before a training run.

It reads exactly as `load` does (`loading.SurveyedSource` and `reading`), keeps no pixels, writes nothing and does not import
torch. `duplicates` finds duplicate images.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from leafwing.data import columns, duplicates, layouts, pairs, pictures, reading, side_fields
from leafwing.data import labels as labelling
from leafwing.data.built_in import BUILT_IN, modes, sigma
from leafwing.data.dataset import Dataset
from leafwing.data.loading import SurveyedSource, check_built_in, check_fields, load
from leafwing.data.locating import describe, find, is_second, list_places, locate
from leafwing.data.memory import InMemory
from leafwing.data.options import Options, Size, check, check_input
from leafwing.data.pack import refusal_reason
from leafwing.data.reading import Decoded, DecodeProgress, EntryInfo
from leafwing.data.sources import RejectedFile
from leafwing.data.stacked import is_stacked

_FEW, _SOME, _MANY = 500, 2_000, 10_000
_BALANCED = 0.2
"""Minimum of smallest class / largest class for which a conditional GAN is recommended without a warning."""
_MAX_LISTED = 8
_MAX_NAMES = 3
_SAME_RATIO = 1.02
"""Aspect ratios of the images of a pair that differ by more than this factor are different."""
_IMAGES, _POINTS = "built-in image data set", "built-in 2-D points"
"""Kinds of built-in data sets."""
_MAX_ATTRIBUTES = 64
_RARE = 50
"""An attribute that fewer images have, or lack, is barely learnt."""


@dataclass
class SourceReport:
    """The report on a source. `as_dict` returns them as plain JSON, `text` for a terminal.

    Args:
        source: as given.
        kind: `folder`, `zip`, `tar`, `idx`, `2 sources: folder, zip` and so on, `built-in image data set` or `built-in 2-D points`.
        pictures: number of candidates (points, for a data set of points).
        accepted: number that `load` would use, of tiles at least one.
        tiles: number of tiles that these are cut into; 0 without --fit tiles.
        rejected: the others, with reasons, and tiles of either, such as `photo.jpg#3`.
        sizes: `min`, `median` and `max` as [height, width] in pixels, each side separately; of accepted images.
        modes: Pillow's mode -> count (`RGB`, `L`, `P` palette, `RGBA` ...), of accepted images.
        formats: file format -> count, of accepted images; empty for arrays.
        transparent: number of accepted images with an alpha channel or a transparent colour.
        classes: label -> count of accepted images; empty without labels.
        tiles_by_class: label -> count of tiles of these; empty without labels or --fit tiles.
        balance: smallest class / largest class; None without labels.
        attributes: name -> number of accepted images that have it; empty without attributes.
        fields: name of each further field -> what it contains; see `columns.describe`.
        pairs: of pairs of files: `count`; `examples`, names of an image and its input; `without_partner`, `same_names` (equal apart
            from the extension) and `different_ratios`, names with the reason; empty if images have no files of their own as inputs.
        layouts: layouts of inputs that the source fits, if it was read without: `kind`, `options` for --input, `text`.
        exact_duplicates: groups of names with byte-identical files.
        near_duplicates: groups of names with nearly the same image; of an exact group only the first is listed.
        contradictions: groups of both kinds whose images have different labels.
        options: options for `load`: size, channels, fit, background.
        notes: how the source was read.
        advice: recommendations for the user.
    """

    source: str
    kind: str
    pictures: int = 0
    accepted: int = 0
    tiles: int = 0
    rejected: list[RejectedFile] = field(default_factory=list)
    sizes: dict[str, list[int]] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)
    transparent: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    tiles_by_class: dict[str, int] = field(default_factory=dict)
    balance: float | None = None
    attributes: dict[str, int] = field(default_factory=dict)
    fields: dict[str, dict[str, Any]] = field(default_factory=dict)
    pairs: dict[str, Any] = field(default_factory=dict)
    layouts: list[dict[str, Any]] = field(default_factory=list)
    exact_duplicates: list[list[str]] = field(default_factory=list)
    near_duplicates: list[list[str]] = field(default_factory=list)
    contradictions: list[list[str]] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain JSON, with the names above as keys."""
        return asdict(self)

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.text())}</pre>"

    def text(self) -> str:
        """The report for a terminal: several lines, no colours."""
        what = "points" if self.kind == _POINTS else "images"
        lines = [f"{self.source}  ({self.kind})"]
        lines.append(
            f"  {what + ':':11}{self.pictures:,} ({self.accepted:,} accepted, {self.pictures - self.accepted:,} rejected)"
        )
        if self.tiles:
            lines.append(f"  {'tiles:':11}{self.tiles:,} of {self.options['size']}")
        if self.sizes:
            low, middle, high = ("x".join(map(str, self.sizes[key])) for key in ("min", "median", "max"))
            lines.append(f"  {'sizes:':11}{low} to {high}, median {middle} (height x width)")
        for title, counts in (("modes", self.modes), ("formats", self.formats), ("classes", self.classes)):
            if counts:
                lines.append(f"  {title + ':':11}{_counts(counts)}")
        if self.attributes:
            shares = [f"{name} {count / self.accepted:.0%}" for name, count in self.attributes.items()]
            if len(shares) > _MAX_ATTRIBUTES:
                shares[_MAX_ATTRIBUTES:] = [f"and {len(shares) - _MAX_ATTRIBUTES} more"]
            lines.append(f"  {'attributes:':11} {', '.join(shares)}")
        lines += [f"  {name + ':':11}{columns.sentence(summary)}" for name, summary in self.fields.items()]
        if self.pairs:
            shown = "; ".join(f"{image} from {input}" for image, input in self.pairs["examples"])
            lines.append(f"  {'pairs:':11}{self.pairs['count']:,}, such as {shown}")
            titles = (
                ("without_partner", "without a partner"),
                ("same_names", "equal names with another extension"),
                ("different_ratios", "pairs of different aspect ratios"),
            )
            for key, title in titles:
                if items := self.pairs[key]:
                    lines.append(f"  {title}: {len(items)}")
                    lines += [f"    {name}: {reason}" for name, reason in items[:_MAX_LISTED]] + _more(items)
        for title, groups in (("identical files", self.exact_duplicates), ("near-duplicate images", self.near_duplicates)):
            if groups:
                lines.append(f"  groups of {title}: {len(groups)}")
                lines += [f"    {_join(group, 4)}" for group in groups[:_MAX_LISTED]] + _more(groups)
        if self.rejected:
            lines.append(f"  rejected, {len(self.rejected):,}:")
            lines += _by_reason(self.rejected)
        for title, items in (("notes", self.notes), ("advice", self.advice)):
            if items:
                lines += [f"  {title}:", *(f"    - {item}" for item in items)]
        return "\n".join(lines)


def doctor(
    source: Any,
    *,
    size: Size | None = None,
    channels: int | None = None,
    fit: str = "crop",
    background: str = "white",
    input: str | Path | None = None,
    fields: str | None = None,
    crop_from: Size | None = None,
    bits: int | str | None = None,
    levels: str | None = None,
    input_levels: str | None = None,
    labels: str | None = None,
    progress: DecodeProgress | None = None,
) -> SourceReport:
    """Examines every image of a source; changes nothing.

    Args:
        source: as for `load`.
        size: as for `load`.
        channels: as for `load`.
        fit: as for `load`.
        background: as for `load`.
        input: as for `load`; a second source is not examined.
        fields: as for `load`.
        crop_from: as for `load`.
        bits: as for `load`.
        levels: as for `load`.
        input_levels: as for `load`.
        labels: as for `load`.
        progress: a callback (done, total), in images.

    Raises:
        LeafwingError: no such source or input, a damaged archive, or invalid options; never because of bad images.
    """
    options = check(size, channels, fit, background, crop_from, bits, levels, input_levels, labels)
    place = locate(source)
    check_built_in(place, options)
    check_fields(place, fields)
    input = pairs.name_in(place, check_input(input))
    if isinstance(place, str):
        return _built_in_report(place, options, input, fields)
    title = describe(place) if isinstance(place, dict) else str(place)
    try:
        return _files_report(title, place, options, input, progress)
    except pairs.NoInputError:
        if input is None or not is_second(place, input):
            raise
    of_images = replace(options, input_levels=None, bits=options.bits or "auto")  # as `load` reads those of two sources
    report = _files_report(title, place, of_images, None, progress, unpaired=os.path.abspath(find(input)))
    report.notes.append(f"input: {input}, a second source, unpaired; `leafwing doctor {input}` examines it")
    return report


def _files_report(
    title: str,
    place: Path | dict[str, Path] | InMemory,
    options: Options,
    input: str | None,
    progress: DecodeProgress | None,
    unpaired: str | None = None,
) -> SourceReport:
    """The report on a folder or a file, or several; `unpaired` is the path of a second source of inputs, if there is one."""
    listings = list_places(place)
    with pictures.strict(), SurveyedSource.open(listings, options, progress, input) as surveyed:
        opened, infos, target = surveyed.source, surveyed.infos, surveyed.target
        accepted: list[EntryInfo] = []
        samples: Counter[str | None] = Counter()  # by label
        failed: list[EntryInfo | Decoded] = [info for info in infos if info.failure is not None]
        sketches: list[duplicates.Sketch] = []
        tones = reading.SeenTones()
        values: dict[str, list[Any]] = {name: [] for name in opened.fields}
        with closing(reading.decode(opened, infos, target, duplicates.sketch, progress, surveyed.input)) as outcomes:
            for outcome in outcomes:
                if outcome.image is None:
                    failed.append(outcome)
                    continue
                if not (accepted and accepted[-1] is outcome.info):
                    accepted.append(outcome.info)
                    sketches.append(outcome.measurement)
                samples[outcome.info.entry.label] += 1
                tones.add(outcome)
                for name, value in outcome.values.items():
                    values[name].append(value)
        whole = surveyed.input is None and unpaired is None and not opened.parts
        recognised = layouts.recognise(opened, infos) if whole else []
    report = SourceReport(title, opened.kind)
    report.rejected = sorted(opened.rejects + reading.rejects(failed), key=lambda reject: reject.name)
    report.accepted = len(accepted)
    tiles = [outcome for outcome in failed if isinstance(outcome, Decoded) and outcome.tile]
    used = {id(info) for info in accepted}
    without_tiles = {id(outcome.info) for outcome in tiles} - used
    report.pictures = report.accepted + len(report.rejected) - len(tiles) + len(without_tiles)
    report.notes = [*opened.notes, *tones.notes()]
    if accepted:
        report.notes += side_fields.describe_misplaced(opened, (outcome.failure for outcome in failed))
    report.tiles = samples.total() if target.fit == "tiles" else 0
    report.pairs = _pairs(accepted, report.rejected)
    report.layouts = [asdict(layout) for layout in recognised]
    report.options = target.as_dict() | ({"input": input or unpaired} if input or unpaired else {})
    headers = [info.header for info in accepted if info.header]
    if headers:
        sides = np.array([(header.height, header.width) for header in headers])
        report.sizes = {"min": _ints(sides.min(0)), "median": _ints(np.median(sides, axis=0)), "max": _ints(sides.max(0))}
    report.modes = dict(Counter(header.mode for header in headers).most_common())
    report.formats = dict(Counter(header.format for header in headers).most_common()) if opened.kind != "array" else {}
    report.transparent = sum(header.transparent for header in headers)
    _count_classes(report, [info.entry.label for info in accepted if info.entry.label is not None])
    report.tiles_by_class = {name: samples[name] for name in report.classes} if report.tiles else {}
    if options.labels != "none":
        report.notes += labelling.describe_unused(listings, surveyed.classes, [*report.classes])
    if accepted and opened.attributes:
        _count_attributes(report, opened.attributes, np.array([info.entry.attributes for info in accepted]))
    if accepted:
        kinds = opened.fields
        inputs = surveyed.fields()  # their samples are not kept
        report.fields = {name: {"kind": kind.kind, "field": str(kind)} for name, kind in inputs.items()}
        report.fields |= {
            name: columns.describe(kinds[name], side_fields.stack(kinds[name], values[name])) for name in kinds
        }
    names = [info.entry.name for info in accepted]
    if target.fit == "tiles":
        report.exact_duplicates = [
            [names[index] for index in group] for group in duplicates.exact([info.sha256 for info in accepted])
        ]
        report.notes.append("Near-duplicates are not searched among images that are cut into tiles.")
    else:
        _find_duplicates(report, names, [info.sha256 for info in accepted], sketches)
    labels = {info.entry.name: info.entry.label for info in accepted}
    groups = report.exact_duplicates + report.near_duplicates
    report.contradictions = [group for group in groups if len({labels[name] for name in group}) > 1]
    if message := refusal_reason(opened, len(accepted), failed, report.rejected):
        report.advice.append(f"This source cannot be used for training: {message}")
    if accepted:
        _advise(report)
    if progress:
        progress(len(infos), len(infos))
    return report


def _pairs(accepted: Sequence[EntryInfo], rejected: Sequence[RejectedFile]) -> dict[str, Any]:
    """The part `pairs` of a report; empty if the inputs are not files of their own."""
    paired = [(info, info.input) for info in accepted if info.input]
    reasons = {"without_partner": "no partner in", "same_names": "same name as"}
    lists: dict[str, Any] = {
        key: [[reject.name, reject.reason] for reject in rejected if reject.reason.startswith(start)]
        for key, start in reasons.items()
    }
    if not paired and not any(lists.values()):
        return {}
    different = []
    for info, other in paired:
        if info.header and other.header:
            sizes = [f"{header.height}x{header.width}" for header in (info.header, other.header)]
            ratio = info.header.width * other.header.height / (info.header.height * other.header.width)
            if not 1 / _SAME_RATIO < ratio < _SAME_RATIO:
                different.append(
                    [info.entry.name, f"{sizes[0]}, and its input {other.entry.name} {sizes[1]} (height x width)"]
                )
    examples = [[info.entry.name, other.entry.name] for info, other in paired[:: max(1, len(paired) // 3)][:3]]
    return {"count": len(paired), "examples": examples, **lists, "different_ratios": different}


def _built_in_report(name: str, options: Options, input: str | None, fields: str | None) -> SourceReport:
    """The report on a built-in data set."""
    data = load(
        name,
        size=options.size,
        channels=options.channels,
        fit=options.fit,
        background=options.background,
        input=input,
        fields=fields,
        crop_from="x".join(map(str, options.crop_from)) if options.crop_from else None,
        bits=options.bits,
    )
    if data.spec.points:
        report = SourceReport(name, _POINTS, len(data), len(data), options=data.options, notes=[BUILT_IN[name]])
        report.advice.append(
            f"Points with {len(modes(name))} known modes (sigma {sigma(name):g}), to show which modes a GAN misses."
        )
        return report
    notes = [BUILT_IN[name.partition(":")[0]], *data.notes]
    report = SourceReport(name, _IMAGES, len(data), len(data), options=data.options, notes=notes)
    side = [data.spec.height, data.spec.width]
    report.sizes = {"min": side, "median": side, "max": side}
    report.modes = {("L", "LA", "RGB", "RGBA")[data.spec.channels - 1]: len(data)}
    if data.labels is not None:
        _count_classes(report, [data.spec.labels[index] for index in data.labels])
    if data.attributes is not None:
        _count_attributes(report, data.spec.attributes, data.attributes)
    further = [name for name in data.columns if name not in ("image", "label", "attributes")]
    report.fields = {name: columns.describe(data.spec.fields[name], data.columns[name]) for name in further}
    if is_stacked(name):  # the digits repeat by design
        report.advice.append("Three digits per image, 50 images of each triple, to show which of 1,000 modes a GAN misses.")
        return report
    _find_array_duplicates(report, data)
    _advise(report)
    return report


def _find_array_duplicates(report: SourceReport, data: Dataset) -> None:
    names = [str(index) for index in range(len(data))]
    hashes = [image.tobytes().hex() for image in data.array]
    _find_duplicates(report, names, hashes, [duplicates.sketch(image) for image in data.array])


def _count_classes(report: SourceReport, labels: Sequence[str]) -> None:
    counts = Counter(labels)
    report.classes = {name: counts[name] for name in labelling.classes(set(counts))}
    if counts:
        report.balance = round(min(counts.values()) / max(counts.values()), 4)


def _count_attributes(report: SourceReport, names: Sequence[str], rows: np.ndarray) -> None:
    """Counts binary attributes (n, attributes)."""
    report.attributes = dict(zip(names, rows.sum(axis=0, dtype=np.int64).tolist(), strict=True))


def _find_duplicates(report: SourceReport, names: list[str], hashes: list[str], sketches: list[duplicates.Sketch]) -> None:
    """Fills in both kinds of duplicates; near ones are searched among one member of each exact group."""
    groups = duplicates.exact(hashes)
    report.exact_duplicates = [[names[index] for index in group] for group in groups]
    copies = {index for group in groups for index in group[1:]}
    originals = [index for index in range(len(names)) if index not in copies]
    near = duplicates.near([sketches[index] for index in originals])
    report.near_duplicates = [[names[originals[i]] for i in group] for group in near]


def _advise(report: SourceReport) -> None:
    """Recommends a recipe and a size, and says what to expect."""
    say, n = report.advice.append, report.accepted
    distinct = n - sum(len(group) - 1 for group in report.exact_duplicates + report.near_duplicates)
    small = min(report.sizes["median"])
    for layout in report.layouts:
        say(layout["text"])
    if report.pairs.get("different_ratios"):
        say(
            "The images of some pairs differ in their aspect ratio, so that they do not show the same part after fitting: check that "
            "they belong together, or use --fit stretch."
        )
    if "input" in report.fields or "input" in report.options:
        say(
            "Images with inputs: recipe pix2pix learns one from the other if they belong together and have the same size, srgan if "
            "images are 2, 4 or 8 times as large as inputs. Recipes cut and cyclegan need no pairs. See the guide page Pictures from "
            "pictures."
        )
    elif report.balance is not None and report.balance < _BALANCED and len(report.classes) > 1:
        smallest, largest = (choose(report.classes.items(), key=lambda item: item[1]) for choose in (min, max))
        say(
            f"Classes are imbalanced: {smallest[0]} has {smallest[1]:,} images, {largest[0]} has {largest[1]:,}. Conditional "
            "recipes, such as cgan, do poorly on the small ones: add images, or merge or drop small classes."
        )
    if report.attributes:
        say(
            f"{len(report.attributes)} attributes: recipe cgan generates requested ones"
            + (" with --condition-on attributes." if len(report.classes) > 1 else "; dcgan ignores them.")
        )
        if rare := [name for name, count in report.attributes.items() if min(count, n - count) < _RARE]:
            say(
                f"Attributes that fewer than {_RARE} images have, or lack, are barely learnt: {', '.join(rare[:_MAX_LISTED])}"
                f"{' ...' * (len(rare) > _MAX_LISTED)}."
            )
    if report.fields:
        say(
            f"Further fields ({', '.join(report.fields)}) are used only by recipes that take them; "
            "the others, such as dcgan, ignore them."
        )
    if n < _FEW:
        say(f"{n:,} images are few: memorisation is likely. Collect more if you can: aim for at least {_SOME:,}.")
    elif n < _SOME:
        say(f"{n:,} images are rather few: watch for memorisation, which `leafwing evaluate` looks for.")
    elif n < _MANY:
        say(f"{n:,} images are workable; {_MANY:,} or more are plenty.")
    else:
        say(f"{n:,} images are plenty.")
    say(
        f"A typical image has {'x'.join(map(str, report.sizes['median']))} pixels (height x width); it was read at --size "
        f"{report.options['size']} with {report.options['channels']} channels."
        + (" Twice the side takes about four times as long." if small >= 128 else "")
    )
    kinds = (("identical files", report.exact_duplicates), ("near-duplicates", report.near_duplicates))
    if duplicate_groups := [f"{len(groups)} group{'s' * (len(groups) > 1)} of {kind}" for kind, groups in kinds if groups]:
        say(
            f"{' and '.join(duplicate_groups)}; about {distinct:,} images are distinct. "
            "Duplicates are generated more often and memorised first: `leafwing train --duplicates first` uses one per group."
        )
    if report.contradictions:
        say(
            f"The same picture has different labels in {len(report.contradictions)} of these groups, such as "
            f"{_join(report.contradictions[0], 4)}: probably an error of the labels. --duplicates first uses the first label."
        )
    heights, widths = (
        {report.sizes["min"][side], report.sizes["median"][side], report.sizes["max"][side]} for side in (0, 1)
    )
    ratio = report.sizes["median"][1] / report.sizes["median"][0]
    target_height, target_width = (int(side) for side in report.options["size"].split("x"))
    if report.options["fit"] == "crop" and not 0.67 < ratio / (target_width / target_height) < 1.5:
        say(
            "Cropping cuts off much of these images: consider a --size with their aspect ratio (64x96: height x width), or --fit pad."
        )
    elif len(heights) > 1 or len(widths) > 1:
        say("The sizes differ; every image is resized with the chosen fit.")
    if report.rejected:
        tiles = len(report.rejected) - (report.pictures - n)
        what = f"{report.pictures - n}{f', and tiles: {tiles}' * (tiles > 0)}"
        say(f"Rejected files: {what}; the reasons are listed above. The files themselves are not modified.")


def _by_reason(rejects: Sequence[RejectedFile]) -> list[str]:
    """Rejected files as lines: those with the same reason, apart from numbers and quoted names, together."""
    groups: dict[str, list[RejectedFile]] = {}
    for reject in rejects:
        groups.setdefault(re.sub(r"[0-9][0-9.,x]*", "0", reject.reason), []).append(reject)
    lines = []
    for group in sorted(groups.values(), key=len, reverse=True)[: 2 * _MAX_LISTED]:
        names = ", ".join(reject.name for reject in group[:_MAX_NAMES])
        more = f" and {len(group) - _MAX_NAMES:,} more" if len(group) > _MAX_NAMES else ""
        count = f"{len(group):,} files: " if len(group) > 1 else ""
        lines.append(f"    {count}{names}{more}: {group[0].reason}")
    left = len(groups) - 2 * _MAX_LISTED
    return lines + ([f"    and {left:,} more reasons; --json lists all files"] if left > 0 else [])


def _ints(sides: np.ndarray) -> list[int]:
    return [int(sides[0]), int(sides[1])]


def _counts(counts: dict[str, int]) -> str:
    items = [f"{name} {count:,}" for name, count in counts.items()]
    return ", ".join(items[:12]) + (f" and {len(items) - 12} more" if len(items) > 12 else "")


def _join(names: list[str], limit: int) -> str:
    return " = ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _more(items: Sequence[object]) -> list[str]:
    return [f"    and {len(items) - _MAX_LISTED} more"] if len(items) > _MAX_LISTED else []
