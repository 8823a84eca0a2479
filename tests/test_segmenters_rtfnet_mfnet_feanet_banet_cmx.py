"""The segmenters of two streams, and BANet, against the published networks, and by themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from vectors import BOUND, arrays, difference, filled

torch = pytest.importorskip("torch")

from evalkit.downstream.segmentation.networks import SEGMENTERS, segmenter  # noqa: E402
from evalkit.downstream.segmentation.pixels import IGNORE  # noqa: E402
from evalkit.downstream.segmentation.system import SegmentationSystem, continued  # noqa: E402
from evalkit.errors import CheckpointError  # noqa: E402
from evalkit.methods.checkpoints import load_strictly  # noqa: E402
from evalkit.methods.network import count_parameters  # noqa: E402

NAMES = ("MFNet", "TwoStreamResNet-18")  # what is quick
DEEP = ("RTFNet-50", "RTFNet-152")  # of the same parts


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


def outputs_of(network: torch.nn.Module, inputs: list[np.ndarray], watched: dict[int, str]) -> dict[int, np.ndarray]:
    """The outputs of a network, numbered from 0, and the means per channel of parts inside, by the numbers given."""
    inside: dict[int, np.ndarray] = {}

    def keep(number: int) -> Callable:
        return lambda module, given, output: inside.update({number: output.mean(dim=(2, 3)).numpy()})

    hooks = [network.get_submodule(part).register_forward_hook(keep(number)) for number, part in watched.items()]
    with torch.inference_mode():
        outputs = network(*(torch.from_numpy(value) for value in inputs))
    for hook in hooks:
        hook.remove()
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return dict(enumerate(value.numpy() for value in outputs)) | inside


RTFNET = {
    1: "rgb.layer1", 2: "infrared.layer1", 3: "rgb.layer4", 4: "infrared.layer4", 5: "decoder.0", 6: "decoder.3",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "vectors", "watched"),
    [
        ("MFNet", "mfnet", {1: "rgb.centre", 2: "infrared.centre", 3: "up.2"}),
        ("RTFNet-50", "rtfnet50", RTFNET),
        pytest.param("RTFNet-152", "rtfnet152", RTFNET, marks=pytest.mark.slow),
    ],
)
def test_the_outputs_are_the_published_ones(name: str, vectors: str, watched: dict[int, str]) -> None:
    given = arrays(vectors)
    inputs = [given[f"in_{i}"] for i in range(sum(key.startswith("in_") for key in given))]
    ours = outputs_of(published(name, vectors), inputs, watched)
    differences = {i: difference(ours[i].reshape(given[f"out_{i}"].shape), given[f"out_{i}"]) for i in ours}
    print(name, {i: f"{value:.1e}" for i, value in differences.items()})
    assert len(differences) == sum(key.startswith("out_") for key in given)
    assert max(differences.values()) <= BOUND


# --- without the published ones ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=NAMES)
def built(request: pytest.FixtureRequest) -> tuple[str, SegmentationSystem, torch.nn.Module]:
    torch.manual_seed(0)
    system = system_of(request.param)
    return request.param, system, system.build(9).eval()


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


def test_parameters_are_as_many_as_the_card_says(built: Built) -> None:
    name, _, network = built
    assert count_parameters(network) == segmenter(name).card.parameters


@pytest.mark.slow
@pytest.mark.parametrize("name", DEEP)
def test_parameters_of_the_deep_ones(name: str) -> None:
    assert count_parameters(system_of(name).build(9)) == segmenter(name).card.parameters


def test_a_file_of_another_network_is_refused(built: Built) -> None:
    _, system, network = built
    if system.convert is None:
        pytest.skip("no weights are published")
    state = {"conv1.weight": torch.zeros(1), **dict(network.state_dict())}
    with pytest.raises(CheckpointError, match=r"missing|left over"):
        load_strictly(network, system.convert(state, Path("x.pth")), "x.pth")


@pytest.mark.parametrize("name", ["TwoStreamResNet-18"])
def test_pretrained_encoders_are_read_by_their_published_names(name: str) -> None:
    """Both get the same weights; the infrared one reads the mean over the colours."""
    torch.manual_seed(0)
    system = system_of(name)
    network, other = system.build(9), system.build(9)
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


def test_two_streams_add_features() -> None:
    """Without infrared features it is the visible ResNet alone, whatever the infrared image."""
    torch.manual_seed(0)
    network = system_of("TwoStreamResNet-18").build(9).eval()
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
