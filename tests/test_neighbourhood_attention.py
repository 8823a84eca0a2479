"""Neighbourhood attention against loops over the queries, at borders, on small maps, and the vendor's operators."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

torch = pytest.importorskip("torch")

from functools import partial  # noqa: E402

import tensors  # noqa: E402
from torch.nn import functional  # noqa: E402

from evalkit.methods.layers import neighbourhood  # noqa: E402
from evalkit.methods.layers.neighbourhood import (  # noqa: E402
    NeighbourhoodAttention,
    bias_places,
    neighbourhood_attention,
    window_starts,
)

normal = partial(tensors.normal, dtype=torch.float64)

KERNEL = 7


SIZES = [(7, 7), (8, 8), (9, 13)]


# neighbourhood attention


def brute_start(i: int, length: int, kernel: int = KERNEL) -> int:
    """The compiled operators' rule for the first neighbour."""
    r = kernel // 2
    return max(i - r, 0) + (length - i - r - 1 if i + r >= length else 0)


def brute_bias_start(i: int, length: int, kernel: int = KERNEL) -> int:
    """The compiled operators' rule for the bias of the first neighbour."""
    r = kernel // 2
    return r + (r - i if i < r else 0) + (length - i - 1 - r if i + r >= length else 0)


def brute_attention(q, k, v, bias=None, kernel: int = KERNEL):
    n, heads, height, width, depth = q.shape
    rows = []
    for b in range(n):
        for h in range(heads):
            for i in range(height):
                for j in range(width):
                    y, x = brute_start(i, height, kernel), brute_start(j, width, kernel)
                    window = k[b, h, y : y + kernel, x : x + kernel]
                    scores = (window * q[b, h, i, j]).sum(-1) / depth**0.5
                    if bias is not None:
                        y_, x_ = brute_bias_start(i, height, kernel), brute_bias_start(j, width, kernel)
                        scores = scores + bias[h, y_ : y_ + kernel, x_ : x_ + kernel]
                    weights = scores.flatten().softmax(0).reshape(kernel, kernel, 1)
                    assert weights.numel() == kernel * kernel
                    rows.append((weights * v[b, h, y : y + kernel, x : x + kernel]).sum((0, 1)))
    return torch.stack(rows).reshape(q.shape)


def qkv(height: int, width: int, heads: int = 2, depth: int = 3, batch: int = 1):
    return [normal(batch, heads, height, width, depth, seed=s).requires_grad_() for s in range(3)]


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_neighbourhood_attention_is_the_loop_over_queries(size, biased):
    inputs = qkv(*size)
    bias = normal(2, 13, 13, seed=9).requires_grad_() if biased else None
    leaves = [*inputs, bias] if biased else inputs
    weights = normal(1, 2, *size, 3, seed=5)
    results = []
    for attention in (brute_attention(*inputs, bias), neighbourhood_attention(*inputs, KERNEL, bias)):
        results.append([attention, *torch.autograd.grad((attention * weights).sum(), leaves)])
    for expected, found in zip(*results, strict=True):
        assert torch.allclose(found, expected, rtol=0, atol=1e-10)


def test_neighbourhood_attention_of_other_kernels_and_batches():
    inputs = qkv(5, 6, batch=2)
    bias = normal(2, 5, 5, seed=4)
    found = neighbourhood_attention(*inputs, 3, bias)
    assert torch.allclose(found, brute_attention(*inputs, bias, kernel=3), rtol=0, atol=1e-10)
    for kernel in (4, 7):
        with pytest.raises(ValueError, match="5x6"):
            neighbourhood_attention(*inputs, kernel)


def test_windows_are_shifted_at_the_border():
    for length in range(7, 16):
        assert window_starts(length, 7).tolist() == [brute_start(i, length) for i in range(length)]
        places = bias_places(length, 7)
        assert places.shape == (length, 7)
        assert places[:, 0].tolist() == [brute_bias_start(i, length) for i in range(length)]
    places = bias_places(12, 7)
    assert places[0].tolist() == list(range(6, 13))
    assert places[-1].tolist() == list(range(7))
    assert places[5].tolist() == list(range(3, 10))


def test_on_a_map_of_the_window_neighbourhood_attention_is_full_attention():
    q, k, v = qkv(7, 7)
    full = functional.scaled_dot_product_attention(*(x.flatten(2, 3) for x in (q, k, v))).reshape(q.shape)
    assert torch.allclose(neighbourhood_attention(q, k, v, 7), full, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(8, 8), (9, 13)])
def test_neighbourhood_attention_is_masked_full_attention(size):
    q, k, v = qkv(*size)
    allowed = [torch.zeros(length, length, dtype=torch.bool) for length in size]
    for mask in allowed:
        for i in range(len(mask)):
            start = brute_start(i, len(mask))
            mask[i, start : start + 7] = True
    both = allowed[0][:, None, :, None] & allowed[1][None, :, None, :]
    count = size[0] * size[1]
    assert (both.reshape(count, count).sum(1) == 49).all()
    full = functional.scaled_dot_product_attention(
        *(x.flatten(2, 3) for x in (q, k, v)), attn_mask=both.reshape(count, count)
    )
    assert torch.allclose(neighbourhood_attention(q, k, v, 7), full.reshape(q.shape), rtol=0, atol=1e-12)


def test_inside_neighbourhood_attention_moves_with_the_image():
    layer = NeighbourhoodAttention(8, 2).double()
    x = normal(1, 16, 16, 8)
    moved = torch.roll(x, (1, 2), dims=(1, 2))
    inside = layer(x)[:, 4:10, 4:10]
    assert torch.allclose(layer(moved)[:, 5:11, 6:12], inside, rtol=0, atol=1e-12)
    assert not torch.allclose(layer(moved)[:, 1:7, 2:8], layer(x)[:, :6, :6])  # shifted windows at the border


def test_small_maps_are_padded_with_zeros_before_the_linear_map_or_refused():
    layer = NeighbourhoodAttention(8, 2, pad_small=True).double()
    x = normal(2, 4, 9, 8)
    assert torch.equal(layer(x), layer(torch.cat((x, torch.zeros(2, 3, 9, 8)), 1))[:, :4])
    layer.pad_small = False
    with pytest.raises(ValueError, match="4x9"):
        layer(x)
    large = normal(1, 7, 8, 8)
    before = layer(large)
    layer.pad_small = True
    assert torch.equal(layer(large), before)


def test_the_bias_of_the_keys_has_no_effect():
    layer = NeighbourhoodAttention(8, 2).double()
    x = normal(1, 8, 7, 8)
    before = layer(x)
    with torch.no_grad():
        layer.qkv.bias[8:16] += 3
    assert torch.allclose(layer(x), before, rtol=0, atol=1e-12)


@pytest.fixture
def vendor(monkeypatch):
    """A stand-in for the vendor's package, whose bias can be made wrong."""

    def clear():
        neighbourhood._vendor.cache_clear()
        neighbourhood._vendor_agrees.cache_clear()

    package, operators = ModuleType("natten"), ModuleType("natten.functional")
    operators.calls, operators.wrong = 0, False

    def scores(query, key, bias, kernel, dilation):
        operators.calls += 1
        pixel = neighbourhood._pixel_bias(bias.flip(1) if operators.wrong else bias, *query.shape[2:4], kernel)
        return (query[..., None, :] @ neighbourhood._neighbours(key, kernel) + pixel).squeeze(-2)

    operators.natten2dqkrpb = scores
    operators.natten2dav = lambda weights, value, kernel, dilation: (
        weights[..., None, :] @ neighbourhood._neighbours(value, kernel).mT
    ).squeeze(-2)
    package.functional = operators
    monkeypatch.setitem(sys.modules, "natten", package)
    monkeypatch.setitem(sys.modules, "natten.functional", operators)
    clear()
    yield operators
    clear()


def test_the_vendors_operators_are_used_where_they_agree(vendor):
    inputs, bias = qkv(8, 9), normal(2, 13, 13, seed=3)
    expected = neighbourhood._plain_attention(*inputs, 7, bias)
    for case in (bias, None):
        before = vendor.calls
        found = neighbourhood_attention(*inputs, 7, case)
        assert vendor.calls == before + 2  # once to compare, once for this
        if case is bias:
            assert torch.allclose(found, expected, rtol=0, atol=1e-12)
    neighbourhood_attention(*(x.to("meta") for x in inputs), 7)
    assert vendor.calls == 4


def test_the_vendors_operators_are_not_used_where_they_differ(vendor):
    inputs, bias = qkv(8, 9), normal(2, 13, 13, seed=3)
    vendor.wrong = True
    for _ in range(2):
        assert torch.equal(neighbourhood_attention(*inputs, 7, bias), neighbourhood._plain_attention(*inputs, 7, bias))
    assert vendor.calls == 1


@pytest.mark.parametrize("damage", ["raises", "lacks"])
def test_the_vendors_operators_may_be_of_another_release(vendor, damage):
    if damage == "lacks":
        del vendor.natten2dav
    else:
        vendor.natten2dav = lambda *_, is_causal: None
    inputs = qkv(8, 9)
    assert torch.equal(neighbourhood_attention(*inputs, 7), neighbourhood._plain_attention(*inputs, 7, None))
