"""GoGAN. Juefei-Xu et al. 2017, Gang of GANs: Generative Adversarial Networks with Maximum Margin Ranking, arXiv:1704.04865

Stages: a critic wants a margin between real and fake, and the next one more of it than the stage before had.

Stage 1 is a WGAN whose critic pays max(0, s(G) + margin - s(x)) for each pair. A further stage begins with the networks of the one
before it and adds ranking * max(0, s'(G'(z)) + 2 margin - s(x)), where s' and G' are that one's. Here G and D simply go on, their
optimisers too, and s' and G' are copies that stand still since the stage before ended; a code by others (sanghoon/tf-exercise-gan)
lets the first stage go on beside the second. Stages share the images of a training equally. RMSprop 1e-4, weights clipped to .1,
margin 1, a latent of 64, batch 128 as in that code; the paper was not checked again. Networks are DCGAN's; the last stage's G is the
one that is sampled.
"""

from dataclasses import replace
from math import inf

from leafwing import networks
from leafwing.game import DataSpec, Game, Player, RMSprop, Term, Turn
from leafwing.parts import priors
from leafwing.parts.objectives import ranking as ranked
from leafwing.parts.penalties import FormerPair, clip_weights
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
    prior: str = "normal",
    width: int = 64,
    widest: int = 512,
    lr_g: float = 1e-4,
    lr_d: float = 1e-4,
    ema: float = 0,
    batch: int = 128,
) -> Game:
    """DCGAN networks, clipped weights, a margin between real and fake that grows from stage to stage.

    Args:
        stages: how many; with 1 nothing is ranked.
        margin: by how much D wants real samples above fake ones; twice that above the former stage's.
        ranking: weight of what D pays for the order of the stages.
        clip: every weight of D stays within plus and minus this.
        n_critic: turns of D for one of G.
        latent: numbers in a latent.
        prior: where latents come from: normal or uniform.
        width: channels of the layers next to the picture; doubled at each halving.
        widest: the most channels that a layer may have.
        lr_g: learning rate of G.
        lr_d: learning rate of D.
        ema: half-life of G's averaged copy in images; 0 for none, as in the paper.
        batch: real images in a turn.
    """
    z = priors.named(prior, latent)
    g, d = networks.generator(data, latent, width, widest=widest), networks.critic(data, width, widest=widest)
    former = [FormerPair(g, d, z, 2 * margin, ranking) for _ in range(1, stages)]  # one for each stage but the first
    play = sampling(z)

    def stage(t: int) -> list[Turn]:
        kept = former[t - 1 : t]  # what the next stage is compared with; nothing for the last
        turns = duel(
            play,
            ranked(margin),
            critic=[Term(f"ranking_{t}", former[t - 2])] if t > 1 else [],
            n_critic=n_critic,
            after=[clip_weights("D", clip), *(pair.follow_d for pair in kept)],
            after_generator=[pair.follow_g for pair in kept],
        )
        during = (t - 1) / stages, inf if t == stages else t / stages
        return [replace(turn, during=during) for turn in turns]

    return Game(
        players={"G": Player(g, RMSprop(lr_g), ema=ema), "D": Player(d, RMSprop(lr_d))},
        turns=[turn for t in range(1, stages + 1) for turn in stage(t)],
        abilities=generating(z),
        batch=batch,
    )
