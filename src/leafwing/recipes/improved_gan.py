"""Improved-GAN. Salimans et al. 2016, Improved Techniques for Training GANs, arXiv:1606.03498

DCGAN with the paper's five techniques, each of which can be switched off: they address different failures.

G may match the mean of D's last features (3.1) instead of fooling D; D may see how close a sample is to the others of its batch
(3.2, 100 kernels of dimension 5, as in the code); both may be penalised for leaving the mean of their past weights (3.3); D's
target for real samples is 0.9 instead of 1 (3.4); G may use virtual batch normalisation with a fixed reference batch (3.5),
which is saved with the weights. The paper found feature matching better for classifiers and minibatch discrimination better for
samples, not both. Matching minimises the mean over the features of the squared difference. The released code has no historical
averaging, and its run with minibatch discrimination a saturating G that is updated three times; the ImageNet code used a smoothed
target of 0.75.
"""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from leafwing import networks
from leafwing.errors import LeafwingError
from leafwing.game import Adam, DataSpec, Game, Player, Term
from leafwing.networks import dcgan, mlp
from leafwing.networks.layers import MinibatchDiscrimination, WithReferenceBatch, dcgan_weights
from leafwing.parts import priors
from leafwing.parts.objectives import Objective, smoothed
from leafwing.parts.penalties import HistoricalAverage, feature_matching
from leafwing.parts.plays import duel, generating, sampling

KERNELS, DIMENSIONS = 100, 5
POINTS = {"latent": 2, "prior": "normal", "width": 16, "lr_g": 1e-3, "lr_d": 1e-3, "batch": 128}


class Critic(nn.Module):
    """Samples -> scores (n,), optionally with minibatch discrimination on the last features."""

    def __init__(self, net: dcgan.Critic | mlp.Critic, discrimination: bool) -> None:
        super().__init__()
        size = net.out.weight[0].numel()
        self.body = net.body
        self.close = MinibatchDiscrimination(size, KERNELS, DIMENSIONS) if discrimination else nn.Identity()
        self.out = nn.Linear(size + KERNELS if discrimination else size, 1)
        for part in (self.close, self.out):
            part.apply(dcgan_weights)

    def features(self, x: Tensor) -> Tensor:
        """D's last hidden layer: (n, numbers)."""
        return self.body(x).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.close(self.features(x))).squeeze(1)


def improved_gan(
    data: DataSpec,
    *,
    matching: bool = False,
    discrimination: bool = True,
    history: float = 0.0,
    smooth: float = 0.9,
    reference: int = 0,
    latent: int = 100,
    prior: Literal["normal", "uniform"] = "uniform",
    width: int = 64,
    max_width: int = 512,
    lr_g: float = 3e-4,
    lr_d: float = 3e-4,
    beta1: float = 0.5,
    n_critic: int = 1,
    ema: float = 0,
    batch: int = 100,
) -> Game:
    """DCGAN networks, or MLPs for points; the techniques of the paper as options.

    Args:
        matching: feature matching: G matches the mean of D's features instead of fooling D.
        discrimination: minibatch discrimination in D.
        history: weight of historical averaging, the squared distance to the mean of past weights, for both players; 0 disables it.
        smooth: D's target probability for real samples (one-sided label smoothing); 1 disables it.
        reference: size of the reference batch of virtual batch normalisation in G; 0 for ordinary batch normalisation.
        latent: dimension of the latent vector.
        prior: distribution of the latents.
        width: channels of the layers next to the image; doubles each time the resolution halves.
        max_width: maximum number of channels in any layer.
        lr_g: learning rate of G.
        lr_d: learning rate of D.
        beta1: Adam's beta1.
        n_critic: D updates per G update.
        ema: half-life of the EMA of G's weights, in images; 0 disables it; the released code averages D, the classifier.
        batch: batch size (real images per update).
    """
    if reference and data.points:
        raise LeafwingError("recipe improved_gan: networks for points have no normalisation; remove the option 'reference'")
    z = priors.by_name(prior, latent)
    g: nn.Module = networks.generator(
        data, latent, width, norm=f"virtual {reference}" if reference else "batch", max_width=max_width
    )
    if reference:
        g = WithReferenceBatch(g, z(reference, generator=torch.Generator().manual_seed(0)))
    d = Critic(networks.critic(data, width, max_width=max_width), discrimination)
    past = {name: HistoricalAverage(net, name, history) for name, net in (("G", g), ("D", d)) if history}
    history_terms = {name: [Term(f"history_{name}", average)] for name, average in past.items()}
    objective = smoothed(smooth)
    if matching:
        match = feature_matching(lambda r, x: r.nets.D.features(r.augment(x)))
        objective = Objective(objective.critic, match.loss)
    return Game(
        players={"G": Player(g, Adam(lr_g, (beta1, 0.999)), ema=ema), "D": Player(d, Adam(lr_d, (beta1, 0.999)))},
        turns=duel(
            sampling(z),
            objective,
            critic=history_terms.get("D", []),
            generator=history_terms.get("G", []),
            n_critic=n_critic,
            after=[past["D"].update] if history else [],
            after_generator=[past["G"].update] if history else [],
        ),
        abilities=replace(generating(z), judge=None) if discrimination else generating(z),  # a score depends on the batch
        batch=batch,
    )
