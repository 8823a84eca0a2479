"""Blocks that several networks share: invertible nodes, channel attention, windows and their masks, dense blocks."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from tensors import noise  # noqa: E402
from torch.nn import functional  # noqa: E402

from evalkit.methods.layers.dense import DenseBlock  # noqa: E402
from evalkit.methods.layers.invertible import InvertibleNode  # noqa: E402
from evalkit.methods.layers.restormer import ChannelNorm, channel_attention  # noqa: E402
from evalkit.methods.layers.windows import (  # noqa: E402
    APART,
    WindowAttention,
    from_windows,
    relative_positions,
    shift_mask,
    to_windows,
)

# --- blocks


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_an_invertible_node_can_be_inverted(dtype, error):
    torch.manual_seed(0)
    node, x = InvertibleNode(64).to(dtype), noise(2, 64, 9, 7).to(dtype) * 2 - 1
    with torch.no_grad():
        node.shuffle.weight.add_(torch.eye(64, dtype=dtype)[..., None, None])  # a matrix of moderate condition
        y = node(x)
        assert not torch.allclose(x, y, atol=0.1)
        torch.testing.assert_close(node.inverse(y), x, rtol=0, atol=error)
        torch.testing.assert_close(node(node.inverse(x)), x, rtol=0, atol=error)


def test_channel_attention_is_a_mean_of_channels_within_a_head():
    q, k, v = (noise(2, 8, 5, 4, seed=i) for i in range(3))
    out = channel_attention(q, k, v, torch.full((2, 1, 1), 3.0))
    assert out.shape == v.shape
    assert (out[:, :4] <= v[:, :4].amax(1, keepdim=True)).all()
    assert (out[:, 4:] >= v[:, 4:].amin(1, keepdim=True)).all()
    even = channel_attention(q, k, v, torch.zeros(2, 1, 1))
    torch.testing.assert_close(even[:, :4], v[:, :4].mean(1, keepdim=True).expand(-1, 4, -1, -1))
    scaled = channel_attention(5 * q, k / 7, v, torch.full((2, 1, 1), 3.0))  # cosines: lengths do not count
    torch.testing.assert_close(scaled, out)


def test_channel_norm_is_a_layer_norm_of_every_pixel():
    norm, x = ChannelNorm(6), noise(2, 6, 4, 3)
    expected = (x - x.mean(1, keepdim=True)) / torch.sqrt(x.var(1, keepdim=True, correction=0) + 1e-5)
    torch.testing.assert_close(norm(x), expected)


def test_windows_are_in_reading_order_and_go_back():
    x = torch.arange(2 * 4 * 6).reshape(2, 4, 6, 1)
    windows = to_windows(x, 2)
    assert windows.shape == (12, 4, 1)
    assert windows[1].flatten().tolist() == [2, 3, 8, 9]
    assert windows[6, 0, 0] == 24
    assert torch.equal(from_windows(windows, 2, 4, 6), x)


def test_relative_positions():
    positions = relative_positions(3)
    assert positions.dtype == torch.int64
    assert (positions.diagonal() == 12).all()  # the middle of 5x5
    assert positions[0, 8] == 0  # top left asks bottom right: 2 up, 2 to the left
    assert positions[8, 0] == 24
    assert positions[0, 1] == 11


@pytest.mark.parametrize("size", [(8, 8), (8, 16), (24, 16)])
def test_shift_mask_parts_what_comes_from_opposite_ends(size):
    kinds, of_window = shift_mask(*size, 8, 4)
    assert len(kinds) <= 4
    mask = kinds[of_window]
    assert mask.shape == (size[0] * size[1] // 64, 64, 64)
    assert set(mask.unique().tolist()) <= {0.0, APART}
    assert torch.equal(mask, mask.transpose(1, 2))
    if size == (24, 16):
        assert not mask[0].any()
    wrapped = mask[-1].reshape(8, 8, 8, 8)
    assert wrapped[0, 0, 3, 3] == 0
    assert wrapped[0, 0, 4, 0] == wrapped[0, 0, 0, 4] == APART


def test_window_attention_within_and_across_share_their_formula():
    torch.manual_seed(0)
    within, across = WindowAttention(12, 3, 2), WindowAttention(12, 3, 2, cross=True)
    with torch.no_grad():
        across.bias_table.copy_(within.bias_table)
        across.proj.load_state_dict(within.proj.state_dict())
        for kind in ("weight", "bias"):
            whole = getattr(within.qkv, kind)
            getattr(across.q, kind).copy_(whole[:12])
            getattr(across.kv, kind).copy_(whole[12:])
    x = noise(6, 4, 12)
    mask = shift_mask(2, 4, 2, 1)
    torch.testing.assert_close(within(x), across(x, x))
    torch.testing.assert_close(within(x, mask=mask), across(x, x, mask))
    assert not torch.allclose(within(x), within(x, mask=mask))


def test_dense_block_keeps_everything():
    torch.manual_seed(0)
    block, x = DenseBlock(3, 5, 2), noise(2, 3, 6, 4)
    y = block(x)
    assert y.shape == (2, 13, 6, 4)
    assert torch.equal(y[:, :3], x)
    first = functional.leaky_relu(functional.conv2d(x, block.convs[0].weight, block.convs[0].bias, padding=1), 0.2)
    torch.testing.assert_close(y[:, 3:8], first)
    second = functional.conv2d(torch.cat([x, first], 1), block.convs[1].weight, block.convs[1].bias, padding=1)
    torch.testing.assert_close(y[:, 8:], functional.leaky_relu(second, 0.2))
