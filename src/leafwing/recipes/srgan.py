"""SRGAN. Ledig et al. 2016, Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network, arXiv:1609.04802

Enlarges images by two, four or eight: the size of `image` over that of `input`.

First G alone, SRResNet, minimises the mean squared error, whose best guess is the blurred mean of all plausible images. Then it
minimises a distance of feature maps, the content loss, and 1e-3 times the adversarial loss: sharper, but with a lower PSNR. With
--pretrain 1 it remains SRResNet. The learning rate falls to a tenth in the second half of the adversarial stage.

The paper's features are VGG19's, whose squared distance it multiplies by 0.006 to bring it to the scale of the squared error. VGG19 is
not available as a package: here it is an L1 distance of normalised features of EfficientNet-lite0, or of D where that is not
installed or images are grey, and its weight serves the same purpose. The paper trains on random crops of 96 pixels, for 10^6 and
2 x 10^5 updates, with inputs in [0, 1]. In larger images, D's last feature maps are averaged to about the size of those of 96 pixels.
"""

from math import inf
from typing import Literal

from torch import Tensor
from torch.nn.functional import mse_loss

from leafwing.errors import LeafwingError
from leafwing.fields import Image
from leafwing.game import Abilities, Adam, Batch, Clock, DataSpec, Game, Nets, Output, Player, Round, Term, Turn
from leafwing.networks import enlarger
from leafwing.parts.objectives import non_saturating
from leafwing.parts.perceptual import PerceptualLoss, choose_network
from leafwing.parts.schedules import step


def srgan(
    data: DataSpec,
    *,
    pretrain: float = 0.5,
    content: float = 0.006,
    adversarial: float = 1e-3,
    features: Literal["auto", "lite0", "critic"] = "auto",
    blocks: int = 16,
    norm: Literal["batch", "none"] = "batch",
    width: int = 64,
    width_d: int = 64,
    max_width: int = 512,
    lr_g: float = 1e-4,
    lr_d: float = 1e-4,
    beta1: float = 0.9,
    ema: float = 0,
    batch: int = 16,
) -> Game:
    """SRResNet by squared error, then content loss and non-saturating objective.

    Args:
        pretrain: share of planned training in which G alone minimises the squared error; 1 for SRResNet.
        content: weight of the content loss.
        adversarial: weight of the adversarial loss of G.
        features: network of the content loss: lite0, from an optional package; critic, which is D; auto: lite0 if it is installed and
            images are in colour, else critic.
        blocks: number of residual blocks of G.
        norm: normalisation of G: batch; or none, with residuals and initial weights on a smaller scale, as in ESRGAN.
        width: channels of G.
        width_d: channels of D's first layer; doubles each time the resolution halves.
        max_width: maximum number of channels in any layer of D.
        lr_g: learning rate of G.
        lr_d: learning rate of D.
        beta1: Adam's beta1.
        ema: half-life of the EMA of G's weights, in images; 0 disables it, as in the paper.
        batch: batch size (pairs per update).
    """
    data.need("srgan", image=Image, input=Image)
    channels, *small = data.fields["input"].shape
    scale = data.height // small[0]
    if scale not in (2, 4, 8) or [scale * side for side in small] != [data.height, data.width]:
        raise LeafwingError(
            f"images must be 2, 4 or 8 times as large as inputs: {data.fields['input']}, {data.fields['image']}. "
            "Choose --input low2, low4 or low8"
        )
    if not 0 <= pretrain <= 1:
        raise LeafwingError(f"pretrain={pretrain:g}: must be from 0 to 1")
    network, reason = choose_network(features, data)

    def play_alone(nets: Nets, batch: Batch, clock: Clock) -> Round:
        return Round(nets, real=batch.image, fake=nets.G(batch.input), clock=clock)

    def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
        return Round(nets, real=batch.image, fake=nets.G(batch.input), judge=nets.D.score_and_features, clock=clock)

    def squared_error(r: Round) -> Tensor:
        return mse_loss(r.fake, r.real)

    def deceive(r: Round) -> Tensor:
        return adversarial * non_saturating.generator(r)

    def enlarge(nets: Nets, inputs: Batch, clock: Clock) -> Tensor:
        return nets.G(inputs.input)

    def judge(nets: Nets, samples: Tensor, inputs: Batch) -> Tensor:
        return nets.D(samples)

    def adam(lr: float) -> Adam:
        return Adam(step(lr, lr / 10, (1 + pretrain) / 2) if pretrain < 1 else lr, (beta1, 0.999))

    g = enlarger.Generator(data.channels, channels, scale, width, blocks=blocks, norm=norm)
    players, output = {"G": Player(g, adam(lr_g), ema=ema)}, Output("image", enlarge, ("input",), multiple=1)
    alone = Turn("G", play_alone, [Term("squared_error", squared_error)], during=(0, pretrain if pretrain < 1 else inf))
    resolved = {"features": network}
    if pretrain == 1:
        return Game(players, [alone], Abilities([output]), batch, resolved=resolved)
    critic = enlarger.Critic(data, width_d, max_width=max_width)
    terms = [Term("adversarial", deceive), Term("content", PerceptualLoss(network, content))]
    turns = [
        Turn("D", play, [Term("adversarial", non_saturating.critic)], during=(pretrain, inf)),
        Turn("G", play, terms, during=(pretrain, inf), same_round=True),
    ]
    return Game(
        players={**players, "D": Player(critic, adam(lr_d))},
        turns=[alone, *turns] if pretrain else turns,
        abilities=Abilities([output], judge=judge),
        batch=batch,
        resolved=resolved,
        notes=[reason] if reason else [],
    )
