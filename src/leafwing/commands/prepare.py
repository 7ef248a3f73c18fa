"""Aligned crops of a folder of photographs, as a folder that `train` takes."""

from __future__ import annotations

import csv
import io
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from leafwing import files, notebook
from leafwing.commands.originals import find_pictures, open_pictures
from leafwing.commands.results import Written
from leafwing.commands.writing import QUALITY, encode, folded, reserve, safe_path, shortened
from leafwing.errors import InvalidOption, LeafwingError
from leafwing.progress import Progress, Reporter, reporter_of
from leafwing.quantities import plural, real

if TYPE_CHECKING:
    from PIL import Image as Pillow

    from leafwing.commands.cropping import Cropper, Outcome, Rules
    from leafwing.data import RejectedFile
    from leafwing.data.lists import Annotations
    from leafwing.data.sources import Entry, Source, Task

TABLE = "prepared.csv"
"""The table of all pictures in the output folder."""
PAIRS = (("left_eye", "right_eye"), ("eye_left", "eye_right"), ("lefteye", "righteye"))
THIRD = ("mouth", "nose", "beak")
"""Names of the points by which pictures are aligned, and of the third one, if none are chosen."""


@dataclass
class Preparation:
    """What `prepare` wrote.

    Args:
        folder: the output folder.
        sheet: the contact sheet beside it.
        pictures: number of pictures in the source.
        written: number of crops.
        rejected: pictures, or boxes of them, that are not used, with reasons.
        rules: the rules by which they are rejected, in words, and how many each one rejects.
        notes: what was done differently from what one may expect, and what is not used.
    """

    folder: Path
    sheet: Path
    pictures: int = 0
    written: int = 0
    rejected: list[RejectedFile] = field(default_factory=list)
    rules: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._shown = Written(self.sheet)

    def _repr_html_(self) -> str:
        text = f"{self.folder}: {plural(self.written, 'crop')} of {plural(self.pictures, 'picture')}"
        return notebook.lines([text]) + (self._shown._repr_html_() or "")


def prepare(
    source: str | Path,
    *,
    out: str | Path,
    landmarks: bool | str | Path = False,
    boxes: bool | str | Path = False,
    size: int = 64,
    points: str | Sequence[str | int] | None = None,
    at: str | Sequence[float] = (0.3, 0.4, 0.7, 0.4),
    margin: float | None = None,
    share: float | None = None,
    every_box: bool = False,
    outside: str = "reflect",
    smallest: float | None = None,
    frontal: float | None = None,
    sharp: float | None = None,
    progress: Progress = None,
) -> Preparation:
    """Writes aligned square crops of photographs: two landmarks of each at the same places, or the surroundings of a box.

    Names and folders are kept; labels and captions are written as lists of the crops. Each crop is resampled once. A contact sheet
    beside the output folder shows pictures with their landmarks and the crops; `prepared.csv` has the place of each crop, or why there
    is none.

    Args:
        source: a folder or archive of pictures, with files of landmarks or boxes beside them; never changed.
        out: output folder, which must not exist.
        landmarks: align by landmarks: True, or a list in the source or elsewhere.
        boxes: crop around boxes: True, or a list in the source or elsewhere.
        size: side of the crops in pixels.
        points: two landmarks, by name or number (from 1), and possibly a third one for `frontal`. None: the eyes.
        at: x and y of the places of the two landmarks, as fractions of the crop.
        margin: what is added to a box on each side, as a fraction of its longer side. None: nothing.
        share: instead of a margin, the longer side of a box as a fraction of the crop.
        every_box: a crop of each box; else of the largest one of each picture.
        outside: what continues a picture over its edges, where a crop needs it: reflect or edge; or reject such crops.
        smallest: reject crops with fewer pixels a side in their picture than this. None: `size`, so that nothing is enlarged.
        frontal: reject pictures in which the third landmark is farther from the middle of the two than this, along their line and in
            their distances. None: none.
        sharp: reject crops with a lower variance of the Laplacian than this. None: none.
        progress: True or None: shown; False: not; or a `leafwing.Reporter`, which receives messages and progress.

    Raises:
        LeafwingError: invalid input, or not one picture is used; nothing was written.
        StorageError: the output cannot be written; nothing was written.
    """
    from leafwing.commands import crop_lists
    from leafwing.data import annotations
    from leafwing.data.pictures import strict

    progress = reporter_of(progress)
    option = _choose_option(landmarks, boxes)
    list_name = landmarks or boxes
    rules = _check(option, size, at, margin, share, every_box, outside, smallest, frontal, sharp, points)
    path, target = find_pictures(source), Path(out)
    if not target.name:
        raise InvalidOption("out", os.fspath(out), "give the name of a new folder, such as crops")
    sheet = target.with_name(f"{target.name}-sheet.png")
    for new in (target, sheet):
        if os.path.lexists(new):
            raise LeafwingError(f"{new} exists: choose another --out")
    if path.is_dir() and target.resolve().is_relative_to(path.resolve()):
        raise InvalidOption("out", target, "lies inside the source; choose a folder outside of it")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    result = Preparation(target, sheet)
    with strict(), open_pictures(path) as opened:
        if opened.raw:
            raise LeafwingError(f"{path}: prepare takes files of pictures; arrays and IDX files have no landmarks or boxes")
        listed = annotations.read(opened, option, None if list_name is True else os.fspath(list_name))  # type: ignore[arg-type]
        result.pictures = len(opened.entries)
        result.notes += listed.notes
        cropper = _cropper(rules, listed, points, result.notes)
        missing = [parent for parent in target.parents if not parent.exists()]
        with files.storage(str(target)):
            temporary.mkdir(parents=True)
        try:
            outcomes = _write_crops(opened, listed, cropper, temporary, progress)
            _examine(outcomes, cropper, temporary, result)
            if not result.written:
                counts = "; ".join(f"{count:,} {text}" for text, count in result.rules.items())
                example = "".join(f". {item.name}: {item.reason}" for item in result.rejected[:1])
                raise LeafwingError(f"{path}: not one of {result.pictures:,} pictures is used: {counts}{example}")
            files.write(temporary / TABLE, _table(outcomes))
            result.notes += crop_lists.write(opened, _by_picture(outcomes), temporary, listed.used)
            drawing = temporary.with_suffix(".png")
            files.write(drawing, _draw(opened, outcomes, temporary))
            with files.storage(str(target)):
                _remove_empty_folders(temporary)
                if target.exists():
                    raise LeafwingError(f"{target} exists: choose another --out")
                temporary.rename(target)
                drawing.rename(sheet)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.with_suffix(".png").unlink(missing_ok=True)
            with suppress(OSError):
                for parent in missing:
                    parent.rmdir()
            raise
    _report(result, outcomes, cropper, listed, progress)
    return result


def _choose_option(landmarks: bool | str | Path, boxes: bool | str | Path) -> str:
    """The option that says what is cropped."""
    if bool(landmarks) == bool(boxes):
        both = "choose one of --landmarks and --boxes" if landmarks else "say what to crop"
        raise LeafwingError(f"{both}: --landmarks aligns pictures by two points, --boxes crops around boxes")
    return "landmarks" if landmarks else "boxes"


def _check(
    option: str,
    size: int,
    at: str | Sequence[float],
    margin: float | None,
    share: float | None,
    every_box: bool,
    outside: str,
    smallest: float | None,
    frontal: float | None,
    sharp: float | None,
    points: object,
) -> Rules:
    """The rules by the options; names of landmarks are not known yet.

    Raises:
        InvalidOption: with what is possible.
    """
    from leafwing.commands.cropping import Rules
    from leafwing.data.align import OUTSIDE
    from leafwing.data.options import LARGEST

    if isinstance(size, bool) or not isinstance(size, int) or not 8 <= size <= LARGEST:
        raise InvalidOption("size", size, f"a whole number from 8 to {LARGEST}: the side of the crops in pixels")
    if outside not in OUTSIDE:
        raise InvalidOption("outside", outside, f"choose from {', '.join(OUTSIDE)}")
    numbers = {"margin": margin, "share": share, "smallest": smallest, "frontal": frontal, "sharp": sharp}
    for name, value in numbers.items():
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise InvalidOption(name, value, "a number from 0 on")
    if margin is not None and margin > 10:
        raise InvalidOption("margin", margin, "at most 10, in longer sides of the box")
    if share is not None and not 0.05 <= share <= 1:
        raise InvalidOption("share", share, "from 0.05 to 1: the longer side of the box as a fraction of the crop")
    if share is not None and margin is not None:
        raise LeafwingError("--margin and --share: choose one of them; a margin of m is a share of 1 / (1 + 2 m)")
    places = _places(at)
    of_boxes = {"margin": margin is not None, "share": share is not None, "every_box": every_box}
    of_points = {"points": points is not None, "frontal": frontal is not None, "at": places != (0.3, 0.4, 0.7, 0.4)}
    for name, is_set in (of_boxes if option == "landmarks" else of_points).items():
        if is_set:
            raise LeafwingError(
                f"--{name.replace('_', '-')} is for {'--boxes' if option == 'landmarks' else '--landmarks'}; omit it"
            )
    return Rules(
        size, size if smallest is None else smallest, outside, places=places, every_box=every_box, frontal=frontal, sharp=sharp,
        scale=1 / share if share else 1 + 2 * (margin or 0),
    )  # fmt: skip


def _places(at: str | Sequence[float]) -> tuple[float, float, float, float]:
    """Two places in a crop."""
    try:
        numbers = [real(number) for number in (at.split(",") if isinstance(at, str) else at)]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != 4 or not all(0 <= number <= 1 for number in numbers) or math.dist(numbers[:2], numbers[2:]) < 0.05:
        raise InvalidOption("at", at, "give x and y of two different places as fractions of the crop: 0.3,0.4,0.7,0.4")
    return (numbers[0], numbers[1], numbers[2], numbers[3])


def _cropper(rules: Rules, listed: Annotations, points: str | Sequence[str | int] | None, notes: list[str]) -> Cropper:
    """What crops the pictures; for landmarks, which ones are aligned is decided here."""
    from leafwing.commands.cropping import Cropper
    from leafwing.data import align

    if any(isinstance(value, list) for values in listed.values.values() for value in values):  # boxes
        several = sum(len(values) > 1 for values in listed.values.values())
        if several and not rules.every_box:
            notes.append(f"Pictures with several boxes: {several:,}; the largest of each is used (--every-box uses all).")
        return Cropper(rules)
    names = tuple(dict.fromkeys(name for values in listed.values.values() for name, *_ in values))
    chosen = _chosen_points(names, points)
    visible = [{name: (x, y) for name, x, y, is_visible in values if is_visible} for values in listed.values.values()]
    pairs = [(item[chosen[0]], item[chosen[1]]) for item in visible if chosen[0] in item and chosen[1] in item]
    if points is None and 2 * sum(second[0] < first[0] for first, second in pairs) > len(pairs):
        chosen = (chosen[1], chosen[0], *chosen[2:])
        notes.append(f"{chosen[0]} is the left one in most pictures, as seen by the viewer, and is placed at the left.")
    if rules.frontal is not None and len(chosen) < 3:
        raise InvalidOption("frontal", rules.frontal, "needs a third landmark: --points LEFT,RIGHT,MOUTH")
    sides = 0
    if len(chosen) == 3:
        for item in visible:
            first, second, third = (item.get(name) for name in chosen)
            if first is not None and second is not None and third is not None and math.dist(first, second) > 0:
                sides += 1 if align.side_of(first, second, third) > 0 else -1
    return Cropper(replace(rules, names=chosen), names, sides)


def _chosen_points(names: Sequence[str], points: str | Sequence[str | int] | None) -> tuple[str, ...]:
    """The names of the two landmarks that are aligned, and possibly of a third one."""
    known = ", ".join(f"{number} {name}" for number, name in enumerate(names[:100], 1))
    if points is None:
        spelled = {name.lower().replace(" ", "_"): name for name in reversed(names)}
        for pair in PAIRS:
            if {*pair} <= {*spelled}:
                return tuple(spelled[name] for name in (*pair, *[third for third in THIRD if third in spelled][:1]))
        raise LeafwingError(f"--points is needed: two landmarks to align by, such as --points 1,2. There are: {known}")
    items = points.split(",") if isinstance(points, str) else [*points]
    chosen = []
    for item in (str(item).strip() for item in items):
        number = int(item) if item.isascii() and item.isdecimal() and len(item) < 6 else 0
        chosen.append(item if item in names else names[number - 1] if 1 <= number <= len(names) else "")
    if not 2 <= len(chosen) <= 3 or "" in chosen or len({*chosen}) < len(chosen):
        shown = points if isinstance(points, str) else ",".join(map(str, items))
        raise InvalidOption("points", shown, f"give two or three different landmarks by name or number. There are: {known}")
    return tuple(chosen)


def _choose_paths(
    entries: Sequence[Entry], counts: Mapping[int, int]
) -> dict[tuple[int, int], tuple[PurePosixPath, PurePosixPath]]:
    """Where each crop of each picture is written, and where if it must be PNG; no path twice. Keys: picture, crop."""
    from leafwing.commands.crop_lists import CAPTIONS, LABELS

    def below(name: str) -> PurePosixPath:
        path = safe_path(name)
        top = path.parts[0].casefold()
        return PurePosixPath(f"{top}-2", *path.parts[1:]) if top in (TABLE, LABELS, CAPTIONS) else path

    used = {folded(parent) for entry in entries for parent in below(entry.name).parents}
    paths: dict[tuple[int, int], PurePosixPath] = {}
    for index, entry in enumerate(entries):
        for number in range(counts.get(index, 0)):
            path = below(entry.name)
            if counts[index] > 1:
                path = path.with_name(shortened(f"{path.stem}-{number + 1}{path.suffix}"))
            paths[index, number] = reserve(path, used)
    return {  # the names of all pictures come first
        key: (path, path if path.suffix.lower() == ".png" else reserve(path.with_name(shortened(f"{path.stem}.png")), used))
        for key, path in paths.items()
    }


def _write_crops(source: Source, listed: Annotations, cropper: Cropper, folder: Path, progress: Reporter) -> list[Outcome]:
    """Crops all pictures into a folder; what happened to each of them."""
    from leafwing.commands.cropping import Outcome
    from leafwing.data.pictures import UnusableImageError
    from leafwing.data.reading import in_parallel

    entries = source.entries
    indices = {id(entry): index for index, entry in enumerate(entries)}
    counts = {index: len(values) if cropper.rules.every_box else 1 for index, values in listed.values.items()}
    paths = _choose_paths(entries, counts)
    what = "landmarks" if cropper.rules.names else "box"

    def work(chunk: list[Task]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for entry, load, _ in chunk:
            index = indices[id(entry)]
            if index not in listed.values:
                reason = listed.failures.get(index, f"no {what} in {listed.files}")
                outcomes.append(Outcome(entry.name, "missing", reason))
                continue
            try:
                data = load()
            except UnusableImageError as reason:
                outcomes.append(Outcome(entry.name, "picture", str(reason)))
                continue
            for number, (outcome, image) in enumerate(cropper.crop(entry.name, data, listed.values[index])):
                if image is not None:
                    outcome.file = _write(image, folder, *paths[index, number])
                outcomes.append(outcome)
        return outcomes

    outcomes: list[Outcome] = []
    done = 0
    for chunk in in_parallel(work, source.chunks(entries)):
        outcomes += chunk
        done += len({outcome.source for outcome in chunk})
        progress.report_progress("cropping pictures", done, len(entries))
    return outcomes


def _write(image: Pillow.Image, folder: Path, path: PurePosixPath, other: PurePosixPath) -> str:
    """Writes a crop in the type of file of its picture, or as PNG; the path that it got. The folder is not in use yet."""
    suffix = path.suffix.lower()
    content = encode(image, suffix, lossy=True)
    if content is None:
        path, buffer = other, io.BytesIO()
        image.save(buffer, "PNG")
        content = buffer.getvalue()
    with files.storage(str(folder / path)):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return path.as_posix()


def _examine(outcomes: Sequence[Outcome], cropper: Cropper, folder: Path, result: Preparation) -> None:
    """Applies the rules that need all pictures, and counts."""
    from leafwing.commands.cropping import reject_strays
    from leafwing.data import RejectedFile

    if cropper.rules.names:
        why = reject_strays(outcomes)
        if why:
            result.notes.append(f"Whether landmarks lie on the same things in all pictures was not examined: {why}.")
        stray = [outcome for outcome in outcomes if outcome.stray and outcome.rule != "place"]
        if stray:
            examples = ", ".join(f"{outcome.source} {' '.join(outcome.stray[:3])}" for outcome in stray[:3])
            dots = " ..." * (len(stray) > 3)
            result.notes.append(
                f"Pictures with landmarks outside of them: {len(stray):,} ({examples}{dots}); the alignment does not use these."
            )
    for outcome in outcomes:
        if outcome.rule and outcome.file:
            (folder / outcome.file).unlink()
            outcome.file = ""
    result.written = sum(bool(outcome.file) for outcome in outcomes)
    result.rejected = [RejectedFile(outcome.source, outcome.reason) for outcome in outcomes if outcome.rule]
    texts = cropper.rules.describe()
    result.rules = {
        text: count for rule, text in texts.items() if (count := sum(outcome.rule == rule for outcome in outcomes))
    }


def _by_picture(outcomes: Sequence[Outcome]) -> dict[str, list[str]]:
    """The crops of each picture that is used, as paths in the output folder."""
    crops: dict[str, list[str]] = {}
    for outcome in outcomes:
        if outcome.file:
            crops.setdefault(outcome.source, []).append(outcome.file)
    return crops


def _table(outcomes: Sequence[Outcome]) -> str:
    """`prepared.csv`: a row for each crop, written or not."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(
        ["source", "crop", "left", "top", "side", "angle", "outside", "turn", "sharpness", "resemblance", "reason"]
    )
    for outcome in outcomes:
        crop = outcome.crop
        place = [crop.corner.real, crop.corner.imag, crop.side, crop.angle] if crop else [None] * 4
        measures = [outcome.outside, outcome.turn, outcome.sharpness, outcome.resemblance]
        numbers = ["" if value is None else f"{value:.3f}" for value in (*place, *measures)]
        rows.writerow([outcome.source, outcome.file, *numbers, outcome.reason])
    return text.getvalue()


def _draw(source: Source, outcomes: Sequence[Outcome], folder: Path) -> bytes:
    """The contact sheet as PNG."""
    from leafwing.commands import preparation_sheet
    from leafwing.data.pictures import UnusableImageError

    def read(names: Set[str]) -> dict[str, bytes]:
        """In the order of the source, because a compressed archive can only be read forwards."""
        result: dict[str, bytes] = {}
        for chunk in source.chunks([entry for entry in source.entries if entry.name in names]):
            for entry, load, _ in chunk:
                with suppress(UnusableImageError):
                    result[entry.name] = load()
        return result

    return preparation_sheet.draw(outcomes, read, folder)


def _remove_empty_folders(folder: Path) -> None:
    """Removes the folders of which no crop is used."""
    for path in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        with suppress(OSError):
            path.rmdir()


def _report(
    result: Preparation, outcomes: Sequence[Outcome], cropper: Cropper, listed: Annotations, progress: Reporter
) -> None:
    """Says what was done, what was not used by which rule, and what was measured."""
    rules = cropper.rules
    if rules.names:
        first, second = rules.places[:2], rules.places[2:]
        how = f"{rules.names[0]} at {first[0]:g}, {first[1]:g} and {rules.names[1]} at {second[0]:g}, {second[1]:g}"
    else:
        how = f"squares of {rules.scale:.3g} times the longer side of the box"
    result.notes += [*_describe_files(outcomes, rules), *_describe_edges(outcomes, rules)]
    size = f"{rules.size}x{rules.size}"
    progress.say(f"{result.written:,} crops of {size} from {result.pictures:,} pictures, by {listed.files}: {how}")
    for rule, text in rules.describe().items():
        rejected = [outcome for outcome in outcomes if outcome.rule == rule]
        if rejected:
            examples = "; ".join(f"{outcome.source}: {outcome.reason}" for outcome in rejected[:3])
            progress.say(f"not used, {text}: {len(rejected):,} ({examples}{' ...' * (len(rejected) > 3)})")
    for text in _describe_measures(outcomes):
        progress.say(text)
    for note in result.notes:
        progress.say(note)
    progress.say(f"before and after: {result.sheet}; each picture: {result.folder / TABLE}")


def _describe_files(outcomes: Sequence[Outcome], rules: Rules) -> Iterator[str]:
    """Notes on the types and the names of files."""
    used = [outcome for outcome in outcomes if outcome.file]
    if any(outcome.file.lower().endswith((".jpg", ".jpeg", ".jpe", ".jfif")) for outcome in used):
        yield f"JPEG files are written as JPEG, quality {QUALITY}."
    changed = [item for item in used if PurePosixPath(item.file).suffix != PurePosixPath(item.source).suffix]
    if changed:
        yield f"Written as PNG, not as their own type of file: {len(changed):,}, such as {changed[0].file}."
    pairs = [(PurePosixPath(item.source), PurePosixPath(item.file)) for item in used if not rules.every_box]
    renamed = [f"{file} from {source}" for source, file in pairs if source.with_suffix("") != file.with_suffix("")]
    if renamed:
        yield f"Crops with other names than their pictures: {len(renamed):,}, such as {renamed[0]}."


def _describe_edges(outcomes: Sequence[Outcome], rules: Rules) -> Iterator[str]:
    """Notes on crops that reach over the edges of their pictures, and on enlarged ones."""
    used = [outcome for outcome in outcomes if outcome.file]
    beyond = [outcome for outcome in used if outcome.outside]
    if beyond:
        how = {"reflect": "mirrored", "edge": "continued by its outermost pixels"}[rules.outside]
        worst = max(beyond, key=lambda outcome: outcome.outside or 0)
        yield (
            f"Crops that reach over the edge of their picture, which is {how} there: {len(beyond):,}, at most {worst.outside:.0%} of "
            f"the area ({worst.source}); --outside changes that."
        )
    enlarged = [outcome for outcome in used if outcome.crop and outcome.crop.side < rules.size - 1e-6]
    if enlarged:
        yield f"Enlarged crops: {len(enlarged):,}, such as {enlarged[0].file}."


def _describe_measures(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """What was measured of the crops, for the choice of thresholds."""
    import numpy as np

    turns = [outcome.turn for outcome in outcomes if outcome.file and outcome.turn is not None]
    if turns:
        half, most = np.quantile(turns, (0.5, 0.9))
        yield f"turn of the crops (--frontal): half below {half:.2f}, 90% below {most:.2f}"
    values = [outcome.sharpness for outcome in outcomes if outcome.file and outcome.sharpness is not None]
    if values:
        low, half = np.quantile(values, (0.1, 0.5))
        yield f"sharpness of the crops (--sharp): 10% below {low:.3g}, half below {half:.3g}"
