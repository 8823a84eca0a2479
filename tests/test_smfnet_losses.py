"""The losses of SMFNet: by hand, in SciPy, and their gradients."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

torch = pytest.importorskip("torch")

from tensors import noise, pair  # noqa: E402

from evalkit.methods.networks.smfnet import SMALL, Options, SMFNet  # noqa: E402
from evalkit.training.papers import smfnet as losses  # noqa: E402
from evalkit.training.papers.smfnet import (  # noqa: E402
    ABLATIONS,
    AUTHORS,
    PAPER,
    LossOptions,
)
from evalkit.training.terms import correlation, structural_similarity  # noqa: E402


def network(options: Options = SMALL, seed: int = 0) -> SMFNet:
    torch.manual_seed(seed)
    return SMFNet(options)


def test_ablations_of_the_loss():
    small, inputs = network(), pair(12, 13)
    output = small.reconstruct(*inputs)
    terms = {name: losses.stage_one_terms(output, *inputs, ABLATIONS[name].loss) for name in ("AE5", "AE6", "AE8")}
    assert terms["AE8"].keys() - terms["AE5"].keys() == {"semantic"}
    different = [key for key in terms["AE8"] if not torch.equal(terms["AE8"][key], terms["AE6"][key])]
    assert different == ["decomposition"]
    fusion = small.fuse(*inputs)
    one, other = (losses.stage_two_loss(fusion, *inputs, ABLATIONS[name].loss) for name in ("AE6", "AE8"))
    assert torch.equal(one, other)


# --- losses


def test_structural_similarity_by_scipy():
    a, b = (noise(1, 1, 14, 17, seed=seed, dtype=torch.float64) for seed in (1, 2))
    line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / np.outer(line, line).sum()

    def smooth(values):
        return ndimage.correlate(values, window, mode="mirror")

    x, y = a[0, 0].numpy(), b[0, 0].numpy()
    mx, my = smooth(x), smooth(y)
    vx, vy, cov = smooth(x * x) - mx**2, smooth(y * y) - my**2, smooth(x * y) - mx * my
    expected = (2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
    assert structural_similarity(a, b).item() == pytest.approx(expected.mean(), abs=1e-12)
    assert structural_similarity(a, a).item() == pytest.approx(1)
    assert losses.structural_loss(a, b).item() == pytest.approx((1 - expected.mean()) / 2)
    assert losses.structural_loss(a, b, halved=False).item() == pytest.approx(1 - expected.mean())


def test_correlation():
    x, y = noise(2, 3, 5, 6, dtype=torch.float64), noise(2, 3, 5, 6, seed=1, dtype=torch.float64)
    assert correlation(x, x).item() == pytest.approx(1, abs=1e-6)
    assert correlation(x, -x).item() == pytest.approx(-1, abs=1e-6)
    assert correlation(x, 3 * x + 2).item() == pytest.approx(1, abs=1e-6)
    each = [np.corrcoef(x[n, c].flatten(), y[n, c].flatten())[0, 1] for n, c in np.ndindex(2, 3)]
    assert correlation(x, y).item() == pytest.approx(np.mean(each), abs=1e-6)
    assert correlation(x, y, whole=True).item() == pytest.approx(np.corrcoef(x.flatten(), y.flatten())[0, 1], abs=1e-6)


@pytest.mark.parametrize("constant", [0.0, 0.3])
def test_correlation_with_a_constant_map_is_zero_and_has_a_finite_gradient(constant):
    x, y = torch.full((1, 2, 6, 7), constant, requires_grad=True), noise(1, 2, 6, 7)
    value = correlation(x, y)
    value.backward()
    assert abs(value.item()) < 1e-2
    assert torch.isfinite(x.grad).all()


def test_gradient_losses_of_a_ramp():
    """Interior pixels of a horizontal ramp have a Sobel gradient of 8 per step; its border is worked out by hand."""
    ramp, flat = torch.arange(3.0).expand(1, 1, 3, 3), torch.zeros(1, 1, 3, 3)
    # columns (0, 1, 2) with zeros around: |Gx| = 4, 8, 4 in the middle row and 3, 6, 3 in the others;
    # |Gy| = 0 in the middle row, and 1, 4, 5 in the first and last
    expected = (4 + 8 + 4 + 2 * (3 + 6 + 3) + 2 * (1 + 4 + 5)) / 9
    assert losses.gradient_loss(ramp, flat).item() == pytest.approx(expected)
    assert losses.gradient_loss(ramp, ramp).item() == 0
    # (value to the right - value to the left) / 2 with the border repeated: 1/2, 1, 1/2 across, 0 down
    assert losses.spatial_gradient_loss(ramp, flat).item() == pytest.approx(2 / 3 / 2)
    assert losses.joint_gradient_loss(flat, flat, ramp).item() == pytest.approx(expected)
    assert losses.joint_gradient_loss(ramp, ramp, flat).item() == 0


def test_intensity_loss():
    infrared, visible = torch.tensor([[[[0.2, 0.9]]]]), torch.tensor([[[[0.6, 0.1]]]])
    assert losses.intensity_loss(torch.full((1, 1, 1, 2), 0.5), infrared, visible).item() == pytest.approx(0.25)


def test_semantic_loss_matches_energy_only():
    image = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
    assert losses.gram(image).tolist() == [[[0.5]]]
    assert losses.semantic_loss(image, 1 - image).item() == 0  # another image of the same energy
    assert losses.semantic_loss(image, 0.5 * image).item() == pytest.approx((0.5 - 0.125) ** 2)
    assert losses.semantic_loss(image, 1 - image, lambda x: torch.cat((x, x.mT.roll(1, 2)), 1)).item() == 0
    two = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])
    assert losses.gram(two).tolist() == [[[5 / 4, 11 / 4], [11 / 4, 25 / 4]]]


def test_decomposition_loss():
    x, y, z = (noise(1, 2, 6, 6, seed=seed, dtype=torch.float64) for seed in range(3))
    detail, base, graph = correlation(x, y), correlation(y, z), correlation(x, z)
    torch.testing.assert_close(losses.decomposition_loss([(x, y)], (y, z)), detail**2 / (base + 1.01))
    both = losses.decomposition_loss([(x, y), (x, z)], (y, z))
    torch.testing.assert_close(both, (detail**2 + graph**2) / (base + 1.01))
    assert losses.decomposition_loss([(x, x)], (x, x)).item() == pytest.approx(1 / 2.01)
    assert losses.decomposition_loss([(x, x)], (x, -x)).item() == pytest.approx(1 / 0.01, rel=1e-4)


def test_decomposition_loss_has_a_gradient_but_for_the_authors():
    features = [noise(1, 2, 6, 6, seed=seed).requires_grad_() for seed in range(6)]
    d, g, b = features[:2], features[2:4], features[4:]
    losses.decomposition_loss([tuple(d), tuple(g)], tuple(b)).backward()
    assert all(f.grad.abs().max() > 1e-6 for f in features)
    authors = losses.authors_decomposition_loss([tuple(d), tuple(d)], tuple(b))
    assert not authors.requires_grad
    d_all, b_all = (correlation(*pair, whole=True) for pair in (d, b))
    torch.testing.assert_close(authors, (2 * d_all**2 / (b_all + 1.01)).detach())


@pytest.mark.parametrize(
    ("options", "weights"), [(LossOptions(), (2, 2, 10)), (PAPER, (5, 10, 2)), (AUTHORS, (2, 2, 10))]
)
def test_totals_are_weighted_sums(options, weights):
    one, two, gradient_two = weights
    small, (a, b) = network(), pair(12, 14)
    first, second = small.reconstruct(a, b), small.fuse(a, b)
    ssim, ramp = losses.structural_loss, losses.gradient_loss
    kind = (options is not PAPER, options is AUTHORS)  # halved, clamped
    fa, fb = first.infrared_features, first.visible_features
    base, detail, graph = (fa.base, fb.base), (fa.detail, fb.detail), (fa.graph, fb.graph)
    if options is AUTHORS:
        decomposition, both = losses.authors_decomposition_loss([detail], base), [detail, detail]
        decomposition_two = losses.authors_decomposition_loss(both, base)
    else:
        decomposition = losses.decomposition_loss([detail], base)
        decomposition_two = losses.decomposition_loss([detail, graph], base)
    expected = 8 * (ssim(b, first.visible, *kind) + ssim(a, first.infrared, *kind))
    expected = expected + 10 * (ramp(b, first.visible) + ramp(a, first.infrared))
    expected = expected + losses.semantic_loss(a, first.infrared) + one * decomposition
    if options is AUTHORS:
        expected = expected + 5 * losses.spatial_gradient_loss(b, first.visible)
    torch.testing.assert_close(losses.stage_one_loss(first, a, b, options), expected)
    expected = losses.intensity_loss(second.fused, a, b) + two * decomposition_two
    expected = expected + gradient_two * losses.joint_gradient_loss(second.fused, a, b)
    torch.testing.assert_close(losses.stage_two_loss(second, a, b, options), expected, rtol=1e-4, atol=1e-5)
