"""GMNet, EGFNet, LASNet and MDRNet against the published networks, and by themselves; and what their heads learn."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from vectors import BOUND, arrays, difference, filled

torch = pytest.importorskip("torch")

from evalkit.downstream.segmentation.cost import segmenter_cost  # noqa: E402
from evalkit.downstream.segmentation.networks import SEGMENTERS, segmenter  # noqa: E402
from evalkit.downstream.segmentation.pixels import IGNORE  # noqa: E402
from evalkit.downstream.segmentation.ranger import Ranger  # noqa: E402
from evalkit.downstream.segmentation.recipe import small_schedule  # noqa: E402
from evalkit.downstream.segmentation.supervision import boundaries, entropy, lovasz, objects  # noqa: E402
from evalkit.downstream.segmentation.system import SegmentationSystem, imagenet_pair  # noqa: E402
from evalkit.downstream.segmentation.systems.egfnet import edge_map  # noqa: E402
from evalkit.downstream.segmentation.systems.mdrnet import MDRNet  # noqa: E402
from evalkit.errors import CheckpointError, EvalkitError  # noqa: E402
from evalkit.methods.checkpoints import load_strictly  # noqa: E402
from evalkit.methods.network import count_parameters  # noqa: E402
from evalkit.methods.states import read_state, to_state  # noqa: E402

NAMES = ("GMNet", "EGFNet", "LASNet", "MDRNet")
REDUCED = {"width": 16, "blocks": (1, 1, 1, 1)}  # of the same form, and quick
Network = torch.nn.Module


def system_of(name: str) -> SegmentationSystem:
    made = segmenter(name).network
    assert made is not None
    return made()


# --- the published networks, filled -----------------------------------------------------------------------------------


def published(name: str) -> Network:
    """Our network with the published tensors, filled, by the loader of the published file."""
    network, vectors = system_of(name).build(9).eval(), name.lower()
    state = {key: torch.from_numpy(value) for key, value in filled(vectors).items()}
    load_strictly(network, system_of(name).convert(state, Path("filled")), "filled")
    return network


def watch(network: Network, parts: Sequence[str]) -> dict[str, list]:
    """Part -> what each of its calls gave, filled when the network runs."""
    seen: dict[str, list] = {part: [] for part in parts}

    def keep(part: str) -> Callable:
        return lambda module, given, output: seen[part].append(output)

    for part in parts:
        network.get_submodule(part).register_forward_hook(keep(part))
    return seen


def means(x: torch.Tensor) -> NDArray:
    return x.mean(dim=(2, 3)).numpy()


def differences(given: dict[str, NDArray], ours: dict[int, NDArray]) -> dict[int, float]:
    """Output -> how far ours is from the published one, at the pixels that are kept; all of them must be there."""
    assert sorted(ours) == list(range(len(ours)))
    assert len(ours) == sum(key.startswith("out_") for key in given)
    found = {}
    for i, value in ours.items():
        kept = given[f"out_{i}"]
        if value.ndim == 4:
            value = value[:, :, :: value.shape[2] // kept.shape[2], :: value.shape[3] // kept.shape[3]]
        found[i] = difference(value, kept)
    print({i: f"{value:.1e}" for i, value in found.items()})
    return found


def test_gmnet_is_the_published_network() -> None:
    given = arrays("gmnet")
    network = published("GMNet")
    parts = (
        "fuse3",
        "outer3",
        "fuse1",
        "outer1",
        "decoder5",
        "decoder2",
        "shallow1",
        "shallow2",
        "binary2",
        "boundary1",
    )
    seen = watch(network, parts)
    with torch.inference_mode():
        outputs = network(torch.from_numpy(given["in_0"]), torch.from_numpy(given["in_1"]))
    doubled = torch.nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
    for part in ("decoder5", "decoder2"):  # published as units that double
        seen[part] = [doubled(x) for x in seen[part]]
    ours = dict(enumerate(x.numpy() for x in outputs))
    found = differences(given, ours | {i: means(seen[part][0]) for i, part in enumerate(parts, 3)})
    assert max(found.values()) <= BOUND


def test_egfnet_is_the_published_network() -> None:
    """In float64: in float32 one boundary head is 3.0e-5 apart, as the products of features make the range grow."""
    given = arrays("egfnet")
    network = published("EGFNet").double()
    seen = watch(network, ("reduce.4", "fusions.4", "fusions.0", "context", "enhance"))
    visible, infrared, edges = (torch.from_numpy(given[f"in_{i}"]).double() for i in range(3))
    with torch.inference_mode():
        outputs = network(visible, infrared, edges[:, None])
    (semantic, fused), (_, first) = seen["fusions.4"][0], seen["fusions.0"][0]
    inside = [*(means(x) for x in seen["reduce.4"]), semantic.numpy(), means(fused), means(first)]
    inside += [means(seen[part][0]) for part in ("context", "enhance")]
    ours = dict(enumerate([x.numpy() for x in outputs] + inside))
    assert max(differences(given, ours).values()) <= BOUND


def test_lasnet_is_the_published_network() -> None:
    given = arrays("lasnet")
    network = published("LASNet")
    seen = watch(network, ("reduce.4", "locate", "activate4", "activate2", "sharpen"))
    with torch.inference_mode():
        outputs = network(torch.from_numpy(given["in_0"]), torch.from_numpy(given["in_1"]))
    located, objects_ = seen["locate"][0]
    inside = [*(means(x) for x in seen["reduce.4"]), means(located), objects_.numpy()]
    inside += [means(seen["activate4"][0]), means(seen["activate2"][0]), means(seen["sharpen"][0][0])]
    ours = dict(enumerate([x.numpy() for x in outputs] + inside))
    assert max(differences(given, ours).values()) <= BOUND


def test_mdrnet_is_the_published_network() -> None:
    given = arrays("mdrnet")
    network = published("MDRNet")
    assert isinstance(network, MDRNet)
    seen = watch(network, ("spatial", "channel", "weigh.3", "weigh.0"))
    visible, thermal = torch.from_numpy(given["in_0"]), torch.from_numpy(given["in_1"])
    with torch.inference_mode():
        logits, made = network.translated(visible, thermal)
        (alone,) = network(visible, thermal[:, :1])
    assert torch.equal(logits, alone)  # the class map needs no translation
    images = [logits, made.thermal, made.rgb, made.again_thermal, made.again_rgb]
    (real, to_thermal), (_, to_rgb) = made.pairs_thermal[-1], made.pairs_rgb[-1]
    inside = [means(x) for x in (to_thermal, real, to_rgb, seen["spatial"][0], seen["channel"][0])]
    inside += [seen[part][0][1].numpy().reshape(-1) for part in ("weigh.3", "weigh.0")]
    inside = [value.reshape(given[f"out_{i}"].shape) for i, value in enumerate(inside, 5)]
    ours = dict(enumerate([x.numpy() for x in images] + inside))
    assert max(differences(given, ours).values()) <= BOUND


# --- without the published ones ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=NAMES)
def built(request: pytest.FixtureRequest) -> tuple[str, SegmentationSystem, Network]:
    torch.manual_seed(0)
    system = system_of(request.param)
    return request.param, system, system.build(9, **REDUCED).eval()


Built = tuple[str, SegmentationSystem, Network]


def images_of(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 4, height, width), generator=generator).float()


def test_any_size_gives_logits_of_that_size(built: Built) -> None:
    _, system, network = built
    with torch.inference_mode():
        outputs = system.run(network, images_of(39, 50))
    assert outputs[0].shape == (2, 9, 39, 50)
    assert all(x.shape[-2:] == (39, 50) for x in outputs)  # every head is of full size
    assert all(torch.isfinite(x).all() for x in outputs)
    assert len(outputs[0].argmax(dim=1).unique()) > 1


def test_every_channel_changes_the_logits(built: Built) -> None:
    _, system, network = built
    images = images_of(32, 64)
    with torch.inference_mode():
        logits = system.run(network, images)[0]
        for channel in range(4):
            changed = images.clone()
            changed[:, channel] = 0
            assert not torch.equal(system.run(network, changed)[0], logits), channel


def test_every_parameter_learns(built: Built) -> None:
    _, system, network = built
    truth = torch.arange(9).repeat(2, 64, 15)[:, :64, :96]
    truth[:, :3] = IGNORE
    network.train()
    try:
        value = system.loss(system.run(network, images_of(64, 96)), truth, torch.ones(9))
        value.backward()
    finally:
        network.eval()
    assert torch.isfinite(value)
    without = [key for key, one in network.named_parameters() if one.grad is None or not one.grad.any()]
    network.zero_grad()
    assert without == []


PARAMETERS = {  # of the published networks, less what their forward never calls
    "GMNet": 153_472_410 - 458_072,
    "EGFNet": 62_817_972 - 41_280,
    "LASNet": 93_575_604,
    "MDRNet": 210_866_368,
}


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_the_published_ones(name: str) -> None:
    with torch.device("meta"):
        network = system_of(name).build(9)
    assert count_parameters(network) == PARAMETERS[name] == segmenter(name).card.parameters
    if name == "MDRNet":
        training = ("siamese_", "to_", "again_", "rgb.layer4", "thermal.layer4")
        needed = sum(p.numel() for key, p in network.named_parameters() if not key.startswith(training))
        assert needed == 64_602_944  # for the class map


def test_a_file_of_another_network_is_refused(built: Built) -> None:
    name, system, network = built
    state = dict(network.state_dict())
    load_strictly(network, system.convert(state, Path("x.pth")), "x.pth")  # names of evalkit's own stay as they are
    key = next(iter(state))
    for wrong in ({**state, "unknown.weight": torch.zeros(1)}, {k: v for k, v in state.items() if k != key}):
        with pytest.raises(CheckpointError, match=r"left over|missing"):
            load_strictly(network, system.convert(wrong, Path("x.pth")), name)


@pytest.mark.parametrize(
    ("name", "theirs", "ours"),
    [
        ("GMNet", "densefuse2.dense.res_main.denseblock.3.basicconv.0.weight", "fuse2.dense.3.0.weight"),
        ("GMNet", "gc3.denseblock.1.cov.2.bn.running_mean", "outer3.dense.1.2.1.running_mean"),
        ("EGFNet", "em5.rrbn.bias", "fusions.4.residual.2.bias"),
        ("EGFNet", "layer4_rgb.35.conv2.weight", "encoder.layer3.35.conv2.weight"),
        ("LASNet", "CAM3.cam.gamma", "activate3.gamma"),
        ("LASNet", "decoder.decoder1.4.bn.weight", "decoder1.4.1.weight"),
        ("MDRNet", "s_weight_classifier.1.conv.weight", "weigh.3.spread.weight"),
        ("MDRNet", "fake_RGB_decoder8.bn.weight", "to_thermal.refine.3.1.weight"),  # named after what goes in
    ],
)
def test_published_names(name: str, theirs: str, ours: str) -> None:
    assert list(system_of(name).convert({theirs: torch.zeros(1)}, Path("x.pth"))) == [ours]


@pytest.mark.parametrize(("name", "dead"), [("GMNet", "ss1.branch1.0.weight"), ("EGFNet", "em2.convf.bias")])
def test_weights_that_are_never_used_are_passed_over(name: str, dead: str) -> None:
    assert system_of(name).convert({dead: torch.zeros(1)}, Path("x.pth")) == {}


def test_pretrained_encoders_are_read_by_their_published_names(built: Built) -> None:
    name, system, network = built
    torch.manual_seed(1)
    other = system.build(9, **REDUCED)
    source = (other.encoder if hasattr(other, "encoder") else other.rgb).state_dict()
    content = {**source, "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    system.load_pretrained(network, content, Path("resnet.pth"))
    loaded = network.state_dict()
    for part in system.encoders:
        for key, value in source.items():
            own = key
            if part == "fusion.":
                stage = next((i for i in range(3) if key.startswith(f"layer{i + 1}.")), None)
                if stage is None:  # the fusing encoder has neither stem nor fourth stage
                    continue
                own = key.replace(f"layer{stage + 1}.", f"{stage}.")
            if (name, part, key) == ("GMNet", "thermal.", "conv1.weight"):
                value = value.mean(dim=1, keepdim=True)
            assert torch.equal(loaded[part + own], value), part + own
    del content["layer3.0.conv1.weight"]
    with pytest.raises(CheckpointError, match=r"not of this encoder.*layer3|not of this encoder.*fusion"):
        system.load_pretrained(network, content, Path("resnet.pth"))


# --- what goes in, and what the heads learn ---------------------------------------------------------------------------


def test_images_are_normalised_as_published() -> None:
    visible, infrared = imagenet_pair(torch.tensor([255.0, 0, 51, 102]).view(1, 4, 1, 1))
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225]
    assert visible.flatten().tolist() == pytest.approx(expected)
    assert infrared.flatten().tolist() == pytest.approx([(0.4 - 0.449) / 0.226])


def test_edges_are_those_of_opencv() -> None:
    rng = np.random.default_rng(0)
    pixels = cv2.GaussianBlur(rng.integers(0, 256, (40, 56, 4)).astype(np.float32), (0, 0), 2)
    pixels = np.clip((pixels - 128) * 1.5 + 128, 0, 255).astype(np.uint8)
    gradients = []
    for gray in (cv2.cvtColor(np.ascontiguousarray(pixels[..., :3]), cv2.COLOR_RGB2GRAY), pixels[..., 3]):
        x, y = (cv2.convertScaleAbs(cv2.Sobel(gray, cv2.CV_16S, *way)) for way in ((1, 0), (0, 1)))
        gradients.append(cv2.addWeighted(x, 0.5, y, 0.5, 0).astype(int))
    expected = sum(gradients) / 255 > 0.2
    ours = edge_map(torch.from_numpy(pixels).permute(2, 0, 1)[None].float())[0, 0].numpy()
    assert 0.1 < expected.mean() < 0.9
    assert (ours == expected).all()
    assert set(np.unique(ours)) == {0, 1}


def test_objects_and_boundaries_of_a_label() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.zeros(2, 20, 24, dtype=torch.int64)
    truth[:, 4:9, 5:14] = 3
    truth[:, 6:12, 10:16] = 8
    truth[:, :, 20:] = 1
    truth[torch.rand(truth.shape, generator=generator) < 0.01] = IGNORE
    expected = truth.clone()
    classes = np.pad(torch.where(truth == IGNORE, 0, truth).numpy(), ((0, 0), (2, 2), (2, 2)))
    for n, i, j in np.ndindex(*truth.shape):
        if truth[n, i, j] != IGNORE:
            expected[n, i, j] = len(np.unique(classes[n, i : i + 5, j : j + 5])) > 1
    assert torch.equal(boundaries(truth), expected)
    assert {0, 1, IGNORE} == set(boundaries(truth).unique().tolist())
    assert torch.equal(objects(truth), torch.where(truth == IGNORE, IGNORE, (truth != 0).long()))


def test_lovasz_is_the_extension_of_the_jaccard_loss() -> None:
    """At certain predictions it is 1 - IoU, the mean over the classes shown; between them it is as defined."""
    truth = torch.tensor([[[0, 0, 1, 1, 1, 3, IGNORE]]])
    predicted = torch.tensor([[[0, 1, 1, 1, 0, 3, 2]]])
    logits = 200.0 * torch.nn.functional.one_hot(predicted, 4).movedim(-1, 1)
    ious = {0: 1 / 3, 1: 2 / 4, 3: 1.0}
    assert float(lovasz(logits, truth)) == pytest.approx(np.mean([1 - iou for iou in ious.values()]), abs=1e-6)

    logits = torch.randn(1, 4, 1, 7, generator=torch.Generator().manual_seed(0))
    chances = logits.softmax(dim=1)[0, :, 0, :6].numpy()
    labels = truth[0, 0, :6].numpy()

    def jaccard(wrong: tuple[int, ...], right: NDArray) -> float:
        """1 - IoU where just these pixels are predicted wrongly."""
        union = right | np.isin(np.arange(6), wrong)
        return 1 - (right & ~np.isin(np.arange(6), wrong)).sum() / union.sum()

    losses = []
    for class_ in (0, 1, 3):
        right = labels == class_
        errors = np.abs(right - chances[class_])
        order = tuple(np.argsort(-errors).tolist())
        steps = [jaccard(order[: k + 1], right) - jaccard(order[:k], right) for k in range(6)]
        losses.append(errors[list(order)] @ np.array(steps))
        # the convex closure: no other order of the pixels gives more
        for a, b in combinations(range(6), 2):
            other = list(order)
            other[a], other[b] = other[b], other[a]
            steps = [jaccard(tuple(other[: k + 1]), right) - jaccard(tuple(other[:k]), right) for k in range(6)]
            assert errors[other] @ np.array(steps) <= losses[-1] + 1e-6
    assert float(lovasz(logits, truth)) == pytest.approx(np.mean(losses), abs=1e-6)


def test_losses_of_images_without_labels_are_zero() -> None:
    logits = torch.randn(1, 4, 3, 5)
    truth = torch.full((1, 3, 5), IGNORE)
    assert float(entropy(logits, truth, torch.ones(4))) == 0
    assert float(lovasz(logits, truth)) == 0


# --- the optimiser ----------------------------------------------------------------------------------------------------


def test_ranger_is_radam_that_looks_back() -> None:
    """Between two looks back it is RAdam on centred gradients; at a look back it halves the way since the last one."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 4, generator=generator)
    target = torch.randn(3, 4, generator=generator)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    options = {"lr": 0.01, "betas": (0.95, 0.999), "eps": 1e-5, "weight_decay": 0.1}
    ranger = Ranger([ours], **options)
    radam = torch.optim.RAdam([theirs], **options, decoupled_weight_decay=True)
    slow = start.clone()
    for step in range(1, 14):
        for p in (ours, theirs):
            p.grad = (p.detach() - target) ** 3
        theirs.grad -= theirs.grad.mean(dim=1, keepdim=True)
        ranger.step()
        radam.step()
        if step % 6 == 0:
            slow = (slow + theirs.detach()) / 2
            theirs.data.copy_(slow)
        assert torch.allclose(ours, theirs, atol=1e-7), step


def test_ranger_goes_on_from_its_state() -> None:
    torch.manual_seed(0)
    first, second = torch.nn.Linear(4, 2), torch.nn.Linear(4, 2)
    optimisers = [Ranger(first.parameters(), lr=0.1), Ranger(second.parameters(), lr=0.1)]

    def steps(network: Network, optimiser: Ranger, count: int) -> None:
        for _ in range(count):
            optimiser.zero_grad()
            network(torch.ones(1, 4)).square().sum().backward()
            optimiser.step()

    steps(first, optimisers[0], 4)
    second.load_state_dict(first.state_dict())
    optimisers[1].load_state_dict(optimisers[0].state_dict())
    for network, optimiser in zip((first, second), optimisers, strict=True):
        steps(network, optimiser, 4)
    assert torch.equal(first.weight, second.weight)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mmseg") is None, reason="needs evalkit[segmentation]")
@pytest.mark.parametrize("name", NAMES)
def test_the_runner_trains_the_network_that_small_names(name: str, tmp_path: Path) -> None:
    """In its reduced form, with Ranger, whose state survives the file that a cut training goes on from."""
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import DefaultScope
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    from evalkit.downstream.segmentation.models import build, model_config

    schedule = small_schedule(name)
    torch.manual_seed(0)
    statistics = ([128.0] * 4, [64.0] * 4, (64, 96), None, schedule.class_weights, schedule.reduced)
    model = build(model_config(name, 9, *statistics)).train()
    assert count_parameters(model) < PARAMETERS[name] / 10
    with DefaultScope.overwrite_default_scope("mmseg"):
        optimiser = build_optim_wrapper(model, {"type": "OptimWrapper", "optimizer": schedule.optimiser})
    assert isinstance(optimiser.optimizer, Ranger)
    samples = []
    for _ in range(2):
        sample = SegDataSample()
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 9, (1, 64, 96)))
        samples.append(sample)
    data = {"inputs": [torch.randint(0, 256, (4, 64, 96)) for _ in range(2)], "data_samples": samples}
    losses = [float(model.train_step(data, optimiser)["loss"]) for _ in range(8)]
    assert losses[-1] < losses[0]
    (tmp_path / "state").write_bytes(to_state(optimiser.state_dict()))
    again = read_state(tmp_path / "state")
    optimiser.load_state_dict(again)
    assert float(model.train_step(data, optimiser)["loss"]) < losses[0]


# --- what they cost ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, entry in SEGMENTERS.items() if entry.card.multiply_adds])
def test_costs_are_those_of_the_cards(name: str) -> None:
    """The cards have what a profiler counts in the published code."""
    cost = segmenter_cost(name)
    assert cost.parameters == segmenter(name).card.parameters
    assert cost.layers / 1e9 == pytest.approx(segmenter(name).card.multiply_adds, abs=0.0051)
    assert cost.products >= 0
    if name == "MDRNet":
        assert segmenter_cost(name, training=True).layers / 1e9 == pytest.approx(420.30, abs=0.0051)


def test_cost_of_a_network_by_hand() -> None:
    """MFNet of two classes at 32x48, layer for layer: kernel x channels in x channels out x positions."""
    positions = [32 * 48 // 4**i for i in range(5)]
    layers = []
    for first, channels in ((3, (16, 48, 48, 96, 96)), (1, (16, 16, 16, 36, 36))):
        layers += [(first, channels[0], 0), (channels[0], channels[1], 1), (channels[1], channels[1], 1)]
        layers += [(channels[1], channels[2], 2), (channels[2], channels[2], 2)]
        for level, (a, b) in ((3, channels[2:4]), (4, channels[3:5])):  # three pairs of half the channels
            layers += [(width, b, level) for width in (a, b, b)]
    layers += [(132, 64, 3), (64, 64, 2), (64, 32, 1), (32, 2, 0)]
    expected = sum(9 * a * b * positions[level] for a, b, level in layers)
    cost = segmenter_cost("MFNet", classes=2, height=32, width=48)
    assert (cost.layers, cost.products) == (expected, 0)


def test_networks_of_mmsegmentation_are_not_counted() -> None:
    with pytest.raises(EvalkitError, match="SegNeXt-T is built by mmsegmentation"):
        segmenter_cost("SegNeXt-T")
