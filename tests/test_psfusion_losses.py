"""The losses of PSFusion: by hand, in NumPy, and what each of them reaches."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

torch = pytest.importorskip("torch")

from tensors import noise  # noqa: E402
from torch.nn import functional  # noqa: E402

from evalkit.methods.layers.colour import to_ycrcb  # noqa: E402
from evalkit.methods.networks.psfusion import Outputs, PSFusion  # noqa: E402
from evalkit.training.papers import psfusion as losses  # noqa: E402
from evalkit.training.terms import hard_cross_entropy, sobel_derivatives, sobel_gradient  # noqa: E402


@pytest.fixture(scope="module")
def full():
    """The default network, untrained."""
    torch.manual_seed(0)
    return PSFusion().eval()


def pair(height: int = 64, width: int = 64, batch: int = 2):
    """Infrared and visible."""
    return noise(batch, 1, height, width), noise(batch, 3, height, width, seed=1)


def labels(batch: int = 2, height: int = 64, width: int = 64):
    found = torch.zeros(batch, height, width, dtype=torch.int64)
    found[:, 8:24, 8:40] = 1
    found[:, 30:50, 20:30] = 2
    found[:, 40:60, 40:60] = 6
    return found


# --- losses


def variance(image: np.ndarray) -> np.ndarray:
    """Of the 9x9 Gaussian of sigma 1.5, zeros around, by SciPy."""
    weights = np.exp(-(np.arange(-4, 5) ** 2) / (2 * 1.5**2))
    weights /= weights.sum()

    def smooth(x: np.ndarray) -> np.ndarray:
        return ndimage.correlate1d(ndimage.correlate1d(x, weights, 0, mode="constant"), weights, 1, mode="constant")

    return smooth(image**2) - smooth(image) ** 2


def scene():
    """Fused, infrared, visible and salient targets, (1, 1, 20, 24) each."""
    fused, infrared, visible = (noise(1, 1, 20, 24, seed=seed) for seed in (5, 6, 7))
    salient = torch.zeros(1, 1, 20, 24)
    salient[..., 5:12, 6:20] = 1
    return fused, infrared, visible, salient


def test_contrast_masks():
    _, infrared, visible, _ = scene()
    a, b = losses.contrast_masks(infrared, visible)
    expected = variance(infrared[0, 0].double().numpy()) > variance(visible[0, 0].double().numpy())
    assert np.array_equal(a[0, 0].numpy() > 0, expected)
    assert torch.all(a + b == 1)
    for x, y in ((0.7, 0.7), (0.0, 0.0)):
        flat = [torch.full((1, 1, 20, 24), value) for value in (x, y)]
        assert not any(mask.any() for mask in losses.contrast_masks(*flat))
    # zeros around the image make the border of two different constants differ, and nothing else
    flat = losses.contrast_masks(torch.full((1, 1, 20, 24), 0.7), torch.full((1, 1, 20, 24), 0.2))
    assert not any(mask[..., 4:-4, 4:-4].any() for mask in flat)
    assert flat[0][0, 0, 0, 0] == 1


@pytest.mark.parametrize("authors_order", [False, True])
def test_intensity_against_numpy(authors_order):
    fused, infrared, visible, salient = scene()
    f, i, v, m = (x[0, 0].double().numpy() for x in (fused, infrared, visible, salient))
    if authors_order:
        i, v = v, i
    m_ir, m_vi = variance(i) > variance(v), variance(v) > variance(i)

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    arguments = {"infrared": infrared, "visible": visible, "salient": salient, "authors_order": authors_order}
    expected = np.mean(sigmoid(m_ir + m) * abs(f - i)) + np.mean(sigmoid(m_vi + 1 - m) * abs(f - v))
    assert losses.intensity_loss(fused, **arguments).item() == pytest.approx(expected, rel=1e-5)
    box_i, box_v = (ndimage.uniform_filter((f - x) ** 2, 9, mode="constant") for x in (i, v))
    expected = np.mean(np.where(m_ir + m > 0, box_i, box_v))
    assert losses.selected_intensity_loss(fused, **arguments).item() == pytest.approx(expected, rel=1e-5)


def test_weights_of_the_intensity_loss():
    _, infrared, visible, salient = scene()
    masks = losses.contrast_masks(infrared, visible)
    for other, extra, kept in ((visible, salient, masks[0]), (infrared, 1 - salient, masks[1])):
        fused = other.clone().requires_grad_()  # that source has no gradient, so the other's weight is left
        losses.intensity_loss(fused, infrared=infrared, visible=visible, salient=salient).backward()
        weights = fused.grad.abs() * fused.numel()
        torch.testing.assert_close(weights, torch.sigmoid(kept + extra), rtol=1e-4, atol=1e-5)
        assert {round(w, 3) for w in weights.flatten().tolist()} == {0.5, 0.731, 0.881}


def test_unmasked_intensity_and_hand_values():
    full = {value: torch.full((2, 1, 12, 12), value) for value in (0.2, 0.5, 0.9)}
    assert losses.unmasked_intensity_loss(full[0.5], full[0.2], full[0.9]).item() == pytest.approx(0.7)
    no_target = torch.zeros(2, 1, 12, 12)  # equal sources: no contrast anywhere, weights sigmoid(0) and sigmoid(1)
    loss = losses.intensity_loss(full[0.5], infrared=full[0.2], visible=full[0.2], salient=no_target)
    assert loss.item() == pytest.approx(0.3 * (0.5 + 1 / (1 + math.exp(-1))), rel=1e-5)


def test_texture_and_its_parts():
    fused, infrared, visible, _ = scene()
    parts = {}
    for name, image in (("f", fused), ("i", infrared), ("v", visible)):
        x = image[0, 0].double().numpy()
        parts[name] = [abs(ndimage.sobel(x, axis, mode="constant")) for axis in (1, 0)]
    expected = sum(np.mean(abs(f - np.maximum(i, v))) for f, i, v in zip(*parts.values(), strict=True))
    assert losses.texture_loss(fused, infrared, visible).item() == pytest.approx(expected, rel=1e-5)
    f, i, v = (sum(maps) for maps in parts.values())
    expected = np.mean(abs(f - np.maximum(i, v)))
    assert losses.texture_loss(fused, infrared, visible, joint=True).item() == pytest.approx(expected, rel=1e-5)
    assert losses.texture_loss(infrared, infrared, infrared) == 0
    colour = noise(2, 3, 9, 9)
    both = sobel_derivatives(colour)
    torch.testing.assert_close(both[:, 0::2] + both[:, 1::2], sobel_gradient(colour))


def test_correlation_loss():
    fused, infrared, visible, _ = scene()
    assert losses.correlation_loss(fused, fused, fused).item() == pytest.approx(0.5, abs=1e-5)
    expected = sum(np.corrcoef(fused.flatten(), x.flatten())[0, 1] for x in (infrared, visible))
    assert losses.correlation_loss(fused, infrared, visible).item() == pytest.approx(1 / (expected + 1e-6), rel=1e-3)
    flat = torch.full_like(fused, 0.5)
    assert torch.isfinite(losses.correlation_loss(fused, flat, flat))
    assert losses.correlation_loss(1 - fused, fused, fused).item() == pytest.approx(-0.5, abs=1e-5)
    assert losses.correlation_loss(1 - fused, fused, fused, least=0.1).item() == pytest.approx(10, rel=1e-4)
    two = torch.cat((fused, infrared)), torch.cat((infrared, visible))
    whole, each = (losses.correlation_loss(*two, two[1], whole=flag).item() for flag in (True, False))
    assert whole != pytest.approx(each, rel=1e-3)


def test_fidelity_against_hand_values():
    _, infrared, visible, _ = scene()
    shifted = infrared + 0.1
    assert losses.fidelity_loss(shifted, infrared, "second").item() == pytest.approx(0.1, abs=1e-5)  # border repeated
    assert losses.fidelity_loss(shifted, infrared).item() > 0.1  # zeros around the image: its frame has gradients
    x, y = infrared[0, 0].double().numpy(), visible[0, 0].double().numpy()
    expected = np.mean(abs(x - y))
    for axis in (0, 1):
        gradients = [abs(ndimage.sobel(z, axis, mode="constant")) for z in (x, y)]
        expected += np.mean(abs(gradients[0] - gradients[1]))
    assert losses.fidelity_loss(infrared, visible).item() == pytest.approx(expected, rel=1e-5)


def test_second_derivatives_of_polynomials():
    x = torch.arange(10.0).expand(1, 1, 10, 10)
    inner = (..., slice(2, -2), slice(2, -2))
    assert torch.allclose(losses.second_derivatives(x**2)[inner], torch.tensor(2.0))
    assert torch.allclose(losses.second_derivatives(x.mT**2 * 3)[inner], torch.tensor(6.0))
    assert torch.allclose(losses.second_derivatives(x * x.mT)[inner], torch.tensor(64 / 36))
    assert losses.second_derivatives(5 * x)[inner].abs().max() < 1e-5
    assert losses.second_derivatives(torch.cat((x**2, x**2), dim=1))[0, 0, 5, 5].item() == pytest.approx(4)


def test_targets_of_labels():
    found = torch.zeros(1, 6, 7, dtype=torch.int64)
    found[0, 2:4, 2:5] = 2
    found[0, 2, 2] = 5
    targets = losses.targets_of(found)
    assert targets.binary.sum() == 6
    assert targets.salient.shape == (1, 1, 6, 7)
    assert targets.salient.sum() == 5  # class 5 is no thermal target
    assert targets.boundary.sum() == 4 * 5  # objects one pixel from their border, and a ring around
    assert targets.boundary[0, 0].sum() == 0


def test_binary_losses_against_hand_values():
    logits = noise(2, 2, 3, 4) * 4 - 2
    target = (noise(2, 3, 4, seed=1) > 0.5).long()
    z, t = logits.double().numpy(), target.numpy()
    wanted = np.stack((1 - t, t), axis=1)
    weights = np.array(losses.BINARY_WEIGHTS)[:, None, None]
    p = 1 / (1 + np.exp(-z))
    expected = -np.mean(weights * wanted * np.log(p) + (1 - wanted) * np.log(1 - p))
    assert losses.binary_loss(logits, target).item() == pytest.approx(expected, rel=1e-5)
    log = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    expected = -np.sum(weights * wanted * log) / np.sum(weights * wanted)
    assert losses.binary_loss(logits, target, "ce").item() == pytest.approx(expected, rel=1e-5)
    assert losses.binary_loss(logits, target, weights=(1, 1)) < losses.binary_loss(logits, target)


def test_hard_pixels():
    target = torch.from_numpy(np.random.default_rng(4).integers(0, 9, (2, 5, 5)))
    logits = noise(2, 9, 5, 5, seed=3) + functional.one_hot(target, 9).movedim(-1, 1) * noise(2, 1, 5, 5, seed=5) * 8
    every = functional.cross_entropy(logits, target, reduction="none").flatten().sort(descending=True).values
    hard = every[every > -math.log(0.75)]
    assert 5 < len(hard) < 50
    assert hard_cross_entropy(logits, target, minimum=5) == pytest.approx(hard.mean().item())
    easy = functional.one_hot(target, 9).movedim(-1, 1) * 20.0 + logits / 10
    every = functional.cross_entropy(easy, target, reduction="none").flatten().sort(descending=True).values
    assert every[0] < -math.log(0.75)
    assert hard_cross_entropy(easy, target, minimum=5).item() == pytest.approx(every[:5].mean().item())
    for minimum in (49, 50, 1000):
        assert hard_cross_entropy(easy, target, minimum).item() == pytest.approx(every.mean().item())
    some = target.clone()
    some[0] = 255
    assert hard_cross_entropy(logits, some, 1000).item() == pytest.approx(
        functional.cross_entropy(logits[1:], target[1:]).item()
    )
    logits.requires_grad_()
    nothing = hard_cross_entropy(logits, torch.full_like(target, 255), 5)
    nothing.backward()
    assert nothing == 0


def test_the_share_of_hard_pixels_is_the_published_number():
    assert int(16 * 256 * 256 * losses.LossOptions().hard_share) == 65_536


@pytest.mark.parametrize(
    "options", [losses.LossOptions(), losses.PAPER, losses.AUTHORS], ids=["default", "paper", "authors"]
)
def test_every_term_teaches_its_output(options):
    infrared, visible = pair()
    outputs = Outputs(*(noise(2, c, 64, 64, seed=c + 7).requires_grad_() for c in (1, 1, 1, 9, 2, 2)))
    terms = losses.psfusion_terms(outputs, infrared, visible, losses.targets_of(labels()), options)
    taught = {
        "intensity": "fused",
        "texture": "fused",
        "correlation": "fused",
        "visible fidelity": "visible",
        "infrared fidelity": "infrared",
        "semantic": "semantic",
        "boundary": "boundary",
        "binary": "binary",
    }
    assert list(terms) == list(taught)
    for name, field in taught.items():
        gradients = torch.autograd.grad(terms[name], outputs, retain_graph=True, allow_unused=True)
        moved = {f for f, g in zip(Outputs._fields, gradients, strict=True) if g is not None and g.any()}
        assert moved == {field}
    total = losses.psfusion_loss(outputs, infrared, visible, losses.targets_of(labels()), options)
    assert total.item() == pytest.approx(sum(t.item() for t in terms.values()), rel=1e-5)


def test_the_weights_of_the_terms():
    o = losses.LossOptions()
    assert (o.fusion, o.fidelity, o.semantic, o.correlation) == (10, 5, 10, 0.1)
    infrared, visible = pair()
    luminance = to_ycrcb(visible)[:, :1]
    outputs = Outputs(*(noise(2, c, 64, 64, seed=c + 7) for c in (1, 1, 1, 9, 2, 2)))
    targets = losses.targets_of(labels())
    terms = losses.psfusion_terms(outputs, infrared, visible, targets)
    expected = {
        "texture": 10 * losses.texture_loss(outputs.fused, infrared, luminance),
        "correlation": 1 * losses.correlation_loss(outputs.fused, infrared, luminance),
        "visible fidelity": 5 * losses.fidelity_loss(outputs.visible, luminance),
        "infrared fidelity": 5 * losses.fidelity_loss(outputs.infrared, infrared),
        "semantic": 10 * losses.semantic_loss(outputs.semantic, labels()),
        "boundary": 10 * losses.binary_loss(outputs.boundary, targets.boundary, weights=(1, 1)),
        "binary": 10 * losses.binary_loss(outputs.binary, targets.binary),
    }
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-5)
