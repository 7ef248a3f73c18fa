"""What a model generates as a sheet: the progress sheet of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from leafwing import fields
from leafwing.conditions import edits, pixel_conditions, way_back
from leafwing.errors import LeafwingError
from leafwing.fields import Field
from leafwing.game import Batch, DataSpec, Output
from leafwing.model import Model
from leafwing.pictures import CLASSES, PER_CLASS, Cell, Sheet, captions_of, class_name, in_rows, scatter


def sample_sheet(model: Model, rows: Batch | None = None, seed: int = 0) -> Image.Image:
    """The progress sheet as an image; see `progress_sheet`. Points are a plot of 2,000."""
    if isinstance(model.kind(model.output), fields.Vector):
        return scatter(model.sample(2_000, seed))
    return progress_sheet(model, rows, seed).image()


def progress_sheet(model: Model, rows: Batch | None = None, seed: int = 0) -> Sheet:
    """Samples of the main output, the same ones at every stage of training.

    From latents alone: 8 x 8 samples; with labels one row per class, with the same latents in each; with attributes instead one
    row per value of each, all else being the same. Other conditions than these come from `rows`: real samples, and beside each of
    them those generated from its conditions, with its caption below and its box kinds on it. From images: what each is generated
    from, what is generated, what it is in reality, or if they are unpaired, some real sample; for two outputs that translate into
    each other, there and back in both directions. Clips are strips of frames.

    Args:
        model: the model.
        rows: some real samples in the format of networks; None: conditions follow the examples of the model.
        seed: random seed of latents and unspecified conditions.

    Raises:
        LeafwingError: an output that is generated from images, but no rows.
    """
    output = model.output
    if pixel_conditions(output, model.spec):
        if rows is None:
            raise LeafwingError(f"the {output.field} of this run is generated from images: a sheet needs some real samples")
        return _translations(model, output, rows, seed)
    kind = model.kind(output)
    if {*output.conditions} - {"label", "attributes"}:
        return _conditional_samples(model, output, rows, seed)
    count = 8 if isinstance(kind, fields.Clip) or not kind.has_pixels else 64
    columns = PER_CLASS if count == 64 else 1
    if not model.labels and "attributes" in output.conditions:
        return _rows_of_attributes(model, columns, seed)
    if not model.labels:
        return Sheet(in_rows(_cells(kind, model.sample(count, seed)), 8 if count == 64 else 1))
    labels = range(min(CLASSES, len(model.labels)))
    latents = model.latents(columns, seed).repeat(len(labels), 1)
    samples = model.generate(latents, label=[label for label in labels for _ in range(columns)])
    return Sheet(in_rows(_cells(kind, samples), columns), names=[class_name(model.labels[label], label) for label in labels])


def _rows_of_attributes(model: Model, columns: int, seed: int) -> Sheet:
    """A row of samples for each value of each attribute, with the same latents and other attributes in each."""
    kind, attributes = model.kind(model.output), model.spec.fields["attributes"]
    assert isinstance(attributes, fields.Attributes)
    names = [item for name in attributes.names for item in ([name] if "=" in name else [f"{name}=0", f"{name}=1"])][:CLASSES]
    rows = []
    for name in names:
        values = model.conditions(columns, seed).attributes
        for index, value in attributes.columns(dict([name.split("=", 1)])).items():
            values[:, index] = value
        rows.append(values)
    samples = model.generate(model.latents(columns, seed).repeat(len(rows), 1), attributes=torch.cat(rows))
    return Sheet(in_rows(_cells(kind, samples), columns), names=names)


def _conditional_samples(model: Model, output: Output, rows: Batch | None, seed: int) -> Sheet:
    """Real samples, and beside each the samples of the same latents with its conditions."""
    kind = model.kind(output)
    inputs = model.conditions(8, seed) if rows is None else Batch({name: rows[name] for name in output.conditions})
    columns = 1 if output.prior is None or isinstance(kind, fields.Clip) else 6
    latents = None if output.prior is None else model.latents(columns, seed).repeat(inputs.n, 1)
    repeated: dict[str, Any] = {name: value.repeat_interleave(columns, 0) for name, value in inputs.items()}
    samples = in_rows(
        _cells(kind, torch.cat([*model.stream(latents, seed=seed, **repeated)]), _marks(model.spec, repeated)), columns
    )
    titles, captions = ["generated"], captions_of(model.spec, inputs)
    if rows is not None and output.field in rows:
        real = _cells(kind, rows[output.field], _marks(model.spec, inputs))
        return Sheet([[cell, *row] for cell, row in zip(real, samples, strict=True)], ["real", *titles], captions)
    return Sheet(samples, titles, captions)


def _translations(model: Model, output: Output, rows: Batch, seed: int) -> Sheet:
    """Inputs, outputs and the real samples in columns; for two-way translators there and back, in both directions.

    An output that edits samples gives each sample the other conditions of the next one.
    """
    spec, edited = model.spec, edits(output)
    if edited:
        rows = Batch({name: value if name == output.field else value.roll(-1, 0) for name, value in rows.items()})

    def translate(output: Output, images: Tensor) -> Tensor:
        name, *_ = pixel_conditions(output, spec)
        further: dict[str, Any] = {condition: rows[condition] for condition in output.conditions if condition != name}
        return model.translate(images, output=output.field, seed=seed, **further)

    (name, *further), kind = pixel_conditions(output, spec), model.kind(output)
    back = way_back(output, model.game.abilities.outputs, spec)
    columns = [(condition, spec.fields[condition], rows[condition]) for condition in (name, *further)]
    generated = translate(output, rows[name])
    columns.append(("generated", kind, generated))
    if back is not None and output.field in rows:
        other = spec.fields[name]
        reverse = translate(back, rows[output.field])
        columns += [("and back", other, translate(back, generated)), (output.field, kind, rows[output.field])]
        columns += [("generated", other, reverse), ("and back", kind, translate(output, reverse))]
    elif output.field in rows and not edited:
        unpaired = {*spec.unpaired} & {name, output.field}
        columns.append(("real, unpaired" if unpaired else "real", kind, rows[output.field]))
    inputs = {condition: rows[condition] for condition in output.conditions if condition not in (name, *further)}
    cells = [_cells(kind, values, _marks(spec, inputs)) for _, kind, values in columns]
    return Sheet([*zip(*cells, strict=True)], [title for title, _, _ in columns], captions_of(spec, inputs))


def _cells(kind: Field, samples: Tensor, marks: Sequence[Sequence[tuple[Field, Tensor]]] = ()) -> list[Cell]:
    """The cells of samples in the format of networks."""
    stored = kind.to_stored(samples).numpy()
    return [Cell(kind, sample, marks[i] if marks else ()) for i, sample in enumerate(stored)]


def _marks(spec: DataSpec, inputs: Mapping[str, Tensor]) -> list[list[tuple[Field, Tensor]]]:
    """The boxes and key points of each sample; empty if there are none."""
    kinds = {name: spec.fields[name] for name in inputs if isinstance(spec.fields[name], fields.Box | fields.Keypoints)}
    count = max((len(inputs[name]) for name in kinds), default=0)
    return [[(kind, inputs[name][i].cpu()) for name, kind in kinds.items()] for i in range(count)]
