"""The losses of TSJNet: by hand, and what each of them reaches."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from functools import partial  # noqa: E402

import tensors  # noqa: E402
from tensors import noise, pair  # noqa: E402
from torch import nn  # noqa: E402

from evalkit.methods.networks.tsjnet import Outputs, Sizes, TSJNet  # noqa: E402
from evalkit.training.papers import tsjnet as losses  # noqa: E402
from evalkit.training.terms import check_labels, freeze, structural_similarity  # noqa: E402

normal = partial(tensors.normal, dtype=torch.float64)

TINY = Sizes(stem=(8, 8, 16), planes=8, width=16, depths=(1, 1), heads=1)


# losses


def test_diversity_of_known_maps():
    one_hot = torch.zeros(2, 8, 3, 4)
    one_hot[:, 2] = 1
    cases = {"one-hot": (one_hot, 1 / 8), "zero": (torch.zeros(1, 8, 2, 2), 1), "one": (torch.ones(1, 8, 2, 2), 1)}
    for maps, expected in cases.values():
        assert losses.diversity_loss(maps).item() == pytest.approx(expected)
    assert losses.diversity_loss(torch.zeros(1, 8, 2, 2), printed_sign=True).item() == -1  # what makes it a bad loss
    mixed = torch.tensor([[[[0.5, 0.2]], [[0.1, 0.8]]]])
    assert losses.diversity_loss(mixed).item() == pytest.approx((0.5 + 0.2) / 2 + 1.6 / 4)
    assert losses.diversity_loss(mixed, printed_sign=True).item() == pytest.approx(-(0.5 + 0.2) / 2 + 1.6 / 4)


def test_intensity_gradient_and_reconstruction_by_hand():
    fused, infrared, visible = (torch.full((1, 1, 6, 6), v) for v in (0.5, 0.7, 0.2))
    assert losses.intensity_loss(fused, infrared, visible).item() == pytest.approx(0.2)
    assert losses.reconstruction_loss(fused, visible).item() == pytest.approx(0.09)
    edge, flat = torch.zeros(1, 1, 5, 6), torch.zeros(1, 1, 5, 6)
    edge[..., 2, 3] = 1  # |Sobel| of a dot: four neighbours with 2, four corners with 1 + 1
    assert losses.joint_gradient_loss(flat, edge, flat).item() == pytest.approx(16 / 30)
    assert losses.joint_gradient_loss(edge, edge, flat).item() == 0
    assert losses.gradient_shares(edge, flat).item() == pytest.approx(1, abs=1e-6)
    assert losses.gradient_shares(flat, flat).item() == pytest.approx(0.5)
    assert losses.gradient_shares(edge, 3 * edge).item() == pytest.approx(0.25)


def test_ssim_loss():
    infrared, visible = pair(20, 24)
    assert losses.ssim_loss(infrared, infrared, infrared).item() == pytest.approx(0, abs=1e-6)
    between = structural_similarity(infrared, visible, border="zeros")
    assert losses.ssim_loss(infrared, infrared, visible).item() == pytest.approx((1 - between.item()) / 2, abs=1e-6)
    assert losses.ssim_loss(infrared, infrared, visible, 0.9).item() == pytest.approx(
        0.1 * (1 - between.item()), abs=1e-6
    )


@pytest.mark.parametrize("preset", losses.PRESETS)
def test_fusion_terms_follow_the_preset(preset):
    infrared, visible = pair(20, 24)
    outputs = Outputs(*(noise(1, 1, 20, 24, seed=s) for s in (2, 3, 4)), noise(1, 8, 20, 24, seed=5))
    terms = losses.fusion_terms(outputs, infrared, visible, losses.PRESETS[preset])
    plain = {
        "diversity": 0.1 * losses.diversity_loss(outputs.attention),
        "infrared": {"paper": 6, "code": 1}[preset] * (infrared - outputs.infrared).square().mean(),
        "visible": {"paper": 1, "code": 6}[preset] * (visible - outputs.visible).square().mean(),
    }
    if preset == "paper":
        plain["ssim"] = losses.ssim_loss(outputs.fused, infrared, visible)
    else:
        share = losses.gradient_shares(infrared, visible)
        plain["ssim"] = 10 * losses.ssim_loss(outputs.fused, infrared, visible, share)
        plain["intensity"] = 20 * losses.intensity_loss(outputs.fused, infrared, visible)
        plain["gradient"] = 20 * losses.joint_gradient_loss(outputs.fused, infrared, visible)
    assert {k: v.item() for k, v in terms.items()} == pytest.approx({k: v.item() for k, v in plain.items()})


@pytest.mark.parametrize("name", ["intensity", "gradient", "ssim", "diversity", "infrared", "visible"])
def test_every_fusion_term_reaches_its_own_output(name):
    infrared, visible = pair(20, 24)
    leaves = [noise(1, c, 20, 24, seed=s).requires_grad_() for s, c in enumerate((1, 1, 1, 8), 2)]
    term = losses.fusion_terms(Outputs(*leaves), infrared, visible, losses.PRESETS["code"])[name]
    grads = torch.autograd.grad(term, leaves, allow_unused=True)
    reached = {field for field, g in zip(Outputs._fields, grads, strict=True) if g is not None and g.any()}
    assert reached == {{"diversity": "attention", "infrared": "infrared", "visible": "visible"}.get(name, "fused")}


def test_box_loss_counts_objects_only():
    predicted = torch.tensor([[1.0, 2, 3, 4], [5, 5, 5, 5], [0, 0, 0, 0]], requires_grad=True)
    target = torch.tensor([[1.0, 0, 3, 5], [0, 0, 0, 0], [1, 1, 1, 1]])
    loss = losses.box_loss(torch.tensor([2, 0, 1]), predicted, target)
    assert loss.item() == pytest.approx((3 + 4) / 3)
    loss.backward()
    assert torch.equal(predicted.grad.abs() > 0, torch.tensor([[0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]]).bool())
    assert losses.box_loss(torch.zeros(3), predicted, target).item() == 0
    assert losses.box_loss(torch.zeros(0), predicted[:0], target[:0]).item() == 0


class Critic(nn.Module):
    """A tiny detector or segmenter with normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, channels, 1))

    def forward(self, image):
        return self.layers(image)


def test_detection_reaches_the_fused_image_only():
    critic = freeze(Critic(4).train())
    images = [noise(2, 1, 8, 8, seed=s) for s in range(2)]
    fused = noise(2, 1, 8, 8, seed=3).requires_grad_()

    def found(image):
        boxes = critic(image).mean((2, 3))
        regression = losses.box_loss(torch.ones(2), boxes, torch.zeros(2, 4))
        parts = {"loss_box_reg": regression, "loss_objectness": boxes.square().mean()}
        return parts | {"loss_rpn_box_reg": boxes.abs().mean(), "loss_classifier": boxes.sum() * 1e6}

    kinds = [found(image) for image in (*images, fused)]
    sums = [losses.detector_loss(parts) for parts in kinds]
    assert sums[0].item() == pytest.approx(sum(v.item() for k, v in kinds[0].items() if k != "loss_classifier"))
    assert losses.detector_loss(kinds[0], ("loss_box_reg",)).item() == kinds[0]["loss_box_reg"].item()
    assert not sums[0].requires_grad  # those of the sources are constants to the fusion network
    assert not sums[1].requires_grad
    total = losses.detection_loss(*sums)
    assert total.item() == pytest.approx(sum(s.item() for s in sums))
    total.backward()
    assert fused.grad.abs().sum() > 0


def test_segmentation_loss():
    logits = torch.zeros(1, 9, 2, 2, requires_grad=True)
    labels = torch.tensor([[[0, 8], [3, 1]]])
    loss = losses.segmentation_loss(logits, labels)
    assert loss.item() == pytest.approx(np.log(9))
    loss.backward()
    assert logits.grad[0, 8, 0, 1].item() == pytest.approx((1 / 9 - 1) / 4)
    by_hand = normal(2, 3, 4, 5)
    classes = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (2, 4, 5)))
    picked = by_hand.softmax(1).gather(1, classes[:, None]).log()
    assert losses.segmentation_loss(by_hand, classes).item() == pytest.approx(-picked.mean().item())
    with pytest.raises(ValueError, match="integers"):
        losses.segmentation_loss(logits, labels / 255)


def test_labels_read_as_an_image_are_refused():
    labels = torch.tensor([[[0, 8], [3, 1]]])
    check_labels(labels, 9)
    for wrong, message in (
        (labels / 255, "integers"),
        ((labels / 255).long(), "whole batch"),
        (labels, r"0\.\.7"),
        (labels - 1, "-1"),
    ):
        with pytest.raises(ValueError, match=message):
            check_labels(wrong, 8 if message == r"0\.\.7" else 9)


def test_frozen_critics_stay_as_they_are():
    torch.manual_seed(0)
    network, critic = TSJNet(TINY).train(), Critic(9).train()
    freeze(critic)
    assert critic.training  # a detector gives its losses in this mode only
    assert not critic.layers[1].training
    before = {k: v.clone() for k, v in critic.state_dict().items()}
    weights = {k: v.clone() for k, v in network.state_dict().items()}
    optimiser = torch.optim.Adam([*network.parameters(), *critic.parameters()], 1e-3, weight_decay=0.01)
    infrared, visible = pair(56, 56, batch=2)
    outputs = network.outputs(infrared, visible)
    labels = torch.randint(0, 9, (2, 56, 56))
    fusion = torch.stack(list(losses.fusion_terms(outputs, infrared, visible, losses.PRESETS["code"]).values())).sum()
    losses.total_loss(fusion, None, losses.segmentation_loss(critic(outputs.fused), labels)).backward()
    optimiser.step()
    assert all(torch.equal(before[k], v) for k, v in critic.state_dict().items())
    assert not torch.equal(weights["encoder.embed.weight"], network.state_dict()["encoder.embed.weight"])


def test_a_few_steps_lower_the_fusion_loss():
    torch.manual_seed(0)
    network = TSJNet(TINY).train()
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    infrared, visible = pair(56, 56, batch=2)
    values = []
    for _ in range(5):
        terms = losses.fusion_terms(network.outputs(infrared, visible), infrared, visible, losses.PRESETS["code"])
        total = torch.stack(list(terms.values())).sum()
        optimiser.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1)
        optimiser.step()
        values.append(total.item())
    assert values[-1] < 0.95 * values[0]
