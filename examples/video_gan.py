"""VGAN. Vondrick, Pirsiavash & Torralba 2016, Generating Videos with Scene Dynamics, arXiv:1609.02612

Short clips from latents: a moving foreground in front of a background that stands still, blended by a mask.

The mask is pushed to zero, so that whatever does not move is left to the background. Networks have as many layers as the clips
allow: frames, height and width are halved twice.
"""

from torch import Tensor, nn

from leafwing.errors import LeafwingError
from leafwing.fields import Clip
from leafwing.game import Abilities, Adam, Batch, Clock, DataSpec, Game, Nets, Output, Player, Round, Term, scores
from leafwing.parts import priors
from leafwing.parts.objectives import non_saturating
from leafwing.parts.plays import duel


class ClipGenerator(nn.Module):
    """Latents (n, latent) -> clips (n, channels, frames, height, width) in [-1, 1], and their masks (n, 1, frames, height, width)."""

    def __init__(self, clip: Clip, latent: int, width: int) -> None:
        super().__init__()
        frames, height, side = clip.frames // 4, clip.height // 4, clip.width // 4
        self.foreground = nn.Sequential(
            nn.Linear(latent, 2 * width * frames * height * side),
            nn.Unflatten(1, (2 * width, frames, height, side)),
            nn.BatchNorm3d(2 * width),
            nn.ReLU(),
            nn.ConvTranspose3d(2 * width, width, 4, 2, 1, bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(),
        )
        self.colour = nn.ConvTranspose3d(width, clip.channels, 4, 2, 1)
        self.mask = nn.ConvTranspose3d(width, 1, 4, 2, 1)
        self.background = nn.Sequential(
            nn.Linear(latent, 2 * width * height * side),
            nn.Unflatten(1, (2 * width, height, side)),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.ConvTranspose2d(width, clip.channels, 4, 2, 1),
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        features = self.foreground(z)
        mask = self.mask(features).sigmoid()
        return mask * self.colour(features).tanh() + (1 - mask) * self.background(z)[:, :, None], mask


def clip_critic(clip: Clip, width: int) -> nn.Module:
    """Clips -> scores (n,)."""
    return nn.Sequential(
        nn.Conv3d(clip.channels, width, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv3d(width, 2 * width, 4, 2, 1, bias=False),
        nn.BatchNorm3d(2 * width),
        nn.LeakyReLU(0.2),
        nn.Conv3d(2 * width, 1, (clip.frames // 4, clip.height // 4, clip.width // 4)),
        nn.Flatten(0),
    )


def video_gan(
    data: DataSpec,
    *,
    sparsity: float = 0.1,
    latent: int = 100,
    width: int = 64,
    lr_g: float = 2e-4,
    lr_d: float = 2e-4,
    batch: int = 64,
) -> Game:
    """Two-stream G, three-dimensional convolutions, non-saturating objective.

    Args:
        sparsity: weight of the mean of the mask.
        latent: dimension of the latent vector.
        width: channels of the layers next to the clip; doubles each time the resolution halves.
        lr_g: learning rate of G.
        lr_d: learning rate of D.
        batch: batch size (real clips per update).
    """
    data.need("video_gan", clip=Clip)
    clip = data.fields["clip"]
    if clip.frames % 4 or clip.height % 4 or clip.width % 4:
        raise LeafwingError(f"frames, height and width must be divisible by 4: {clip}")
    z = priors.Normal(latent)

    def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
        fake, mask = nets.G(z(batch.n, batch.clip.device))
        return Round(nets, real=batch.clip, fake=fake, judge=nets.D, mask=mask)

    def make(nets: Nets, inputs: Batch, clock: Clock) -> Tensor:
        clips, _ = nets.G(inputs.latent)
        return clips

    def judge(nets: Nets, samples: Tensor, inputs: Batch) -> Tensor:
        return scores(nets.D(samples))

    masked = Term("mask", lambda r: sparsity * r.mask.mean())
    return Game(
        players={
            "G": Player(ClipGenerator(clip, latent, width), Adam(lr_g)),
            "D": Player(clip_critic(clip, width), Adam(lr_d)),
        },
        turns=duel(play, non_saturating, generator=[masked]),
        abilities=Abilities([Output("clip", make, prior=z)], judge=judge),
        batch=batch,
    )
