"""Batch normalisation over all processes: the statistics of the whole batch, of which each process holds a share."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from leafwing.engine.processes import Processes
from leafwing.errors import LeafwingError


class SharedBatchNorm(_BatchNorm):
    """Batch normalisation with the statistics of the whole batch, of which each process holds an equal share.

    What a process backpropagates is the gradient of the *sum* of all processes' costs, as ever without batch normalisation, where
    the others' costs do not depend on its samples. Their average is then the gradient of the mean cost. In eval mode it is
    what it replaced. torch's own SyncBatchNorm needs CUDA, and cannot be differentiated twice.
    """

    rank: int
    world: int

    def _check_input_dim(self, input: Tensor) -> None:
        if not 2 <= input.dim() <= 5:
            raise ValueError(f"expected 2 to 5 dimensions, got {input.dim()}")

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        own_mean, own_var = Moments.apply(input)
        # Each writes its row and the rows are summed: one exchange, no cancellation, and the same bits everywhere.
        rows = torch.stack([own_mean, own_var]).unsqueeze(0)
        nothing = rows.new_zeros(self.world, *rows.shape[1:])
        means, variances = Sum.apply(torch.cat([nothing[: self.rank], rows, nothing[self.rank + 1 :]])).unbind(1)
        mean, var = means.mean(0), variances.mean(0) + means.var(0, correction=0)
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                n = self.world * input.numel() // input.shape[1]
                towards = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean, towards)
                self.running_var.lerp_(var * (n / (n - 1)), towards)
        scale = torch.rsqrt(var + self.eps)
        scale = scale if self.weight is None else scale * self.weight
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        return torch.addcmul(channels(shift, input), input, channels(scale, input)).to(input.dtype)


def synchronise_batch_norm(net: nn.Module, processes: Processes) -> None:
    """Lets every batch normalisation in the network use the whole batch; parameters, buffers and their names stay.

    Raises:
        LeafwingError: one has a forward of its own, which this cannot replace.
    """
    if processes.world == 1:
        return
    for name, module in net.named_modules():
        if isinstance(module, _BatchNorm):
            kind = type(module)
            if kind.forward not in (_BatchNorm.forward, SharedBatchNorm.forward):
                raise LeafwingError(
                    f"layer {name!r} is a {kind.__name__}, which several processes cannot share: train with one"
                )
            module.__class__ = SharedBatchNorm
            module.rank, module.world = processes.rank, processes.world  # type: ignore[assignment]


def channels(numbers: Tensor, like: Tensor) -> Tensor:
    """One number for each channel, shaped so that it meets a batch (n, channels, ...)."""
    return numbers.view(1, -1, *[1] * (like.dim() - 2))


class Moments(torch.autograd.Function):
    """Mean and variance (over n, not n - 1) of each channel of (n, channels, ...). `torch.var_mean` takes eight times as long."""

    @staticmethod
    def forward(ctx: Any, input: Tensor) -> tuple[Tensor, Tensor]:
        wide, over = input.to(torch.promote_types(input.dtype, torch.float32)), [0, *range(2, input.dim())]
        mean = wide.mean(over)
        ctx.save_for_backward(input, mean)
        return mean, (wide - channels(mean, wide)).square_().mean(over)

    @staticmethod
    def backward(ctx: Any, by_mean: Tensor, by_var: Tensor) -> Tensor:
        input, mean = ctx.saved_tensors
        n = input.numel() // mean.numel()
        slope = by_var * (2 / n)
        return torch.addcmul(channels(by_mean / n - slope * mean, input), input, channels(slope, input)).to(input.dtype)


class Sum(torch.autograd.Function):
    """The sum over the processes. Each one's cost depends on every one's numbers, so the gradient is the sum of the gradients."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return Sum.apply(gradient)
