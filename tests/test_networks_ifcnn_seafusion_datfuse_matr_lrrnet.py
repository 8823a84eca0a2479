"""IFCNN, SeAFusion, DATFuse, MATR and LRRNet: structure, the authors' weights, byte rules, measured rows."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from conftest import textured, two_threads

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402

import evalkit  # noqa: E402
from evalkit.data.card import load_card  # noqa: E402
from evalkit.data.images import read_image, to_gray  # noqa: E402
from evalkit.data.pairs import find_pairs  # noqa: E402
from evalkit.methods.checkpoints import CheckpointError, load_strictly, read_checkpoint  # noqa: E402
from evalkit.methods.complexity import complexity  # noqa: E402
from evalkit.methods.layers.attention import OneElementAttention, ReinterpretingBlock  # noqa: E402
from evalkit.methods.layers.keys import renamed  # noqa: E402
from evalkit.methods.layers.pixels import stretched, wrapped  # noqa: E402
from evalkit.methods.network import count_parameters  # noqa: E402
from evalkit.methods.networks import datfuse, ifcnn, lrrnet, matr, seafusion  # noqa: E402
from evalkit.methods.registry import method_card  # noqa: E402

METRICS = ["EN", "SD", "SF", "MI", "VIF", "Qabf", "AG", "SSIM"]
MODULES = {"ifcnn": ifcnn, "seafusion": seafusion, "datfuse": datfuse, "matr": matr, "lrrnet": lrrnet}
METHODS = {name: method for module in MODULES.values() for name, method in module.METHODS.items()}
UNUSED_ATTENTION = ("patch_embed.norm.weight", "patch_embed.norm.bias", ".relative_position_bias_table")
# parameters; ends of the names of those without effect; smallest side; channels; range of the output
FACTS = {
    "IFCNN": (83_587, ("conv1.weight",), 1, 3, (-np.inf, np.inf)),
    "SeAFusion": (166_883, (".bn.weight", ".bn.bias"), 1, 1, (0, 1)),
    "DATFuse": (10_760, UNUSED_ATTENTION, 1, 1, (-1, 1)),
    "MATR": (13_422, UNUSED_ATTENTION, 1, 1, (-1, 1)),
    "LRRNet": (49_204, (), 2, 1, (-np.inf, np.inf)),
}
every_method = pytest.mark.parametrize("name", METHODS)


def untrained(name: str, seed: int = 0):
    torch.manual_seed(seed)
    return METHODS[name].build().eval()


@cache
def content(path: Path):
    return read_checkpoint(path)


def weights(shared: Path, name: str) -> Path:
    path = shared / "checkpoints" / METHODS[name].files[0]
    if not path.is_file():
        pytest.skip(f"needs the weights of {name}")
    return path


def trained(shared: Path, name: str):
    path = weights(shared, name)
    network = METHODS[name].build()
    load_strictly(network, METHODS[name].convert(content(path), path), name)
    return network.eval()


def inputs(name: str, batch: int, height: int, width: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    shape = (batch, 3 if name == "IFCNN" else 1, height, width)
    return tuple(torch.from_numpy(rng.random(shape, np.float32)) for _ in range(2))


def fuse(network, name: str, infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
    method = METHODS[name]
    with torch.inference_mode():
        a, b = method.prepare(infrared, visible)
        return method.finish(network(a[None], b[None])[0], infrared, visible)


def row(network, name: str, dataset: str, root: Path, stems: tuple[str, ...] = (), gray: bool = False) -> list[float]:
    """The means of the eight metrics over these pairs, or all."""
    rows = []
    for pair in find_pairs(load_card(dataset), root).pairs:
        if stems and pair.stem not in stems:
            continue
        infrared, visible = read_image(pair.infrared), read_image(pair.visible)
        if gray:
            infrared, visible = to_gray(infrared), to_gray(visible)
        scores = evalkit.evaluate(fuse(network, name, infrared, visible), infrared, visible, METRICS, "smfnet")
        rows.append([scores[metric] for metric in METRICS])
    return np.mean(rows, axis=0).tolist()


# --- structure


@every_method
def test_parameters_and_card(name):
    card = method_card(name)
    parameters = FACTS[name][0]
    assert count_parameters(METHODS[name].build()) == parameters == card.parameters
    assert METHODS[name].files == card.checkpoint
    assert name in MODULES[card.module].METHODS
    assert all((card.doi, card.colour, card.values, card.output, card.weights, card.licence, card.note))


def test_ifcnn_freezes_the_layer_of_resnet():
    frozen = [p for p in untrained("IFCNN").parameters() if not p.requires_grad]
    assert sum(p.numel() for p in frozen) == 9_408


@pytest.mark.parametrize(("name", "count"), [("SeAFusion", 226), ("DATFuse", 1_296), ("MATR", 1_848)])
def test_the_parameters_without_effect_are_as_many_as_the_card_says(name, count):
    network = untrained(name)
    unused = sum(p.numel() for n, p in network.named_parameters() if n.endswith(FACTS[name][1]))
    attention = [m for m in network.modules() if isinstance(m, OneElementAttention)]
    unused += sum(2 * (m.qkv.weight.numel() + m.qkv.bias.numel()) // 3 for m in attention)
    assert unused == count
    assert f"{count:,}" in method_card(name).note


@every_method
@pytest.mark.parametrize("size", [(37, 53), (16, 20), (3, 5), (2, 2), (1, 1), (1, 7)])
def test_sizes(name, size):
    _, _, smallest, channels, (low, high) = FACTS[name]
    if min(size) < smallest:
        with pytest.raises(RuntimeError, match=r"[Pp]adding"), torch.inference_mode():
            untrained(name)(*inputs(name, 1, *size))
        return
    with torch.inference_mode():
        output = untrained(name)(*inputs(name, 1, *size))
    assert output.shape == (1, channels, *size)
    assert output.dtype == torch.float32
    assert torch.isfinite(output).all()
    assert output.min() >= low
    assert output.max() <= high


@every_method
@pytest.mark.parametrize("colours", [(2, 2), (2, 3), (3, 3)], ids=["gray", "colour visible", "both colour"])
def test_images_in_and_images_out(name, colours):
    a, b = (
        textured(i, 37, 53) if dims == 2 else np.stack([textured(10 * i + k, 37, 53) for k in range(3)], 2)
        for i, dims in enumerate(colours)
    )
    fused = fuse(untrained(name), name, a, b)
    assert fused.dtype == np.uint8
    keeps_colour = name == "SeAFusion" and b.ndim == 3
    assert fused.shape == ((37, 53, 3) if keeps_colour else (37, 53))


@every_method
@pytest.mark.parametrize("value", [0, 128, 255])
def test_constant_images_give_an_image(name, value):
    flat = np.full((24, 20), value, np.uint8)
    assert fuse(untrained(name), name, flat, flat).shape == (24, 20)


@every_method
@pytest.mark.parametrize("with_weights", [False, True])
def test_a_batch_equals_its_images(name, with_weights, request):
    network = trained(request.getfixturevalue("shared"), name) if with_weights else untrained(name)
    a, b = inputs(name, 2, 37, 53)
    with torch.inference_mode():
        together = network(a, b)
        single = torch.cat([network(a[i : i + 1], b[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(together, single, rtol=0, atol=1e-5)


@every_method
def test_threads_do_not_matter(name):
    network, images = untrained(name), inputs(name, 1, 61, 47)
    with torch.inference_mode():
        one = network(*images)
        with two_threads():
            two = network(*images)
    torch.testing.assert_close(one, two, rtol=0, atol=1e-5)


@every_method
def test_stored_statistics_serve_inference(name):
    network, images = untrained(name), inputs(name, 2, 24, 24)
    with torch.inference_mode():
        stored = network(*images)
        batch = network.train()(*images)
    applied = name in ("IFCNN", "DATFuse", "MATR")
    assert torch.equal(stored, batch) != applied


@every_method
def test_gradients_reach_every_parameter_that_has_an_effect(name):
    torch.manual_seed(1)
    network = METHODS[name].build().train()
    network(*inputs(name, 2, 20, 24)).square().sum().backward()
    without = FACTS[name][1]
    for key, parameter in network.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        assert reached != bool(without and key.endswith(without)), key
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), key


@pytest.mark.parametrize(
    ("name", "giga"), [("IFCNN", 39.8), ("SeAFusion", 51.0), ("DATFuse", 5.0), ("MATR", 11.4), ("LRRNet", 14.2)]
)
def test_multiply_adds_of_640x480(name, giga):
    assert complexity(METHODS[name]).multiply_adds / 1e9 == pytest.approx(giga, abs=0.1)


# --- the authors' weights


@every_method
def test_every_key_of_the_file_is_used(name, shared):
    path = weights(shared, name)
    stored, own = content(path), METHODS[name].convert(content(path), path)
    assert sorted(v.data_ptr() for v in stored.values()) == sorted(v.data_ptr() for v in own.values())
    state = trained(shared, name).state_dict()
    assert all(torch.equal(state[key], value) for key, value in own.items())
    fewer = dict(list(own.items())[1:])
    for wrong in (fewer, {**own, "more": torch.zeros(1)}, {**own, next(iter(own)): torch.zeros(7)}):
        with pytest.raises(CheckpointError, match="keys 1 "):
            load_strictly(METHODS[name].build(), wrong, "x")


def test_two_keys_may_not_become_one():
    with pytest.raises(CheckpointError, match="twice"):
        renamed({"a.x": torch.zeros(1), "b.x": torch.zeros(1)}, Path("file"), {"^a": "b"})


@pytest.mark.parametrize("name", ["DATFuse", "MATR", "LRRNet", "SeAFusion"])
def test_the_two_roles_differ(name, shared):
    network, (a, b) = trained(shared, name), inputs(name, 1, 40, 44)
    with torch.inference_mode():
        assert (network(a, b) - network(b, a)).abs().max() > 1e-3


# --- IFCNN


def test_ifcnn_takes_the_maximum_of_any_number_of_images(shared):
    network, (a, b) = trained(shared, "IFCNN"), inputs("IFCNN", 1, 30, 32)
    with torch.inference_mode():
        torch.testing.assert_close(network(a, b), network(b, a))
        torch.testing.assert_close(network(a, b, a), network(a, b))
        torch.testing.assert_close(network(a), network(a, a))


def test_ifcnn_loads_without_num_batches_tracked(shared):
    path = weights(shared, "IFCNN")
    assert not any(key.endswith("num_batches_tracked") for key in content(path))
    trained(shared, "IFCNN")


def test_ifcnn_takes_no_imagenet_statistics():
    image = textured(1, 20, 24)
    a, b = METHODS["IFCNN"].prepare(image, np.stack([image] * 3, 2))
    assert torch.equal(a, b)
    assert np.array_equal(a.numpy()[1], image.astype(np.float32) / 255)


# --- SeAFusion


def test_seafusion_never_applies_its_batch_norms(shared):
    network, images = trained(shared, "SeAFusion"), inputs("SeAFusion", 1, 30, 32)
    with torch.inference_mode():
        before = network(*images)
        for key, value in network.state_dict().items():
            if ".bn." in key:
                value.fill_(7)
        assert torch.equal(network(*images), before)


def test_seafusion_uses_the_stored_gradient_kernels(shared):
    kernel = trained(shared, "SeAFusion").visible.rgbd1.sobelconv.convx.weight[:, 0]
    sobel = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
    assert 0 < min((kernel - sobel).abs().max(), (kernel + sobel).abs().max()) < 1


def test_seafusion_stretches_each_image_over_all_channels():
    output = torch.linspace(0.3, 0.6, 20 * 24).reshape(1, 20, 24)
    gray = np.full((20, 24), 90, np.uint8)
    fused = METHODS["SeAFusion"].finish(output, gray, gray)
    assert (fused.min(), fused.max()) == (0, 255)
    reddish = np.stack([gray + 60, gray, gray], 2)
    fused = METHODS["SeAFusion"].finish(output, gray, reddish)
    assert (fused.min(), fused.max()) == (0, 255)
    assert fused[..., 1].max() < 255  # not channel by channel


def test_seafusion_keeps_a_gray_image_gray():
    image = textured(3, 20, 24)
    method = METHODS["SeAFusion"]
    as_colour = method.finish(torch.rand(1, 20, 24), image, np.stack([image] * 3, 2))
    assert np.ptp(as_colour.astype(int), axis=2).max() <= 1


# --- DATFuse and MATR


def test_attention_over_one_element_is_its_value():
    torch.manual_seed(0)
    attention, x, heads = OneElementAttention(16, 8), torch.randn(5, 1, 16), 8
    attention.relative_position_bias_table.data.normal_()
    q, k, v = attention.qkv(x).reshape(5, 1, 3, heads, 2).permute(2, 0, 3, 1, 4)
    index = attention.relative_position_index
    scores = q @ k.transpose(-2, -1) / 2**0.5 + attention.relative_position_bias_table[index].permute(2, 0, 1)
    expected = attention.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(5, 1, 16))
    torch.testing.assert_close(attention(x), expected)


def test_the_transformer_reads_memory_in_another_order():
    torch.manual_seed(0)
    block, x = ReinterpretingBlock(16, 8, 64).eval(), torch.randn(2, 16, 5, 7)
    pixels = x.view(2, 5, 7, 16)  # a view, as published
    with torch.inference_mode():
        expected = pixels + block.attn(block.norm1(pixels))
        expected = expected + block.mlp(block.norm2(expected))
        permuted = x.permute(0, 2, 3, 1)
        permuted = permuted + block.attn(block.norm1(permuted))
        permuted = (permuted + block.mlp(block.norm2(permuted))).permute(0, 3, 1, 2)
        assert torch.allclose(block(x), expected.view(2, 16, 5, 7), atol=1e-6)
        assert not torch.allclose(block(x), permuted, atol=1e-2)
        # the same numbers, however they lie in memory
        assert torch.allclose(block(x.contiguous(memory_format=torch.channels_last)), block(x), atol=1e-6)


def test_bare_cast_wraps_around():
    assert wrapped(np.array([-0.9, -1.0, -3.2, 0.0, 254.9, 255.0, 256.5])).tolist() == [0, 255, 253, 0, 254, 255, 0]


@pytest.mark.parametrize("name", ["DATFuse", "MATR"])
def test_negative_outputs_wrap_around(name):
    gray = np.zeros((1, 3), np.uint8)
    output = torch.tensor([[[-2.5 / 255, 0.5, 1.0]]])
    assert METHODS[name].finish(output, gray, gray).tolist() == [[254, 127, 255]]


def test_matr_convolves_each_image_with_its_own_kernel():
    torch.manual_seed(0)
    layer, x = matr.GatedConv(2, 16).eval(), torch.rand(3, 2, 11, 13)
    x[1] *= 5
    with torch.inference_mode():
        kernels = layer.kernels(x)
        assert kernels.shape == (3, 16, 2, 3, 3)
        assert not torch.allclose(kernels[0], kernels[1])
        for i in range(3):
            expected = functional.conv2d(x[i : i + 1], kernels[i], padding=1)
            torch.testing.assert_close(layer(x)[i : i + 1], expected)


def test_matr_gates_by_the_formula():
    torch.manual_seed(0)
    layer, x = matr.GatedConv(2, 4).double().eval(), torch.rand(1, 2, 9, 12, dtype=torch.float64)
    context = x[0].reshape(2, 3, 3, 3, 4).mean((2, 4)).reshape(2, 9) @ layer.ce.weight.T
    active = (context / (1 + 1e-5) ** 0.5).relu()  # untrained statistics: mean 0, variance 1
    a = active @ layer.gd.weight.T
    b = ((layer.ci.weight @ active) / (1 + 1e-5) ** 0.5).relu() @ layer.gd2.weight.T
    gate = torch.sigmoid(a[None] + b[:, None]).reshape(4, 2, 3, 3)
    torch.testing.assert_close(layer.kernels(x)[0], layer.weight * gate)


# --- LRRNet


def test_soft_threshold():
    x = torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0])
    assert lrrnet.soft_threshold(x, torch.tensor(1.0)).tolist() == [-1, 0, 0, 0, 1]
    assert lrrnet.soft_threshold(x, torch.tensor(-0.25)).tolist() == [-2.25, -0.75, 0, 0.75, 2.25]


def test_lrrnet_keeps_its_negative_threshold_and_denormal_weights(shared):
    network = trained(shared, "LRRNet")
    assert int((network.infrared.threshold < 0).sum()) == 1
    tiny = torch.finfo(torch.float32).tiny
    assert sum(int(((p != 0) & (p.abs() < tiny)).sum()) for p in network.parameters()) == 3_603


def test_lrrnet_does_not_depend_on_denormals(shared):
    network, images = trained(shared, "LRRNet"), inputs("LRRNet", 1, 30, 32)
    with torch.inference_mode():
        before = network(*images)
        for p in network.parameters():
            p[p.abs() < torch.finfo(torch.float32).tiny] = 0
        torch.testing.assert_close(network(*images), before, rtol=0, atol=1e-6)


def test_lrrnet_products_are_reflect_padded_convolutions():
    torch.manual_seed(0)
    to_code, to_image, x = lrrnet.ToCode(), lrrnet.ToImage(256), torch.randn(2, 1, 9, 7)

    def conv(layer, y):
        return functional.conv2d(functional.pad(y, (1, 1, 1, 1), mode="reflect"), layer.conv.weight, layer.conv.bias)

    code = list(to_code(x))
    torch.testing.assert_close(torch.cat(code, 1), conv(to_code, x))
    torch.testing.assert_close(to_image(code), conv(to_image, torch.cat(code, 1)))


def test_stretch():
    assert stretched(np.array([2.0, 3.0, 4.0])).tolist() == [0, 0.5, 1]
    assert stretched(np.array([5.0, 5.0])).tolist() == [0, 0]
    assert stretched(np.float32([0, 255]), 1e-5).dtype == np.float32


# --- rows: two images quickly, the whole sets where slow tests are asked for

TNO = {
    "IFCNN": [6.7999, 35.1548, 12.8130, 1.7259, 0.6410, 0.5158, 6.8291, 1.3765],
    "SeAFusion": [7.1036, 44.1993, 12.4118, 1.9974, 0.6890, 0.5065, 6.9860, 1.3197],
    "DATFuse": [6.5772, 29.6512, 10.0913, 2.3555, 0.6974, 0.5076, 5.2910, 1.3286],
    "LRRNet": [6.8981, 38.5713, 9.4376, 1.7599, 0.5381, 0.3665, 5.1294, 1.2793],
}
# measured with this code, which gives the rows above
TWO_PAIRS = {
    "IFCNN": ("TNO", "07", "19", [6.6625, 34.0563, 18.0803, 2.0952, 0.7112, 0.5453, 9.7122, 1.5156]),
    "SeAFusion": ("TNO", "07", "19", [6.9822, 42.3625, 18.0946, 2.3494, 0.7607, 0.5589, 10.2037, 1.4267]),
    "DATFuse": ("TNO", "07", "19", [6.6256, 32.2980, 16.4698, 2.6799, 0.8009, 0.5790, 8.8857, 1.3242]),
    "MATR": ("MRI-PET", "11", "12", [4.7334, 59.7754, 28.4286, 2.0299, 0.7339, 0.8255, 11.5764, 0.5638]),
    "LRRNet": ("TNO", "07", "19", [6.3945, 30.5762, 12.0103, 1.7276, 0.5008, 0.3760, 6.4732, 1.2658]),
}
# SF, MI, VIF, Qabf, AG, SSIM over 42 pairs; gray: PET read as gray
MRI_PET = {
    ("IFCNN", True): [29.5368, 1.7336, 0.5519, 0.6422, 11.1476, 1.5354],
    ("IFCNN", False): [29.1434, 1.7423, 0.5517, 0.6377, 10.9874, 1.5360],
    ("MATR", False): [23.6685, 2.1873, 0.7165, 0.6980, 9.1261, 0.5038],
}
DIGITS = 1.1e-4  # a unit of the last printed digit: rounding of sums in another order moves a few bytes by one


@pytest.mark.parametrize("name", TWO_PAIRS)
def test_two_pairs(name, shared):
    dataset, *stems, expected = TWO_PAIRS[name]
    scores = row(trained(shared, name), name, dataset, shared / "data", tuple(stems))
    assert scores == pytest.approx(expected, abs=5e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", TNO)
def test_row_of_tno(name, shared):
    assert row(trained(shared, name), name, "TNO", shared / "data") == pytest.approx(TNO[name], abs=DIGITS)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "gray"), MRI_PET)
def test_row_of_mri_pet(name, gray, shared):
    scores = row(trained(shared, name), name, "MRI-PET", shared / "data", gray=gray)
    assert scores[2:] == pytest.approx(MRI_PET[name, gray], abs=DIGITS)
