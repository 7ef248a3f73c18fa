"""Finds out what a path is, and opens it: `open_source`. Each kind of source has its reader in a file of its own."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from leafwing import optional
from leafwing.data import arrays, hdf5, parquet, shards, sources
from leafwing.data.memory import InMemory
from leafwing.data.sources import IDX, File, RejectedFile, Source
from leafwing.errors import LeafwingError


@dataclass(frozen=True)
class Listing:
    """The files of one source, of which none has been opened; `name` is its name among joined sources, else empty."""

    path: Path | InMemory
    files: list[File]
    rejects: list[RejectedFile]
    name: str = ""


def open_source(path: Path | InMemory, files: list[File], rejects: list[RejectedFile]) -> Source:
    """Opens a folder, an archive, or a file of many images.

    Args:
        path: an existing file or folder, or images from Python.
        files: the result of `sources.list_files` for it; nothing for images from Python.
        rejects: also from `list_files`.

    Raises:
        LeafwingError: none of these, or a damaged one.
    """
    if isinstance(path, InMemory):
        return path.open()
    if path.is_dir():
        return _open_folder(path, files, rejects)
    suffix = path.suffix.lower()
    if IDX.search(path.name):
        return sources.open_idx(path)
    if suffix in arrays.SUFFIXES:
        return arrays.open_array(path)
    if suffix in hdf5.SUFFIXES:
        return hdf5.open_hdf5(path)
    if suffix in parquet.SUFFIXES:
        return parquet.open_parquet(path, [path])
    if zipfile.is_zipfile(path):
        return sources.open_zip(path)
    if suffix == ".zip":
        raise LeafwingError(f"{path}: not a zip file, or a truncated one; download it again.")
    if suffix == ".tgz" or ".tar" in path.suffixes or sources.is_tar(path):
        return sources.open_tar(path)
    if sources.has_image_suffix(path.name):
        raise LeafwingError(f"{path}: one picture is no data set; give the folder that has it: {path.parent}")
    if what := sources.describe_file(path):
        raise LeafwingError(
            f"{path}: {what}; or give a folder of images, a .zip or .tar of one, an array of images (.npy, .npz, .h5) or a table "
            "(.parquet)."
        )
    raise LeafwingError(
        f"{path}: neither a folder, a .zip, a .tar (.tar.gz, .tgz), an array of images (.npy, .npz, .h5, .hdf5), a table "
        "(.parquet) nor an IDX file (*-images-idx3-ubyte[.gz])."
    )


def require_packages(source: object) -> None:
    """Raises LeafwingError if a source, a path or several by name, is a file that needs a package that is not installed. Reads
    nothing."""
    for path in source.values() if isinstance(source, Mapping) else [source]:
        for suffixes, module in ((hdf5.SUFFIXES, "h5py"), (parquet.SUFFIXES, "pyarrow")):
            if isinstance(path, str | Path) and str(path).lower().endswith(suffixes) and os.path.isfile(path):
                optional.require(module, path)


def has_known_suffix(path: Path) -> bool:
    """Whether the name of a file is that of an archive or of a file of many images."""
    known = {".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", *arrays.SUFFIXES, *hdf5.SUFFIXES, *parquet.SUFFIXES}
    return path.suffix.lower() in known or bool(IDX.search(path.name))


def _open_folder(path: Path, files: list[File], rejects: list[RejectedFile]) -> Source:
    """A folder of images, or of files that each contain many, if it has no images."""
    images = [file.name for file in files if sources.has_image_suffix(file.name)]
    if idx := [file for file in files if IDX.search(file.name)]:
        chosen_idx = sources.choose_idx(path, idx)
        source = sources.open_idx(chosen_idx)
        if images:
            source.notes.append(
                f"Not used: {len(images):,} other images, such as {sources.clean(images[0])}, because {chosen_idx.name} is read; to "
                "read them, move the IDX files away."
            )
        return source
    if not images:
        for suffixes, opener in ((parquet.SUFFIXES, parquet.open_parquet), (shards.SUFFIXES, shards.open_tars)):
            if parts := [file for file in files if file.name.lower().endswith(suffixes)]:
                chosen, notes = shards.choose(path, [file.name for file in parts])
                source = opener(path, [path / name for name in chosen])
                source.rejects += rejects
                source.notes += notes + shards.note_others(files, parts)
                return source
    source = sources.open_folder(path, files, rejects)
    if tables := [sources.clean(file.name) for file in files if file.name.lower().endswith(parquet.SUFFIXES)]:
        source.notes.append(
            f"Not used: {len(tables):,} .parquet files, such as {tables[0]}, because the folder has pictures, such as "
            f"{sources.clean(images[0])}; to read them, give the path of the .parquet file, or move the pictures away."
        )
        source.used_files |= {*tables}  # this note mentions them
    return source
