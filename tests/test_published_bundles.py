"""The networks whose weights are TensorFlow checkpoints: names, order of channels, published images."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from bundles import bundle

torch = pytest.importorskip("torch")

from evalkit.data.card import load_card  # noqa: E402
from evalkit.data.pairs import ImagePair, find_pairs  # noqa: E402
from evalkit.errors import CheckpointError  # noqa: E402
from evalkit.methods.checkpoints import load_strictly  # noqa: E402
from evalkit.methods.fuse import make_fuser  # noqa: E402
from evalkit.methods.layers.keys import regrouped  # noqa: E402
from evalkit.methods.networks import pmgi, sdnet, stdfusionnet, u2fusion  # noqa: E402
from evalkit.methods.registry import method_card  # noqa: E402

METHODS = {**pmgi.METHODS, **sdnet.METHODS, **stdfusionnet.METHODS, **u2fusion.METHODS}
METHODS.pop("U2Fusion-port")


def published_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes as the authors' files have them, kernels (height, width, in, out)."""
    shapes: dict[str, tuple[int, ...]] = {}
    if name.startswith("PMGI"):
        layers = {"1": (5, 3), "2": (3, 16), "2_3": (1, 32), "3": (3, 48), "3_4": (1, 32), "4": (3, 64)}
        for end in ("", "_vi"):
            for layer, (size, width) in layers.items():
                scope = f"fusion_model/layer{layer}{end}"
                shapes |= {f"{scope}/w{layer}{end}": (size, size, width, 16), f"{scope}/b{layer}{end}": (16,)}
                for kind in ("beta", "gamma", "moving_mean", "moving_variance"):
                    shapes[f"{scope}/BatchNorm/{kind}"] = (16,)
        return shapes | {"fusion_model/layer5/w5": (1, 1, 128, 1), "fusion_model/layer5/b5": (1,)}
    if name.startswith("SDNet"):
        layers = {"1": (5, 1, 16), "2": (3, 16, 16), "3": (3, 32, 16), "4": (3, 48, 16)}
        layers |= {"7": (3, 128, 16), "8": (3, 16, 4), "9": (3, 4, 1)}
        every = {f"{layer}_{end}": layers[layer] for layer in layers for end in ("ir", "vi")}
        for layer, (size, width, out) in (every | {"5_fuse": (1, 128, 1), "6_sept": (1, 1, 128)}).items():
            scope = f"fusion_model/layer{layer}"
            shapes |= {f"{scope}/w{layer}": (size, size, width, out), f"{scope}/b{layer}": (out,)}
        return shapes
    if name.startswith("U2Fusion"):
        layers = {"Generator/encoder/conv1_1": (2, 44)}
        layers |= {f"Generator/encoder/dense_block_conv{i}": (44 * i, 44) for i in range(1, 6)}
        widths = (264, 128, 64, 32, 1)
        layers |= {f"Generator_1/decoder/conv2_{i + 1}": widths[i : i + 2] for i in range(4)}
        for scope, (width, out) in layers.items():
            shapes |= {f"{scope}/kernel": (3, 3, width, out), f"{scope}/bias": (out,)}
        return shapes
    for part, widths in (("ir_extraction", (16, 16, 32, 64)), ("vi_extraction", (16, 16, 32, 64)),
                         ("reconstruction", (128, 64, 32, 16, 1))):  # fmt: skip
        scope = f"STDFusion_model/{part}_network"
        if part != "reconstruction":
            shapes |= {f"{scope}/conv1/w": (5, 5, 1, 16), f"{scope}/conv1/b": (16,)}
        for i, (width, out) in enumerate(itertools.pairwise(widths), 1):
            for conv, size, wide in ((1, 1, width), (2, 3, width), (3, 1, out)):
                shapes |= {f"{scope}/block{i}/conv{conv}/w": (size, size, width, wide)}
                shapes |= {f"{scope}/block{i}/conv{conv}/b": (wide,)}
            if width != out:
                shapes[f"{scope}/block{i}/identity_conv/w"] = (1, 1, width, out)
    return shapes


def published(name: str) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {key: random.normal(0, 0.1, shape).astype(np.float32) for key, shape in published_shapes(name).items()}


def write(folder, name: str, arrays: dict[str, np.ndarray]) -> None:
    for file, content in zip(METHODS[name].files, bundle(arrays), strict=True):
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(content)


@pytest.fixture
def scene(tmp_path) -> ImagePair:
    from evalkit.data.images import write_png

    images = np.random.default_rng(1).integers(0, 256, (2, 18, 21), dtype=np.uint8)
    for image, kind in zip(images, ("ir", "vi"), strict=True):
        write_png(tmp_path / f"{kind}.png", image)
    return ImagePair("1", tmp_path / "ir.png", tmp_path / "vi.png")


@pytest.mark.parametrize("name", METHODS)
def test_a_written_checkpoint_fuses(tmp_path, scene, name):
    write(tmp_path, name, published(name))
    fuser = make_fuser(method_card(name), tmp_path, device="cpu")
    assert len(fuser.weights) == 2  # both files are hashed
    image = next(iter(fuser.fuse([scene])))
    assert image.shape == (18, 21)
    again = make_fuser(method_card(name), files=[tmp_path / METHODS[name].files[0]], device="cpu")  # its index alone
    assert again.identity == fuser.identity
    np.testing.assert_array_equal(next(iter(again.fuse([scene]))), image)


@pytest.mark.parametrize("name", METHODS)
def test_other_names_and_shapes_are_refused(tmp_path, name):
    arrays, method = published(name), METHODS[name]
    for change in ("missing", "extra", "shape"):
        other = dict(arrays)
        key = next(key for key in other if key.endswith(("w1", "w1_ir", "conv1/w", "kernel")))
        if change == "missing":
            other.pop(key)
        elif change == "extra":
            other["fusion_model/layer77/w77"] = np.zeros(1, np.float32)
        else:
            other[key] = other[key][..., :-1]
        state = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in other.items()}
        with pytest.raises(CheckpointError, match="is not of"):
            load_strictly(method.build(), method.convert(state, tmp_path), "w")


def test_groups_change_places_and_nothing_else():
    kernel = torch.arange(12.0).reshape(1, 12, 1, 1)
    assert regrouped(kernel, 4, (2, 0, 1)).flatten().tolist() == [8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 6, 7]
    assert regrouped(kernel, 4, (0, 1)) is kernel


@pytest.mark.parametrize("name", ["PMGI", "PMGI-Medical", "U2Fusion", "U2Fusion-stretched"])
def test_gray_in_three_channels_is_the_same_gray(name):
    """On its way to YCbCr and back it would change by a level here and there."""
    infrared, visible = np.random.default_rng(0).integers(0, 256, (2, 30, 40), dtype=np.uint8)
    stacked = (np.repeat(image[..., None], 3, axis=2) for image in (infrared, visible))
    for gray, colour in zip(METHODS[name].prepare(infrared, visible), METHODS[name].prepare(*stacked), strict=True):
        assert torch.equal(gray, colour)


def test_u2fusion_has_the_newest_features_first():
    """As its file has it, step by step on the unchanged kernels."""
    arrays = {key: torch.from_numpy(value).double() for key, value in published("U2Fusion").items()}
    infrared, visible = torch.rand(2, 1, 1, 12, 13, dtype=torch.float64)

    def step(key, x):
        x = torch.nn.functional.pad(x, (1, 1, 1, 1), "reflect")
        return torch.nn.functional.conv2d(x, arrays[f"{key}/kernel"].permute(3, 2, 0, 1), arrays[f"{key}/bias"])

    def leaky(x):
        return torch.nn.functional.leaky_relu(x, 0.2)

    x = leaky(step("Generator/encoder/conv1_1", torch.cat((visible, infrared), 1)))
    for i in range(1, 6):
        x = torch.cat((leaky(step(f"Generator/encoder/dense_block_conv{i}", x)), x), 1)
    for i in range(1, 4):
        x = leaky(step(f"Generator_1/decoder/conv2_{i}", x))
    expected = torch.tanh(step("Generator_1/decoder/conv2_4", x)) / 2 + 0.5
    network = METHODS["U2Fusion"].build().double()
    load_strictly(network, METHODS["U2Fusion"].convert(arrays, "w"), "w")
    with torch.inference_mode():
        torch.testing.assert_close(network(infrared, visible), expected)


@pytest.mark.parametrize("stem", ["07", "19"])
@pytest.mark.parametrize(("name", "folder"), [("SDNet", "SDNet"), ("PMGI", "PMGI"), ("U2Fusion-stretched", "U2Fusion")])
def test_published_images_come_out(shared, name, folder, stem):
    """At most 1 gray level apart, in less than .1 % of the pixels."""
    pairs = find_pairs(load_card("TNO"), shared / "data", None).pairs
    fuser = make_fuser(method_card(name), shared / "checkpoints", device="cpu")
    image = next(iter(fuser.fuse([pair for pair in pairs if pair.stem == stem])))
    expected = cv2.imread(str(shared / "outputs" / "Tang-TNO" / folder / f"{stem}.png"), cv2.IMREAD_GRAYSCALE)
    difference = np.abs(image.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.001
