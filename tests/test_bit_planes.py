"""Bit planes: exact, differentiable by a straight-through estimator."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from tensors import noise, normal  # noqa: E402

from evalkit.methods.layers.bitplanes import bit_planes, min_max  # noqa: E402
from evalkit.methods.networks.smrnet_saliency import BitPlaneSlicing, DeformableEnhancement  # noqa: E402

# --- bit planes (acceptance 2, 3, 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ste_slope", ["unit", "saw", "none"])
def test_bit_planes_recombine_exactly(dtype, ste_slope):
    values = noise(1, 1, 1000, 1000, dtype=dtype)
    planes = bit_planes(values, ste_slope=ste_slope)
    assert set(planes.unique().tolist()) == {0, 1}
    weights = torch.tensor([0.5, 0.25, 0.125, 0.0625], dtype=dtype)
    assert torch.equal((planes * weights[:, None, None]).sum(dim=1, keepdim=True), torch.floor(16 * values) / 16)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("value", "bits"),
    [(0, [0, 0, 0, 0]), (1, [1, 1, 1, 1]), (0.5, [1, 0, 0, 0]), (0.25, [0, 1, 0, 0]), (0.6875, [1, 0, 1, 1])],
)
def test_bits_of_single_values(dtype, value, bits):
    assert bit_planes(torch.full((1, 1, 1, 1), value, dtype=dtype)).flatten().tolist() == bits


def test_the_formula_alone_loses_the_brightest_pixel():
    one = torch.ones(())
    assert [float(torch.floor(torch.remainder(one, 2.0 ** (1 - n)) * 2.0**n)) for n in (1, 2, 3, 4)] == [0, 0, 0, 0]
    assert bit_planes(one.view(1, 1, 1, 1)).sum() == 4


def test_planes_come_in_the_order_asked_for():
    values = noise(2, 1, 5, 7)
    everything = bit_planes(values)
    assert torch.equal(bit_planes(values, (4,)), everything[:, 3:])
    assert torch.equal(bit_planes(values, (3, 1)), everything[:, [2, 0]])


def test_normalisation_is_per_sample():
    x = torch.tensor([[0.0, 1.0, 2.0], [10.0, 20.0, 50.0]]).view(2, 1, 1, 3)
    torch.testing.assert_close(min_max(x).view(2, 3), torch.tensor([[0, 0.5, 1], [0, 0.25, 1]]))


def test_a_constant_map_gives_zeros_and_no_gradient():
    x = torch.full((2, 1, 4, 4), 3.7, requires_grad=True)
    normalised = min_max(x)
    planes = bit_planes(normalised)
    assert (planes == 0).all()
    (planes * normal(2, 4, 4, 4)).sum().backward()
    assert (x.grad == 0).all()


def test_slopes_of_the_straight_through_gradient():
    for ste_slope, expected in (("unit", 4), ("saw", 1 + 2 + 4 + 8)):
        values = noise(1, 1, 6, 6).requires_grad_()
        bit_planes(values, ste_slope=ste_slope).sum().backward()
        assert (values.grad == expected).all()
    values = noise(1, 1, 6, 6).requires_grad_()
    assert not bit_planes(values, ste_slope="none").requires_grad


@pytest.mark.parametrize("planes", [(4,), (1, 2, 3, 4)])
def test_gradient_reaches_the_fused_features_only_with_the_estimator(planes):
    for ste_slope, flows in (("none", False), ("unit", True), ("saw", True)):
        torch.manual_seed(0)
        slicing, enhancement = BitPlaneSlicing(8, planes, ste_slope), DeformableEnhancement(8)
        features = normal(2, 8, 9, 11).requires_grad_()
        enhancement(slicing(features)).sum().backward()
        for gradient in (features.grad, slicing.to_map.weight.grad):
            if flows:
                assert torch.isfinite(gradient).all()
                assert gradient.abs().max() > 0
            else:
                assert gradient is None or (gradient == 0).all()
        assert slicing.from_planes.weight.grad.abs().max() > 0
