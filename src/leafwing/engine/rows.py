"""Rows of the result of a layer from the rows of its operands that they depend on: exactly those, with padding only at the border.

`LAYERS` has the layers that can be computed so, by the name of their function. Each takes a reader of operands, the node, and the
first and the last row (exclusive), and returns (1, channels, rows, width). Columns are always complete.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from leafwing.engine.graph import Node, UnknownLayerError


class Reader(Protocol):
    """What layers need of the evaluation."""

    def rows(self, node: Node, start: int, stop: int) -> Tensor:
        """Rows of the result of a node: (1, channels, stop - start, width)."""

    def value(self, node: Node) -> Tensor:
        """The whole result of a node."""

    def moments(self, node: Node) -> tuple[Tensor, Tensor]:
        """Mean and variance of each channel of the whole result of a node, float64 (channels,), on the CPU."""


Layer = Callable[[Reader, Node, int, int], Tensor]


def arguments(node: Node, *names: str, **defaults: Any) -> list[Any]:
    """The arguments of a call in the order of `names`, then those of `defaults`, by position or by name."""
    order = [*names, *defaults]
    if len(node.args) > len(order) or node.kwargs.keys() - set(order):
        raise UnknownLayerError(node.name)
    values = defaults | dict(zip(order, node.args, strict=False)) | node.kwargs
    return [values[name] for name in order]


def pair(value: Any) -> tuple[Any, Any]:
    """A value for rows and columns."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return (value[0], value[-1])
    return (value, value)


def window(read: Reader, node: Node, start: int, stop: int, fill: float = 0) -> Tensor:
    """Rows of a node, of which some may be beyond its border, where all values are `fill`."""
    height = node.shape[2]
    first, last = min(max(start, 0), height - 1), max(min(stop, height), 1)
    rows = read.rows(node, first, last)
    if start < 0 or stop > height:
        rows = F.pad(rows, (0, 0, first - start, stop - last), value=fill)
    return rows


def pointwise(read: Reader, node: Node, start: int, stop: int) -> Tensor:
    """Each row of the result depends on the same row of the operands only."""
    height = node.shape[2]

    def part(value: Any) -> Any:
        if isinstance(value, Node):
            if len(value.shape) != 4:
                return read.value(value)
            rows = read.rows(value, start, stop) if value.shape[2] == height else read.rows(value, 0, 1)
            return rows.clone() if node.in_place and value is node.args[0] else rows
        if isinstance(value, Tensor) and value.dim() > 1 and value.shape[-2] == height > 1:
            return value[..., start:stop, :]
        return value

    args, kwargs = tree_map(part, (node.args, node.kwargs))
    return node.function(*args, **kwargs)


def convolution(read: Reader, node: Node, start: int, stop: int) -> Tensor:
    """`torch.conv2d`."""
    x, weight, bias, stride, padding, dilation, groups = arguments(
        node, "input", "weight", bias=None, stride=1, padding=0, dilation=1, groups=1
    )
    (step, step_x), (gap, gap_x) = pair(stride), pair(dilation)
    reach, reach_x = (distance * (side - 1) for distance, side in zip((gap, gap_x), weight.shape[2:], strict=True))
    if padding == "same":
        top, left, right = reach // 2, reach_x // 2, reach_x - reach_x // 2
    else:
        top, left = (0, 0) if padding == "valid" else pair(padding)
        right = left
    rows = window(read, x, start * step - top, (stop - 1) * step - top + reach + 1)
    if left != right:
        rows, left = F.pad(rows, (left, right)), 0
    return F.conv2d(rows, weight, bias, (step, step_x), (0, left), (gap, gap_x), groups)


def transposed_convolution(read: Reader, node: Node, start: int, stop: int) -> Tensor:
    """`torch.conv_transpose2d`."""
    x, weight, bias, stride, padding, output_padding, groups, dilation = arguments(
        node, "input", "weight", bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
    )
    (step, step_x), (top, left), (gap, gap_x) = pair(stride), pair(padding), pair(dilation)
    reach = gap * (weight.shape[2] - 1)
    first = min(max(0, -((reach - start - top) // step)), x.shape[2] - 1)
    last = max(min(x.shape[2], (stop - 1 + top) // step + 1), first + 1)
    further = (0, pair(output_padding)[1])
    rows = F.conv_transpose2d(
        read.rows(x, first, last), weight, None, (step, step_x), (0, left), further, groups, (gap, gap_x)
    )
    # Rows of the result before cropping its border: from first * step on.
    rows = F.pad(rows, (0, 0, first * step - start - top, stop + top - first * step - rows.shape[2]))
    return rows if bias is None else rows + bias[:, None, None]


def pad(read: Reader, node: Node, start: int, stop: int) -> Tensor:
    """`torch.nn.functional.pad` of rows and columns."""
    x, widths, mode, value = arguments(node, "input", "pad", mode="constant", value=None)
    left, right, top = (*widths, 0, 0)[:3]
    height = x.shape[2]
    if mode == "constant":
        fill = value or 0
        rows = window(read, x, start - top, stop - top, fill)
        return F.pad(rows, (left, right), value=fill)
    index = torch.arange(start - top, stop - top)
    if mode == "reflect":
        index = (height - 1) - (height - 1 - index.abs()).abs()
    else:
        index = index % height if mode == "circular" else index.clamp(0, height - 1)
    rows = select(read, x, index)
    return F.pad(rows, (left, right, 0, 0), mode=mode) if left or right else rows


def select(read: Reader, node: Node, index: Tensor) -> Tensor:
    """Rows of a node by their numbers."""
    first, last = int(index.min()), int(index.max()) + 1
    rows = read.rows(node, first, last)
    if len(index) == last - first and bool((index.diff() == 1).all()):
        return rows
    return rows.index_select(2, (index - first).to(rows.device))


def maximum_pool(read: Reader, node: Node, start: int, stop: int) -> Tensor:
    """`max_pool2d`."""
    x, kernel, stride, padding, dilation, _, _ = arguments(
        node, "input", "kernel_size", stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False
    )
    (step, step_x), (top, left), (gap, gap_x) = pair(stride or kernel), pair(padding), pair(dilation)
    rows = window(read, x, start * step - top, (stop - 1) * step - top + gap * (pair(kernel)[0] - 1) + 1, float("-inf"))
    return F.max_pool2d(rows, kernel, (step, step_x), (0, left), (gap, gap_x))


def mean_pool(read: Reader, node: Node, start: int, stop: int) -> Tensor:
    """`avg_pool2d`."""
    x, kernel, stride, padding, _, with_padding, divisor = arguments(
        node, "input", "kernel_size", stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
    )
    (side, _), (step, step_x), (top, left) = pair(kernel), pair(stride or kernel), pair(padding)
    first = start * step - top
    rows = window(read, x, first, (stop - 1) * step - top + side)
    rows = F.avg_pool2d(rows, kernel, (step, step_x), (0, left), False, with_padding, divisor)
    if top and not with_padding and not divisor:
        begins = torch.arange(first, stop * step - top, step)
        inside = (begins + side).clamp(max=x.shape[2]) - begins.clamp(min=0)
        rows = rows * (side / inside).to(rows)[:, None]
    return rows


def shuffle(read: Reader, node: Node, start: int, stop: int) -> Tensor:
    """`pixel_shuffle`."""
    x, factor = arguments(node, "input", "upscale_factor")
    first = start // factor
    rows = F.pixel_shuffle(read.rows(x, first, -(-stop // factor)), factor)
    return rows[:, :, start - first * factor : stop - first * factor]


def unshuffle(read: Reader, node: Node, start: int, stop: int) -> Tensor:
    """`pixel_unshuffle`."""
    x, factor = arguments(node, "input", "downscale_factor")
    return F.pixel_unshuffle(read.rows(x, start * factor, stop * factor), factor)


INTERPOLATION: dict[str, Any] = {
    "size": None, "scale_factor": None, "mode": "nearest", "align_corners": None, "recompute_scale_factor": None, "antialias": False,
}  # fmt: skip
INSTANCE_NORM: dict[str, Any] = {
    "running_mean": None, "running_var": None, "weight": None, "bias": None, "use_input_stats": True, "momentum": 0.1, "eps": 1e-5,
}  # fmt: skip


def interpolate(read: Reader, node: Node, start: int, stop: int) -> Tensor:
    """`interpolate` with mode nearest, nearest-exact, bilinear or bicubic."""
    x, _, factors, mode, align, recompute, _ = arguments(node, "input", **INTERPOLATION)
    factors = pair(None if recompute else factors)
    index, weights = taps(x.shape[2], node.shape[2], factors[0], mode, bool(align))
    index, weights = index[:, start:stop], weights[:, start:stop]
    first = int(index.min())
    rows = resample(read.rows(x, first, int(index.max()) + 1), 2, index - first, weights)
    return resample(rows, 3, *taps(x.shape[3], node.shape[3], factors[1], mode, bool(align)))


def taps(length: int, result: int, factor: float | None, mode: str, align: bool) -> tuple[Tensor, Tensor]:
    """Interpolation along one dimension: for each of `result` places the numbers of the elements and their weights, (taps, result)."""
    if mode.startswith("nearest"):
        ramp = torch.arange(length, dtype=torch.float64)[None, None]
        size: dict[str, Any] = {"size": result} if factor is None else {"scale_factor": factor}
        return F.interpolate(ramp, mode=mode, **size)[0].long(), torch.ones(1, result)
    places = torch.arange(result, dtype=torch.float64)
    if align:
        places = places * ((length - 1) / max(result - 1, 1))
    else:
        places = (places + 0.5) * (1 / factor if factor else length / result) - 0.5
    places = places.clamp(min=0) if mode == "bilinear" else places
    below = places.floor()
    t = places - below
    if mode == "bilinear":
        offsets, weights = [0, 1], [1 - t, t]
    else:  # Keys' cubic convolution with a = -0.75, as in PyTorch
        a, offsets = -0.75, [-1, 0, 1, 2]

        def near(d: Tensor) -> Tensor:
            return ((a + 2) * d - (a + 3)) * d * d + 1

        def far(d: Tensor) -> Tensor:
            return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

        weights = [far(t + 1), near(t), near(1 - t), far(2 - t)]
    index = torch.stack([below.long() + offset for offset in offsets]).clamp(0, length - 1)
    return index, torch.stack(weights)


def resample(x: Tensor, dimension: int, index: Tensor, weights: Tensor) -> Tensor:
    """The weighted sum of elements of one dimension of (1, channels, rows, width)."""
    shape = [1, 1, 1, 1]
    shape[dimension] = -1
    parts = (
        x.index_select(dimension, numbers.to(x.device)) * weight.to(x).view(shape)
        for numbers, weight in zip(index, weights, strict=True)
    )
    result = next(parts)
    for part in parts:
        result += part
    return result


def normalisation(read: Reader, node: Node, start: int, stop: int) -> Tensor:
    """`instance_norm` and `group_norm`, with the statistics of the whole map."""
    if node.name == "group_norm":
        x, groups, weight, bias, eps = arguments(node, "input", "num_groups", weight=None, bias=None, eps=1e-5)
    else:
        x, _, _, weight, bias, _, _, eps = arguments(node, "input", **INSTANCE_NORM)
        groups = None
    mean, variance = read.moments(x)
    if groups:
        square = (variance + mean.square()).view(groups, -1).mean(1, keepdim=True)
        mean = mean.view(groups, -1).mean(1, keepdim=True)
        variance = (square - mean.square()).clamp_min(0)
        channels = x.shape[1] // groups
        mean, variance = (moment.expand(-1, channels).flatten() for moment in (mean, variance))
    scale = (variance + eps).rsqrt()
    rows = read.rows(x, start, stop)
    scale = scale if weight is None else scale * weight.cpu().to(scale)
    rows = (rows - mean.to(rows)[:, None, None]).mul_(scale.to(rows)[:, None, None])
    return rows if bias is None else rows.add_(bias.to(rows)[:, None, None])


POINTWISE = {
    "add", "iadd", "radd", "sub", "isub", "rsub", "mul", "imul", "rmul", "multiply", "subtract", "div", "idiv", "rdiv",
    "itruediv", "truediv", "rtruediv", "divide", "true_divide", "neg", "negative", "abs", "absolute", "square", "sqrt",
    "rsqrt", "exp", "log", "log1p", "expm1", "sigmoid", "tanh", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu",
    "silu", "mish", "hardtanh", "hardswish", "hardsigmoid", "softplus", "softsign", "logsigmoid", "tanhshrink", "threshold",
    "prelu", "clamp", "clip", "clamp_min", "clamp_max", "maximum", "minimum", "pow", "ipow", "rpow", "where", "lt", "le",
    "gt", "ge", "eq", "ne", "logical_and", "logical_or", "logical_not", "to", "type", "type_as", "float", "half", "double",
    "bfloat16", "bool", "contiguous", "clone", "detach", "sign", "round", "floor", "ceil", "sin", "cos", "lerp", "addcmul",
    "addcdiv", "reciprocal", "dropout", "dropout2d", "feature_dropout", "alpha_dropout", "zeros_like", "ones_like",
    "full_like", "identity",
}  # fmt: skip
ACROSS = {
    "cat",
    "concat",
    "softmax",
    "log_softmax",
    "sum",
    "mean",
    "amax",
    "amin",
    "normalize",
    "chunk",
    "split",
    "glu",
    "argmax",
}
"""Functions along one dimension."""
ALONG_DEFAULTS = {"cat": 0, "concat": 0, "chunk": 0, "split": 0, "normalize": 1, "glu": -1}
LAYERS: dict[str, Layer] = {
    **dict.fromkeys([*POINTWISE, *ACROSS, "getitem", "batch_norm"], pointwise),
    "conv2d": convolution,
    "conv_transpose2d": transposed_convolution,
    "pad": pad,
    "max_pool2d": maximum_pool,
    "avg_pool2d": mean_pool,
    "pixel_shuffle": shuffle,
    "pixel_unshuffle": unshuffle,
    "interpolate": interpolate,
    "upsample": interpolate,
    "instance_norm": normalisation,
    "group_norm": normalisation,
}
HALO = {"conv2d", "conv_transpose2d", "max_pool2d", "avg_pool2d", "interpolate", "upsample"}
"""Layers whose rows depend on several rows, and which are worth computing once only."""


def needs_moments(node: Node) -> bool:
    """Whether a node takes statistics of its whole operand."""
    return node.name == "group_norm" or (
        node.name == "instance_norm" and bool(arguments(node, "input", **INSTANCE_NORM)[5])
    ) or is_mean(node)  # fmt: skip


def is_mean(node: Node) -> bool:
    """Whether a node is the mean of each whole channel."""
    if node.name == "adaptive_avg_pool2d":
        return len(node.shape) == 4 and node.shape[2:] == (1, 1)
    if node.name != "mean" or not node.operands or len(node.operands[0].shape) != 4:
        return False
    dimensions = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    return isinstance(dimensions, tuple | list) and {d % 4 for d in dimensions} == {2, 3}


def in_rows(node: Node) -> bool:
    """Whether rows of a node can be computed from rows of its operands."""
    if len(node.shape) != 4 or node.name not in LAYERS or any(len(operand.shape) not in (0, 4) for operand in node.operands):
        return False
    named = node.kwargs
    if node.name in ACROSS:
        position = 2 if node.name == "normalize" else 1
        value = named.get("dim", named.get("axis", node.args[position] if len(node.args) > position else None))
        if node.name in ("chunk", "split"):
            value = named.get("dim", node.args[2] if len(node.args) > 2 else None)
        value = ALONG_DEFAULTS.get(node.name) if value is None else value
        if node.name in ("sum", "mean", "amax", "amin", "argmax") and node.shape[2] != node.operands[0].shape[2]:
            return False
        return value is not None and all(d % 4 in (1, 3) for d in (value if isinstance(value, tuple | list) else [value]))
    if node.name == "getitem":
        index = node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],)
        return all(isinstance(item, slice) for item in index) and all(
            item == slice(None) for item in (*index[:1], *index[2:3])
        )
    if node.name == "batch_norm":
        return not arguments(
            node, "input", "running_mean", "running_var", weight=None, bias=None, training=False, momentum=0.1, eps=1e-5
        )[5]
    if node.name == "instance_norm" and not needs_moments(node):
        return False
    if node.name in ("conv2d", "conv_transpose2d"):
        return len(node.operands) == 1 and node.operands[0] is (node.args[0] if node.args else named.get("input"))
    if node.name == "pad":
        _, widths, mode, _ = arguments(node, "input", "pad", mode="constant", value=None)
        return len(widths) <= 4 and (mode == "constant" or min(widths) >= 0)
    if node.name in ("max_pool2d", "avg_pool2d"):
        return not (
            named.get("ceil_mode")
            or named.get("return_indices")
            or (node.name == "avg_pool2d" and node.args[4:5] == (True,))
        )
    if node.name in ("interpolate", "upsample"):
        _, _, _, mode, _, _, antialias = arguments(node, "input", **INTERPOLATION)
        return mode in ("nearest", "nearest-exact", "bilinear", "bicubic") and not antialias
    return True
