"""Where a source is: from what a user gives, one path or name or several or images from Python, to what exists; the names of sources
that are joined.

`opening` opens what is found here, `joining` puts several of them together.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from leafwing.data import sources
from leafwing.data.built_in import BUILT_IN, is_built_in
from leafwing.data.memory import PREFIX, InMemory, as_source
from leafwing.data.opening import Listing
from leafwing.data.pairs import inside
from leafwing.errors import LeafwingError

Origin = str | Path | Sequence[str | Path] | Mapping[str, str | Path] | InMemory
"""A source as a run knows it: a path or a built-in name, several paths that are joined, or several by the names they are read under;
images from Python. Users may give these as they are, see `memory.as_source`."""
Place = str | Path | dict[str, Path] | InMemory
"""A source that exists: a built-in name, a path, the paths of joined sources by their names, or images from Python."""
_NAMED = 6
"""Number of the names in a folder that are listed."""


def find(source: str | Path) -> str | Path:
    """Returns a built-in name (str) or an existing path (Path).

    Raises:
        LeafwingError: neither of these; the message lists similar names and all kinds of source.
    """
    if isinstance(source, list | tuple | Mapping):
        raise LeafwingError("only one source can be given here; several are joined by train, doctor, show and data.load")
    if not isinstance(source, str | os.PathLike):
        raise LeafwingError(
            f"a source is a path or the name of a built-in data set, not {type(source).__name__}: save an array of images with "
            "numpy.save('images.npy', array) and give its path"
        )
    text = os.fspath(source)
    if text.startswith(PREFIX):
        raise LeafwingError(
            f"{text}: these images were given from Python, not by a path: give them again, leafwing.resume(run, source=images) or "
            "leafwing.train(images, replay=run)"
        )
    if isinstance(source, str) and is_built_in(source):
        return source
    path = Path(os.path.expanduser(text))  # unlike `Path.expanduser` it keeps the names of unknown users
    try:
        exists = bool(text) and path.exists()
    except (OSError, ValueError):  # too long, or with a zero byte
        exists = False
    if exists:
        return path
    if text in BUILT_IN:
        return text
    if address := describe_address(text):
        raise LeafwingError(address)
    if {"*", "?"} & {*text}:
        folder = Path(*takewhile(lambda part: not {"*", "?"} & {*part}, Path(text).parts))
        raise LeafwingError(
            f"{sources.clean(text)}: this is a pattern of file names; give the folder that has the images: "
            f"{sources.clean(str(folder))}"
        )
    built_in = "\n".join(f"  {name:7} {about}" for name, about in BUILT_IN.items())
    raise LeafwingError(
        f"{sources.clean(text)!r}: no such file or folder, and not the name of a built-in data set."
        + _describe_similar(text, path)
        + "\nA source is a folder of images (sub-folders may be classes), a .zip or .tar[.gz] of one, IDX files, an array "
        "(.npy, .npz, .h5), a table (.parquet), or built in:\n" + built_in
    )


def describe_address(text: str) -> str:
    """What to do with an address instead of a path: how to download it first; empty if this is no address."""
    if not (match := re.match(r"(https?|ftp|s3|gs|hf|ssh|git)(?:://?|@)([^?#]+)", text, re.IGNORECASE)):
        return ""
    if match[1].lower() in ("http", "https", "ftp", "s3", "gs", "hf"):
        text = re.sub(r"^(\w+):/+", r"\1://", text)  # a Path has one slash
    scheme, place = match[1].lower(), match[2].strip("/")
    name = place.rpartition("/")[2]
    if scheme == "hf" or place.startswith("huggingface.co/datasets/"):
        repository = "/".join(re.sub(r"^(huggingface\.co/)?(datasets/)?", "", place).split("/")[:2])
        name, command = repository.rpartition("/")[2], _hub_command(repository)
    elif scheme in ("ssh", "git") or re.fullmatch(r"(www\.)?github\.com/[^/]+/[^/]+", place):
        name, command = name.removesuffix(".git"), f"git clone {shlex.quote(text)}"
    elif "/" not in place and scheme in ("http", "https", "ftp"):
        return (
            f"{sources.clean(text)} is an address, and leafwing reads files of this machine only. Download the images first"
        )
    else:
        whole = "" if "." in name else "--recursive "
        tools = {"s3": f"aws s3 cp {whole}{{}} {{}}", "gs": f"gcloud storage cp {whole}{{}} {{}}"}
        command = tools.get(scheme, "curl -L {} -o {}").format(shlex.quote(text), shlex.quote(name))
    return (
        f"{sources.clean(text)} is an address, and leafwing reads files of this machine only. Download it first, for example:\n"
        f"  {sources.clean(command)}\nThen the source is {sources.clean(name)}; an archive need not be unpacked"
    )


def _hub_command(repository: str) -> str:
    """How to download a data set of the Hugging Face hub."""
    return f"hf download {repository} --repo-type dataset --local-dir {repository.rpartition('/')[2]}"


def _describe_similar(text: str, path: Path) -> str:
    """Suggestions for a path that does not exist: sentences, each after a space; empty without any."""
    missing, folder = path, path.parent
    try:
        while not folder.is_dir() and folder != folder.parent:
            missing, folder = folder, folder.parent
        items = sorted((not item.is_dir(), item.name) for item in folder.iterdir() if not sources.is_hidden(item.name))
        siblings = [name for _, name in items[:10_000]]  # folders first
    except (OSError, ValueError):
        siblings = []
    names = {
        name.lower(): name for name in reversed(siblings) if not sources.has_image_suffix(name) or (folder / name).is_dir()
    }
    near = [str(folder / names[name]) for name in difflib.get_close_matches(missing.name.lower(), names)]
    similar = [*difflib.get_close_matches(text.lower(), BUILT_IN, cutoff=0.5), *near]
    sentences = [f"Did you mean {' or '.join(shlex.quote(sources.clean(name)) for name in similar)}?"] if similar else []
    if spaced := [name for name in siblings if name.startswith(f"{missing.name} ")]:
        sentences.append(f"Names with spaces need quotes: {shlex.quote(sources.clean(str(folder / spaced[0])))}.")
    elif siblings and not near and "/" in text:
        there = ", ".join(map(sources.clean, siblings[:_NAMED])) + " ..." * (len(siblings) > _NAMED)
        sentences.append(
            f"There is no {sources.clean(missing.name)} in {sources.clean(str(folder.resolve()))}, which has: {there}."
        )
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", text) and missing != path and not near:
        sentences.append(f"If this is a data set of the Hugging Face hub, download it first: {_hub_command(text)}")
    return "".join(f" {sentence}" for sentence in sentences)


def is_source(text: str) -> bool:
    """Whether this is a source for `load`."""
    try:
        find(text)
    except LeafwingError:
        return False
    return True


def is_second(place: Place, text: str) -> bool:
    """Whether `--input` that is nothing of a source can be another source: it exists, and is neither a list of pairs nor a folder of
    this one, whose images would be inputs of themselves."""
    return is_source(text) and not text.lower().endswith(".csv") and not inside(place, text)


def locate(origin: Any) -> Place:
    """Finds one source, or several that are joined, in the order in which they are given.

    Args:
        origin: an `Origin`, or images from Python.

    Raises:
        LeafwingError: one of them does not exist, is built in, or contains another one; or these are no images.
    """
    origin = as_source(origin)
    if isinstance(origin, InMemory):
        return origin
    if not isinstance(origin, list | tuple | Mapping):
        return find(origin)
    places = [find(item) for item in (origin.values() if isinstance(origin, Mapping) else origin)]
    if not places:
        raise LeafwingError("no source: give a folder, an archive, or " + ", ".join(BUILT_IN))
    if len(places) == 1 and not isinstance(origin, Mapping):
        return places[0]
    if built_in := [place for place in places if isinstance(place, str)]:
        raise LeafwingError(
            f"{built_in[0]} is built in and cannot be joined with other sources: give it alone, or ./{built_in[0]} for a folder of "
            "this name"
        )
    if odd := [name for name in origin if not name or "/" in str(name)] if isinstance(origin, Mapping) else []:
        raise LeafwingError(f"{odd[0]!r} cannot be the name of a source: it is the name of a folder or a class")
    paths = [Path(place) for place in places]
    _refuse_nested(paths)
    return dict(zip(origin if isinstance(origin, Mapping) else distinct_names(paths), paths, strict=True))


def describe(place: Place) -> str:
    """A source in words: a built-in name, an absolute path or `memory:array`; of several, all paths."""
    if isinstance(place, dict):
        return " + ".join(map(os.path.abspath, place.values()))
    return os.path.abspath(place) if isinstance(place, Path) else str(place)


def list_places(place: Path | Mapping[str, Path] | InMemory) -> list[Listing]:
    """The files of a source, or of each of several in the order of their names, in which their images are read; none from Python."""
    if isinstance(place, InMemory):
        return [Listing(place, [], [])]
    if isinstance(place, Path):
        return [Listing(place, *sources.list_files(place))]
    names = sorted(place, key=lambda name: f"{name}/")  # as in one folder
    return [Listing(place[name], *sources.list_files(place[name]), name) for name in names]


def plain_name(path: Path) -> str:
    """The name of a source: that of the folder, or of the file without extensions."""
    path = Path(os.path.abspath(path))
    name = path.name or "root"
    if not path.is_dir():
        name = re.sub(r"[-.]images[-.]idx3-ubyte(\.gz)?$|(\.tar)?\.[^.]+$", "", name) or name
    return sources.clean(name)


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """A name for each of several sources: `plain_name`; where these are equal, file names, or else with the folders above: `b-cats`.

    Raises:
        LeafwingError: there are none.
    """

    def name(path: Path, level: int) -> str:
        folders = Path(os.path.abspath(path)).parts[1:-1]
        if level == 1:
            return sources.clean(os.path.basename(os.path.abspath(path)))
        above = folders[max(0, len(folders) - level + 1) :] if level else ()
        return "-".join([*map(sources.clean, above), plain_name(path)])

    levels = [0] * len(paths)
    for _ in range(max(len(path.absolute().parts) for path in paths) + 1):
        names = [name(path, level) for path, level in zip(paths, levels, strict=True)]
        counts = Counter(names)
        if max(counts.values()) == 1:
            return names
        levels = [level + (counts[name] > 1) for name, level in zip(names, levels, strict=True)]
    raise LeafwingError(f"sources without distinct names: {', '.join(map(str, paths))}; rename one")


def _refuse_nested(paths: Sequence[Path]) -> None:
    """Raises LeafwingError if images would be read twice."""
    resolved = [path.resolve() for path in paths]
    for index, path in enumerate(resolved):
        for other in range(len(resolved)):
            if other == index:
                continue
            if path == resolved[other]:
                raise LeafwingError(f"{paths[index]} and {paths[other]} are the same source; give it once")
            if path.is_dir() and resolved[other] in path.parents:
                raise LeafwingError(f"{paths[index]} lies in {paths[other]}, so its images would be read twice; omit one")
