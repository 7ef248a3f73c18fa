"""The field `input` of pairs: from the option `--input` to the pixels of each image's input.

The option is resolved in a fixed order: a half of each image, an input derived from it (`derive`), a CSV file of pairs, a folder of
the source, a suffix of file names. `loading` tries a second source if it is none of these.
"""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from leafwing.data import pictures
from leafwing.data.derive import DERIVED, VERSION, derived_fields
from leafwing.data.levels import Range, show
from leafwing.data.lists import Names, read_table
from leafwing.data.options import Target
from leafwing.data.pictures import HALVES, Picture, UnusableImageError
from leafwing.data.sources import Entry, RejectedFile, Source, clean
from leafwing.errors import InvalidOption, LeafwingError, did_you_mean
from leafwing.fields import Field, Image

PAIRS_FILE = "pairs.csv"
SPLITS = "train|test|val|valid|validation"
"""Folders of splits, which are read together; `trainA` counts as the folder `A` in the folder `train`."""
NEAREST, SEARCHED = 10, 500
"""Of at most so many images without a partner the nearest name is searched, among so many that are near in the alphabet."""
LOPSIDED = 1.5
"""Two aspect ratios that differ by more than this factor are different."""


class NoInputError(InvalidOption):
    """The source has no such input; it may be that of a second source."""


@dataclass(frozen=True)
class Input:
    """Where the input of each image comes from: a half of the image, a derivation, or else a file of its own.

    Args:
        option: as given by the user.
        half: a name of `HALVES`; empty if not from a half.
        derived: a name of `DERIVED`; empty if not derived.
        target: the format of the input, if it is not derived; set after the survey.
    """

    option: str
    half: str = ""
    derived: str = ""
    target: Target | None = None

    def fields(self, target: Target) -> dict[str, Field]:
        """The further fields of images in this format."""
        if self.derived:
            return derived_fields(self.derived, Image(*target.shape))
        assert self.target is not None
        return {"input": Image(*self.target.shape, bits=self.target.bits)}

    def options(self) -> dict[str, Any]:
        """The options of `load` that belong to the input."""
        own_levels = self.target.levels if self.target and not self.half else None
        return {"input": self.option} | ({"input_levels": show(own_levels)} if own_levels else {})

    def as_dict(self) -> dict[str, Any]:
        """What determines its pixels, besides those of the files, as plain JSON."""
        if self.derived:
            return {"derived": self.derived, "version": VERSION}
        assert self.target is not None
        further: dict[str, Any] = {"bits": 16} if self.target.bits == 16 else {}
        further |= {"levels": show(self.target.levels)} if self.target.levels else {}
        return {"half": self.half, "channels": self.target.channels} | further

    def decode(
        self, data: bytes, partner: tuple[Entry, bytes] | None, target: Target, raw: tuple[int, ...] | None
    ) -> list[tuple[Picture, dict[str, np.ndarray]]]:
        """Decodes an image, or its tiles, and the further columns that belong to each, by name.

        Args:
            data: the file of the image.
            partner: the entry of its input and the file, if it has one.
            target: the format of the image.
            raw: as for `pictures.header`.

        Raises:
            UnusableImageError: with the reason.
        """
        if self.derived:
            return [
                (image, {name: column[0] for name, column in DERIVED[self.derived](image.pixels[None]).items()})
                for image in decode_parts(data, target, raw)
            ]
        assert self.target is not None
        if self.half and target.fit == "tiles":
            halves = pictures.decode_half_tiles(data, self.half, (self.target, target), raw)
            return [(image, {"input": other.pixels}) for other, image in zip(*halves, strict=True)]
        if self.half:
            other, image = pictures.decode_halves(data, self.half, (self.target, target), raw)
            return [(image, {"input": other.pixels})]
        assert partner is not None
        entry, content = partner
        images = decode_parts(data, target, raw)
        try:
            inputs = decode_parts(content, self.target, raw)
        except UnusableImageError as reason:
            raise input_failure(entry, reason) from None
        sizes = [f"{part[0].height}x{part[0].width}" for part in (inputs, images)]
        if target.fit == "tiles" and sizes[0] != sizes[1]:
            raise input_failure(
                entry, UnusableImageError(f"it has {sizes[0]} pixels, the image {sizes[1]}: --fit tiles needs equal sizes")
            )
        return [(image, {"input": other.pixels}) for image, other in zip(images, inputs, strict=True)]


def decode_parts(data: bytes, target: Target, raw: tuple[int, ...] | None) -> list[Picture]:
    """One file as one fitted image, or as its tiles."""
    return pictures.decode_tiles(data, target, raw) if target.fit == "tiles" else [pictures.decode(data, target, raw)]


def is_path(option: str) -> bool:
    """Whether `--input` is certainly the path of a second source: absolute, or beginning with `./`, `../` or `~`."""
    return option.startswith(("/", "./", "../", "~")) or os.path.isabs(option)


def inside(place: object, option: str) -> str:
    """The name in the source of a CSV file or a folder, with a slash at its end, that lies there; empty for any other option.

    Args:
        place: the path of the source, or those of several by name.
        option: a path, as shells complete it.
    """
    path = os.path.expanduser(option)
    is_folder = os.path.isdir(path)
    if not option or not (is_folder or _is_list(path)):
        return ""
    real = Path(path).resolve()
    folders = [
        Path(folder).resolve()
        for folder in (place.values() if isinstance(place, Mapping) else [place])
        if isinstance(folder, Path)
    ]
    names = [real.relative_to(folder).as_posix() for folder in folders if folder in real.parents]
    return names[0] + "/" * is_folder if names else ""


def _is_list(path: str) -> bool:
    return path.lower().endswith(".csv") and os.path.isfile(path)


def name_in(place: object, option: str | None) -> str | None:
    """`--input` as its name in the source, if it is the path of a CSV file or a folder there (see `inside`); else as it is.

    Raises:
        LeafwingError: a CSV file elsewhere, which can only be a list of pairs.
    """
    if option is None or option in (*HALVES, *DERIVED):
        return option
    if (name := inside(place, option)) and name.rstrip("/") != option.rstrip("/"):
        return name
    if name or not is_path(option) or not _is_list(os.path.expanduser(option)):
        return option
    raise InvalidOption(
        "input", option, f"a list of pairs lies in SOURCE, and names the files from there: copy it into {place}"
    )


def has_list(source: Source) -> bool:
    """Whether a source has a CSV file of pairs with the usual name."""
    return bool(_csv_file(source, PAIRS_FILE))


def find_input(source: Source, option: str) -> Input:
    """Resolves `--input` within a source, and assigns its file to each entry; entries without a partner are rejected.

    Raises:
        LeafwingError: the source has no such input, or it is ambiguous; the message lists what there is.
    """
    name = option.rstrip("/")
    if is_path(option) or not name:
        raise NoInputError("input", option, "no such file or folder")
    if option in HALVES:
        source.notes.append(f"input: the {option} half of each image")
        _mention_folder(source, option)
        return Input(option, half=option)
    if option in DERIVED:
        source.notes.append(f"input: {option}, derived from each image")
        _mention_folder(source, option)
        return Input(option, derived=option)
    if file := _csv_file(source, option):
        pairs = _listed(source, file)
    else:
        in_folders = _has_folder(source, name) or _has_folder(source, name, joined=True)
        pairs = _in_folders(source, name) if in_folders else _by_suffix(source, name)
    if not pairs:
        raise NoInputError("input", option, _describe_missing(source, option))
    for entry, partner in pairs:
        entry.input = partner
    source.entries = [entry for entry, _ in pairs]
    source.folders_are_classes = False
    source.read_in_any_order()
    return Input(option)


def require_halves(sizes: Sequence[tuple[int, int]], half: str, size: tuple[int, int] | None) -> None:
    """Raises LeafwingError if the images do not look like two halves side by side, and their halves do not fit the size.

    Args:
        sizes: height and width of each whole image.
        half: a name of `HALVES`.
        size: the requested height and width; None for a square.
    """
    if not sizes:
        return
    height, width = np.median(sizes, axis=0).tolist()
    across = half in ("left", "right")
    if (width / height if across else height / width) >= LOPSIDED:
        return
    part = (width / 2, height) if across else (width, height / 2)
    target = (size[1], size[0]) if size else (1, 1)
    ratio = part[0] / part[1] / (target[0] / target[1])
    if max(ratio, 1 / ratio) > LOPSIDED:
        place = "side by side" if across else "one above the other"
        raise InvalidOption(
            "input",
            half,
            f"a typical image has {height:g}x{width:g} pixels (height x width). Are these pairs, two images "
            f"{place}? If they are, confirm it with the size of a half: --size {part[1]:.0f}x{part[0]:.0f} or smaller",
        )


def set_target(layout: Input, target: Target, channels: int, bits: int = 8, levels: Range | None = None) -> Input:
    """An input in the format of the images, with channels, bits and levels of its own.

    Raises:
        LeafwingError: images in this format do not allow it.
    """
    layout = (
        layout if layout.derived else replace(layout, target=replace(target, channels=channels, bits=bits, levels=levels))
    )
    if target.window is None:
        layout.fields(target)  # raises
        return layout
    layout.fields(replace(target, height=target.window[0], width=target.window[1]))
    try:
        layout.fields(target)
    except InvalidOption as error:
        raise InvalidOption(error.name, error.value, error.reason.replace("--size", "--crop-from")) from None
    return layout


def input_failure(entry: Entry, reason: UnusableImageError) -> UnusableImageError:
    """The reason for rejecting an image whose input cannot be used."""
    return type(reason)(f"its input {entry.name} cannot be used: {reason}")


def _mention_folder(source: Source, word: str) -> None:
    if word in _folders(source):
        source.notes.append(f"--input {word} is not the folder {word}; for that write --input {word}/")


Pairs = list[tuple[Entry, Entry]]
Key = tuple[str, str]


@dataclass
class _Side:
    """The files of one side of the pairs, by a key that partners share.

    Args:
        place: where they are, in words.
        files: the entries by key.
        copies: the reasons for rejecting entries whose key another one has, by the entry's id.
    """

    place: str
    files: dict[Key, Entry] = field(default_factory=dict)
    copies: dict[int, str] = field(default_factory=dict)

    def add(self, key: Key, entry: Entry) -> None:
        first = self.files.setdefault(key, entry)
        if first is not entry:
            self.copies[id(entry)] = f"same name as {first.name}, apart from the extension"


def _match(source: Source, images: _Side, inputs: _Side) -> Pairs:
    """The pairs, in the order of the images; the other entries are rejected with a reason."""
    partners = _partners(images, inputs)
    pairs = [(entry, inputs.files[partners[key]]) for key, entry in images.files.items() if key in partners]
    reasons: dict[int, str] = {}
    for side, other, used in ((images, inputs, partners.keys()), (inputs, images, {*partners.values()})):
        other_used = {*partners.values()} if side is images else partners.keys()
        free = sorted(("/".join(key).lstrip("/"), entry.name) for key, entry in other.files.items() if key not in other_used)
        alone = [(key, entry) for key, entry in side.files.items() if key not in used]
        for number, (key, entry) in enumerate(alone):
            near = _nearest("/".join(key).lstrip("/"), free) if number < NEAREST else ""
            reasons[id(entry)] = f"no partner in {other.place}{f' (the nearest name is {near})' if near else ''}"
        reasons |= side.copies
    paired = {id(entry) for pair in pairs for entry in pair}
    outside = f"neither in {inputs.place} nor in {images.place}"
    source.rejects += [
        RejectedFile(entry.name, reasons.get(id(entry), outside)) for entry in source.entries if id(entry) not in paired
    ]
    source.notes.append(f"input: {inputs.place}; image: {images.place}")
    if different := [(image, other) for image, other in partners.items() if image != other]:
        first, second = (side.files[key].name for side, key in zip((images, inputs), different[0], strict=True))
        source.notes.append(f"Pairs whose names differ in case: {len(different):,}, such as {second} for {first}.")
    return pairs


def _partners(images: _Side, inputs: _Side) -> dict[Key, Key]:
    """The key of the input of each image that has one: the same key, or else one that differs only in case, if it is the only one."""
    partners = {key: key for key in images.files if key in inputs.files}
    left, right = (_by_case(key for key in side.files if key not in partners) for side in (images, inputs))
    return partners | {
        keys[0]: right[folded][0] for folded, keys in left.items() if len(keys) == len(right.get(folded, ())) == 1
    }


def _by_case(keys: Iterable[Key]) -> dict[Key, list[Key]]:
    """Keys by the key without case."""
    result: dict[Key, list[Key]] = {}
    for key in keys:
        result.setdefault(_without_case(*key), []).append(key)
    return result


def _without_case(folder: str, name: str) -> Key:
    return folder.casefold(), name.casefold()


def _nearest(name: str, free: Sequence[tuple[str, str]]) -> str:
    """The file whose key resembles a name most; empty if none does. `free` are keys and files, in alphabetical order."""
    start = max(0, bisect_left(free, (name, "")) - SEARCHED // 2)
    names = dict(free[start : start + SEARCHED])
    near = difflib.get_close_matches(name, names, 1)
    return names[near[0]] if near else ""


def _in_folders(source: Source, name: str) -> Pairs:
    """Pairs of files with equal names below a folder `name` and below the folder beside it, or beside the folder itself; `name` as
    for `_depth`."""
    inputs = _Side(f"the folder {name}")
    joined = not _has_folder(source, name)
    for entry in source.entries:
        *folders, file = _parts(entry.name, joined)
        if (depth := _depth(folders, name)) is not None:
            inputs.add(("/".join(folders[:depth]), strip_extension([*folders[depth + 1 :], file])), entry)
    prefixes = {prefix for prefix, _ in inputs.files}
    candidates: dict[str, _Side] = {}
    for entry in source.entries:
        *folders, file = _parts(entry.name, joined)
        for depth in range(len(folders) + 1 if _depth(folders, name) is None else 0):
            if (prefix := "/".join(folders[:depth])) not in prefixes:
                continue
            beside = candidates.setdefault("", _Side(f"the images beside the folder {name}"))
            beside.add((prefix, strip_extension([*folders[depth:], file])), entry)
            if depth < len(folders):
                other = candidates.setdefault(folders[depth], _Side(f"the folder {folders[depth]}"))
                other.add((prefix, strip_extension([*folders[depth + 1 :], file])), entry)
    matching = [side for side in candidates.values() if side.files.keys() & inputs.files.keys()]
    matching = matching or [side for side in candidates.values() if _partners(side, inputs)]
    if not matching:
        others = [folder for folder in candidates if folder]
        raise NoInputError(
            "input",
            name,
            f"no file in the folder {name} of {source.path} has a partner. Looked for the same name, with any extension, beside this "
            f"folder and in {_join(others) or 'other folders, but there are none'}. If these are not pairs, give one folder as the "
            "source and the path of the other as --input",
        )
    if len(matching) > 1:
        raise LeafwingError(_describe_ambiguous(source, name, " or ".join(side.place for side in matching)))
    return _match(source, matching[0], inputs)


def _by_suffix(source: Source, name: str) -> Pairs:
    """Pairs of files in the same folder, whose names end in `name` and in another suffix; empty if there are none."""
    pattern = re.compile(rf"(?P<base>.*?)[-_. ]*{re.escape(name)}")
    inputs = _Side(f"file names that end in {name}")
    others: list[tuple[str, str, Entry]] = []
    for entry in source.entries:
        folder, _, file = entry.name.rpartition("/")
        stem = strip_extension([file])
        if match := pattern.fullmatch(stem):
            inputs.add((folder, match["base"]), entry)
        else:
            others.append((folder, stem, entry))
    suffixes: Counter[str] = Counter()
    bases = _by_case(inputs.files)
    for folder, stem, _ in others:
        ends = (end for end in range(len(stem), -1, -1) if _without_case(folder, stem[:end]) in bases)
        if (end := next(ends, None)) is not None:
            suffixes[stem[end:]] += 1
    best = suffixes.most_common(2)
    if not best:
        return []
    suffix = best[0][0]
    if len(best) == 2 and best[1][1] > best[0][1] / 2:
        raise LeafwingError(_describe_ambiguous(source, name, f"file names that end in {suffix!r} or in {best[1][0]!r}"))
    images = _Side(f"file names that end in {suffix}" if suffix else f"file names without {name}")
    for folder, stem, entry in others:
        if stem.endswith(suffix):
            images.add((folder, stem.removesuffix(suffix)), entry)
    return _match(source, images, inputs)


def _listed(source: Source, file: str) -> Pairs:
    """The pairs of a CSV file with the columns input,image or file,input, whose paths are relative to it."""
    table = read_table(source, file, [{"file": ("image", "file"), "input": ("input",)}], "input,image or file,input")
    rows = [(line, cells[table.columns["file"]], cells[table.columns["input"]]) for line, cells in table.rows]
    names = Names(source.entries)
    indices = names.in_list([name for _, *pair in rows for name in pair], source, file)
    pairs: dict[str, tuple[Entry, Entry]] = {}
    missing: list[str] = []
    for line, *pair in rows:
        if not pair[1]:
            raise LeafwingError(f"{table.where}, line {line}: an input is needed.")
        image, other = (indices[name] for name in pair)
        if image is None or other is None:
            missing += [name for name in pair if indices[name] is None]
        elif (entry := source.entries[image]).name in pairs:
            raise LeafwingError(f"{table.where}, line {line}: {entry.name} is listed twice.")
        else:
            pairs[entry.name] = (entry, source.entries[other])
    if not pairs:
        message = f"{table.where}: no line names two images that exist; paths are relative to the folder of {file}."
        if missing:
            what = "is the name of several images" if names.is_shared(missing[0]) else "does not exist"
            message += f" {clean(missing[0])} {what}; the nearest image is {names.nearest(missing[0])}."
        raise LeafwingError(message)
    used = {id(entry) for pair in pairs.values() for entry in pair}
    source.rejects += [RejectedFile(entry.name, f"no pair in {file}") for entry in source.entries if id(entry) not in used]
    source.used_files.add(file)
    source.notes.append(f"input: as listed in {file}")
    source.notes += names.notes(file, missing)
    return [pairs[entry.name] for entry in source.entries if entry.name in pairs]


def _csv_file(source: Source, name: str) -> str:
    """The path of a CSV file in the source, by its path or its bare name; empty if there is none, or several."""
    lists = [file for file in source.side_files if file.lower().endswith(".csv")]
    bare = [file for file in lists if file.endswith(f"/{name}")]
    return name if name in lists else bare[0] if len(bare) == 1 else ""


def _folders(source: Source, joined: bool = False) -> list[str]:
    """The names of all folders in a source; see `_parts`."""
    return sorted({folder for entry in source.entries for folder in _parts(entry.name, joined)[:-1]})


def _has_folder(source: Source, name: str, joined: bool = False) -> bool:
    """Whether some image lies below this folder; `name` as for `_depth`."""
    return any(_depth(_parts(entry.name, joined)[:-1], name) is not None for entry in source.entries)


def _depth(folders: Sequence[str], name: str) -> int | None:
    """The index of a folder among those of a file; None if it is not among them.

    Args:
        folders: those of a file, from the top of the source.
        name: of the folder, at any depth; or its path from the top: `train/A`.
    """
    *above, last = name.split("/")
    if above:
        return len(above) if [*folders[: len(above) + 1]] == [*above, last] else None
    return folders.index(last) if last in folders else None


def _parts(name: str, joined: bool) -> list[str]:
    """The folders and the file of a path; with `joined` the folder `trainA` is two, `train` and `A`."""
    parts = name.split("/")
    if not joined:
        return parts
    matches = [re.fullmatch(rf"({SPLITS})[-_]?([^-_].*)", folder, re.IGNORECASE) for folder in parts[:-1]]
    folders = (match.groups() if match else (folder,) for match, folder in zip(matches, parts, strict=False))
    return [*(part for group in folders for part in group), parts[-1]]


def strip_extension(parts: Sequence[str]) -> str:
    """A path without the extension of the file, in one Unicode normal form: macOS decomposes letters with accents."""
    return unicodedata.normalize("NFC", re.sub(r"(?<=[^/])\.[^./]*$", "", "/".join(parts)))


def _join(names: Sequence[str], limit: int = 12) -> str:
    return f"{', '.join(names[:limit])}{' ...' * (len(names) > limit)}"


def _describe_missing(source: Source, option: str) -> str:
    folders, files = _folders(source), [entry.name.rsplit("/", 1)[-1] for entry in source.entries]
    lists = [name for name in source.side_files if name.lower().endswith(".csv")]
    titles = (("folders", folders), ("CSV files", lists), ("images", files))
    there = [f"{title}: {_join(names, 6)}" for title, names in titles if names]
    return (
        f"{source.path} has no folder and no CSV file of this name and no pairs of files whose names end in it, and "
        f"there is no second source {option}. {source.path} has {'; '.join(there) or 'no images'}. The input may be a half of each "
        f"image or derived from it{did_you_mean(option, [*HALVES, *DERIVED, *folders])}"
    )


def _describe_ambiguous(source: Source, name: str, places: str) -> str:
    return (
        f"{source.path}: --input {name}: the images could be {places}. Move those that are not wanted, or list the pairs in a "
        f"{PAIRS_FILE} (columns input,image) and give --input {PAIRS_FILE}"
    )
