"""Group norm (Wu and He 2018, https://arxiv.org/abs/1803.08494), each time by the operations that are fast for what it is given."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

TOGETHER = 16  # channels that PyTorch's kernel of the gradient takes together where numbers are bf16
PART = 2**20  # bytes of bf16 whose gradient is taken at a time: from a quarter of it to twice as many it was fastest


class _NormOfBf16(torch.autograd.Function):
    """PyTorch's group norm of bf16 [b,c,h,w] on a CPU, whose gradient is taken in float32, a few pictures at a time.

    By the same formula, on the same numbers: where they lie with channels last, PyTorch's own kernel takes long over the
    channels of a group that do not fill a vector of bf16; that of float32 does not (docs/benchmarks.md).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        b, c, h, w = x.shape
        y, mean, rstd = torch.native_group_norm(x, weight, bias, b, c, h * w, groups, eps)
        ctx.save_for_backward(x, weight, mean, rstd)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, rstd = ctx.saved_tensors
        _, c, h, w = x.shape
        of_x, of_weight, of_bias = torch.empty_like(x), *torch.zeros(2, c, dtype=torch.float32)
        some = max(1, PART // (c * h * w * x.element_size()))
        for out, dy, *of in zip(*(each.split(some) for each in (of_x, gradient, x, mean, rstd)), strict=True):
            dy = dy.to(torch.float32, memory_format=torch.channels_last)  # the kernel takes it to lie as x does
            # All three, whoever wants them: where the first is not asked for, the kernel may write it all the same, to nowhere.
            dx, dweight, dbias = torch.ops.aten.native_group_norm_backward(
                dy, *(each.float() for each in of), weight.float(), len(dy), c, h * w, mean.shape[1], [True] * 3
            )
            out.copy_(dx)
            of_weight += dweight
            of_bias += dbias
        return of_x, of_weight, of_bias, None, None


class GroupNorm(nn.GroupNorm):
    """PyTorch's, with a faster gradient on a CPU for bf16 with channels last.

    Compiled, it is told as single operations, which leave a picture's numbers in the order they have. Compiled as one, it
    has them in the order channels first, and each convolution after it, and each gradient before it, copies them back
    into the order that a GPU's convolutions want.
    """

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            return self.in_parts(x)
        if torch.is_grad_enabled() and self._leaves_some(x):
            return cast(Tensor, _NormOfBf16.apply(x, self.weight, self.bias, self.num_groups, self.eps))
        return super().forward(x)

    def _leaves_some(self, x: Tensor) -> bool:
        """Whether a group has channels that PyTorch's kernel of the gradient does not take together with others."""
        in_bf16 = x.is_cpu and x.dtype == torch.bfloat16 and x.is_contiguous(memory_format=torch.channels_last)
        return in_bf16 and self.num_channels // self.num_groups % TOGETHER > 0

    def in_parts(self, x: Tensor) -> Tensor:
        """The same of x [b,c,h,w], by each channel's mean and variance. In float32 at least, as autocast would have it."""
        x = x if x.dtype == torch.float64 else x.float()
        var, mean = (part.unflatten(1, (self.num_groups, -1)) for part in torch.var_mean(x, dim=(2, 3), correction=0))
        of_group = mean.mean(2, keepdim=True)
        variance = var.mean(2, keepdim=True) + (mean - of_group).square().mean(2, keepdim=True)
        shift = of_group.expand_as(mean).flatten(1)[:, :, None, None]
        scale = (variance + self.eps).rsqrt().expand_as(mean).flatten(1)[:, :, None, None]
        return (x - shift) * (scale * self.weight[:, None, None]) + self.bias[:, None, None]
