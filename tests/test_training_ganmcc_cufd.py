"""GANMcC and CUFD: losses by hand, who learns from what, and what the small recipes reach."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

import evalkit  # noqa: E402
from evalkit.data.card import load_card  # noqa: E402
from evalkit.data.images import to_gray  # noqa: E402
from evalkit.data.pairs import find_pairs  # noqa: E402
from evalkit.data.samples.samples import draw_scenes  # noqa: E402
from evalkit.methods.classical import FUSERS  # noqa: E402
from evalkit.methods.fuse import make_fuser  # noqa: E402
from evalkit.methods.fusers import read_pair  # noqa: E402
from evalkit.methods.registry import method_card  # noqa: E402
from evalkit.training.find_recipe import load_recipe  # noqa: E402
from evalkit.training.loop import train  # noqa: E402
from evalkit.training.papers import cufd, ganmcc  # noqa: E402
from evalkit.training.system import Moment, build_system  # noqa: E402
from evalkit.training.trained import trained_method, training_scenes  # noqa: E402


def batch(size: int = 60) -> dict:
    torch.manual_seed(1)
    return {"infrared": torch.rand(2, 1, size, size), "visible": torch.rand(2, 3, size, size)}


def test_content_by_hand():
    fused, infrared, visible = (torch.full((1, 1, 5, 5), value) for value in (0.5, 0.0, 1.0))
    terms = ganmcc.content_losses(fused, infrared, visible, ganmcc.ContentOptions())
    assert terms["intensity"].item() == pytest.approx(100 * (0.25 + 0.4 * 0.25))
    # zeros around: 12 pixels at the edges differ by -.5, 4 in the corners by -1, the rest by nothing
    squares = (12 * 0.5**2 + 4 * 1) / 25
    assert terms["gradient"].item() == pytest.approx(100 * (5 + 4) * squares)


def test_labels_are_soft_and_no_fused_image_is_real():
    yes, no = torch.full((4000,), 0.95), torch.full((4000,), 0.15)
    right = ganmcc.discriminator_loss(torch.stack((yes, no), 1), torch.stack((no, yes), 1), torch.stack((no, no), 1))
    assert right.item() == pytest.approx(2 * 0.5**2 / 12 + 4 * 0.3**2 / 12, rel=0.1)  # variances of the labels
    wrong = ganmcc.discriminator_loss(torch.stack((no, yes), 1), torch.stack((yes, no), 1), torch.stack((yes, yes), 1))
    assert wrong.item() == pytest.approx(right.item() + 6 * 0.8**2, rel=0.05)
    assert ganmcc.adversarial_loss(torch.stack((yes, yes), 1)) < ganmcc.adversarial_loss(torch.stack((yes, no), 1))


def test_the_discriminator_has_the_published_sizes():
    judge = ganmcc.Discriminator()
    shapes = [tuple(p.shape) for name, p in judge.named_parameters() if "original" in name]
    assert shapes == [(32, 1, 3, 3), (64, 32, 3, 3), (128, 64, 3, 3), (256, 128, 3, 3), (2, 9216)]


@pytest.mark.parametrize(
    ("terms", "learns"),
    [(("discriminator",), "discriminator"), (("adversarial", "intensity", "gradient"), "generator")],
)
def test_each_network_learns_from_its_own_terms(terms, learns):
    torch.manual_seed(0)
    system = build_system(load_recipe("GANMcC", "small")).train()
    losses = system(batch(), Moment("both"))
    assert set(losses) == {"discriminator", "adversarial", "intensity", "gradient"}
    sum(losses[term] for term in terms).backward()
    moved = {name.split(".")[0] for name, p in system.network.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {learns}
    assert all(p.requires_grad for p in system.network.parameters())


def test_the_fusion_network_is_the_generator():
    recipe = load_recipe("GANMcC", "small")
    system = build_system(recipe)
    network = ganmcc.GANMcCSystem.method(recipe).build()
    network.load_state_dict(ganmcc.GANMcCSystem.fusion_state(system.network.state_dict()))


# --- CUFD


def test_common_parts_are_near_one_feature_and_each_other():
    visible, infrared = torch.full((1, 2, 4, 4), 0.2), torch.full((1, 2, 4, 4), 0.8)
    first, second = torch.full_like(visible, 0.3), torch.full_like(visible, 0.6)
    value = cufd.common_loss((first, second), (visible, infrared))
    assert value.item() == pytest.approx(0.1**2 + 0.2**2 + 4 * 0.3**2)


def test_decoded_gradients_are_to_be_half_as_strong_again():
    # one bright pixel in the middle, so that no border counts: the kernel's squares sum up to 1 + 8/64
    features = torch.zeros(1, 2, 5, 5)
    features[0, 0, 2, 2] = 1.0
    zeros = torch.zeros_like(features)
    same = cufd.pixel_loss((features, zeros), (features, zeros))
    assert same.item() == pytest.approx(18 * 0.5**2 * (1 + 8 / 64) / 25)
    swapped = cufd.pixel_loss((zeros, features * 2), (zeros, features))
    assert swapped.item() == pytest.approx((3 / 50) + 25 * 0.5**2 * (1 + 8 / 64) / 25)


def test_images_by_hand():
    terms = cufd.image_losses(torch.full((1, 1, 5, 5), 0.5), torch.zeros(1, 1, 5, 5))
    assert terms["intensity"].item() == pytest.approx(0.25)
    assert terms["gradient"].item() == pytest.approx(40 * (12 * 0.125**2 + 4 * 0.25**2) / 25)


@pytest.mark.parametrize(
    ("stage", "learns"), [("images", {"encoder", "decoder"}), ("features", {"decompose", "compose"})]
)
def test_each_stage_of_cufd_learns_its_part(stage, learns):
    torch.manual_seed(0)
    system = build_system(load_recipe("CUFD", "small")).train()
    sum(system(batch(24), Moment(stage)).values()).backward()
    moved = {name.split(".")[0] for name, p in system.network.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == learns
    before = system.network.encoder.deeper[0][0][1].running_mean
    assert not before.any()  # norms of images see no statistics


@pytest.mark.slow
@pytest.mark.parametrize("method", ["GANMcC", "CUFD"])
def test_the_small_recipe_fuses_other_scenes_better_than_the_average(tmp_path: Path, method: str) -> None:
    recipe = load_recipe(method, "small")
    result = train(recipe, training_scenes(tmp_path / "scenes"), tmp_path / "run", device="cpu", tell=print)
    losses = [loss for _, stage, loss in result.losses if stage == recipe.stages[-1].name]
    print(f"{method}: {result.steps} steps, {result.seconds:.0f} s, loss {losses[0]:.2f} to {losses[-1]:.2f}")
    assert losses[-1] < losses[0]
    root = draw_scenes(tmp_path / "others", 8, 7, 320, 240)
    pairs = find_pairs(load_card("samples"), root).pairs
    network = trained_method(result.weights, method)
    fuser = make_fuser(method_card(method), files=[result.weights], device="cpu", trained=network)
    means = {row: dict.fromkeys(("SF", "Qabf", "SCD"), 0.0) for row in ("trained", "average")}
    for pair, fused in zip(pairs, fuser.fuse(pairs), strict=True):
        infrared, visible = (to_gray(image) for image in read_pair(pair))
        for row, image in (("trained", to_gray(fused)), ("average", FUSERS["average"](infrared, visible))):
            values = evalkit.evaluate(image, infrared, visible, metrics=list(means[row]), convention="tang")
            for name, value in values.items():
                means[row][name.split("[")[0]] += value / len(pairs)
    print(means)
    assert [name for name, value in means["average"].items() if means["trained"][name] <= value] == []
