"""Signals of a game in training, measured on a few samples between two turns, without side effects.

Nothing is judged here: that is `leafwing.health`. Random state, buffers and gradients are the same, to the bit, before and after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, isnan, nan
from typing import Any

import torch
from torch import Tensor

from leafwing.engine.turns import Engine
from leafwing.game import Batch, BatchSource, Clock, DataSpec, Output, Round, Turn
from leafwing.parts.history import History
from leafwing.pixels import pool

SAMPLES = 32
"""Default number of real and of fake samples: enough to rank two clouds of scores, and cheap."""

COMPARISON_SIZE = 8
"""Images are compared at 8x8 pixels, which keeps the subject but not the noise of a generator early in training."""

MAX_VALUE = 1e30
"""Bound of reported numbers, because JSON has no infinity."""

SEED = 0x5EED


class Probe:
    """Measures a game in training, always with the same random numbers, hence the same latents.

    Args:
        engine: executes the game.
        batches: the training data; the first samples are used each time.
        n: number of samples in each process.
        held_out: held-out data, if any.
        spec: the fields of the data; None: translations of unpaired images are not compared with their inputs.
    """

    def __init__(
        self,
        engine: Engine,
        batches: BatchSource,
        *,
        n: int = SAMPLES,
        held_out: BatchSource | None = None,
        spec: DataSpec | None = None,
    ) -> None:
        self.engine, self.n, self.held_out = engine, n, held_out
        self.translation = None if spec is None else find_translation(engine.game.abilities.outputs, spec)
        self.batch = self._batch(batches, 0)
        self.previous: Tensor | None = None
        self.changes, self.phase = phase_changes(engine.game.turns), -1
        # Computed with separate generators, so that the global ones are not seeded.
        kinds = {"cpu", engine.device.type}
        self.probe_rng_state = {kind: torch.Generator(kind).manual_seed(SEED).get_state() for kind in kinds}

    def _batch(self, batches: BatchSource, images: int) -> Batch:
        """Samples of this process, cloned because captured turns overwrite the prepared batch."""
        prepared = self.engine.prepare(batches(images, self.n * self.engine.processes.world_size))
        return Batch({name: value.clone() for name, value in prepared.items()})

    def state(self) -> dict[str, Any]:
        """What the next measurement is compared with, for exact resume."""
        return {"before": self.previous, "phase": self.phase}

    def restore(self, state: Mapping[str, Any]) -> None:
        previous = state.get("before")
        self.previous = None if previous is None else previous.to(self.engine.device)
        self.phase = state.get("phase", -1)

    @torch.no_grad()
    def measure(self, clock: Clock) -> dict[str, float]:
        """The signals by name, without those that the game does not have or that are NaN.

        With several processes all must call this at the same time, because batch normalisation communicates.

        `variety`: mean distance between two fakes, over that between two real samples, both at 8x8 pixels;
        `conditional_variety`: the same for two fakes of one condition, in games that have conditions; `distance`: energy distance
        between fakes and real samples, over its maximum (Szekely & Rizzo 2013, Energy statistics), 0 to 1; `moved`: mean distance
        of the fakes of fixed latents from those of the last measurement, over that between two real samples; `separation`: the
        probability that a real sample's score exceeds a fake one's; `margin`: mean real minus mean fake score, over the standard
        deviation of scores within each; `real`, `fake`: mean scores; `held_out_separation`: the probability that a training
        sample's score exceeds a held-out one's; `G/gradient`, `G/weights`: for each player the norms of the gradient of its last
        step and of its weights; `G/rate`: its learning rate, if scheduled; `phase`: how often other players have begun to move, in
        games in which that changes; for images that are generated from unpaired images those of `compare_translation`.
        """
        engine = self.engine
        before, self.phase = self.phase, sum(clock.planned_progress >= moment for moment in self.changes)
        if before not in (-1, self.phase):
            self.previous = None  # of another generator, or of one that did not move
        rng_state = engine.rng_state()
        buffers = [(b, b.clone()) for player in engine.game.players.values() for b in player.net.buffers()]
        engine.set_rng_state(self.probe_rng_state)
        for module in (module for player in engine.game.players.values() for module in player.net.modules()):
            if isinstance(module, History):
                module.count.zero_()  # an empty one shows only what is generated now
        try:
            bf16 = self.engine.setup.precision == "bf16"
            with torch.autocast(engine.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
                signals = self._signals(clock)
            signals |= self._norms(clock)
            if self.changes:
                signals["phase"] = torch.tensor(float(self.phase), device=engine.device)
        finally:
            for buffer, copy in buffers:
                buffer.copy_(copy)
            engine.set_rng_state(rng_state)
        if not signals:
            return {}
        values = torch.stack([value.float() for value in signals.values()]).nan_to_num(nan, MAX_VALUE, -MAX_VALUE).tolist()
        return {name: value for name, value in zip(signals, values, strict=True) if not isnan(value)}

    def _signals(self, clock: Clock) -> dict[str, Tensor]:
        clock = self.engine.game.at_stage(clock)
        rounds = ((turn, self._play(turn, self.batch, clock)) for turn in self.engine.game.turns if turn.times(clock))
        turn, r = next(((turn, r) for turn, r in rounds if r.real is not None and r.fake is not None), (None, None))
        if turn is None or r is None:  # nothing is generated in this stage
            return {}
        real, fake = downsample(r.real), downsample(r.fake)
        n, spread, across = len(real), mean_distance(real), distances(real, fake).mean()
        inside = (spread + mean_distance(fake)) * (1 - 1 / n)
        signals = {"variety": mean_distance(fake) / spread, "distance": 1 - inside / (2 * across)}
        if self.previous is not None and self.previous.shape == fake.shape:
            signals["moved"] = (fake - self.previous).norm(dim=1).mean() / spread
        self.previous = fake
        if any(output.prior is not None and output.conditions for output in self.engine.game.abilities.outputs):
            again = downsample(self._play(turn, self.batch, clock).fake)
            signals["conditional_variety"] = (fake - again).norm(dim=1).mean() / spread
        if self.translation is not None:
            signals |= self._translation_signals(*self.translation, clock)
        if (pair := mean_scores(r)) is None:
            return signals
        real_scores, fake_scores = pair
        deviation = ((real_scores.var() + fake_scores.var()) / 2).sqrt()
        margin = (real_scores.mean() - fake_scores.mean()) / deviation
        signals |= {"separation": probability_above(real_scores, fake_scores), "margin": margin}
        signals |= {"real": real_scores.mean(), "fake": fake_scores.mean()}
        if self.held_out is not None:
            pair = mean_scores(self._play(turn, self._batch(self.held_out, clock.images), clock))
            if pair is not None:
                signals["held_out_separation"] = probability_above(real_scores, pair[0])
        return signals

    def _translation_signals(self, output: Output, source: str, clock: Clock) -> dict[str, Tensor]:
        inputs = Batch({name: self.batch[name] for name in output.conditions})
        if output.prior is not None:
            inputs["latent"] = output.prior(inputs.n, self.engine.device)
        translated = output.make(self.engine.game.nets, inputs, clock)
        return compare_translation(inputs[source], translated, self.batch[output.field])

    def _play(self, turn: Turn, batch: Batch, clock: Clock) -> Round:
        """The round of a turn. Its play may differentiate, with respect to samples and not to weights: that would need memory."""
        self.engine.set_trainable(frozenset())
        with torch.enable_grad():
            r = turn.play(self.engine.game.nets, batch, clock)
        return r.with_samples(*(None if samples is None else samples.detach() for samples in (r.real, r.fake)))

    def _norms(self, clock: Clock) -> dict[str, Tensor]:
        engine, signals = self.engine, {}
        for name in engine.optimisers:
            weights = engine.weights[name]
            signals[f"{name}/weights"] = norm(weights)
            if gradients := [weight.grad for weight in weights if weight.grad is not None]:
                signals[f"{name}/gradient"] = norm(gradients)
            spec = engine.game.players[name].optimiser
            if spec is not None and callable(spec.lr):
                signals[f"{name}/rate"] = torch.tensor(spec.lr(clock) * engine.lr_scale, device=engine.device)
        return signals


def phase_changes(turns: Sequence[Turn]) -> list[float]:
    """The planned progress of training at which other players move than before, in order; empty if they are always the same."""
    moments = sorted({0.0, *(moment for turn in turns for moment in turn.during if moment < inf)})
    movers = [
        {name for turn in turns if turn.during[0] <= moment < turn.during[1] for name in turn.movers} for moment in moments
    ]
    return [moment for moment, before, now in zip(moments[1:], movers, movers[1:], strict=False) if before != now]


def find_translation(outputs: Sequence[Output], spec: DataSpec) -> tuple[Output, str] | None:
    """The first output that is an image generated from unpaired images, and the field that these are; None if there is none."""
    for output in outputs:
        images = [name for name in output.conditions if spec.fields[name].kind == "image"]
        kind = output.kind or spec.fields[output.field]
        if images and kind.kind == "image" and output.field in spec.fields and {images[0], output.field} & {*spec.unpaired}:
            return output, images[0]
    return None


def compare_translation(source: Tensor, translated: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Signals of translations of unpaired images, from images (n, channels, height, width) in [-1, 1] in brightness at 16x16 pixels.

    `tone`: correlation of the pixels of an image and of its translation, mean over images, -1 to 1; `mirrored`: how much nearer the
    distribution of brightness of the targets is to that of the sources with light and dark swapped than to that of the sources
    (Wasserstein distances, in [-1, 1]): positive if swapping is part of the task; `change`: mean distance of an image and its
    translation, over that of a source and a target; `gap`: energy distance between sources and targets over its maximum, 0 to 1.
    """
    source, translated, target = (brightness(images) for images in (source, translated, target))
    n = len(source)
    centred = [images - images.mean(1, keepdim=True) for images in (source, translated)]
    lengths = centred[0].norm(dim=1) * centred[1].norm(dim=1)
    tone = ((centred[0] * centred[1]).sum(1) / lengths.clamp_min(1e-6)).mean()
    before, after = source.flatten().sort()[0], target.flatten().sort()[0]
    mirrored = (before - after).abs().mean() - (-before.flip(0) - after).abs().mean()
    across = distances(source, target).mean().clamp_min(1e-6)
    within = (mean_distance(source) + mean_distance(target)) * (1 - 1 / n)
    return {
        "tone": tone,
        "mirrored": mirrored,
        "change": (translated - source).norm(dim=1).mean() / across,
        "gap": 1 - within / (2 * across),
    }


def brightness(images: Tensor) -> Tensor:
    """Images (n, channels, height, width) in [-1, 1] as their brightness at 16x16 pixels, without transparency: float32 (n, 256)."""
    colours = images.float()
    colours = colours[:, :-1] if colours.shape[1] in (2, 4) else colours
    return pool(colours.mean(1, keepdim=True), 2 * COMPARISON_SIZE, 2 * COMPARISON_SIZE).flatten(1)


def downsample(samples: Tensor) -> Tensor:
    """Images (n, channels, [frames,] height, width) at 8x8 pixels, points unchanged: float32 (n, dimensions)."""
    samples = samples.float().flatten(1, -3) if samples.dim() > 3 else samples.float()
    return (pool(samples, COMPARISON_SIZE, COMPARISON_SIZE) if samples.dim() == 4 else samples).flatten(1)


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances of samples (n, dimensions) and (m, dimensions): (n, m). By differences, so small ones are exact."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def mean_distance(samples: Tensor) -> Tensor:
    """Mean Euclidean distance of two different samples of (n, dimensions)."""
    return distances(samples, samples).sum() / (len(samples) * (len(samples) - 1))


def probability_above(a: Tensor, b: Tensor) -> Tensor:
    """The probability that a random score of a (n,) exceeds a random score of b (m,); a tie counts half."""
    difference = a[:, None] - b[None]
    return (difference.sign().mean() + 1) / 2


def mean_scores(r: Round) -> tuple[Tensor, Tensor] | None:
    """Scores of real and fake samples, (n,) each: the mean if the judge gives several; None for a game without a judge."""
    try:
        real, fake = r.real_score, r.fake_score
    except (AttributeError, TypeError):
        return None
    return real.flatten(1).mean(1) if real.dim() > 1 else real, fake.flatten(1).mean(1) if fake.dim() > 1 else fake


def norm(tensors: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm of all elements of the tensors."""
    return torch.stack(torch._foreach_norm(list(tensors))).norm()
