"""The losses of S4Fusion: by hand, and what each of them reaches."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tensors import noise  # noqa: E402
from torch import nn  # noqa: E402

from evalkit.training.papers import s4fusion as losses  # noqa: E402

# --- loss terms


class ToyResNet(nn.Module):
    """The parts of a ResNet in their order, with next to nothing in them."""

    def __init__(self, classes: int = 7) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(2)
        self.layer1, self.layer2, self.layer3, self.layer4 = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(4))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4, classes)


def sobel_by_hand(image: np.ndarray) -> np.ndarray:
    p = np.pad(image, 1)
    h, w = image.shape
    out = np.zeros((h, w))
    for i in range(h):
        for j in range(w):
            q = p[i : i + 3, j : j + 3]
            across = q[0, 0] + 2 * q[1, 0] + q[2, 0] - q[0, 2] - 2 * q[1, 2] - q[2, 2]
            down = q[0, 0] + 2 * q[0, 1] + q[0, 2] - q[2, 0] - 2 * q[2, 1] - q[2, 2]
            out[i, j] = abs(across) + abs(down)
    return out


def test_perception_loss_is_the_entropy():
    assert float(losses.perception_loss(torch.zeros(3, 1000))) == pytest.approx(math.log(1000), abs=1e-4)  # 6.9078
    sure = torch.zeros(1, 1000)
    sure[0, 3] = 100
    assert abs(float(losses.perception_loss(sure))) < 1e-4
    p = np.array([0.5, 0.3, 0.2])
    scores = torch.tensor(np.log(np.stack((p, [1 / 3] * 3))))
    expected = (-(p * np.log(p)).sum() + math.log(3)) / 2
    assert float(losses.perception_loss(scores)) == pytest.approx(expected, abs=1e-7)


def test_perception_loss_reaches_the_image_and_not_the_critic():
    torch.manual_seed(0)
    critic = losses.Critic(ToyResNet()).train()
    assert not any(module.training for module in critic.modules())
    before = {key: value.clone() for key, value in critic.state_dict().items()}
    fused = noise(2, 1, 32, 32).requires_grad_()
    losses.perception_loss(critic(fused)).backward()
    assert fused.grad.any()
    assert all(p.grad is None for p in critic.parameters())
    assert all(torch.equal(value, before[key]) for key, value in critic.state_dict().items())


def test_critic_sees_three_normalised_channels():
    torch.manual_seed(0)
    resnet = ToyResNet().eval()
    image = noise(2, 1, 32, 32)
    seen = {}
    resnet.conv1.register_forward_pre_hook(lambda _, args: seen.update(x=args[0]))
    losses.Critic(resnet).features(image)
    torch.testing.assert_close(seen["x"][:, 2:], (image - 0.406) / 0.225)
    features = losses.Critic(resnet, normalised=False).features(image)
    assert torch.equal(seen["x"], image.repeat(1, 3, 1, 1))
    assert [tuple(f.shape) for f in features] == [(2, 4, 8, 8)] * 4


def test_information_and_weights():
    maps = [noise(2, 3, 5, 6), noise(2, 4, 3, 3, seed=1)]
    expected = [np.mean([np.mean([sobel_by_hand(c) ** 2 for c in m[i].numpy()]) for m in maps]) for i in range(2)]
    found = losses.information(maps)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    a, b = torch.tensor([3.0, 1.0], requires_grad=True), torch.tensor([1.0, 1.0])
    first, second = losses.information_weights(a, b, 2.0)
    torch.testing.assert_close(first, torch.tensor([1 / (1 + math.exp(-1)), 0.5]))
    torch.testing.assert_close(first + second, torch.ones(2))
    assert not first.requires_grad
    assert losses.information_scale(a, b).item() == 1.0
    torch.testing.assert_close(losses.information_weights(a, b, 1e9)[0], torch.full((2,), 0.5))


def test_intensity_loss_by_hand():
    fused, infrared, visible = torch.full((2, 1, 2, 2), 0.5), torch.zeros(2, 1, 2, 2), torch.ones(2, 1, 2, 2) * 0.8
    weights = torch.tensor([0.25, 1.0]), torch.tensor([0.75, 0.0])
    # (.25 * .5 + .75 * .3 + 1 * .5) / 2
    assert float(losses.intensity_loss(fused, infrared, visible, weights)) == pytest.approx(0.425)


def test_structure_loss():
    a, b = noise(2, 1, 20, 24), noise(2, 1, 20, 24, seed=1)
    one, none = torch.ones(2), torch.zeros(2)
    assert float(losses.structure_loss(a, a, b, (one, none))) == pytest.approx(0, abs=1e-6)
    # constant images: SSIM = (2 * .2 * .6 + 1e-4) / (.2² + .6² + 1e-4)
    dark, bright = (torch.full((1, 1, 16, 16), value, dtype=torch.float64) for value in (0.2, 0.6))
    expected = (1 - (0.24 + 1e-4) / (0.4 + 1e-4)) / 2
    found = losses.structure_loss(dark, bright, dark, (torch.ones(1), torch.zeros(1)))
    assert float(found) == pytest.approx(expected, abs=1e-9)
    both = losses.structure_loss(a, b, b, (torch.tensor([0.3, 0.3]), torch.tensor([0.7, 0.7])))
    assert float(both) == pytest.approx(float(losses.structure_loss(a, b, a, (one, none))), rel=1e-5)


def test_gradient_loss_by_hand():
    f, i, v = (noise(1, 1, 5, 6, seed=seed) for seed in range(3))
    s = [sobel_by_hand(x[0, 0].numpy()) for x in (f, i, v)]
    expected = np.abs(s[0] - np.maximum(s[1], s[2])).mean()
    assert float(losses.joint_gradient_loss(f, i, v)) == pytest.approx(expected, rel=1e-5)


def test_total_loss_is_equation_5():
    torch.manual_seed(0)
    f, i, v = (noise(2, 1, 16, 16, seed=seed) for seed in range(3))
    f.requires_grad_()
    weights = torch.tensor([0.3, 0.6]), torch.tensor([0.7, 0.4])
    scores = losses.Critic(ToyResNet())(f)
    terms = losses.loss_terms(f, i, v, weights, scores)
    assert set(terms) == {"perception", "intensity", "structure", "gradient"}
    assert terms["intensity"].item() == pytest.approx(15 * losses.intensity_loss(f, i, v, weights).item())
    assert terms["structure"].item() == pytest.approx(15 * losses.structure_loss(f, i, v, weights).item())
    assert terms["gradient"].item() == pytest.approx(15 * losses.joint_gradient_loss(f, i, v).item())
    total = losses.loss(f, i, v, weights, scores)
    assert total.item() == pytest.approx(sum(term.item() for term in terms.values()))
    for name, term in terms.items():
        (gradient,) = torch.autograd.grad(term, f, retain_graph=True)
        assert gradient.any(), name
        assert torch.isfinite(gradient).all()
    without = losses.loss_terms(f, i, v, weights, options=losses.LossOptions(perception=0))
    assert set(without) == {"intensity", "structure", "gradient"}
    with pytest.raises(ValueError, match="scores"):
        losses.loss_terms(f, i, v, weights)
