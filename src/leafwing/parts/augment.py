"""Random changes of images before critics see them, so that they cannot memorise few images. Differentiable twice.

DiffAugment: Zhao et al. 2020, arXiv:2006.10738. ADA: Karras et al. 2020, arXiv:2006.06676, its geometric changes and its changes of
colour, each made with probability p. The engine applies them (`engine.augmentation`). Images are (n, channels, height, width) in
[-1, 1]; the last of 2 or 4 channels is transparency, which moves along and has no colour.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log, pi
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

# --- DiffAugment ------------------------------------------------------------------------------------------------------------


def uniform(images: Tensor, low: float, high: float) -> Tensor:
    """One random number for each image, shaped for multiplication with the images: (n, 1, 1, 1)."""
    return torch.rand(len(images), 1, 1, 1, device=images.device, dtype=images.dtype) * (high - low) + low


def split_colours(images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The colours, and the transparency if there is any."""
    if images.shape[1] in (2, 4):
        return images[:, :-1], [images[:, -1:]]
    return images, []


def add_to_transparency(images: Tensor, number: float) -> Tensor:
    """With 1 it is from 0 to 2, so that where changes of DiffAugment leave 0, images are transparent, not half of it."""
    x, alpha = split_colours(images)
    return torch.cat([x, alpha[0] + number], 1) if alpha else images


def change_colours(images: Tensor) -> Tensor:
    """Brightness + U(-.5, .5), saturation x U(0, 2) about the channels' mean, contrast x U(.5, 1.5) about the image's mean."""
    x, alpha = split_colours(images)
    brightness, saturation, contrast = uniform(x, -0.5, 0.5), uniform(x, 0, 2), uniform(x, 0.5, 1.5)
    grey = x.mean(1, keepdim=True)
    mean = grey.mean((2, 3), keepdim=True)
    # The three changes one after the other, multiplied out: saturation does not change the image's mean.
    x = x * (contrast * saturation) + (grey * (contrast * (1 - saturation)) + (brightness + (1 - contrast) * mean))
    return torch.cat([x, *alpha], 1) if alpha else x


def translate(images: Tensor) -> Tensor:
    """Shifts by whole pixels, up to an eighth of each side; what moves in is 0."""
    shift = []
    for side in images.shape[2:]:
        limit = int(side * 0.125 + 0.5)
        shift.append(torch.randint(-limit, limit + 1, (len(images), 1, 1), device=images.device))
    moved = _Translate.apply(images.permute(0, 2, 3, 1), *shift).permute(0, 3, 1, 2)
    return moved if images.is_contiguous(memory_format=torch.channels_last) else moved.contiguous()


class _Translate(torch.autograd.Function):
    """Shifts of images (n, height, width, channels) down and to the right by whole pixels, (n, 1, 1) each.

    The gradient is shifted back: faster than that of `gather`.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, down: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(down, right)
        n, height, width, channels = images.shape
        row = torch.arange(height, device=images.device).view(1, -1, 1) - down
        column = torch.arange(width, device=images.device).view(1, 1, -1) - right
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        first = torch.arange(n, device=images.device).view(-1, 1, 1) * height
        source = (first + row.clamp(0, height - 1)) * width + column.clamp(0, width - 1)
        pixels = images.reshape(-1, channels).index_select(0, source.flatten()) * inside.view(-1, 1)
        return pixels.reshape(images.shape)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        down, right = ctx.saved_tensors
        return _Translate.apply(gradient, -down, -right), None, None


def cut_out(images: Tensor) -> Tensor:
    """A rectangle of half of each side, anywhere, is 0."""
    n, _, *sides = images.shape
    inside = torch.ones((), dtype=torch.bool, device=images.device)
    for dim, side in enumerate(sides, 2):
        hole = int(side * 0.5 + 0.5)
        centre = torch.randint(0, side + 1 - hole % 2, (n, 1, 1, 1), device=images.device)
        shape = [1, 1, 1, 1]
        shape[dim] = side
        position = torch.arange(side, device=images.device).view(shape)
        inside = inside & (position >= centre - hole // 2) & (position < centre - hole // 2 + hole)
    return images * ~inside


DIFF: dict[str, Callable[[Tensor], Tensor]] = {"color": change_colours, "translation": translate, "cutout": cut_out}
"""The changes of DiffAugment, in the order in which they are made."""


# --- ADA --------------------------------------------------------------------------------------------------------------------


def move(images: Tensor, p: Tensor) -> Tensor:
    """ADA's geometric changes, each with probability p, made in one warp (appendix B)."""
    places = random_geometry(images, p)
    untouched = (places == torch.eye(2, 3, device=places.device)).all(2).all(1)
    return torch.where(untouched[:, None, None, None], images, warp(images, places))


def gate(images: Tensor, p: Tensor | float) -> Tensor:
    """Which images a change is made to: bool (n,)."""
    return torch.rand(len(images), device=images.device) < p


def numbers(images: Tensor, p: Tensor, neutral: float, draw: Callable[[Tensor], Tensor]) -> Tensor:
    """A random number for each image where the change is made, else the neutral one: (n,)."""
    noise = torch.randn(len(images), device=images.device)
    return torch.where(gate(images, p), draw(noise), torch.full_like(noise, neutral))


def choices(images: Tensor, p: Tensor, count: int) -> Tensor:
    """0, 1, ... or count - 1 for each image where the change is made, else 0: (n,)."""
    numbers = torch.randint(0, count, (len(images),), device=images.device).float()
    return torch.where(gate(images, p), numbers, torch.zeros_like(numbers))


def uniforms(images: Tensor, p: Tensor, bound: float) -> Tensor:
    """U(-bound, bound) for each image where the change is made, else 0: (n,)."""
    values = (torch.rand(len(images), device=images.device) * 2 - 1) * bound
    return torch.where(gate(images, p), values, torch.zeros_like(values))


def shifts(images: Tensor, p: Tensor, draw: Callable[[], Tensor]) -> list[Tensor]:
    """Shifts in x and y, in pixels, drawn as shares of the sides, where the change is made to both, else 0: (n,) each."""
    moved = gate(images, p)
    return [
        torch.where(moved, draw() * side, torch.zeros(len(images), device=images.device)) for side in images.shape[:1:-1]
    ]


def random_geometry(images: Tensor, p: Tensor) -> Tensor:
    """From places in the changed image to places in the original, in pixels from the centre: (n, 2, 3).

    Flip, quarter turns (of square images), shift by whole pixels, scale, rotation, scale of one axis, rotation, shift.
    """
    n, _, height, width = images.shape
    device = images.device
    zero, one = torch.zeros(n, device=device), torch.ones(n, device=device)

    def matrix(*rows: Sequence[Tensor]) -> Tensor:
        return torch.stack([torch.stack([*row], 1) for row in (*rows, (zero, zero, one))], 1)

    def scale(x: Tensor, y: Tensor) -> Tensor:
        return matrix((x, zero, zero), (zero, y, zero))

    def shift(x: Tensor, y: Tensor) -> Tensor:
        return matrix((one, zero, x), (zero, one, y))

    def turn(angle: Tensor) -> Tensor:
        return matrix((angle.cos(), -angle.sin(), zero), (angle.sin(), angle.cos(), zero))

    def quarter(turns: Tensor) -> Tensor:  # exact: cos and sin of pi / 2 would leave rounding
        cosine, sine = 1 - (turns - 2 * (turns > 2)), (turns == 1).float() - (turns == 3).float()
        return matrix((cosine, -sine, zero), (sine, cosine, zero))

    place = scale(1 - 2 * choices(images, p, 2), one)
    if height == width:
        place = place @ quarter(choices(images, p, 4))
    place = place @ shift(*(part.round() for part in shifts(images, p, lambda: torch.rand(n, device=device) * 0.25 - 0.125)))
    size = numbers(images, p, 1, lambda noise: torch.exp(-noise * 0.2 * log(2)))
    rotation = 1 - (1 - p).clamp(min=0).sqrt()
    place = place @ scale(size, size) @ turn(uniforms(images, rotation, pi))
    ratio = numbers(images, p, 1, lambda noise: torch.exp(-noise * 0.2 * log(2)))
    place = place @ scale(ratio, 1 / ratio) @ turn(uniforms(images, rotation, pi))
    return (place @ shift(*shifts(images, p, lambda: torch.randn(n, device=device) * 0.125)))[:, :2]


def warp(images: Tensor, places: Tensor) -> Tensor:
    """Images seen at other places, bilinear, with reflected borders. Differentiable twice in the images.

    Args:
        images: (n, channels, height, width).
        places: from `random_geometry`.
    """
    height, width = images.shape[2:]
    x, y = places[:, 0], places[:, 1]
    relative = torch.stack(  # from pixels to coordinates from -1 to 1
        [
            torch.stack([x[:, 0], x[:, 1] * (height / width), x[:, 2] * (2 / width)], 1),
            torch.stack([y[:, 0] * (width / height), y[:, 1], y[:, 2] * (2 / height)], 1),
        ],
        1,
    )
    grid = affine_grid(relative.to(images.dtype), list(images.shape), align_corners=False)
    return _Warp.apply(images, grid)


class _Warp(torch.autograd.Function):
    """grid_sample, whose gradient torch cannot differentiate: it is linear in the images, so both are computed by the other."""

    @staticmethod
    def forward(context: Any, images: Tensor, grid: Tensor) -> Tensor:
        context.save_for_backward(grid)
        context.shape = images.shape
        return grid_sample(images, grid, "bilinear", "reflection", align_corners=False)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (grid,) = context.saved_tensors
        return _Unwarp.apply(gradient, grid, context.shape), None


class _Unwarp(torch.autograd.Function):
    """The transpose of `_Warp`: from gradients of its output to gradients of the images."""

    @staticmethod
    def forward(context: Any, gradient: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        context.save_for_backward(grid)
        images = gradient.new_empty(shape)
        bilinear, reflection = 0, 2
        result: Tensor = torch.ops.aten.grid_sampler_2d_backward(
            gradient.contiguous(), images, grid, bilinear, reflection, False, (True, False)
        )[0]
        return result

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = context.saved_tensors
        return _Warp.apply(gradient, grid), None, None


def transform_colours(images: Tensor, p: Tensor) -> Tensor:
    """ADA's changes of colour, each with probability p: brightness, contrast, inverted lightness, and in RGB hue and saturation.

    Together they are one affine map of the colours of each image. Transparency stays as it is.
    """
    x, alpha = split_colours(images)
    channels, n = x.shape[1], len(x)
    identity = torch.eye(channels, device=x.device)
    grey = torch.full((channels, channels), 1 / channels, device=x.device)  # projection onto the axis of greys
    brightness = numbers(x, p, 0, lambda noise: noise * 0.2)
    contrast = numbers(x, p, 1, lambda noise: torch.exp(noise * 0.5 * log(2)))
    flip = 2 * choices(x, p, 2)
    angle = uniforms(x, p, pi)
    saturation = numbers(x, p, 1, lambda noise: torch.exp(noise * log(2)))

    def each(values: Tensor) -> Tensor:
        return values.view(n, 1, 1)

    colours = each(contrast) * (identity - each(flip) * grey)
    if channels == 3:
        a = 3**-0.5  # Rodrigues' rotation about the axis of greys
        cross = a * (identity.roll(1, 0) - identity.roll(-1, 0))
        rotation = grey + each(angle.cos()) * (identity - grey) + each(angle.sin()) * cross
        colours = (grey + each(saturation) * (identity - grey)) @ rotation @ colours
    offset = contrast * (1 - flip) * brightness
    result = torch.einsum("nij,njhw->nihw", colours.to(x.dtype), x) + offset.to(x.dtype).view(n, 1, 1, 1)
    return torch.cat([result, *alpha], 1)
