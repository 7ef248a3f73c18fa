"""The cache of decoded images: written once, then shared by every process through a memory map.

A pack is a folder `<cache>/packs/<fingerprint>/` that is created atomically:

- `pictures.npy`: uint8 (images, height, width, channels)
- `labels.npy`: int64 (images,), if there are labels
- `attributes.npy`: uint8 (images, attributes), binary, if there are attributes
- `index.json`: per image its name, the sha256 of its file, its label, its original size [height, width] and the part used
  [left, top, right, bottom], in columns
- `pack.json`: what is needed to open it, written last

`<cache>/listings/` remembers the pack of each source, so that an unchanged source is not read again. `reading` reads the images;
`dataset` makes batches.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock, Timeout

from leafwing.data import labels as naming
from leafwing.data import reading
from leafwing.data.options import Target
from leafwing.data.reading import Decoded, Progress, Seen
from leafwing.data.sources import Reject, Source
from leafwing.errors import LeafwingError, StorageError

VERSION = 1
"""Part of every fingerprint: increase it when the same source yields other pixels."""
READING = 1
"""Part of every listing: increase it when the same files are read in another way. They are then read again, once."""


@dataclass(frozen=True)
class Pack:
    """An open pack: `pictures` (n, height, width, channels) uint8, a read-only memory map; `labels` (n,) int64 or None;
    `attributes` (n, attributes) uint8 or None."""

    fingerprint: str
    pictures: np.ndarray
    labels: np.ndarray | None
    attributes: np.ndarray | None
    about: dict[str, Any]
    """The content of `pack.json`: source, options, classes, attributes, rejects, bytes. Older ones have no attributes."""

    @property
    def rejects(self) -> list[Reject]:
        """The images rejected while reading their pixels."""
        return [Reject(**reject) for reject in self.about["rejects"]]


def cache_folder(cache: str | os.PathLike[str] | None) -> Path:
    """The folder of packs: the argument, else LEAFWING_CACHE, else the user's cache folder."""
    chosen = cache or os.environ.get("LEAFWING_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("leafwing"))


class Store:
    """A cache folder.

    Args:
        folder: created when the first pack is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, fingerprint: str) -> Pack | None:
        """The pack with this fingerprint; None if there is none or it is incomplete or truncated."""
        folder = self.folder / "packs" / fingerprint
        try:
            about = json.loads((folder / "pack.json").read_text())
            for name, size in about["bytes"].items():
                if (folder / name).stat().st_size != size:
                    return None
            found = np.load(folder / "pictures.npy", mmap_mode="r")
            classes = np.load(folder / "labels.npy") if about["classes"] else None
            attributes = np.load(folder / "attributes.npy") if about.get("attributes") else None
            if list(found.shape) != about["shape"] or found.dtype != np.uint8:
                return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError):
            return None
        return Pack(fingerprint, np.asarray(found), classes, attributes, about)

    def pack(self, fingerprint: str, source: Source, seen: list[Seen], target: Target, progress: Progress | None) -> Pack:
        """Decodes a source into a new pack, unless another process has just done so.

        Args:
            fingerprint: names the pack.
            source: an open source.
            seen: its survey.
            target: the target format of every image.
            progress: called with the number of images done and the total.

        Raises:
            LeafwingError: no image, or fewer than half of them, can be used.
            StorageError: the cache cannot be written.
        """
        with self._storage(), self._lock(fingerprint):
            if (pack := self.open(fingerprint)) is not None:
                return pack
            self._sweep(fingerprint)
            packs = self.folder / "packs"
            partial = packs / f"{fingerprint}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            try:
                _write(partial, fingerprint, source, seen, target, progress)
                shutil.rmtree(packs / fingerprint, ignore_errors=True)  # a damaged one
                partial.rename(packs / fingerprint)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
            pack = self.open(fingerprint)
            if pack is None:
                raise OSError("the new pack cannot be read back")
            return pack

    def recall(self, signature: str) -> dict[str, Any] | None:
        """What `remember` stored: fingerprint, rejects, notes."""
        try:
            found = json.loads((self.folder / "listings" / f"{signature}.json").read_text())
            return found if {"fingerprint", "rejects", "notes"} <= found.keys() else None
        except (OSError, ValueError, AttributeError):
            return None

    def remember(self, signature: str, fingerprint: str, rejects: list[Reject], notes: list[str]) -> None:
        """Stores the pack of an unchanged source, with the rejects and notes from before its pixels were read."""
        content = {"fingerprint": fingerprint, "rejects": [asdict(one) for one in rejects], "notes": notes}
        folder = self.folder / "listings"
        scratch = folder / f"{signature}.{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            scratch.write_text(json.dumps(content))
            os.replace(scratch, folder / f"{signature}.json")
        except OSError:
            scratch.unlink(
                missing_ok=True
            )  # only costs time at the next start: a read-only cache with packs is still useful

    @contextmanager
    def _storage(self) -> Iterator[None]:
        """Turns file-system errors into an error that says what to do."""
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"{self.folder}: the cache of decoded images cannot be written ({error.strerror or error}). "
                "Free some space, or choose another folder with LEAFWING_CACHE=/path/to/folder."
            ) from error

    def _lock(self, fingerprint: str) -> FileLock:
        locks = self.folder / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        return FileLock(locks / f"{fingerprint}.lock")

    def _sweep(self, own: str) -> None:
        """Removes incomplete packs left by killed processes: those whose lock nobody holds, except our own."""
        for left in (self.folder / "packs").glob("*.partial"):
            if left.stem == own:
                continue
            try:
                with self._lock(left.stem).acquire(timeout=0):
                    shutil.rmtree(left, ignore_errors=True)
            except Timeout:
                pass  # another process is writing it


def enough(source: Source, accepted: int, outcomes: list[Seen | Decoded], rejected: list[Reject]) -> str | None:
    """Why a source cannot be trained on; None if it can.

    Args:
        source: the source.
        accepted: number of usable images.
        outcomes: failures of the survey and of decoding.
        rejected: all files that are not used.
    """
    first = "; ".join(f"{one.name}: {one.reason}" for one in rejected[:3])
    broken = reading.broken(outcomes)
    if not accepted and not rejected:
        return (
            f"{source.path}: no images. Looked for JPEG, PNG, WebP, AVIF, BMP, TIFF and GIF files, also in sub-folders, "
            "and for IDX files (*-images-idx3-ubyte[.gz])."
        )
    if not accepted:
        return f"{source.path}: none of {len(rejected)} files can be used. {first}"
    if broken > (accepted + broken) / 2:
        return f"{source.path}: {broken} of {accepted + broken} images cannot be read, more than half. {first}"
    return None


def _write(
    folder: Path, fingerprint: str, source: Source, seen: list[Seen], target: Target, progress: Progress | None
) -> None:
    """Fills a pack's folder. Rows are appended in order, so that a full disk is an error and never a SIGBUS in a memory map."""
    kept: list[Decoded] = []
    failed: list[Seen | Decoded] = []
    with open(folder / "pictures.npy", "wb", buffering=1 << 20) as file:
        start = _npy_header(file, (len(seen), *target.shape))
        with closing(reading.decode(source, seen, target, progress=progress)) as outcomes:
            for one in outcomes:
                if one.picture is None:
                    failed.append(one)
                    continue
                file.write(one.picture.pixels.tobytes())
                # the pixels are on disk now: keep only the rest
                kept.append(Decoded(one.seen, None, None, (one.picture.height, one.picture.width, one.picture.box)))
        rejected = source.rejects + reading.rejects(seen) + reading.rejects(failed)
        if trouble := enough(source, len(kept), [*seen, *failed], rejected):
            raise LeafwingError(trouble)
        file.seek(0)
        if _npy_header(file, (len(kept), *target.shape)) != start:
            raise LeafwingError(f"{source.path}: internal error: the header of the pack changed its length.")
        file.flush()
        os.fsync(file.fileno())
    names = [one.seen.entry.label for one in kept]
    classes = naming.classes({name for name in names if name is not None})
    if classes:
        number = {name: index for index, name in enumerate(classes)}
        np.save(folder / "labels.npy", np.array([number[name] for name in names if name is not None], dtype=np.int64))
    if source.attributes:
        np.save(folder / "attributes.npy", np.array([one.seen.entry.attributes for one in kept], dtype=np.uint8))
    index = {
        "name": [one.seen.entry.name for one in kept],
        "sha256": [one.seen.sha256 for one in kept],
        "label": names,
        "size": [one.measured[:2] for one in kept],
        "box": [one.measured[2] for one in kept],
    }
    (folder / "index.json").write_text(json.dumps(index))
    about = {
        "version": VERSION,
        "fingerprint": fingerprint,
        "source": os.path.abspath(source.path),
        "options": target.as_dict(),
        "shape": [len(kept), *target.shape],
        "classes": list(classes),
        "attributes": list(source.attributes),
        "rejects": [asdict(one) for one in reading.rejects(failed)],
        "bytes": {file.name: file.stat().st_size for file in folder.iterdir()},
    }
    (folder / "pack.json").write_text(json.dumps(about))


def _npy_header(file: BinaryIO, shape: tuple[int, ...]) -> int:
    """Writes the header of a uint8 array; numpy pads it so that the first dimension may still change. Returns its length."""
    description = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, description)
    return file.tell()
