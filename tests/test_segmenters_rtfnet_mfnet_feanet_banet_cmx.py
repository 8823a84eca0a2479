"""The segmenters of two streams, and BANet, against the published networks, and by themselves."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from vectors import BOUND, arrays, difference, filled

torch = pytest.importorskip("torch")
from torch.nn import functional  # noqa: E402

from evalkit.downstream.segmentation.networks import SEGMENTERS, network_of_row, register_segmenter, segmenter  # noqa: E402
from evalkit.downstream.segmentation.pixels import IGNORE  # noqa: E402
from evalkit.downstream.segmentation.recipe import tables_of  # noqa: E402
from evalkit.downstream.segmentation.system import SegmentationSystem, continued  # noqa: E402
from evalkit.downstream.segmentation.systems.banet import BANet, hardest_pixels  # noqa: E402
from evalkit.downstream.segmentation.systems.cmx import CMX  # noqa: E402
from evalkit.downstream.segmentation.systems.feanet import ChannelAttention, FEANet, dice_and_cross_entropy  # noqa: E402
from evalkit.downstream.segmentation.systems.mfnet import MFNet  # noqa: E402
from evalkit.downstream.segmentation.systems.rtfnet import RTFNet  # noqa: E402
from evalkit.errors import CheckpointError, EvalkitError  # noqa: E402
from evalkit.methods.checkpoints import load_strictly, read_checkpoint  # noqa: E402
from evalkit.methods.layers.resnet import BasicBlock  # noqa: E402
from evalkit.methods.network import count_parameters  # noqa: E402
from evalkit.registry import PROGRAM  # noqa: E402

NAMES = ("MFNet", "RTFNet-50", "RTFNet-152", "TwoStreamResNet-18", "FEANet", "BANet", "BANet-R18", "CMX-B2", "CMX-B4")
ONE = (1, 1, 1, 1)  # block a stage
LIGHT = {  # networks of the same parts, fewer of them
    "MFNet": MFNet,
    "RTFNet-50": partial(RTFNet, blocks=ONE, width=16),
    "TwoStreamResNet-18": partial(RTFNet, blocks=ONE, block=BasicBlock, width=16),
    "FEANet": partial(FEANet, blocks=ONE, width=16),
    "BANet": partial(BANet, blocks=ONE, stem_relu=False),
    "CMX-B2": partial(CMX, depths=ONE, widths=(8, 16, 40, 64)),
}


def system_of(name: str) -> SegmentationSystem:
    made = segmenter(name).network
    assert made is not None
    return made()


def published(name: str, vectors: str) -> torch.nn.Module:
    """Our network with the published tensors, filled, by the loader of the published file."""
    system = system_of(name)
    network = system.build(9).eval()
    state = {key: torch.from_numpy(value) for key, value in filled(vectors).items()}
    load_strictly(network, system.convert(state, Path("filled")), "filled")
    return network


Part = str | tuple[str, int] | tuple[str, int, int]  # name, which call of it, which of its outputs


def outputs_of(network: torch.nn.Module, inputs: list[np.ndarray], watched: dict[int, Part]) -> dict[int, np.ndarray]:
    """The outputs of a network, numbered from 0, and those of parts inside, by the numbers given."""
    calls: dict[str, list] = {}

    def keep(part: str) -> Callable:
        return lambda module, given, output: calls.setdefault(part, []).append(output)

    parts = {number: (part, 0) if isinstance(part, str) else part for number, part in watched.items()}
    for name in dict.fromkeys(part[0] for part in parts.values()):
        network.get_submodule(name).register_forward_hook(keep(name))
    with torch.inference_mode():
        outputs = network(*(torch.from_numpy(value) for value in inputs))
    inside = {}
    for number, (name, call, *which) in parts.items():
        output = calls[name][call]
        inside[number] = (output[which[0]] if which else output).numpy()
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return dict(enumerate(value.numpy() for value in outputs)) | inside


def as_stored(ours: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """Whole, every second pixel, or the means per channel: what was stored of an output."""
    if ours.size == stored.size:
        return ours.reshape(stored.shape)
    return ours.mean(axis=(2, 3)) if stored.ndim == 2 else ours[:, :, ::2, ::2]


RTFNET = {
    1: "rgb.layer1", 2: "infrared.layer1", 3: "rgb.layer4", 4: "infrared.layer4", 5: "decoder.0", 6: "decoder.3",
}  # fmt: skip
BANET = {
    2: "resnet.layer1", 3: "resnet.layer2", 4: "resnet.layer4", 5: "refine32", 6: "refine16", 7: "refine8",
    8: "join16", 9: "join8", 10: "last",
}  # fmt: skip
FEANET = {
    1: ("channel.1", 0), 2: ("channel.1", 1), 3: ("spatial.2", 0), 4: ("spatial.3", 1), 5: ("channel.4", 1),
    6: "rgb.layer4", 7: "infrared.layer4", 8: "decoder.0",
}  # fmt: skip
CMX = {
    1: "head", 2: ("rectify.0", 0, 0), 3: ("rectify.0", 0, 1), 4: "fusion.0", 5: "fusion.1", 6: "fusion.2",
    7: ("rectify.3", 0, 0), 8: "fusion.3",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "vectors", "watched"),
    [
        ("MFNet", "mfnet", {1: "rgb.centre", 2: "infrared.centre", 3: "up.2"}),
        pytest.param("RTFNet-50", "rtfnet50", RTFNET, marks=pytest.mark.slow),
        pytest.param("RTFNet-152", "rtfnet152", RTFNET, marks=pytest.mark.slow),
        ("BANet", "banet", BANET),
        ("BANet-R18", "banet-seafusion", BANET),
        pytest.param("FEANet", "feanet", FEANET, marks=pytest.mark.slow),
        ("CMX-B2", "cmx-b2", CMX),
        pytest.param("CMX-B4", "cmx-b4", CMX, marks=pytest.mark.slow),
    ],
)
def test_the_outputs_are_the_published_ones(name: str, vectors: str, watched: dict[int, Part]) -> None:
    given = arrays(vectors)
    inputs = [given[f"in_{i}"] for i in range(sum(key.startswith("in_") for key in given))]
    ours = outputs_of(published(name, vectors), inputs, watched)
    assert sorted(ours) == list(range(sum(key.startswith("out_") for key in given)))
    stored = {i: given[f"out_{i}"] for i in ours}
    differences = {i: difference(as_stored(value, stored[i]), stored[i]) for i, value in ours.items()}
    print(name, {i: f"{value:.1e}" for i, value in differences.items()})
    assert max(differences.values()) <= BOUND


def test_the_published_weights_of_mfnet_find_the_published_classes(shared: Path) -> None:
    file = shared / "checkpoints" / "MFNet" / "final.pth"
    if not file.is_file():
        pytest.skip(f"no published weights at {file}")
    given, system = arrays("mfnet.real"), system_of("MFNet")
    network = system.build(9).eval()
    load_strictly(network, system.convert(read_checkpoint(file), file), str(file))
    with torch.inference_mode():
        logits = system.run(network, torch.from_numpy(given["in_0"]).float())[0].numpy()
    assert difference(logits[:, :, ::2, ::2], given["out_0"]) <= BOUND
    assert (logits.argmax(axis=1).ravel() == given["out_1"].ravel()).all()


# --- without the published ones ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=LIGHT)
def built(request: pytest.FixtureRequest) -> tuple[str, SegmentationSystem, torch.nn.Module]:
    torch.manual_seed(0)
    return request.param, system_of(request.param), LIGHT[request.param](9).eval()


Built = tuple[str, SegmentationSystem, torch.nn.Module]


def images_of(name: str, height: int, width: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    channels = 4 if segmenter(name).streams == 2 else 3
    images = torch.randint(0, 256, (2, channels, height, width), generator=random).float()
    return images if system_of(name).prepare else (images - 128) / 64


def test_any_size_gives_logits_of_that_size(built: Built) -> None:
    name, system, network = built
    with torch.inference_mode():
        logits = system.run(network, images_of(name, 39, 50))[0]
    assert logits.shape == (2, 9, 39, 50)
    assert torch.isfinite(logits).all()
    assert logits.std() > 0
    assert len(logits.argmax(dim=1).unique()) > 1
    if name.startswith(("RTFNet", "TwoStream", "FEANet")):
        assert logits.min() >= 0  # they pass a ReLU


def test_every_channel_changes_the_logits(built: Built) -> None:
    name, system, network = built
    images = images_of(name, 32, 64)
    with torch.inference_mode():
        logits = system.run(network, images)[0]
        for channel in range(images.shape[1]):
            changed = images.clone()
            changed[:, channel] = 0
            assert not torch.equal(system.run(network, changed)[0], logits), channel


def test_every_parameter_learns(built: Built) -> None:
    name, system, network = built
    truth = torch.arange(9).repeat(2, 64, 15)[:, :64, :96]
    truth[:, :3] = IGNORE
    for module in network.modules():
        if isinstance(module, ChannelAttention):  # it sees no negative values: none of its few units is off by chance
            module.fc1.weight.data.abs_()
    network.train()
    try:
        loss = system.loss(system.run(network, images_of(name, 64, 96)), truth, torch.ones(9))
        loss.backward()
    finally:
        network.eval()
    assert torch.isfinite(loss)
    without = [key for key, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    network.zero_grad()
    assert without == []


# trainable numbers of the published networks
PARAMETERS = {
    "MFNet": 736275, "RTFNet-50": 185238501, "RTFNet-152": 254510053, "FEANet": 255207130, "BANet": 23002240,
    "BANet-R18": 12894080, "CMX-B2": 66565521, "CMX-B4": 139858321,
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_as_many_as_published(name: str) -> None:
    with torch.device("meta"):  # shapes without numbers
        network = system_of(name).build(9)
    assert count_parameters(network) == segmenter(name).card.parameters
    assert name not in PARAMETERS or count_parameters(network) == PARAMETERS[name]


def test_a_file_of_another_network_is_refused(built: Built) -> None:
    _, system, network = built
    if system.convert is None:
        pytest.skip("no weights are published")
    state = {"conv1.weight": torch.zeros(1), **dict(network.state_dict())}
    with pytest.raises(CheckpointError, match=r"missing|left over"):
        load_strictly(network, system.convert(state, Path("x.pth")), "x.pth")


@pytest.mark.parametrize("name", ["RTFNet-50", "TwoStreamResNet-18", "FEANet"])
def test_pretrained_encoders_are_read_by_their_published_names(name: str) -> None:
    """Both get the same weights; the infrared one reads the mean over the colours."""
    torch.manual_seed(0)
    system = system_of(name)
    network, other = LIGHT[name](9), LIGHT[name](9)
    content = dict(other.rgb.state_dict()) | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    system.load_pretrained(network, content, Path("resnet.pth"))
    for key, value in other.rgb.state_dict().items():
        assert torch.equal(network.rgb.state_dict()[key], value)
        if key == "conv1.weight":
            value = value.mean(dim=1, keepdim=True)
        assert torch.equal(network.infrared.state_dict()[key], value)
    del content["layer3.0.conv1.weight"]
    with pytest.raises(CheckpointError, match=r"not of this encoder: 2 of .*layer3"):
        system.load_pretrained(network, content, Path("resnet.pth"))


def test_a_resnet_and_a_transformer_are_read_by_their_published_names() -> None:
    torch.manual_seed(0)
    banet, other = LIGHT["BANet"](9), LIGHT["BANet"](9)
    system_of("BANet").load_pretrained(banet, dict(other.resnet.state_dict()), Path("resnet34.pth"))
    assert torch.equal(banet.resnet.layer4[0].conv2.weight, other.resnet.layer4[0].conv2.weight)
    assert not torch.equal(banet.last[0].weight, other.last[0].weight)
    cmx, other = LIGHT["CMX-B2"](9), LIGHT["CMX-B2"](9)
    content = dict(other.visible.state_dict()) | {"head.weight": torch.zeros(1000, 512), "head.bias": torch.zeros(1000)}
    system_of("CMX-B2").load_pretrained(cmx, content, Path("mit_b2.pth"))
    for part in (cmx.visible, cmx.infrared):
        assert all(torch.equal(part.state_dict()[key], value) for key, value in other.visible.state_dict().items())
    with pytest.raises(CheckpointError, match="not of this encoder"):
        system_of("CMX-B2").load_pretrained(cmx, {"patch_embed1.proj.weight": torch.zeros(1)}, Path("mit_b2.pth"))


def test_the_hardest_pixels_are_at_least_a_sixteenth_of_all() -> None:
    random = np.random.default_rng(0)
    truth = torch.from_numpy(random.integers(0, 9, (2, 16, 16)))
    truth[0, :4] = IGNORE
    for scale, more in ((1.0, True), (0.0, True), (40.0, False)):  # guesses, none, and what is known
        logits = torch.from_numpy(random.standard_normal((2, 9, 16, 16)))
        if not more:
            logits = functional.one_hot(truth.clamp(max=8), 9).movedim(-1, 1) * scale - logits / 4
        losses = -logits.log_softmax(1).gather(1, truth.clamp(max=8)[:, None])[:, 0].numpy()
        losses = np.sort(np.where(truth == IGNORE, 0, losses).ravel())[::-1]
        hard = losses[losses > -np.log(0.7)]
        assert (hard.size > losses.size // 16) == more
        expected = hard.mean() if more else losses[: losses.size // 16].mean()
        assert float(hardest_pixels(logits, truth, torch.ones(9).double())) == pytest.approx(expected, abs=1e-12)


def test_dice_and_smoothed_cross_entropy_by_hand() -> None:
    random = np.random.default_rng(1)
    logits = torch.from_numpy(random.standard_normal((2, 9, 8, 8)))
    truth = torch.from_numpy(random.integers(0, 5, (2, 8, 8)))  # four classes are absent
    p = logits.softmax(1).movedim(1, -1).reshape(-1, 9).numpy()
    t = np.eye(9)[truth.numpy().ravel()]
    dice = [1 - 2 * (p[:, c] * t[:, c]).sum() / (p[:, c] + t[:, c]).sum() if t[:, c].any() else 0 for c in range(9)]
    smooth = 0.9 * -np.log((p * t).sum(axis=1)).mean() + 0.1 / 9 * -np.log(p).sum(axis=1).mean()
    ours = dice_and_cross_entropy((logits,), truth, torch.ones(9).double())
    assert float(ours) == pytest.approx((np.mean(dice) + smooth) / 2, abs=1e-12)


def test_cmx_gets_blue_first_and_the_infrared_image_three_times() -> None:
    images = torch.zeros(1, 4, 2, 2)
    images[:, 2], images[:, 3] = 255, 51
    visible, infrared = system_of("CMX-B2").prepare(images)
    assert visible[0, :, 0, 0].tolist() == pytest.approx([0.515 / 0.229, -0.456 / 0.224, -0.406 / 0.225], abs=1e-5)
    assert infrared[0, :, 0, 0].tolist() == pytest.approx([-0.285 / 0.229, -0.256 / 0.224, -0.206 / 0.225], abs=1e-5)


def test_the_second_output_of_banet_is_for_training() -> None:
    torch.manual_seed(0)
    system, network = system_of("BANet"), LIGHT["BANet"](9).eval()
    with torch.inference_mode():
        main, auxiliary = system.run(network, images_of("BANet", 40, 70))
        network.auxiliary[1].weight.zero_()
        changed = system.run(network, images_of("BANet", 40, 70))
    assert main.shape == auxiliary.shape == (2, 9, 40, 70)
    assert torch.equal(changed[0], main)
    assert not changed[1].any()


def test_two_streams_add_features() -> None:
    """Without infrared features it is the visible ResNet alone, whatever the infrared image."""
    torch.manual_seed(0)
    network = LIGHT["TwoStreamResNet-18"](9).eval()
    for parameter in network.infrared.parameters():
        torch.nn.init.zeros_(parameter)
    images = torch.rand(1, 4, 64, 64)
    other = torch.cat([images[:, :3], torch.rand(1, 1, 64, 64)], dim=1)
    assert torch.equal(network(images), network(other))


def test_sides_are_continued_with_the_last_pixel() -> None:
    images = torch.arange(6.0).view(1, 1, 2, 3)
    assert continued(images, 4)[0, 0].tolist() == [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]]


def test_every_network_with_code_has_a_card_that_says_how_it_was_compared() -> None:
    for name, entry in SEGMENTERS.items():
        if entry.network is not None and entry.card.module:
            assert entry.card.compared is not None, name
            assert system_of(name).convert is None or entry.card.compared.difference or entry.card.compared.reason


def test_a_reader_registers_a_network() -> None:
    def network() -> SegmentationSystem:
        return SegmentationSystem(lambda classes: torch.nn.Conv2d(4, classes, 1), multiple=1)

    try:
        register_segmenter("One layer", network=network, streams=2, weights="one*.pth")
        assert network_of_row("one LAYER") == "One layer"
        system = system_of("One layer")
        assert system.run(system.build(3), torch.rand(1, 4, 5, 7))[0].shape == (1, 3, 5, 7)
        for wrong in ({}, {"config": "a.py", "network": network}, {"config": "a.py", "streams": 2}):
            with pytest.raises(EvalkitError, match="the segmenter Wrong"):
                register_segmenter("Wrong", **wrong)
        with pytest.raises(CheckpointError, match="no pretrained encoder"):
            system.load_pretrained(system.build(3), {}, Path("one.pth"))
    finally:
        SEGMENTERS._forget(PROGRAM)


def test_rows_of_two_streams_are_those_of_their_networks() -> None:
    assert network_of_row("RTFNet") == "RTFNet-152"
    assert network_of_row("FEANet") == "FEANet"
    assert network_of_row("BANet") == ""  # it reads fused images
    assert network_of_row("laplacian") == ""
    assert tables_of("RTFNet-152") == ["psfusion-table2 RTFNet"]
    assert tables_of("BANet") == ["psfusion-table1 BANet", "psfusion-table4 BANet"]
    assert tables_of("TwoStreamResNet-18") == []
