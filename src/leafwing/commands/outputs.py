"""A check of a game's outputs and abilities before training begins, so that neither it nor what follows it ends with an error."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from leafwing.conditions import pixel_conditions
from leafwing.engine.setup import seeded
from leafwing.errors import LeafwingError
from leafwing.fields import Vector
from leafwing.game import Batch, Output, eval_mode
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
        samples = two_samples(model, output, batch)
        if samples.shape[1:] != (shape := model.kind(output).shape):
            raise LeafwingError(
                f"the recipe's output {output.field} has shape {tuple(samples.shape[1:])}, but the field has shape {shape}"
            )
    if isinstance(model.kind(model.output), Vector) and pixel_conditions(model.output, model.spec):
        raise LeafwingError(
            f"the recipe's main output {model.output.field} is a vector generated from images, which progress sheets cannot show: "
            "put another output first"
        )


def two_samples(model: Model, output: Output, batch: Batch) -> Tensor:
    """Two samples of an output, of the first two of a batch where it has conditions."""
    named: dict[str, Any] = {name: batch[name][:2].to(model.device) for name in output.conditions}
    latents = None if output.prior is None else model.latents(2, output=output.field)
    return next(model.stream(latents, output=output.field, **named))


@torch.no_grad()
def check_abilities(model: Model, batch: Batch) -> None:
    """Shows two samples of the main output to a game's other abilities. The random state is not changed.

    Args:
        model: the game.
        batch: two real samples or more, as networks see them.

    Raises:
        LeafwingError: a result that is no tensor or of another shape.
    """
    abilities, prior, nets = model.game.abilities, model.output.prior, model.game.sampling_nets
    samples = two_samples(model, model.output, batch).to(model.device)
    n, inputs = len(samples), Batch({name: batch[name][:2].to(model.device) for name in model.output.conditions})
    expected: list[tuple[str, Any, tuple[Any, ...], str, tuple[int | None, ...]]] = [
        ("judge", abilities.judge, (samples, inputs), "scores (n,)", (n,)),
        ("encode", abilities.encode, (samples,), "latents (n, prior.size)", (n, prior.size if prior else None)),
        ("classify", abilities.classify, (samples,), "class logits (n, classes)", (n, None)),
    ]
    with eval_mode(nets), seeded(0, samples.device):
        for name, function, arguments, what, shape in expected:
            if function is None:
                continue
            result = function(nets, *arguments)
            actual = tuple(result.shape) if isinstance(result, Tensor) else f"a {type(result).__name__}"
            fits = isinstance(actual, tuple) and len(actual) == len(shape)
            if not fits or any(size not in (None, other) for size, other in zip(shape, actual, strict=True)):
                advice = (
                    ""
                    if name != "judge"
                    else ": take output.flatten(1).mean(1), or scores(output) of a tuple (scores, heads)"
                )
                text = f"the recipe's ability {name} must return {what}, and for n={n} it returns {actual}"
                raise LeafwingError(text + advice)
