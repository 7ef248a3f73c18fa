"""A check of a game's outputs before training begins, so that it does not end at the first progress sheet."""

from __future__ import annotations

from typing import Any

from leafwing.conditions import pixel_conditions
from leafwing.errors import LeafwingError
from leafwing.fields import Vector
from leafwing.game import Batch
from leafwing.model import Model


def check_outputs(model: Model, batch: Batch) -> None:
    """Generates two samples of every output of a game from the fields of a batch of real samples, as networks see them.

    Raises:
        LeafwingError: an output that is no tensor or of the wrong shape, or one that is generated from a field that the data
            do not have.
    """
    outputs = [model.output, *model.game.abilities.outputs[1:]]
    names = [output.field for output in outputs]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise LeafwingError(
            f"the recipe has two outputs {repeated[0]}: declare one, or give the other a name and a kind of its own"
        )
    for output in outputs:
        needed = output.conditions if output.kind else (*output.conditions, output.field)
        if missing := [name for name in needed if name not in model.spec.fields]:
            raise LeafwingError(
                f"the recipe's output {output.field} needs the field {missing[0]}, which the data do not have"
            )
        named: dict[str, Any] = {name: batch[name][:2].to(model.device) for name in output.conditions}
        latents = None if output.prior is None else model.latents(2, output=output.field)
        samples = next(model.stream(latents, output=output.field, **named))
        if samples.shape[1:] != (shape := model.kind(output).shape):
            raise LeafwingError(
                f"the recipe's output {output.field} has shape {tuple(samples.shape[1:])}, but the field has shape {shape}"
            )
    if isinstance(model.kind(model.output), Vector) and pixel_conditions(model.output, model.spec):
        raise LeafwingError(
            f"the recipe's main output {model.output.field} is a vector generated from images, which progress sheets cannot show: "
            "put another output first"
        )
