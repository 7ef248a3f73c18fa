"""FastGAN. Liu et al. 2021, Towards Faster and Stabilized GAN Training for High-fidelity Few-shot Image Synthesis, arXiv:2101.04775

A light generator with skip-layer excitation, and a discriminator that must reconstruct its input: for few images.

Decoders rebuild real images from the discriminator's maps, whole and in part, so that it learns what they look like instead of
memorising them. Both networks see images through DiffAugment (`--augment`) without cutout, as in the authors' code: with it, G
learns to draw its grey rectangles (docs/results/small-data.md). There the distance of rebuilt images is LPIPS, summed over the batch;
here it is that of EfficientNet-lite0's features if its package is installed, else L1, and the mean: their weight for a batch of 8
would be `rebuild=8`. Their D has a third decoder, of the second view, and one quarter for a batch; here each image has its own. Their
networks are for 256 to 1024 px; here they begin at the size of the images, so that excitations begin at 64 px, and the second view of
D is the image at half the size. Further differences: `networks/fastgan.py`.
"""

from typing import Literal

import torch
from torch import Tensor

from leafwing.fields import Image
from leafwing.game import Abilities, Adam, Batch, DataSpec, Game, Nets, Player, Round, Term, scores
from leafwing.networks import fastgan as networks
from leafwing.networks import lite0
from leafwing.parts import priors
from leafwing.parts.objectives import noisy_hinge
from leafwing.parts.perceptual import image_distance
from leafwing.parts.plays import duel, generating, sampling


def fastgan(
    data: DataSpec,
    *,
    rebuild: float = 1.0,
    distance: Literal["auto", "lite0", "pixels"] = "auto",
    latent: int = 256,
    prior: Literal["normal", "uniform"] = "normal",
    width: int = 64,
    max_width: int = 1024,
    lr_g: float = 2e-4,
    lr_d: float = 2e-4,
    beta1: float = 0.5,
    ema: float = 5_500,
    batch: int = 8,
) -> Game:
    """Skip-layer excitation, self-supervised discriminator, hinge loss, DiffAugment.

    Args:
        rebuild: weight of the distance between real images and their reconstructions by D's decoders.
        distance: what compares them: lite0, from an optional package; pixels, L1; auto: lite0 if it is installed, else pixels.
        latent: dimension of the latent vector.
        prior: distribution of the latents.
        width: channels at 128 px; times 0.5 at 256 px, 2 at 32 and 64 px, 4 at 16 px, 8 at 8 px, 16 at 4 px.
        max_width: maximum number of channels in any layer.
        lr_g: learning rate of G.
        lr_d: learning rate of D.
        beta1: Adam's beta1.
        ema: half-life of the EMA of G's weights, in images (authors: 0.999 with batch 8); 0 disables it.
        batch: batch size (real images per update).
    """
    data.need("fastgan", image=Image)
    z = priors.by_name(prior, latent)
    network = distance if distance != "auto" else "lite0" if lite0.is_installed() else "pixels"

    def rebuilt(r: Round) -> Tensor:
        pairs = r.nets.D.rebuild(r.real_output[1])
        return rebuild * torch.stack([image_distance(network, *pair) for pair in pairs]).sum()

    def judge(nets: Nets, samples: Tensor, inputs: Batch) -> Tensor:
        return scores(nets.D(samples)).mean(1)

    return Game(
        players={
            "G": Player(networks.Generator(data, latent, width, max_width), Adam(lr_g, (beta1, 0.999)), ema=ema),
            "D": Player(networks.Critic(data, width, max_width, apart=networks.APART_D), Adam(lr_d, (beta1, 0.999))),
        },
        turns=duel(sampling(z), noisy_hinge, critic=[Term("reconstruction", rebuilt)] if rebuild else []),
        abilities=Abilities(generating(z).outputs, judge=judge),
        batch=batch,
        augment="diff:color,translation",
        pretrained=["lite0"] if rebuild and network == "lite0" else [],
        resolved={"distance": network},
        notes=[f"rebuilt images are compared by pixels; for features: pip install {lite0.PACKAGE}"]
        if rebuild and distance == "auto" and network == "pixels"
        else [],
    )
