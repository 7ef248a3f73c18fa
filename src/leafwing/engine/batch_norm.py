"""Batch normalisation synchronised over all processes: the statistics are those of the whole batch."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from leafwing.engine.processes import Processes
from leafwing.errors import LeafwingError


class SharedBatchNorm(_BatchNorm):
    """Batch normalisation with the statistics of the whole batch, of which each process has an equal part.

    A process backpropagates the gradient of the *sum* of all processes' losses. (Without batch normalisation that is the
    gradient of its own loss, because the others do not depend on its samples.) The average over processes is then the
    gradient of the mean loss. In eval mode it equals the original layer. torch's SyncBatchNorm requires CUDA and has no
    double backward.
    """

    rank: int
    world_size: int

    def _check_input_dim(self, input: Tensor) -> None:
        if not 2 <= input.dim() <= 5:
            raise ValueError(f"expected 2 to 5 dimensions, got {input.dim()}")

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        local_mean, local_var = Moments.apply(input)
        # Each process fills one row and the rows are summed: one exchange, no cancellation, the same bits in all processes.
        row = torch.stack([local_mean, local_var]).unsqueeze(0)
        zeros = row.new_zeros(self.world_size, *row.shape[1:])
        means, variances = Sum.apply(torch.cat([zeros[: self.rank], row, zeros[self.rank + 1 :]])).unbind(1)
        mean, var = means.mean(0), variances.mean(0) + means.var(0, correction=0)
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                n = self.world_size * input.numel() // input.shape[1]
                momentum = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(var * (n / (n - 1)), momentum)
        scale = torch.rsqrt(var + self.eps)
        scale = scale if self.weight is None else scale * self.weight
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        return torch.addcmul(per_channel(shift, input), input, per_channel(scale, input)).to(input.dtype)


def synchronise_batch_norm(net: nn.Module, processes: Processes) -> None:
    """Makes every batch normalisation of the network use the whole batch; parameters, buffers and their names do not change.

    Raises:
        LeafwingError: a layer overrides `forward`, which this cannot replace.
    """
    if processes.world_size == 1:
        return
    for name, module in net.named_modules():
        if isinstance(module, _BatchNorm):
            kind = type(module)
            if kind.forward not in (_BatchNorm.forward, SharedBatchNorm.forward):
                raise LeafwingError(
                    f"layer {name!r} is a {kind.__name__}, which several processes cannot share: train with one process"
                )
            module.__class__ = SharedBatchNorm
            module.rank, module.world_size = processes.rank, processes.world_size  # type: ignore[assignment]


def per_channel(values: Tensor, like: Tensor) -> Tensor:
    """(channels,) -> (1, channels, 1, ...), which broadcasts to a batch (n, channels, ...)."""
    return values.view(1, -1, *[1] * (like.dim() - 2))


class Moments(torch.autograd.Function):
    """Mean and variance (over n, not n - 1) of each channel of (n, channels, ...). `torch.var_mean` takes eight times as long."""

    @staticmethod
    def forward(ctx: Any, input: Tensor) -> tuple[Tensor, Tensor]:
        x, dims = input.to(torch.promote_types(input.dtype, torch.float32)), [0, *range(2, input.dim())]
        mean = x.mean(dims)
        ctx.save_for_backward(input, mean)
        return mean, (x - per_channel(mean, x)).square_().mean(dims)

    @staticmethod
    def backward(ctx: Any, mean_gradient: Tensor, var_gradient: Tensor) -> Tensor:
        input, mean = ctx.saved_tensors
        n = input.numel() // mean.numel()
        slope = var_gradient * (2 / n)
        constant = per_channel(mean_gradient / n - slope * mean, input)
        return torch.addcmul(constant, input, per_channel(slope, input)).to(input.dtype)


class Sum(torch.autograd.Function):
    """The sum over processes. Every process's loss depends on all inputs, so the gradient is the sum of the gradients."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return Sum.apply(gradient)
