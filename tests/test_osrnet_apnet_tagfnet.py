"""OSRNet and APNet, equal to the published networks; TAGFNet, after its paper's abstract; SGDL's features."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")
from salient import check_card, check_maps, check_published_values, check_small, golden, image, published  # noqa: E402
from vectors import BOUND, torch_values  # noqa: E402

from evalkit.errors import CheckpointError, DataError  # noqa: E402
from evalkit.methods.checkpoints import load_strictly  # noqa: E402
from evalkit.methods.complexity import complexity  # noqa: E402
from evalkit.methods.layers.vgg import VGGEncoder, imagenet_vgg_state, over_2x2  # noqa: E402
from evalkit.methods.network import count_parameters  # noqa: E402
from evalkit.methods.saliency.registry import SALIENCY_SYSTEMS  # noqa: E402
from evalkit.methods.saliency.systems import apnet, osrnet, sgdl_fcn, tagfnet  # noqa: E402
from evalkit.training.find_recipe import load_recipe  # noqa: E402
from evalkit.training.papers.osrnet import OSRNetSystem  # noqa: E402
from evalkit.training.system import build_system  # noqa: E402
from evalkit.training.terms import overlap_loss  # noqa: E402

NETWORKS: dict[str, Callable[[], torch.nn.Module]] = {
    "OSRNet": partial(osrnet.OSRNet, 8, 16),
    "APNet": partial(apnet.APNet, 8, 16),
    "TAGFNet": partial(tagfnet.TAGFNet, 8, 16),
}


# --- the published networks


@pytest.mark.parametrize("name", ["OSRNet", "APNet"])
def test_the_published_networks_values_come_out(name: str) -> None:
    """All outputs; OSRNet in float64, because one of its maps varies too little for float32."""
    check_published_values(name, double=name == "OSRNet")


def test_the_map_that_osrnet_answers_is_the_published_one_in_float32_too() -> None:
    measured = golden("OSRNet")
    network = osrnet.OSRNet().eval()
    filled = {key: torch.from_numpy(torch_values(key, tuple(shape))) for key, shape in measured["keys"].items()}
    load_strictly(network, osrnet.convert(filled, Path("OSRNet.pth")), "OSRNet.pth")
    with torch.no_grad():
        answer = network(*(image(role, *measured["size"]) for role in ("visible", "thermal"))).flatten().numpy()
    expected = measured["outputs"][0]
    assert np.abs(answer[expected["places"]] - expected["values"]).max() < BOUND * expected["deviation"]


@pytest.mark.parametrize("name", ["OSRNet", "APNet"])
def test_weights_of_another_network_are_refused(name: str) -> None:
    method = published(name)
    assert method.convert is not None
    with torch.device("meta"):
        network = method.build()
    state = {key: torch.zeros(shape) for key, shape in golden(name)["keys"].items()}
    first, *_ = state
    with pytest.raises(CheckpointError, match="missing"):
        load_strictly(network, method.convert({k: v for k, v in state.items() if k != first}, Path(name)), name)
    with pytest.raises(CheckpointError, match="left over"):
        load_strictly(network, method.convert(state | {"vgg.conv6.weight": torch.zeros(1)}, Path(name)), name)


# --- what holds for all


@pytest.mark.parametrize("name", [*NETWORKS, "SGDL"])
def test_the_card_counts_the_network(name: str) -> None:
    check_card(name)


@pytest.mark.parametrize(("name", "expected"), [("OSRNet", 41.74), ("APNet", 45.79), ("TAGFNet", 132.64)])
def test_multiply_adds(name: str, expected: float) -> None:
    side = SALIENCY_SYSTEMS[name].card.size
    assert side is not None
    assert complexity(published(name), side, side).multiply_adds / 1e9 == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("name", NETWORKS)
def test_maps_have_the_size_of_the_pair(name: str) -> None:
    check_maps(name, NETWORKS[name]())


@pytest.mark.parametrize("name", NETWORKS)
def test_scores_have_the_images_size_and_every_weight_learns(name: str) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]()
    shape = (2, 3, 45, 38) if name == "TAGFNet" else (2, 3, 48, 32)
    scores = network.scores(torch.randn(shape), torch.randn(shape))
    assert {m.shape for m in scores} == {(2, 1, *shape[2:])}
    sum((m * torch.randn_like(m)).sum() for m in scores).backward()
    still = {key for key, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    if name == "APNet":  # nothing is put through one step; a ReLU of 0 stops all but the last bias of channels' weights
        still = {key for key in still if ".unused." not in key}
        keys = {key for key, _ in network.named_parameters()}
        assert still == {key for key in keys if ".channel." in key and not key.endswith(".3.bias")}
    else:
        assert not still


# --- parts


def test_channels_of_apnet_weigh_the_same_whatever_the_image() -> None:
    torch.manual_seed(0)
    block = apnet.GuidedOptimisation(8, (5, 3), guided=False)
    first, second = block.channel(torch.randn(2, 8, 1, 1))
    assert torch.equal(first, second)


def test_apnet_weighs_maps_by_how_sure_they_are() -> None:
    faint, sure = torch.full((1, 1, 4, 4), 0.1), torch.full((1, 1, 4, 4), -9.0)
    expected = 0.1 * torch.sigmoid(torch.tensor(0.1)) - 9 * torch.sigmoid(torch.tensor(9.0))
    assert apnet.weigh_maps(faint, sure)[0, 0, 0, 0] == pytest.approx(expected.item())


def test_thermal_features_reach_a_dark_visible_stream() -> None:
    torch.manual_seed(0)
    guide = tagfnet.ThermalGuide(8)
    dark, thermal = torch.zeros(1, 8, 5, 6), torch.randn(1, 8, 5, 6)
    assert torch.equal(guide(dark, thermal), guide.add(thermal))
    assert not torch.equal(guide(dark + 1, thermal), guide.add(thermal) + 1)


def test_vgg_has_the_places_of_the_published_weights() -> None:
    plain, normed = VGGEncoder(), VGGEncoder(norm=13, pool=over_2x2)
    assert count_parameters(plain) == 14_714_688  # VGG16's convolutions
    assert (plain.places[-1][-1], normed.places[-1][-1]) == ("28", "40")
    assert [tuple(map(int, stage)) for stage in normed.places] == list(osrnet.PLACES)
    assert isinstance(normed.features["41"], torch.nn.BatchNorm2d)
    state = plain.state_dict() | {"classifier.0.weight": torch.zeros(1)}
    load_strictly(VGGEncoder(), imagenet_vgg_state(state, Path("vgg16")), "vgg16")
    sizes = [tuple(x.shape[1:]) for x in VGGEncoder(4, channels_in=4, pool=over_2x2)(torch.zeros(1, 4, 33, 50))]
    assert sizes == [(4, 33, 50), (8, 16, 25), (16, 8, 12), (32, 4, 6), (32, 2, 3)]


def test_features_of_fcn_are_those_of_an_image_among_zeros() -> None:
    torch.manual_seed(0)
    network = sgdl_fcn.PooledFeatures(1).eval()
    images = torch.rand(2, 1, 3, 500, 500)
    with torch.no_grad():
        rows = network(*images)
        around = torch.nn.functional.pad(images[1], [99] * 4)
        first = network.encoder.stage(0, around)
    assert rows.shape == (1, 2, 1, 8 * 16 * 16 + 247 * 247)
    coarse, fine = sgdl_fcn.feature_maps(rows[0, 1, 0].numpy())
    assert (coarse.shape, fine.shape) == ((16, 16, 8), (247, 247, 1))
    assert np.array_equal(fine[..., 0], torch.nn.functional.max_pool2d(first, 2)[0, 0, 51:298, 51:298].numpy())
    assert network.pool(torch.zeros(1, 1, 175, 349)).shape == (1, 1, 88, 175)


def test_fcn_is_read_by_the_names_of_caffe_without_its_classes() -> None:
    names = [f"conv{stage}_{i}" for stage, count in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, count + 1)]
    own = sgdl_fcn.PooledFeatures(1).state_dict()
    convolutions = [key.rpartition(".")[0] for key in own if key.endswith(".weight")]
    published = {
        f"{theirs}.{kind}": own[f"{ours}.{kind}"] + 1
        for theirs, ours in zip(names, convolutions, strict=True)
        for kind in ("weight", "bias")
    }
    state = sgdl_fcn.convert(published | {"fc6.weight": torch.zeros(2), "upscore.weight": torch.zeros(3)}, Path("fcn"))
    assert all(torch.equal(value, own[key] + 1) for key, value in state.items())
    load_strictly(sgdl_fcn.PooledFeatures(1), state, "fcn")
    with pytest.raises(CheckpointError, match="left over"):
        load_strictly(sgdl_fcn.PooledFeatures(1), sgdl_fcn.convert(published | {"x.y": torch.zeros(1)}, Path("f")), "f")


def test_sgdl_makes_maps_of_its_networks_features() -> None:
    """Both images alike all over but for the thermal features of an object, which is found."""
    rng = np.random.default_rng(0)
    visible, infrared = rng.integers(80, 100, (48, 64, 3), np.uint8), rng.integers(80, 100, (48, 64), np.uint8)
    coarse, fine = torch.zeros(2, 8, 16, 16), torch.zeros(2, 1, 247, 247)
    coarse[1, :, 5:11, 5:11] = 1
    fine[1, :, 82:175, 77:170] = 1
    output = torch.cat((coarse.flatten(1), fine.flatten(1)), dim=1)[:, None]
    made = sgdl_fcn.NETWORK.finish(output, infrared, visible)
    found = np.s_[16:34, 20:44]
    assert (made.shape, made.dtype) == ((48, 64), np.uint8)
    assert made[found].mean() > made.mean() + 80
    first, second = sgdl_fcn.FEED(infrared, visible)
    assert first.shape == second.shape == (3, 500, 500)


# --- training


def test_overlap_of_maps() -> None:
    target = torch.zeros(2, 1, 4, 4)
    target[0, 0, :2] = 1
    assert overlap_loss(target, target) == 0
    assert overlap_loss(1 - target, target) == 1
    half = torch.where(torch.arange(4) < 2, target, 0.0)
    assert overlap_loss(half, target) == pytest.approx(0.25)  # half of the first label's pixels; the second is empty


def test_osrnet_begins_with_vgg_but_for_the_first_convolution() -> None:
    torch.manual_seed(0)
    plain = VGGEncoder()
    state = OSRNetSystem.encoder_state(plain.state_dict() | {"classifier.6.bias": torch.zeros(3)}, Path("vgg16.pth"))
    encoder = osrnet.OSRNet().encoder
    load_strictly(encoder, state, "vgg16.pth")
    assert torch.equal(encoder.features["3"].weight, plain.features["2"].weight)
    assert torch.equal(encoder.features["40"].bias, plain.features["28"].bias)
    assert encoder.features["0"].weight.shape == (64, 12, 3, 3)
    with pytest.raises(CheckpointError, match="missing"):
        OSRNetSystem.encoder_state({"features.2.weight": plain.features["2"].weight}, Path("vgg16.pth"))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_paper_recipe_asks_for_its_encoders_weights(name: str) -> None:
    recipe = load_recipe(name, "paper")
    tiny = recipe.model_copy(update={"network": {"width": 4, "channels": 16}})
    with pytest.raises(DataError, match="--checkpoints DIR"):
        build_system(tiny).prepare(None)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_the_small_recipe_beats_constant_maps_and_the_luminance(name: str, tmp_path: Path) -> None:
    """Prints what docs/training.md quotes: pytest -m slow -s tests/test_osrnet_apnet_tagfnet.py"""
    check_small(name, tmp_path)
