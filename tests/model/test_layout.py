"""How numbers lie in memory: a GPU's convolutions, compiled, want channels last, and copy what is not; on a CPU such an order
has a gradient of group norm of its own, in bf16."""

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.backends.common import aot_autograd
from torch._inductor.decomposition import select_decomp_table

from ddpm.model import norm as norms
from ddpm.model.norm import GroupNorm
from ddpm.model.unet import UNet, _doubled
from ddpm.settings import ModelSettings

CONVOLUTIONS = (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)


def test_no_convolution_is_given_what_it_must_copy():
    """But the pictures themselves, which have three channels."""
    copied, seen = [], []

    def look(graph, _):
        for node in graph.graph.nodes:
            if node.op == "call_function" and node.target in CONVOLUTIONS:
                seen.append(node)
                given = [one.meta["val"] for one in node.args[:3] if isinstance(one, torch.fx.Node)]
                copied.extend(
                    tuple(one.shape)
                    for one in given
                    if one.dim() == 4 and not one.is_contiguous(memory_format=torch.channels_last)
                )
        return graph

    backend = aot_autograd(fw_compiler=look, bw_compiler=look, decompositions=select_decomp_table())
    settings = ModelSettings(channel_mults="1-2", base_channels=8, blocks=1, attention_resolution=4, dropout=0.1)
    net = torch.compile(UNet(settings, 8).to(memory_format=torch.channels_last), backend=backend)
    with torch.autocast("cpu", torch.bfloat16):
        net(torch.randn(2, 3, 8, 8), torch.rand(2)).square().mean().backward()
    assert len(seen) > 40
    assert set(copied) == {(2, 3, 8, 8)}


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_group_norm_in_parts_is_group_norm(kind):
    norm = GroupNorm(4, 16).to(kind)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = (torch.randn(3, 16, 8, 8, dtype=kind) * 3 + 5).requires_grad_()
    away = torch.randn(3, 16, 8, 8, dtype=kind)
    for whole, parts in zip(*(_with_gradients(way, x, norm, away) for way in (norm, norm.in_parts)), strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-4 if kind == torch.float32 else 1e-10)


def _with_gradients(way, x, norm, away):
    found = way(x)
    return [found, *torch.autograd.grad(found, (x, norm.weight, norm.bias), away)]


def test_group_norm_in_parts_is_in_float32():
    norm, x = GroupNorm(4, 16), torch.randn(3, 16, 8, 8)
    found = norm.in_parts(x.bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, norm(x.bfloat16().float()))


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("at_once", [0.5, 1, 2, 5])
@pytest.mark.parametrize("of_group", [4, 12, 24])
def test_gradient_of_group_norm_in_bf16_is_pytorchs(of_group, at_once, weights, monkeypatch):
    """Of five pictures, so that the last part may be a smaller one; with weights in float32, as under autocast, float32's too."""
    monkeypatch.setattr(norms, "PART", int(at_once * 2 * of_group * 8 * 8 * 2))
    norm, x, away = _in_bf16(2 * of_group, weights)
    found, *gradients = _with_gradients(norm, x, norm, away)
    assert found.grad_fn.name() == "_NormOfBf16Backward"
    assert [one.dtype for one in gradients] == [torch.bfloat16, weights, weights]
    assert gradients[0].is_contiguous(memory_format=torch.channels_last)
    _, *own = _with_gradients(lambda x: torch.nn.GroupNorm.forward(norm, x), x, norm, away)
    torch.testing.assert_close(gradients, own)
    if weights == torch.float32:
        wide = x.detach().float().requires_grad_()
        _, *of_float = _with_gradients(norm, wide, norm, away.float())
        torch.testing.assert_close(gradients, [of_float[0].bfloat16(), *of_float[1:]], rtol=1.6e-2, atol=1e-3)


def test_gradient_of_group_norm_in_bf16_where_none_is_wanted_of_the_pictures():
    """PyTorch's kernel ends the process where it is not asked for that one."""
    norm, x, away = _in_bf16(8, torch.float32)
    _, *wanted = _with_gradients(norm, x, norm, away)
    found = torch.autograd.grad(norm(x.detach()), (norm.weight, norm.bias), away)
    torch.testing.assert_close(found, tuple(wanted[1:]), rtol=0, atol=0)


def test_gradient_of_group_norm_in_bf16_is_taken_a_few_pictures_at_a_time(monkeypatch):
    taken, own = [], torch.ops.aten.native_group_norm_backward

    def counted(*given):
        taken.append(len(given[0]))
        return own(*given)

    monkeypatch.setattr(torch.ops.aten, "native_group_norm_backward", counted)
    monkeypatch.setattr(norms, "PART", 2 * 8 * 8 * 8 * 2)
    norm, x, away = _in_bf16(8, torch.float32)
    _with_gradients(norm, x, norm, away)
    assert taken == [2, 2, 1]


def test_group_norm_in_bf16_is_pytorchs():
    """To the bit, trained or drawn from; its gradient too where PyTorch's own kernel is fast."""
    norm, (_, x, _) = GroupNorm(8, 32), _in_bf16(32, torch.float32)
    wanted = torch.nn.GroupNorm.forward(norm, x)
    assert torch.equal(norm(x), wanted)
    with torch.no_grad():
        assert torch.equal(norm(x), wanted)
    for group_norm, given in ((GroupNorm(2, 32), x), (norm, x.contiguous()), (norm, x.float()), (norm, x.double())):
        found = group_norm.to(torch.promote_types(given.dtype, torch.float32))(given)
        assert found.grad_fn.name() == "NativeGroupNormBackward0"
    assert norm.to("meta")(x.to("meta")).grad_fn.name() == "NativeGroupNormBackward0"


def _in_bf16(channels, weights):
    """Group norm in two groups; five pictures with channels last; gradients of another order."""
    norm = GroupNorm(2, channels).to(weights)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = (torch.randn(5, channels, 8, 8) * 3 + 5).bfloat16().contiguous(memory_format=torch.channels_last)
    return norm, x.requires_grad_(), torch.randn(5, channels, 8, 8).bfloat16()


def test_doubled_is_the_nearest_neighbour():
    x = torch.randn(2, 4, 3, 5)
    assert torch.equal(_doubled(x), F.interpolate(x, scale_factor=2.0))
