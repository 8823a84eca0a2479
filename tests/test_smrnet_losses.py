"""The losses of SMR-Net: by hand, and their gradients."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tensors import noise, normal, pair  # noqa: E402
from torch.nn import functional  # noqa: E402

from evalkit.methods.layers.msgd import SaliencyMaps  # noqa: E402
from evalkit.training.papers import smrnet as losses  # noqa: E402
from evalkit.training.terms import structure_weight, weighted_bce, weighted_iou  # noqa: E402

# --- losses


def test_intensity_and_texture_by_hand():
    fused = torch.tensor([[0.5, 0.5], [0.0, 1.0]]).view(1, 1, 2, 2)
    infrared = torch.tensor([[0.0, 1.0], [0.0, 0.0]]).view(1, 1, 2, 2)
    visible = torch.tensor([[0.25, 0.0], [0.5, 1.0]]).view(1, 1, 2, 2)
    assert losses.intensity_loss(fused, infrared, visible) == pytest.approx((0.25 + 0.5 + 0.5 + 0) / 4)
    step = torch.zeros(1, 1, 5, 6)
    step[..., 3:] = 1
    flat = torch.zeros(1, 1, 5, 6)
    assert losses.joint_gradient_loss(step, step, flat) == 0
    assert losses.joint_gradient_loss(step, flat, step) == 0
    # interior rows: 4 at both columns of the step; the last column and the first and last rows see the zeros outside
    columns = [[0, 0, 3, 3, 0, 3], [0, 0, 4, 4, 0, 4]]
    vertical = [[0, 0, 1, 3, 4, 3], [0] * 6]
    total = 2 * (sum(columns[0]) + sum(vertical[0])) + 3 * sum(columns[1])
    assert losses.joint_gradient_loss(flat, step, flat) == pytest.approx(total / 30)


def test_structure_weight_by_hand():
    target = torch.zeros(1, 1, 4, 4)
    target[0, 0, 1, 1] = 1
    weight = structure_weight(target, size=3)
    assert weight[0, 0, 1, 1] == pytest.approx(1 + 5 * 8 / 9)
    assert weight[0, 0, 0, 0] == pytest.approx(1 + 5 / 9)
    assert weight[0, 0, 3, 3] == 1
    assert structure_weight(torch.ones(1, 1, 99, 99))[0, 0, 49, 49] == pytest.approx(1, abs=1e-5)


def test_weighted_terms_by_hand():
    logits = torch.tensor([0.0, 2.0, -1.0, 0.5]).view(1, 1, 2, 2)
    target = torch.tensor([1.0, 1.0, 0.0, 0.0]).view(1, 1, 2, 2)
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 2, 2)
    p, g, w = (v.flatten().double().numpy() for v in (torch.sigmoid(logits), target, weight))
    entropy = -(g * np.log(p) + (1 - g) * np.log(1 - p))
    assert weighted_bce(logits, target, weight) == pytest.approx((w * entropy).sum() / 10, rel=1e-5)
    both = (w * p * g).sum()
    iou = 1 - (both + 1) / ((w * (p + g)).sum() - both + 1)
    assert weighted_iou(logits, target, weight) == pytest.approx(iou, rel=1e-5)
    two = [torch.cat((v, v.flip(-1))) for v in (logits, target, weight)]
    assert weighted_iou(*two) == pytest.approx(iou, rel=1e-5)  # the mean over images, not of all pixels together
    assert weighted_iou(torch.full_like(logits, 40) * (2 * target - 1), target, weight) == pytest.approx(0, abs=1e-6)


def test_weights_matter_for_a_small_object():
    target = torch.zeros(1, 1, 64, 64)
    target[..., 28:34, 28:34] = 1
    logits = torch.full_like(target, -3.0)
    plain = functional.binary_cross_entropy_with_logits(logits, target)
    weighted = weighted_bce(logits, target, structure_weight(target))
    assert weighted > 1.5 * plain
    torch.testing.assert_close(weighted_bce(logits, target, torch.ones_like(target)), plain)


def test_detection_loss_sums_five_maps():
    target = (noise(2, 1, 64, 64) > 0.7).float()
    full = [normal(2, 1, 64, 64, seed=seed) for seed in range(3)]
    coarse = normal(6, 1, 2, 2, seed=4)
    saliency = SaliencyMaps(coarse, *full, sum(full))
    small_target = target.view(2, 1, 2, 32, 2, 32).mean(dim=(3, 5)).repeat(3, 1, 1, 1)
    expected = losses.saliency_loss(coarse, small_target)
    expected = expected + sum(losses.saliency_loss(logits, target) for logits in (*full, sum(full)))
    torch.testing.assert_close(losses.detection_loss(saliency, target), expected)
    weight = structure_weight(target)
    both = weighted_bce(full[0], target, weight) + weighted_iou(full[0], target, weight)
    torch.testing.assert_close(losses.saliency_loss(full[0], target), both)


def test_gradients_of_the_losses():
    infrared, visible = pair(12, 10, batch=2)
    target = (noise(2, 1, 12, 10, seed=3) > 0.5).float()
    weight = structure_weight(target)
    terms = {
        "intensity": lambda x: losses.intensity_loss(x, infrared, visible),
        "texture": lambda x: losses.joint_gradient_loss(x, infrared, visible),
        "bce": lambda x: weighted_bce(x, target, weight),
        "iou": lambda x: weighted_iou(x, target, weight),
    }
    for name, term in terms.items():
        x = noise(2, 1, 12, 10, seed=5).requires_grad_()
        term(x).backward()
        assert torch.isfinite(x.grad).all(), name
        assert (x.grad != 0).float().mean() > 0.5, name
