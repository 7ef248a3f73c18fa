"""What critics see: real and generated images with the same random changes, in every turn; ADA adapts their probability.

With few images a critic memorises them, and its scores of others become useless. The changes are in `parts.augment`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from leafwing.augment_option import AugmentOption
from leafwing.engine.share import RepeatedDraws
from leafwing.game import Clock, Round, to_fp32
from leafwing.parts import augment

TARGET = 0.766
"""Target of the measure of overfitting. With normal scores it corresponds to 0.6 for the sign of D(x), the target of the paper."""
SPEED = 500_000
"""Images within which ADA's p can rise from 0 to 1 (Karras et al. 2020, appendix C); half the training, if that is shorter."""
INTERVAL = 4
"""Updates of the critic between two adaptations of p."""


class Augmentation(nn.Module):
    """The random changes of images before a critic sees them, with their probability; its buffers are its state.

    Args:
        option: which changes.
        channels: the possible channels of the images.
        planned: planned length of the training in images.
    """

    p: Tensor
    sign: Tensor
    updates: Tensor
    since: Tensor
    images: Tensor

    def __init__(self, option: AugmentOption, channels: Collection[int], planned: int) -> None:
        super().__init__()
        self.option, self.channels = option, frozenset(channels)
        self.speed = min(SPEED, max(1, planned // 2))
        self.observed = False
        self.register_buffer("p", torch.tensor(float(option.start)))
        self.register_buffer("sign", torch.zeros(()))
        self.register_buffer("updates", torch.zeros(()))
        self.register_buffer("since", torch.zeros((), dtype=torch.int64))  # images shown at the last adaptation
        self.register_buffer("images", torch.zeros((), dtype=torch.int64), persistent=False)  # images shown now

    @property
    def changes(self) -> bool:
        """Whether p changes during training."""
        return self.option.kind == "ada" or self.option.start != self.option.end

    def forward(self, samples: Any, beside: Tensor | None = None, *, alike: int = 1) -> Any:
        """Images (n, channels, height, width) in [-1, 1], changed; codes, points and other samples as they are.

        With `beside`, images of the same size that belong to them, (images, beside): moved together, and beside with its own colours.

        Args:
            samples: what a critic is about to see.
            beside: further images, or None.
            alike: how many images in a row get the same changes.
        """
        if not isinstance(samples, Tensor) or samples.dim() != 4 or samples.shape[1] not in self.channels:
            return samples if beside is None else (samples, beside)
        channels = samples.shape[1]
        repeated = RepeatedDraws(len(samples), alike) if alike > 1 else nullcontext()
        with torch.autocast(samples.device.type, enabled=False), repeated:
            images = before = to_fp32(samples)
            beside_before = beside
            leaves_nothing = self.option.kind == "diff" and {*self.option.changes} != {"color"}
            if leaves_nothing:
                images = augment.add_to_transparency(images, 1)
                beside = None if beside is None else self._add_to_transparency(to_fp32(beside), 1)
            for colour, change in self._changes():
                if beside is None or colour:
                    images = change(images)
                else:
                    images, beside = change(torch.cat([images, to_fp32(beside)], 1)).split([channels, beside.shape[1]], 1)
            if leaves_nothing:
                images = augment.add_to_transparency(images, -1)
                beside = None if beside is None else self._add_to_transparency(beside, -1)
            if self.option.probability < 1:
                chosen = augment.gate(images, self.option.probability)[:, None, None, None]
                images = torch.where(chosen, images, before)
                if beside is not None and beside_before is not None:
                    beside = torch.where(chosen, beside, to_fp32(beside_before))
        return images if beside is None else (images, beside)

    def _add_to_transparency(self, beside: Tensor, number: float) -> Tensor:
        """What stands beside images: if it may be images, likewise; class maps and contrasts have no transparency."""
        return augment.add_to_transparency(beside, number) if beside.shape[1] in self.channels else beside

    def _changes(self) -> list[tuple[bool, Callable[[Tensor], Tensor]]]:
        """The changes in order, and whether each concerns colours only."""
        if self.option.kind == "diff":
            return [(name == "color", augment.DIFF[name]) for name in self.option.changes]
        return [(False, partial(augment.move, p=self.p)), (True, partial(augment.transform_colours, p=self.p))]

    def wrap(self, r: Round) -> Round:
        """The round, whose judges now see changed images; also the rounds among its extras."""
        r.augment, r.plain_judge = self, r.judge
        for name, value in list(vars(r).items()):
            if isinstance(value, Round):
                self.wrap(value)
            elif name in ("judge", "judge_fake") and value is not None:
                setattr(r, name, partial(_judge_changed, self, value))
        return r

    def set_clock(self, clock: Clock) -> None:
        """Notes how many images were shown, and sets p if it follows a schedule."""
        self.images.fill_(clock.images)
        if self.option.start != self.option.end:
            self.p.fill_(self.option.start + (self.option.end - self.option.start) * min(1.0, clock.planned_progress))

    @torch.no_grad()
    def observe(self, r: Round, weight: float = 1.0) -> None:
        """Adds a measure of overfitting in a critic's turn, if p is adaptive and its losses compare real and fake images.

        In a turn of the generator the fakes have a gradient, also where the real scores have one (BiGAN's encoder).

        The mean sign of D(x) - D(G(z)). Karras et al. have the sign of D(x) (eq. 1), which assumes that D's threshold is 0; a critic
        with least squares, Wasserstein or relativistic losses has it elsewhere.

        Args:
            r: the round, with the scores that its losses have computed.
            weight: share of the batch.
        """
        if self.option.kind != "ada":
            return
        real, fake = (vars(r).get(name) for name in ("real_score", "fake_score"))
        if real is not None and fake is not None and real.requires_grad and r.fake.grad_fn is None:
            self.sign += weight * (real - fake).sign().mean()
            self.observed = True

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from a `state_dict`. Those of earlier versions do not say when p last changed: then it does not until it is due."""
        names = self.state_dict().keys()
        self.load_state_dict({"since": torch.tensor(-1)} | {name: value for name, value in state.items() if name in names})

    @torch.no_grad()
    def adapt(self, images: int) -> None:
        """Adapts p every `INTERVAL` updates of critics, after one with so many images; reads nothing on the host.

        The step follows the images that were shown since the last one, so p is no faster with several critics in a round.
        """
        self.observed = False
        self.updates += 1
        due = self.updates >= INTERVAL
        shown = self.images + images
        since = torch.where(self.since < 0, shown, self.since)
        step = (self.sign / INTERVAL - TARGET).sign() * (shown - since) / self.speed
        self.since.copy_(torch.where(due, shown, self.since))
        self.p.copy_(torch.where(due, (self.p + step).clamp(0, 1), self.p))
        self.sign.copy_(torch.where(due, torch.zeros_like(self.sign), self.sign))
        self.updates.copy_(torch.where(due, torch.zeros_like(self.updates), self.updates))


def _judge_changed(augmentation: Augmentation, judge: Callable[..., Any], samples: Tensor, *beside: Tensor) -> Any:
    return judge(*augmentation(samples, *beside)) if beside else judge(augmentation(samples))
