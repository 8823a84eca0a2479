"""Training of IGNet, GeSeNet, DeFusion and MsgFusion: terms, masks, recipes, and a few steps of each."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from evalkit.data.card import load_card  # noqa: E402
from evalkit.data.pairs import find_pairs  # noqa: E402
from evalkit.data.samples.samples import write_scenes  # noqa: E402
from evalkit.errors import DataError, UnknownNameError  # noqa: E402
from evalkit.methods.fuse import make_fuser  # noqa: E402
from evalkit.methods.network import count_parameters  # noqa: E402
from evalkit.methods.networks.defusion import Decomposed  # noqa: E402
from evalkit.methods.registry import method_card  # noqa: E402
from evalkit.training.find_recipe import load_recipe  # noqa: E402
from evalkit.training.loop import train  # noqa: E402
from evalkit.training.papers import defusion, msgfusion  # noqa: E402
from evalkit.training.recipe import Recipe  # noqa: E402
from evalkit.training.system import Moment, build_system  # noqa: E402
from evalkit.training.terms import CommonWeights, common_terms, structural_similarity  # noqa: E402
from evalkit.training.trained import trained_method  # noqa: E402

TINY = {
    "IGNet": {"encoder": [8, 16, 16, 32], "ratio": 4, "cascade": [8, 4, 4]},
    "GeSeNet": {},
    "DeFusion": {"width": 2, "depth": 0.1},
    "MsgFusion": {"width": 4},
}
every_system = pytest.mark.parametrize("method", TINY)


def recipe(method: str, **changes) -> Recipe:
    fields = {
        "method": method,
        "name": "tiny",
        "source": "a test",
        "data": {"datasets": {"samples": None}},
        "augment": {"crop": 32},
        "network": TINY[method],
        "batch": 2,
        "steps": 2,
        "stages": [{"name": "fuse", "epochs": 1}],
        "optimiser": {"lr": 1e-3, "clip": 1.0},
    }
    return Recipe.model_validate(fields | changes)


def batch(size: int = 32, seed: int = 0):
    random = torch.Generator().manual_seed(seed)
    infrared, visible = torch.rand(2, 1, size, size, generator=random), torch.rand(2, 3, size, size, generator=random)
    return {"infrared": infrared, "visible": visible, "stems": ["1", "2"]}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(root, 3, seed=1, width=64, height=64)
    return root


@every_system
def test_a_few_steps_give_weights_that_fuse(method, scenes, tmp_path):
    result = train(recipe(method), scenes, tmp_path, device="cpu")
    assert result.steps == 2
    trained = trained_method(result.weights, method)
    fuser = make_fuser(method_card(method), files=[result.weights], device="cpu", trained=trained)
    pair = find_pairs(load_card("samples"), scenes).pairs[0]
    assert next(iter(fuser.fuse([pair]))).shape[:2] == (64, 64)


@every_system
def test_the_loss_falls_on_one_batch(method):
    torch.manual_seed(0)
    system = build_system(recipe(method)).train()
    optimiser = torch.optim.Adam(system.parameters(), 3e-3)
    losses = []
    for _ in range(12):
        torch.manual_seed(1)  # the same masks and noise again
        total = sum(system(batch(), Moment("fuse", step=40_000 * (method == "DeFusion"))).values())
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        losses.append(float(total.detach()))
    assert losses[-1] < 0.95 * losses[0]


@every_system
def test_unknown_options_are_named(method):
    with pytest.raises(UnknownNameError, match="colour"):
        build_system(recipe(method, loss={"colour": 1}))
    with pytest.raises(UnknownNameError, match="depths"):
        build_system(recipe(method, network={"depths": 1}))


@pytest.mark.parametrize("method", ["DeFusion", "MsgFusion"])
def test_the_paper_recipe_is_the_published_network(method):
    paper = load_recipe(method, "paper")
    assert count_parameters(build_system(paper).network) == method_card(method).parameters
    rate = paper.optimiser
    assert (rate.kind, rate.lr, rate.clip) == ("adam", 1e-3, None)
    expected = {"DeFusion": (10, 0.5, 51), "MsgFusion": (50, 0.1, 251)}[method]
    assert (rate.schedule.every, rate.schedule.factor, paper.stages[0].epochs) == expected


def test_common_terms_are_zero_where_all_three_agree():
    image = batch()["infrared"]
    assert all(abs(float(term)) < 1e-5 for term in common_terms(image, image, image, CommonWeights()).values())
    terms = common_terms(image, image, image.flip(3), CommonWeights(ssim=2))
    half = 1 - (1 + structural_similarity(image, image.flip(3))) / 2
    assert float(terms["ssim"]) == pytest.approx(2 * float(half), abs=1e-6)


def test_the_step_counts_over_stages(scenes, tmp_path, monkeypatch):
    seen = []
    forward = defusion.DeFusionSystem.forward

    def watched(system, samples, moment):
        seen.append((moment.stage, moment.step))
        return forward(system, samples, moment)

    monkeypatch.setattr(defusion.DeFusionSystem, "forward", watched)
    stages = [{"name": name, "epochs": 1} for name in ("first", "second")]
    train(recipe("DeFusion", stages=stages), scenes, tmp_path, device="cpu")
    assert seen == [("first", 0), ("first", 1), ("second", 2), ("second", 3)]


# --- DeFusion


def test_masks_cover_every_pixel_and_are_drawn_in_cells():
    torch.manual_seed(0)
    shares = []
    for _ in range(40):
        first, second = defusion.drawn_masks((52, 52))
        assert set(first.unique().tolist() + second.unique().tolist()) <= {0.0, 1.0}
        assert torch.maximum(first, second).min() == 1
        shares.append(float((first * second).mean()))
    assert min(shares) < 0.05 < 0.5 < max(shares)  # from hardly anything in common to most
    # an edge lies only where a cell of one of the grids ends: at multiples of 4 (13 cells) and 2 (26), or of 27 cells
    ends = {-(-52 * i // side) for side in (13, 26, 27) for i in range(side)}
    edges = {int(i) + 1 for i in (first[0].diff(dim=0).abs().sum(1) > 0).nonzero()}
    assert edges <= ends


def test_views_show_the_image_where_the_mask_is():
    torch.manual_seed(0)
    image = batch(40)["visible"]
    shown = defusion.views(image)
    for view, mask in ((shown.first, shown.first_mask), (shown.second, shown.second_mask)):
        torch.testing.assert_close(view * mask, image * mask)
        assert 0 <= view.min() <= view.max() <= 1
    assert not torch.equal(shown.first_mask[0], shown.first_mask[1])  # each image has its own


def test_jitter_keeps_the_range_and_darkens():
    torch.manual_seed(0)
    images = torch.rand(50, 3, 8, 8)
    changed = defusion.jittered(images)
    assert 0 <= changed.min() <= changed.max() <= 1
    assert changed.mean() < 0.7 * images.mean()
    assert changed.std((1, 2, 3)).mean() < 0.7 * images.std((1, 2, 3)).mean()


def test_the_schedule_of_the_losses():
    """A network that gives the image everywhere: wrong by what it shows outside the masks, from step 3000 on."""
    image = torch.full((2, 3, 4, 4), 0.5)
    mask = torch.zeros(2, 1, 4, 4)
    mask[..., :2] = 1
    shown = defusion.Views(image, image, mask, 1 - mask)
    output = Decomposed(torch.zeros_like(image), image, image, image)

    def terms(step):
        return {key: float(value) for key, value in defusion.decomposition_terms(output, image, shown, step).items()}

    assert terms(2999) == {"common": 0, "first": 0, "second": 0}
    # nothing is in common: .5 everywhere is wrong by leak * .5, in two images; each part is so in half of its pixels
    for step, leak in ((3500, 0.15 / 4), (7000, 0.15), (16_999, 0.15)):
        assert terms(step) == pytest.approx({"common": leak, "first": leak / 2, "second": leak / 2})
    assert terms(17_000)["fused"] == pytest.approx(0.5**2)  # two images, each wrong by .5
    assert terms(24_000)["fused"] == pytest.approx(1)
    assert terms(40_001)["common"] == pytest.approx(0.015)


# --- MsgFusion


def test_msgfusion_terms():
    torch.manual_seed(0)
    first, second = torch.rand(2, 2, 3, 24, 24)
    options = msgfusion.LossOptions()
    terms = msgfusion.fusion_terms(first, first, second, options)
    assert float(terms["square"]) == pytest.approx(0.1 * float((first - second).square().mean()), rel=1e-5)
    similarity = float(structural_similarity(first, second, border="none"))
    assert float(terms["ssim"]) == pytest.approx(0.4 * (1 - similarity), rel=1e-5)


def test_ssim_inside_the_image_is_that_of_its_middle():
    """Windows that lie inside see the same, whatever surrounds the image."""
    torch.manual_seed(0)
    x, y = torch.rand(2, 1, 1, 21, 23, dtype=torch.float64)
    window = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5) ** 2) / 4.5)
    kernel = (window.outer(window) / window.sum() ** 2)[None, None]
    mean = [torch.nn.functional.conv2d(v, kernel) for v in (x, y, x * x, y * y, x * y)]
    variances = mean[2] - mean[0] ** 2 + mean[3] - mean[1] ** 2
    expected = (2 * mean[0] * mean[1] + 1e-4) * (2 * (mean[4] - mean[0] * mean[1]) + 9e-4)
    expected = expected / (mean[0] ** 2 + mean[1] ** 2 + 1e-4) / (variances + 9e-4)
    assert float(structural_similarity(x, y, border="none")) == pytest.approx(float(expected.mean()), abs=1e-12)


def test_the_first_convolution_is_resnets_and_stays(tmp_path):
    torch.manual_seed(0)
    kernel = torch.rand(64, 3, 7, 7)
    torch.save({"conv1.weight": kernel, "fc.bias": torch.zeros(2)}, tmp_path / "resnet101-63fe2227.pth")
    paper = load_recipe("MsgFusion", "paper")
    system = build_system(paper)
    system.prepare(tmp_path)
    assert torch.equal(system.network.channels.conv1.weight, kernel)
    assert not system.network.channels.conv1.weight.requires_grad
    torch.save({"conv1.weight": kernel[:8]}, tmp_path / "resnet101-63fe2227.pth")
    with pytest.raises(DataError, match=r"no conv1\.weight"):
        system.prepare(tmp_path)
    with pytest.raises(DataError, match="--checkpoints"):
        system.prepare(None)


def test_settled_normalisation_keeps_its_statistics():
    torch.manual_seed(0)
    system = build_system(recipe("MsgFusion")).train()
    means = {key: value.clone() for key, value in system.network.state_dict().items() if key.endswith("running_mean")}
    system(batch(), Moment("settle"))
    assert all(torch.equal(system.network.state_dict()[key], value) for key, value in means.items())
    system.train()
    system(batch(), Moment("fuse"))
    assert not all(torch.equal(system.network.state_dict()[key], value) for key, value in means.items())
