"""What the samples of an output are compared with: the column of the same field in the real data, as images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from leafwing.conditions import edits, pixel_conditions, way_back
from leafwing.data import Dataset
from leafwing.errors import LeafwingError
from leafwing.fields import Clip, Field, Image, Mask, Segmentation, Vector, describe_kind
from leafwing.game import Batch, DataSpec, Output
from leafwing.pictures import PALETTE
from leafwing.pixels import eight_bits, images_to_tensor, to_bytes, to_floats


def target(data: Dataset, name: str) -> Dataset:
    """The samples of a field as a data set of their own, whose field `image` they are; labels that belong to them are kept.

    Its order is that of `data`, but for a field of a second source, which has its own. Batches see the centres of images.

    Raises:
        LeafwingError: there is no such field, or its samples are neither images, clips nor points.
    """
    for stream in data.streams.values():
        for key, other in stream.names.items():
            if other == name:
                return target(stream.data, key)
    if name not in data.columns:
        raise LeafwingError(
            f"{data.source} has no field {name} to compare the samples with; it has {', '.join(data.spec.fields)}"
        )
    require_images(name, data.spec.fields[name])
    names = {"image": name} | ({"label": "label"} if "label" in data.columns else {})
    fields = {key: at_8_bits(data.spec.fields[column]) for key, column in names.items()}
    columns = {key: stored_at_8_bits(data.columns[column]) for key, column in names.items()}
    fingerprint = data.fingerprint if name == "image" else f"{data.fingerprint} {name}"
    return replace(data, spec=DataSpec(fields), columns=columns, fingerprint=fingerprint, streams={}, windows=None)


def source_of(data: Dataset, name: str) -> Dataset:
    """The samples that a field belongs to, which have an order and a number of their own: those of a second source, or `data`."""
    return next((stream.data for stream in data.streams.values() if name in stream.names.values()), data)


def at_8_bits(kind: Field) -> Field:
    """A kind of field as metrics see it: images of a higher depth are compared at 8 bits."""
    return replace(kind, bits=8) if getattr(kind, "bits", 8) > 8 else kind  # type: ignore[type-var]


def stored_at_8_bits(column: np.ndarray) -> np.ndarray:
    """Stored samples with 16 bits a value rounded to 8; others as they are."""
    if column.dtype != np.uint16:
        return column
    result = np.empty(column.shape, np.uint8)
    for start in range(0, len(column), 64):
        result[start : start + 64] = eight_bits(column[start : start + 64])
    return result


def source_images(kind: Field, values: Tensor) -> Tensor:
    """Conditions with pixels, as networks see them, as images with 8 bits in [-1, 1]; classes as the colours of `pictures.PALETTE`.

    Raises:
        LeafwingError: a kind other than image, mask or segmentation.
    """
    if isinstance(kind, Segmentation):
        return images_to_tensor(PALETTE[kind.to_stored(values).numpy()])
    if isinstance(kind, Mask):
        return 2 * values - 1
    if isinstance(kind, Image):
        return to_floats(to_bytes(values))
    raise LeafwingError(
        f"this metric compares samples with the images that they are generated from, not with {describe_kind(kind)}"
    )


def require_images(name: str, kind: Field, others: Sequence[str] = ()) -> None:
    """Raises LeafwingError if samples of a field can be compared neither as images nor as points; `others`: the other outputs."""
    if not isinstance(kind, Image | Clip | Vector):
        instead = f"; choose another: --output {' or '.join(others)}" if others else ""
        raise LeafwingError(
            f"metrics compare images, clips and points, and the output {name} is {describe_kind(kind)}{instead}"
        )


def is_paired(output: Output, spec: DataSpec) -> bool:
    """Whether samples are generated from images or the like that have real targets: both belong to the same real samples."""
    return resembles_real(output, spec) and not edits(output)


def resembles_real(output: Output, spec: DataSpec) -> bool:
    """Whether each sample resembles a real one, because it is generated from its pair, or from that one itself."""
    pixels = pixel_conditions(output, spec)
    return edits(output) or (bool(pixels) and not {*pixels, output.field} & {*spec.unpaired})


def most_samples(output: Output, spec: DataSpec, data: Dataset) -> int | None:
    """How many different samples an output without latents has: as many as there are images that it is generated from. None: any.

    Args:
        output: of a game.
        spec: the fields of its run.
        data: from which these images are taken.
    """
    sources = {*pixel_conditions(output, spec)}
    if output.prior is not None or not sources:
        return None
    return max(len(source_of(data, name)) for name in sources)


def enlargement(output: Output, spec: DataSpec) -> int:
    """How many times larger samples are than the images that they are generated from; 1 if not larger, or without such images."""
    heights = [getattr(spec.fields[name], "height", 0) for name in pixel_conditions(output, spec)]
    return max(1, getattr(spec.fields[output.field], "height", 0) // max(heights)) if any(heights) else 1


def keeping_metrics(outputs: Sequence[Output], output: Output, spec: DataSpec) -> list[str]:
    """The metrics of what samples keep of the images that they are generated from: the default ones of one of a game's outputs."""
    candidates = ["reconstruction"] if is_paired(output, spec) else ["structure"]
    return [name for name in (*candidates, "cycle") if suits(name, outputs, output, spec)]


def suits(name: str, outputs: Sequence[Output], output: Output, spec: DataSpec) -> bool:
    """Whether a metric of what samples keep is defined for one of a game's outputs."""
    sources = [spec.fields[source] for source in pixel_conditions(output, spec)[:1]]
    kind = output.kind or spec.fields[output.field]
    match name:
        case "reconstruction":
            return is_paired(output, spec)
        case "structure":
            return isinstance(kind, Image) and any(isinstance(source, Image | Mask | Segmentation) for source in sources)
        case "cycle":
            back = way_back(output, outputs, spec)
            return back is not None and isinstance(kind, Image) and isinstance(back.kind or spec.fields[back.field], Image)
        case "segmenter":
            is_map = any(isinstance(source, Image | Segmentation) for source in sources)
            return is_paired(output, spec) and isinstance(kind, Image) and is_map
    return True


def columns_of(data: Dataset, names: Sequence[str]) -> Dataset:
    """The same samples in the same order with some of their fields only, so that batches do not copy the others."""
    streams = {key: stream for key, stream in data.streams.items() if {*names} & {*stream.names.values()}}
    columns = {name: data.columns[name] for name in names if name in data.columns}
    rows = np.arange(len(data)) if data.rows is None else data.rows
    return replace(data, columns=columns, rows=rows, streams=streams).centred()


def conditions_as_real(data: Dataset, names: Sequence[str], n: int) -> Batch:
    """Those of these fields that the data have, of n of its samples, as networks see them: (n, ...). The same in every call."""
    columns = columns_of(data, names)
    batch = columns.to_network(columns.batch(0, 0, n))
    return Batch({name: batch[name] for name in names if name in batch})


def frames_per_sample(kind: Field) -> int:
    """The number of images that a sample is."""
    return kind.frames if isinstance(kind, Clip) else 1


def to_images(samples: Tensor) -> Tensor:
    """Images (n, channels, height, width) as they are; the frames of clips (n, channels, frames, height, width) one after another."""
    return samples.transpose(1, 2).flatten(0, 1) if samples.dim() == 5 else samples


def frames(data: Dataset) -> Dataset:
    """A data set of images as it is; of clips, the data set of their frames, without labels."""
    kind = data.spec.fields["image"]
    if not isinstance(kind, Clip):
        return data
    column = data.columns["image"].reshape(-1, *data.columns["image"].shape[2:])
    rows = None if data.rows is None else (data.rows[:, None] * kind.frames + np.arange(kind.frames)).ravel()
    spec = DataSpec.images(kind.height, kind.width, kind.channels)
    return replace(data, spec=spec, columns={"image": column}, rows=rows)
