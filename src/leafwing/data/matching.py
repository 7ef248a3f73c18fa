"""What the paths in a list may mean: the ends of paths, and folders that are splits. `lists` finds the entries of a source with it."""

from __future__ import annotations

import itertools
import posixpath
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

SPLITS = frozenset(
    {"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval", "pred", "unlabeled", "unlabelled"}
)
GENERIC = frozenset({"images", "image", "imgs", "img", "pictures", "photos", "set", "data", "dataset", "seg", "jpg", "png"})
"""Words that may accompany the name of a split: `test_images`, `seg_train`."""


@dataclass(frozen=True)
class Match:
    """What a name in a list means.

    Args:
        index: that of the entry; -1 if there are several.
        removed: the beginning of the name that the path of the entry does not have.
        inside: whether the entry is below the folder of the list, or the name says where else it is.
        direct: whether the name is the whole path from this folder.
        exact: whether case, accents and the extension are the same.
    """

    index: int
    removed: str
    inside: bool
    direct: bool = False
    exact: bool = True

    @property
    def certainty(self) -> tuple[bool, bool]:
        """Larger for a better match."""
        return self.inside, self.index >= 0


class Ends:
    """Indices of paths by their ends; -1 for what several paths share.

    Args:
        paths: index -> path.
    """

    def __init__(self, paths: Mapping[int, str]) -> None:
        self.paths = paths
        self._inside: dict[str, dict[str, int]] = {}

    @cached_property
    def whole(self) -> dict[str, int]:
        """Indices by the whole path."""
        return _indices(self.paths.items())

    @cached_property
    def ends(self) -> dict[str, int]:
        """Indices by every end of a path that begins after a slash, and by the whole path."""
        return _indices((index, end) for index, path in self.paths.items() for end in parts_after(path))

    @cached_property
    def _sorted(self) -> list[tuple[str, int]]:
        return sorted((path, index) for index, path in self.paths.items())

    def inside(self, folder: str) -> dict[str, int]:
        """The same as `ends` for the paths below a folder."""
        if folder not in self._inside:
            start = bisect_left(self._sorted, (folder, -1))
            below = itertools.takewhile(lambda item: item[0].startswith(folder), itertools.islice(self._sorted, start, None))
            self._inside[folder] = _indices((index, end) for path, index in below for end in parts_after(path))
        return self._inside[folder]

    def find(self, name: str, folder: str) -> Match | None:
        """What a list in a folder means by a name, best first: the file below this folder, that path, the end of a path."""
        path = posixpath.normpath(folder + name) if "../" in name else folder + name
        if (index := self.whole.get(path)) is not None:
            return Match(index, "", inside=True, direct=True)
        if folder and (index := self.inside(folder).get(name)) is not None:
            return Match(index, "", inside=True)
        index = self.whole.get(name)
        if (index := self.ends.get(name) if index is None else index) is not None:
            return Match(index, "", inside=not folder)
        for end in parts_after(name):
            if (index := self.whole.get(end, -1)) >= 0:
                elsewhere = folder and not self.paths[index].startswith(folder)
                is_absolute = name.startswith("/") or name[1:3] == ":/"
                return Match(index, name.removesuffix(end).casefold(), inside=is_absolute or not elsewhere)
        return None


def is_split(folder: str) -> bool:
    """Whether the name of a folder says only train, test or validation: `train`, `Test_images`, `val2017`."""
    words = {word for word in re.split(r"[\W\d_]+", folder.lower()) if word}
    return len(words & SPLITS) == 1 and words <= SPLITS | GENERIC


def parts_after(path: str) -> Iterator[str]:
    """A path, and what follows each of its slashes."""
    while path:
        yield path
        path = path.partition("/")[2]


def _indices(names: Iterable[tuple[int, str]]) -> dict[str, int]:
    """Indices by name; -1 for a name that occurs twice."""
    result: dict[str, int] = {}
    for index, name in names:
        result[name] = -1 if name in result else index
    return result
