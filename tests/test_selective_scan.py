"""The selective scan against a loop over the sequence, and its directions over an image."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from tensors import naive_scan, noise  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from evalkit.methods.layers import selective_scan, state_space  # noqa: E402

# --- the selective scan


def scan_inputs(length=57, batch=2, channels=8, groups=2, states=5, seed=0, dtype=torch.float64, skip=True):
    """Steps after softplus from 1e-3 to 10, decays from e^-2 to e^3."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return torch.from_numpy(rng.normal(size=shape)).to(dtype)

    step = 10 ** rng.uniform(-3, 1, (batch, channels, length))
    dt = torch.from_numpy(step + np.log(-np.expm1(-step))).to(dtype)
    bias = normal(channels)
    A = -torch.from_numpy(np.exp(rng.uniform(-2, 3, (channels, states)))).to(dtype)
    B, C = normal(batch, groups, states, length), normal(batch, groups, states, length)
    return [
        normal(batch, channels, length),
        dt - bias[:, None],
        A,
        B,
        C,
        *([normal(channels), bias] if skip else [None, bias]),
    ]


@pytest.fixture(params=[1, 4], ids=["sequential", "chunked"])
def chunks(request, monkeypatch):
    """Both ways through a segment, in segments of 13 times, whatever the device."""
    monkeypatch.setattr(selective_scan, "_chunks", lambda values: min(request.param, len(values)))
    monkeypatch.setattr(selective_scan, "_segments", lambda u, A: [slice(i, i + 13) for i in range(0, len(u), 13)])
    return request.param


def assert_same_scan(inputs, value_tolerance, gradient_tolerance):
    results = []
    for scan in (naive_scan, selective_scan.selective_scan):
        leaves = [None if x is None else x.clone().requires_grad_() for x in inputs]
        y = scan(*leaves)
        weight = noise(*y.shape, dtype=y.dtype) - 0.5
        gradients = torch.autograd.grad((y * weight).sum(), [x for x in leaves if x is not None])
        results.append([y.detach(), *gradients])
    for i, (expected, found) in enumerate(zip(*results, strict=True)):
        scale = max(1.0, float(expected.abs().max()))
        assert (found - expected).abs().max() <= (gradient_tolerance if i else value_tolerance) * scale


@pytest.mark.parametrize("length", [1, 2, 12, 13, 14, 26, 57])
@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.usefixtures("chunks")
def test_scan_is_the_loop_in_double_precision(length, skip):
    assert_same_scan(scan_inputs(length, skip=skip), 1e-10, 1e-10)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.usefixtures("chunks")
def test_scan_is_the_loop_in_single_precision(seed):
    assert_same_scan(scan_inputs(seed=seed, dtype=torch.float32), 1e-5, 1e-4)


@settings(max_examples=25, deadline=None)
@given(
    length=st.integers(1, 40),
    batch=st.integers(1, 3),
    groups=st.integers(1, 4),
    each=st.integers(1, 3),
    states=st.integers(1, 6),
    seed=st.integers(0, 1000),
)
def test_scan_is_the_loop_for_any_shape(length, batch, groups, each, states, seed):
    assert_same_scan(scan_inputs(length, batch, groups * each, groups, states, seed), 1e-10, 1e-10)


def test_scan_of_a_long_sequence_across_segments():
    inputs = scan_inputs(length=3000, batch=1, channels=32, groups=4, states=6, dtype=torch.float32)
    assert len(selective_scan._segments(inputs[0].permute(2, 0, 1), inputs[2])) > 1
    assert_same_scan(inputs, 1e-5, 1e-4)


def test_scan_of_steps_so_large_that_products_underflow():
    u, dt, A, B, C, D, bias = scan_inputs(length=300, dtype=torch.float32)
    inputs = [u, dt + 1e4, A * 100, B, C, D, bias]
    assert torch.isfinite(selective_scan.selective_scan(*inputs)).all()
    inputs[1] = dt - 1e4  # steps of 0: nothing enters
    torch.testing.assert_close(selective_scan.selective_scan(*inputs), D[:, None] * u)


@pytest.mark.usefixtures("chunks")
def test_scan_gradients_by_finite_differences():
    inputs = [x.requires_grad_() for x in scan_inputs(length=15, batch=1, channels=2, groups=1, states=2)]
    with torch.no_grad():
        inputs[2].clamp_(min=-3)
    assert torch.autograd.gradcheck(selective_scan.selective_scan, inputs)


@pytest.mark.usefixtures("chunks")
def test_scan_does_not_look_ahead():
    u, *rest = scan_inputs()
    changed = u.clone()
    changed[..., 30] += 1
    a, b = selective_scan.selective_scan(u, *rest), selective_scan.selective_scan(changed, *rest)
    assert torch.equal(a[..., :30], b[..., :30])
    assert not torch.equal(a[..., 30:], b[..., 30:])


def test_scan_computes_half_precision_in_single():
    inputs = scan_inputs(dtype=torch.float32)
    half = [x.bfloat16() for x in inputs]
    y = selective_scan.selective_scan(*half)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, selective_scan.selective_scan(*(x.float() for x in half)).bfloat16())


def test_scan_on_the_meta_device_has_a_shape():
    inputs = [x.to("meta") for x in scan_inputs()]
    assert selective_scan.selective_scan(*inputs).shape == (2, 8, 57)


def test_another_kernel_is_used_only_where_it_agrees(monkeypatch):
    cpu = torch.device("cpu")
    assert selective_scan._agrees(naive_scan, cpu)
    assert not selective_scan._agrees(lambda *inputs: 1.01 * naive_scan(*inputs), cpu)

    def broken(*inputs):
        raise RuntimeError("no kernel image is available for execution on the device")

    assert not selective_scan._agrees(broken, cpu)
    with torch.inference_mode():
        assert selective_scan._agrees(naive_scan, cpu)
    monkeypatch.setitem(__import__("sys").modules, "mamba_ssm", None)  # not installed
    selective_scan._vendor_kernel.cache_clear()
    assert selective_scan._vendor_kernel(cpu) is None
    selective_scan._vendor_kernel.cache_clear()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_scan_on_a_gpu_is_the_loop():
    inputs = scan_inputs(length=3000, batch=1, channels=32, groups=4, states=6, dtype=torch.float32)
    found = selective_scan.selective_scan(*(x.cuda() for x in inputs)).cpu()
    expected = naive_scan(*inputs)
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


# --- directions


@pytest.mark.parametrize("size", [(5, 7), (1, 4), (6, 6)])
def test_directions_there_and_back(size):
    h, w = size
    x, y = noise(2, 3, h, w), noise(2, 3, h, w, seed=1)
    sequences = state_space.to_sequences(x)
    assert sequences.shape == (2, 4, 3, h * w)
    assert torch.equal(sequences[:, 0], x.flatten(2))
    assert torch.equal(sequences[:, 1], x.transpose(2, 3).flatten(2))
    assert torch.equal(sequences[:, 2:], sequences[:, :2].flip(-1))
    assert torch.equal(state_space.from_sequences(sequences, h, w), 4 * x)
    for k in range(4):  # each direction by itself
        alone = torch.zeros_like(sequences)
        alone[:, k] = sequences[:, k]
        assert torch.equal(state_space.from_sequences(alone, h, w), x)
    other = state_space.to_sequences(y)
    both = state_space.interleave(sequences, other)
    assert torch.equal(both[..., ::2], sequences)
    assert torch.equal(both[..., 1::2], other)
    first, second = state_space.recover(both)
    assert torch.equal(first, sequences)
    assert torch.equal(second, other)
    # infrared first in every direction: not the forward sequence reversed
    assert not torch.equal(both[:, 2], both[:, 0].flip(-1))


def test_without_b_and_c_a_scan_is_the_skip():
    torch.manual_seed(0)
    scan = state_space.DirectionalScan(6, 3, 1)
    nn.init.normal_(scan.D)
    sequences = noise(2, 4, 6, 20)
    nothing = torch.zeros(2, 4, 3, 20)
    y = scan(sequences, noise(2, 4, 6, 20, seed=1), nothing, nothing)
    torch.testing.assert_close(y, scan.D.view(4, 6, 1) * sequences)


def test_initial_steps_and_decays():
    torch.manual_seed(0)
    scan = state_space.DirectionalScan(72, 12, 3)
    step = functional.softplus(scan.dt_bias)
    assert 1e-3 * 0.999 < step.min() < 2e-3
    assert 5e-2 < step.max() < 1e-1 * 1.001
    torch.testing.assert_close(scan.A_log.exp(), torch.arange(1.0, 13).repeat(288, 1))
    assert torch.equal(scan.D, torch.ones(288))
    assert scan.dt_weight.abs().max() <= 3**-0.5
