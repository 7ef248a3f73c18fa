"""What can be seen of a game in training without touching it: signals, measured on a few samples between two turns.

Nothing here judges; that is `leafwing.health`'s. After a look everything is as before, to the bit: random state, buffers, gradients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan, nan
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from leafwing.engine.turns import Engine
from leafwing.game import Batch, Batches, Clock, Round, Turn

SAMPLES = 32
"""So many real and so many fake samples are looked at: enough to rank two clouds of scores, and cheap."""

COARSE = 8
"""Pictures are compared at 8x8 pixels: what is left there is the subject, not the noise of a young generator."""

LARGEST = 1e30
"""What is said for a number that is larger: JSON has no infinity."""

SEED = 0x5EED


class Probe:
    """Looks at a game in training, always with the same random numbers, so with the same latents.

    Args:
        engine: whose game.
        batches: the data. Its first samples are looked at each time.
        n: how many samples, in each process.
        held: data that are kept out of training, if there are any.
    """

    def __init__(self, engine: Engine, batches: Batches, *, n: int = SAMPLES, held: Batches | None = None) -> None:
        self.engine, self.n, self.held = engine, n, held
        self.batch = self._batch(batches, 0)
        self.before: Tensor | None = None
        # A random state on its own: nobody's generator is seeded for it.
        kinds = {"cpu", engine.device.type}
        self.random = {kind: torch.Generator(kind).manual_seed(SEED).get_state() for kind in kinds}

    def _batch(self, batches: Batches, images: int) -> Batch:
        """Samples of this process's own; a copy, because recorded turns keep the batch at a fixed place."""
        prepared = self.engine.prepare(batches(images, self.n * self.engine.processes.world))
        return Batch({name: value.clone() for name, value in prepared.items()})

    def state(self) -> dict[str, Any]:
        """What the next look compares with, for exact resume."""
        return {"before": self.before}

    def restore(self, state: Mapping[str, Any]) -> None:
        before = state.get("before")
        self.before = None if before is None else before.to(self.engine.device)

    @torch.no_grad()
    def look(self, clock: Clock) -> dict[str, float]:
        """The signals, by name; one that this game does not have, or that is not a number, is left out.

        In several processes all must look at the same time, because batch normalisation exchanges its statistics.

        `variety`: mean distance between two fakes, over that between two real samples, both at 8x8 pixels; `echo`: the same for
        two fakes of one condition, in games that have conditions; `distance`: energy distance between fakes and real samples, over
        its largest value (Szekely & Rizzo 2013, Energy statistics), 0 to 1; `moved`: how far the fakes of fixed latents went since
        the last look, over the distance between two real samples; `separation`: the chance that a real sample's score is above a
        fake one's; `margin`: mean real minus mean fake score, over the standard deviation of scores within each; `real`, `fake`: mean
        scores; `held`: the chance that a real sample's score is above a held-out one's; `G/gradient`, `G/weights`: norms, for each
        player, of the gradient of its last step and of its weights; `G/rate`: its learning rate, where that follows a schedule.
        """
        engine = self.engine
        random = engine.random()
        kept = [(b, b.clone()) for player in engine.game.players.values() for b in player.net.buffers()]
        engine.set_random(self.random)
        try:
            bf16 = self.engine.setup.precision == "bf16"
            with torch.autocast(engine.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
                found = self._signals(clock)
            found |= self._norms(clock)
        finally:
            for buffer, before in kept:
                buffer.copy_(before)
            engine.set_random(random)
        if not found:
            return {}
        values = torch.stack([value.float() for value in found.values()]).nan_to_num(nan, LARGEST, -LARGEST).tolist()
        return {name: value for name, value in zip(found, values, strict=True) if not isnan(value)}

    def _signals(self, clock: Clock) -> dict[str, Tensor]:
        turn = next((turn for turn in self.engine.game.turns if turn.times(clock)), self.engine.game.turns[0])
        r = self._play(turn, self.batch, clock)
        real, fake = coarse(r.real), coarse(r.fake)
        n, spread, across = len(real), between(real), apart(real, fake).mean()
        inside = (spread + between(fake)) * (1 - 1 / n)
        found = {"variety": between(fake) / spread, "distance": 1 - inside / (2 * across)}
        if self.before is not None and self.before.shape == fake.shape:
            found["moved"] = (fake - self.before).norm(dim=1).mean() / spread
        self.before = fake
        if self.engine.game.abilities.conditions:
            found["echo"] = (fake - coarse(self._play(turn, self.batch, clock).fake)).norm(dim=1).mean() / spread
        if (verdicts := scores(r)) is None:
            return found
        of_real, of_fake = verdicts
        within = ((of_real.var() + of_fake.var()) / 2).sqrt()
        found |= {"separation": above(of_real, of_fake), "margin": (of_real.mean() - of_fake.mean()) / within}
        found |= {"real": of_real.mean(), "fake": of_fake.mean()}
        if self.held is not None and (out := scores(self._play(turn, self._batch(self.held, clock.images), clock))):
            found["held"] = above(of_real, out[0])
        return found

    def _play(self, turn: Turn, batch: Batch, clock: Clock) -> Round:
        return turn.play(self.engine.game.nets, batch, clock)

    def _norms(self, clock: Clock) -> dict[str, Tensor]:
        found = {}
        for name in self.engine.optimisers:
            weights = self.engine.weights[name]
            found[f"{name}/weights"] = norm(weights)
            if gradients := [weight.grad for weight in weights if weight.grad is not None]:
                found[f"{name}/gradient"] = norm(gradients)
            spec = self.engine.game.players[name].optimiser
            if spec is not None and callable(spec.lr):
                found[f"{name}/rate"] = torch.tensor(spec.lr(clock), device=self.engine.device)
        return found


def coarse(samples: Tensor) -> Tensor:
    """Pictures (n, channels, height, width) at 8x8 pixels, points as they are: float32 (n, numbers)."""
    samples = samples.float()
    return (adaptive_avg_pool2d(samples, COARSE) if samples.dim() == 4 else samples).flatten(1)


def apart(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances of samples (n, numbers) and (m, numbers): (n, m). By differences, so that small ones are right."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def between(samples: Tensor) -> Tensor:
    """Mean distance of two different ones of the samples (n, numbers)."""
    return apart(samples, samples).sum() / (len(samples) * (len(samples) - 1))


def above(a: Tensor, b: Tensor) -> Tensor:
    """The chance that one of the scores a (n,) is above one of the scores b (m,); a tie counts half."""
    difference = a[:, None] - b[None]
    return (difference.sign().mean() + 1) / 2


def scores(r: Round) -> tuple[Tensor, Tensor] | None:
    """Scores of real and fake samples, (n,) each: the mean for a judge that gives several; None for a game without a judge."""
    try:
        real, fake = r.real_score, r.fake_score
    except (AttributeError, TypeError):
        return None
    return real.flatten(1).mean(1) if real.dim() > 1 else real, fake.flatten(1).mean(1) if fake.dim() > 1 else fake


def norm(tensors: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm of all numbers together."""
    return torch.stack(torch._foreach_norm(list(tensors))).norm()
