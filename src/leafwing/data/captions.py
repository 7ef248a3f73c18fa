"""Captions beside images: lists in CSV and JSON, and text files of the same name. `side_fields` chooses one of these layouts.

A CSV list has the columns file and caption, and several rows for an image with several captions. JSON is an object from names to
texts, lists of texts or objects with a caption; a list of such objects; or COCO's `images` and `annotations`. A text file has a
caption per line.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from leafwing.data import webdataset
from leafwing.data.label_lists import LABEL, is_list
from leafwing.data.lists import (
    FILE,
    Annotations,
    Layout,
    Names,
    first,
    read_column,
    read_json,
    read_table,
    read_text,
    read_texts,
)
from leafwing.data.sources import Source, clean
from leafwing.errors import LeafwingError
from leafwing.fields import Caption, split_words

MAX_CAPTIONS, MAX_WORDS, MAX_LENGTH = 10, 5_000, 32
"""The largest number of captions of an image, of different words, and of words in a caption."""
LARGE = 10_000
"""In data sets of at least this many images, words that appear only once are left out: nothing can be learnt about them."""
TEXT = ("caption", "captions", "text", "texts", "sentence", "sentences", "description", "comment", "prompt", "raw", "name")
"""Names of the column or key that holds captions; the first one that exists is used."""
KEYWORDS = ("keywords", "tags")
"""Keys of lists of words, which together are one more caption."""
TREES = ("text", "texts", "text_c10", "txt", "captions")
"""Names of folders of text files beside a folder of images."""
_WORD = re.compile(r"\w")
_NUMBERS = re.compile(r"[\d\s.,eE+-]+")

Record = tuple[str, list[str]]
"""The name of an image, as written, and captions of it."""


def layouts(source: Source, names: Names) -> Iterator[Layout]:
    """The layouts of captions of which a source has files, best first: the files in words, and what reads them."""
    readers = (
        (r"captions\.[ct]sv", _read_csv),
        (r"captions.*\.json", _read_json),
        (r"metadata\.jsonl", _read_json_lines),
        (r"metadata\.csv", _read_csv),
        (r"captions\.txt", _read_csv),
    )
    for pattern, read in readers:
        if files := [name for name in source.side_files if re.fullmatch(pattern, name.rpartition("/")[2].lower())]:
            yield first(sorted(files)), partial(_collect, source, sorted(files), names, read)
    if owners := names.owners([name for name in source.side_files if name.lower().endswith(".txt")], TREES):
        yield "text files beside the images", partial(_read_beside, source, owners, names)
    if objects := webdataset.json_owners(source, names):
        yield webdataset.JSON, partial(_read_json_beside, source, objects)
    for column, content in source.columns.items():
        if content.kind == "text" and column.rpartition("/")[2].lower() in TEXT[:-1] and column not in source.used_files:
            yield f"column {column}", partial(_read_column, source, column)


def encode(values: Mapping[int, list[str]], notes: list[str]) -> tuple[Caption, dict[int, list[list[int]]], dict[int, str]]:
    """Numbers the words of captions.

    Args:
        values: index of an entry -> its captions, each with at least one word.
        notes: what was left out is added to these.

    Returns:
        The field; index -> captions as word numbers; and why the remaining ones cannot be encoded.
    """
    if more := sum(len(texts) > MAX_CAPTIONS for texts in values.values()):
        notes.append(f"Images with more than {MAX_CAPTIONS} captions: {more}; the first {MAX_CAPTIONS} are used.")
    words = {index: [split_words(text) for text in texts[:MAX_CAPTIONS]] for index, texts in values.items()}
    counts = Counter(word for captions in words.values() for caption in captions for word in caption)
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    chosen = [word for word in ranked if counts[word] > 1] if len(values) >= LARGE else ranked
    vocabulary = {*chosen[:MAX_WORDS]}
    for captions in words.values():  # no image is left without words because all of its words are rare
        if len(vocabulary) < MAX_WORDS and not any(word in vocabulary for caption in captions for word in caption):
            vocabulary |= {*captions[0][:MAX_LENGTH]}
    numbers = {word: number for number, word in enumerate((word for word in ranked if word in vocabulary), 1)}
    if dropped := len(ranked) - len(numbers):
        rare = [word for word in ranked if word not in numbers]
        notes.append(
            f"Words of captions that are left out: {dropped:,} of {len(ranked):,} ({first(rare)}), "
            + ("which appear only once." if counts[rare[0]] == 1 else f"all but the {MAX_WORDS:,} most frequent.")
        )
    codes = {index: [[numbers[word] for word in caption if word in numbers] for caption in words[index]] for index in words}
    longest = max((len(code) for captions in codes.values() for code in captions), default=1)
    if longest > MAX_LENGTH:
        cut = sum(len(code) > MAX_LENGTH for captions in codes.values() for code in captions)
        notes.append(f"Captions with more than {MAX_LENGTH} words: {cut:,}; the first {MAX_LENGTH} are used.")
    field = Caption(tuple(numbers), max(1, min(longest, MAX_LENGTH)))
    encoded = {index: [code[:MAX_LENGTH] for code in captions if code] for index, captions in codes.items()}
    failures = {
        index: f"none of the words of its caption is among the {MAX_WORDS:,} most frequent"
        for index in encoded
        if not encoded[index]
    }
    return field, {index: captions for index, captions in encoded.items() if captions}, failures


def describe_mirrored(field: Caption) -> str:
    """What is wrong with captions in mirrored images, as a sentence; empty if nothing is."""
    sides = [word for word in ("left", "right") if word in field.words]
    if len(sides) != 1:
        return ""
    other = "right" if sides == ["left"] else "left"
    return (
        f"Captions have the word {sides[0]}, but not {other}: in mirrored images it stays, and is wrong. Omit --mirror, or reword "
        "the captions."
    )


def stack(field: Caption, values: Sequence[list[list[int]]]) -> np.ndarray:
    """Word numbers of every image as one column: int64 (n, captions, length), padded with 0."""
    column = np.zeros((len(values), max(map(len, values), default=1), field.length), np.int64)
    for captions, row in zip(values, column, strict=True):
        for caption, cells in zip(captions, row, strict=False):
            cells[: len(caption)] = caption
    return column


def _collect(
    source: Source, files: Sequence[str], names: Names, read: Callable[[Source, str, list[str]], Iterable[Record]]
) -> Annotations:
    """The captions of lists."""
    result = Annotations(first(files), used=[*files])
    missing: dict[str, None] = {}
    empty = 0
    for file in files:
        records = list(read(source, file, result.notes))
        indices = names.in_list((name for name, _ in records), source, file)
        for name, texts in records:
            index = indices[name]
            if index is None:
                missing[clean(name)] = None
                continue
            usable = [text for text in texts if _WORD.search(text)]
            empty += len(texts) - len(usable)
            if usable:
                result.values.setdefault(index, []).extend(usable)
    result.missing = [*missing]
    if empty:
        result.notes.append(f"Captions without a word in {result.files}: {empty:,}; they are not used.")
    return result


def _read_csv(source: Source, name: str, notes: list[str]) -> Iterator[Record]:
    try:
        table = read_table(source, name, [{"file": FILE, "caption": TEXT[:-1]}], "file,caption")
    except LeafwingError as error:
        if PurePosixPath(name).name.lower().startswith("captions.") and not name.lower().endswith(".txt"):
            raise
        if name in source.used_files:  # its labels are read
            return
        notes.append(f"Not used as captions: {str(error).removeprefix(f'{source.path}: ')}")  # a file with another purpose
        return
    _note_unused(notes, name, table.unused)
    for _, cells in table.rows:
        yield cells[table.columns["file"]], [cells[table.columns["caption"]]]


def _read_json(source: Source, name: str, notes: list[str]) -> Iterator[Record]:
    where = f"{source.path}: {name}"
    content = read_json(where, read_text(source, name))
    unused: Counter[str] = Counter()
    if isinstance(content, dict) and isinstance(content.get("images"), list):
        if isinstance(content.get("annotations"), list):
            yield from _read_coco(where, content["images"], content["annotations"])
            return
        content = content["images"]
    if isinstance(content, list):
        for number, record in enumerate(content, 1):
            yield from _read_record(f"{where}, item {number}", record, unused)
    elif isinstance(content, dict):
        for file, value in content.items():
            if (texts := _texts(value, unused)) is None:
                raise LeafwingError(
                    f"{where}: the value of {clean(file)} must be a text, a list of texts or an object with a caption."
                )
            yield file, texts
    else:
        raise LeafwingError(
            f'{where}: must be an object such as {{"a.jpg": "a caption"}}, a list of objects or COCO captions.'
        )
    _note_unused(notes, name, unused)


def _read_json_lines(source: Source, name: str, notes: list[str]) -> Iterator[Record]:
    where = f"{source.path}: {name}"
    unused: Counter[str] = Counter()
    records: list[Record] = []
    for number, line in enumerate(read_text(source, name).split("\n"), 1):
        if line.strip():
            place = f"{where}, line {number}"
            records += _read_record(place, read_json(place, line), unused)
    if not any(texts for _, texts in records):
        if name in source.used_files:  # its labels are read
            return
        notes.append(f"{name} contains no captions.")
        records = []
    _note_unused(notes, name, unused)
    yield from records


def _read_record(where: str, record: Any, unused: Counter[str]) -> Iterator[Record]:
    """One object of a list, which names its file."""
    key = next((key for key in FILE if isinstance(record, dict) and isinstance(record.get(key), str)), None)
    if key is None:
        raise LeafwingError(
            f'{where}: must be an object that names its file, such as {{"file_name": "a.jpg", "text": "a caption"}}.'
        )
    texts = _texts({name: value for name, value in record.items() if name != key}, unused)
    if texts is None:
        raise LeafwingError(f"{where}: the caption of {clean(record[key])} must be a text or a list of texts.")
    yield record[key], texts


def _read_coco(where: str, images: list[Any], annotations: list[Any]) -> Iterator[Record]:
    """COCO: images have an id and a file_name, annotations an image_id and a caption."""
    try:
        files = {image["id"]: str(image["file_name"]) for image in images}
    except (TypeError, KeyError):
        raise LeafwingError(f"{where}: every item of images needs an id and a file_name.") from None
    for number, annotation in enumerate(annotations, 1):
        try:
            file, text = files[annotation["image_id"]], annotation["caption"]
        except (TypeError, KeyError):
            file, text = "", None
        if not file or not isinstance(text, str):
            raise LeafwingError(f"{where}: item {number} of annotations needs the image_id of an image and a caption.")
        yield file, [text]


def _texts(value: Any, unused: Counter[str], depth: int = 4) -> list[str] | None:
    """The captions in a value; None if it is neither a text, nor a list, nor an object. Other keys of objects are counted.

    Lists and objects may be nested up to `depth`.
    """
    if isinstance(value, str):
        return [value]
    if depth == 0:
        return None
    if isinstance(value, list):
        lists = [_texts(item, unused, depth - 1) for item in value]
        return None if None in lists else [text for texts in lists for text in texts or ()]
    if not isinstance(value, dict):
        return None
    caption = next((key for key in TEXT if value.get(key)), None)
    texts = [] if caption is None else _texts(value[caption], unused, depth - 1)
    keywords = [key for key in KEYWORDS if isinstance(value.get(key), list)]
    unused.update(key for key in value if key != caption and key not in keywords)
    return None if texts is None else texts + [" ".join(map(str, value[key])) for key in keywords if value[key]]


def _note_unused(notes: list[str], name: str, titles: Iterable[str]) -> None:
    if columns := [clean(title) for title in titles if not (is_list(name) and title.lower() in LABEL)]:
        is_json = PurePosixPath(name).suffix.lower().startswith(".json")
        classes = next((column for column in columns if column.lower() in LABEL), "")
        advice = (
            ""
            if is_json and not classes
            else f" --labels {name} reads {classes if is_json else 'labels and attributes'} from it."
        )
        notes.append(f"Not used in {name}: {first(columns, 6)}.{advice}")


def _read_json_beside(source: Source, owners: Mapping[str, int]) -> Annotations:
    """JSON files with the names of images, each an object with a caption."""
    result = Annotations(webdataset.JSON, used=[*owners])
    unused: Counter[str] = Counter()
    for file, content, problem in webdataset.read_objects(source, [*owners]):
        texts = [] if problem else _texts(content, unused) or []
        if usable := [text for text in texts if _WORD.search(text)]:
            result.values.setdefault(owners[file], []).extend(usable)
        else:
            result.failures[owners[file]] = problem or f"no caption in {file}"
    if titles := [clean(title) for title in unused if title.lower() not in LABEL]:
        result.notes.append(f"Not used in {webdataset.JSON}: {first(titles, 6)}.")
    return result


def _read_column(source: Source, name: str) -> Annotations:
    """A column of texts, or of lists of texts."""
    result = Annotations(f"column {name}", used=[name])
    values = read_column(source, name)
    for index, entry in enumerate(source.entries):
        value = values[entry.location]
        texts = value if isinstance(value, list) else [value]
        if usable := [text for text in texts if isinstance(text, str) and _WORD.search(text)]:
            result.values[index] = usable
    return result


def _read_beside(source: Source, owners: Mapping[str, int], names: Names) -> Annotations:
    """Text files with the names of images, with a caption per line."""
    result = Annotations("text files beside the images", used=[*owners])
    if 2 * len({*owners.values()}) < names.images:
        result.values = {index: [] for index in owners.values()}
        return result
    numeric = 0
    for file, text, problem in read_texts(source, [*owners]):
        index = owners[file]
        if captions := [line for line in text.splitlines() if _WORD.search(line)]:
            result.values.setdefault(index, []).extend(captions)
            numeric += bool(_NUMBERS.fullmatch(text))
        else:
            result.failures[index] = problem or f"no caption in {file}"
    if numeric and numeric == len(result.values):
        result.values = {}
        result.notes.append(
            f"The text files beside the images ({first([*owners])}) contain only numbers: they are not used."
        )
    return result
