"""GoGAN. Juefei-Xu et al. 2017, Gang of GANs: Generative Adversarial Networks with Maximum Margin Ranking, arXiv:1704.04865

Training in stages: D enforces a margin between real and fake, and each stage must exceed the previous one by a further margin.

Stage 1 is a WGAN whose critic minimises max(0, s(G) + margin - s(x)) for each pair. Each further stage starts from the networks
of the previous one and adds ranking * max(0, s'(G'(z)) + 2 margin - s(x)), where s' and G' are the previous stage's networks.
Here G and D simply continue, with their optimisers, and s' and G' are copies frozen at the end of the previous stage; a
third-party implementation (sanghoon/tf-exercise-gan) keeps training the first stage alongside the second. The training images are
divided equally among the stages. RMSprop 1e-4, weights clipped to 0.1, margin 1, latent dimension 64 and batch size 128 as in that
code; not re-checked against the paper. The networks are DCGAN's; samples come from the last stage's G.
"""

from dataclasses import replace
from math import inf
from typing import Literal

from leafwing import networks
from leafwing.game import DataSpec, Game, Player, RMSprop, Term, Turn
from leafwing.parts import priors
from leafwing.parts.objectives import ranking as ranked
from leafwing.parts.penalties import PreviousStageRanking, clip_weights
from leafwing.parts.plays import duel, generating, sampling

POINTS = {"latent": 2, "width": 16, "lr_g": 5e-4, "lr_d": 5e-4, "batch": 128}


def gogan(
    data: DataSpec,
    *,
    stages: int = 2,
    margin: float = 1.0,
    ranking: float = 0.5,
    clip: float = 0.1,
    n_critic: int = 5,
    latent: int = 64,
    prior: Literal["normal", "uniform"] = "normal",
    width: int = 64,
    max_width: int = 512,
    lr_g: float = 1e-4,
    lr_d: float = 1e-4,
    ema: float = 0,
    batch: int = 128,
) -> Game:
    """DCGAN networks, weight clipping, a margin between real and fake that grows from stage to stage.

    Args:
        stages: number of stages; with 1 there is no ranking loss.
        margin: margin of real scores over fake ones; twice that over the previous stage's fakes.
        ranking: weight of the ranking loss between stages in D's loss.
        clip: D's weights are clipped to [-clip, clip].
        n_critic: D updates per G update.
        latent: dimension of the latent vector.
        prior: distribution of the latents.
        width: channels of the layers next to the image; doubles each time the resolution halves.
        max_width: maximum number of channels in any layer.
        lr_g: learning rate of G.
        lr_d: learning rate of D.
        ema: half-life of the EMA of G's weights, in images; 0 disables it, as in the paper.
        batch: batch size (real images per update).
    """
    z = priors.by_name(prior, latent)
    g, d = networks.generator(data, latent, width, max_width=max_width), networks.critic(data, width, max_width=max_width)
    # One for each stage after the first.
    rankings = [PreviousStageRanking(g, d, z, 2 * margin, ranking) for _ in range(1, stages)]
    play = sampling(z)

    def stage(t: int) -> list[Turn]:
        next_ranking = rankings[t - 1 : t]  # that of the next stage; empty for the last
        turns = duel(
            play,
            ranked(margin),
            critic=[Term(f"ranking_{t}", rankings[t - 2])] if t > 1 else [],
            n_critic=n_critic,
            after=[clip_weights("D", clip), *(term.snapshot_d for term in next_ranking)],
            after_generator=[term.snapshot_g for term in next_ranking],
        )
        during = (t - 1) / stages, inf if t == stages else t / stages
        return [replace(turn, during=during) for turn in turns]

    return Game(
        players={"G": Player(g, RMSprop(lr_g), ema=ema), "D": Player(d, RMSprop(lr_d))},
        turns=[turn for t in range(1, stages + 1) for turn in stage(t)],
        abilities=generating(z),
        batch=batch,
    )
