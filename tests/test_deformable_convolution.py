"""Deformable convolution of SMR-Net's detector, by taps and against torchvision."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from tensors import noise, normal  # noqa: E402
from torch.nn import functional  # noqa: E402

from evalkit.methods.layers.deform import DeformableConv2d, deform_conv2d  # noqa: E402

# --- deformable convolution (acceptance 5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
@pytest.mark.parametrize("size", [(88, 88), (11, 13), (1, 7), (1, 1), (2, 3)])
@pytest.mark.parametrize(("padding", "dilation"), [(1, 1), (2, 2), (2, 1)])
def test_without_offsets_it_is_an_ordinary_convolution(dtype, tolerance, size, padding, dilation):
    torch.manual_seed(0)
    conv, x = torch.nn.Conv2d(16, 6, 3, padding=padding, dilation=dilation).to(dtype), normal(2, 16, *size, dtype=dtype)
    expected = conv(x)
    offset = torch.zeros(2, 18, *expected.shape[2:], dtype=dtype)
    found = deform_conv2d(x, offset, conv.weight, conv.bias, padding, dilation)
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def test_whole_offsets_shift_the_input():
    x, weight = normal(1, 3, 9, 10, dtype=torch.float64), normal(2, 3, 3, 3, seed=1, dtype=torch.float64)
    offset = torch.zeros(1, 18, 9, 10, dtype=torch.float64)
    offset[:, 0::2], offset[:, 1::2] = 2, -1  # two rows down, one column left
    shifted = functional.pad(x, (1, 0, 0, 2))[:, :, 2:, :-1]
    found = deform_conv2d(x, offset, weight, padding=1)
    expected = functional.conv2d(shifted, weight, padding=1)
    # where the shifted copy has lost what lies beyond its own border, the two differ
    torch.testing.assert_close(found[:, :, 1:, :-1], expected[:, :, 1:, :-1], rtol=0, atol=1e-12)


def test_one_tap_reads_bilinearly():
    x = torch.arange(20, dtype=torch.float64).view(1, 1, 4, 5)
    offset = torch.tensor([0.25, 0.5], dtype=torch.float64).view(1, 2, 1, 1).expand(1, 2, 4, 5)
    found = deform_conv2d(x, offset, torch.ones(1, 1, 1, 1, dtype=torch.float64))
    inside = x + 0.25 * 5 + 0.5
    torch.testing.assert_close(found[..., :3, :4], inside[..., :3, :4], rtol=0, atol=1e-12)
    assert found[0, 0, 3, 4] == pytest.approx(19 * 0.75 * 0.5)  # the rest of the corner lies in the zeros outside


def test_taps_are_row_major_and_vertical_comes_first():
    x, weight = torch.zeros(1, 1, 5, 5), torch.zeros(1, 1, 3, 3)
    x[0, 0, 3, 2] = 1
    weight[0, 0, 0, 2] = 1  # tap 2 reads one up, one right of the place
    offset = torch.zeros(1, 18, 5, 5)
    offset[0, 4, 2, 2], offset[0, 5, 2, 2] = 2, -1  # so from (1, 3) to (3, 2)
    assert deform_conv2d(x, offset, weight, padding=1)[0, 0, 2, 2] == pytest.approx(1, abs=1e-5)


def test_gradients_of_the_deformable_convolution():
    double = {"dtype": torch.float64}
    x, offset = normal(1, 2, 5, 5, **double), 0.3 + 0.2 * noise(1, 18, 5, 5, seed=1, **double)
    inputs = [
        t.requires_grad_() for t in (x, offset, normal(2, 2, 3, 3, seed=2, **double), normal(2, seed=3, **double))
    ]
    assert torch.autograd.gradcheck(lambda *t: deform_conv2d(*t, padding=1), inputs)


def test_the_layer_starts_as_an_ordinary_convolution():
    torch.manual_seed(0)
    layer, x = DeformableConv2d(4, 6), normal(2, 4, 8, 9)
    torch.testing.assert_close(layer(x), layer.conv(x), rtol=0, atol=1e-5)
    layer(x).square().sum().backward()
    assert layer.offset.weight.grad.abs().max() > 0


def test_against_torchvision():
    try:
        from torchvision.ops import deform_conv2d as reference
    except Exception:  # not installed, or its operators do not load beside this PyTorch
        pytest.skip("needs torchvision with its operators")
    x, weight, bias = normal(2, 4, 9, 8), normal(5, 4, 3, 3, seed=1), normal(5, seed=2)
    offset = 3 * normal(2, 18, 9, 8, seed=3)
    found = deform_conv2d(x, offset, weight, bias, 1)
    torch.testing.assert_close(found, reference(x, offset, weight, bias, padding=1), rtol=0, atol=1e-5)
