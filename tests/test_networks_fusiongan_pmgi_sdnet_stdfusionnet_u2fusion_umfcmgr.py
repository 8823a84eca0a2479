"""FusionGAN, PMGI, SDNet, STDFusionNet, U2Fusion and UMF-CMGR: structure, cost, byte rules, names of weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import make_tno, two_threads
from vectors import EXACT_BOUND, exact_difference, exact_inputs, filled, tensorflow_values

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from evalkit.data.images import to_gray, write_png  # noqa: E402
from evalkit.data.pairs import ImagePair  # noqa: E402
from evalkit.methods.checkpoints import CheckpointError, load_strictly, read_checkpoint  # noqa: E402
from evalkit.methods.complexity import complexity  # noqa: E402
from evalkit.methods.fuse import make_fuser  # noqa: E402
from evalkit.methods.layers.norm import CurrentNorm  # noqa: E402
from evalkit.methods.layers.scipy_misc import flattened, saved  # noqa: E402
from evalkit.methods.network import NetworkMethod, count_parameters  # noqa: E402
from evalkit.methods.networks import fusiongan, pmgi, sdnet, stdfusionnet, u2fusion, umfcmgr  # noqa: E402
from evalkit.methods.registry import method_card  # noqa: E402

MODULES = {module.__name__.rsplit(".", 1)[1]: module for module in (fusiongan, pmgi, sdnet, stdfusionnet, u2fusion)}
MODULES["umfcmgr"] = umfcmgr
METHODS = {name: method for module in MODULES.values() for name, method in module.METHODS.items()}
# parameters, multiply-adds at 480x640 in G, smallest and largest output
FACTS = {
    # each layer at 480x640 would be 283.9; the generator works on the image with a margin, which shrinks from 492x652
    "FusionGAN": (925_633, 287.88, (-1, 1)),
    "PMGI": (41_633, 12.8, (-1, 1)),
    "PMGI-Medical": (41_633, 12.8, (-1, 1)),
    "SDNet": (28_705, 8.8, (-1, 1)),
    "SDNet-Medical": (28_705, 8.8, (-1, 1)),
    "STDFusionNet": (282_513, 87, (-1, 1)),
    "U2Fusion": (659_217, 202.4, (0, 1)),
    "U2Fusion-stretched": (659_217, 202.4, (0, 1)),
    "U2Fusion-port": (659_217, 202.4, (0, 1)),
    "UMF-CMGR": (629_253, 193, (-1, 1)),
}
# inputs in [-1, 1], the others' in [0, 1]
SIGNED = (
    "FusionGAN",
    "PMGI",
    "PMGI-Medical",
    "SDNet",
    "SDNet-Medical",
    "STDFusionNet",
    "U2Fusion-port",
)  # inputs in [-1, 1], the others' in [0, 1]
STRETCHED = ("FusionGAN", "PMGI", "PMGI-Medical", "SDNet", "SDNet-Medical", "STDFusionNet", "U2Fusion-stretched")
BUILDS = {name: method.build for name, method in METHODS.items()} | {"SDNet-training": sdnet.SqueezeAndDecomposition}
every_method = pytest.mark.parametrize("name", METHODS)
every_build = pytest.mark.parametrize("name", BUILDS)


def untrained(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return BUILDS[name]().eval()


def images(*size: int, count: int = 1, dtype: type = np.float32):
    values = np.random.default_rng(0).random((2, count, 1, *size)).astype(dtype)
    return torch.from_numpy(values * 2 - 1)


def output(network: nn.Module, infrared, visible):
    result = network(infrared, visible)
    return torch.cat(tuple(result), dim=1) if isinstance(result, tuple) else result


# --- structure


def test_methods_and_their_facts():
    assert set(METHODS) == set(FACTS)
    assert count_parameters(sdnet.SqueezeAndDecomposition()) == 67_091


@every_method
def test_parameters_files_and_card_agree(name):
    card, method = method_card(name), METHODS[name]
    assert count_parameters(method.build()) == FACTS[name][0] == card.parameters
    assert method.files == card.checkpoint
    assert (method.convert is None) == (not card.checkpoint)
    assert name in MODULES[card.module].METHODS
    assert all((card.task, card.doi, card.colour, card.values, card.output, card.weights, card.licence, card.note))


def test_licences_of_the_authors_repositories():
    licences = {name: method_card(name).licence for name in METHODS}
    mit = {name for name, licence in licences.items() if licence.startswith("MIT")}
    assert mit == {"FusionGAN", "PMGI", "PMGI-Medical", "SDNet", "SDNet-Medical", "STDFusionNet", "UMF-CMGR"}
    assert {licences[name] for name in METHODS if name.startswith("U2Fusion")} == {"not stated"}


@every_method
def test_multiply_adds(name):
    assert complexity(METHODS[name]).multiply_adds / 1e9 == pytest.approx(FACTS[name][1], rel=0.01)


@every_method
def test_multiply_adds_by_another_counter(name):
    fvcore = pytest.importorskip("fvcore.nn")
    analysis = fvcore.FlopCountAnalysis(untrained(name), tuple(images(48, 64)))  # runs the network: a small image
    analysis.unsupported_ops_warnings(False)
    assert analysis.total() == pytest.approx(complexity(METHODS[name], 48, 64).multiply_adds, rel=0.01)
    if name != "FusionGAN":  # whose margin is not in proportion
        assert analysis.total() / 1e7 == pytest.approx(FACTS[name][1], rel=0.01)


@every_build
@pytest.mark.parametrize("size", [(37, 53), (2, 2), (3, 2), (2, 19), (32, 24)])
def test_any_size_from_two_by_two(name, size):
    with torch.inference_mode():
        fused = output(untrained(name), *images(*size))
    assert fused.shape == (1, 3 if name == "SDNet-training" else 1, *size)
    assert fused.dtype == torch.float32
    assert torch.isfinite(fused).all()
    low, high = FACTS.get(name, FACTS["SDNet"])[2]
    assert low <= fused.min()
    assert fused.max() <= high


@pytest.mark.parametrize(
    "name", [name for name in METHODS if name not in ("U2Fusion", "U2Fusion-stretched")]
)  # which reflect
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (7, 1)])
def test_strips_of_one_pixel(name, size):
    with torch.inference_mode():
        assert torch.isfinite(untrained(name)(*images(*size))).all()


@every_build
def test_a_batch_gives_what_its_images_give_alone(name):
    network, (infrared, visible) = untrained(name), images(21, 18, count=2)
    visible[1] *= 0.1  # images of other statistics
    with torch.inference_mode():
        together = output(network, infrared, visible)
        alone = torch.cat([output(network, infrared[i : i + 1], visible[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


@every_build
def test_threads_do_not_change_the_result(name):
    network, pair = untrained(name), images(24, 31)
    with torch.inference_mode():
        one = output(network, *pair)
        with two_threads():
            two = output(network, *pair)
    torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)


@every_build
@pytest.mark.parametrize("training", [False, True])
def test_every_parameter_learns_but_biases_under_a_norm(name, training):
    network = untrained(name).double().train(training)
    norms = {key for key, module in network.named_modules() if isinstance(module, CurrentNorm)}
    under_a_norm = {f"{key[:-1]}0.bias" for key in norms}  # the convolution stands before it in a Sequential
    assert len(under_a_norm) == {"PMGI": 12, "PMGI-Medical": 12, "FusionGAN": 4}.get(name, 0)
    output(network, *images(12, 11, count=2, dtype=np.float64)).square().mean().backward()
    size = {key: p.grad.abs().max().item() for key, p in network.named_parameters()}
    assert all(np.isfinite(value) for value in size.values())
    assert {key for key, value in size.items() if value < 1e-13} == under_a_norm


@every_build
def test_a_seed_gives_the_same_weights(name):
    first, again, other = (untrained(name, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@every_build
def test_evaluation_leaves_the_network_as_it_is(name):
    network, pair = untrained(name), images(9, 8)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.inference_mode():
        assert torch.equal(output(network, *pair), output(network, *pair))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("name", ["PMGI", "SDNet"])
def test_both_paths_are_wired_alike(name):
    network, (a, b) = untrained(name), images(13, 17)
    network.visible.load_state_dict(network.infrared.state_dict())
    with torch.inference_mode():
        for transfer in getattr(network.visible, "transfers", ()):  # both paths' have the infrared features in front
            transfer[0].weight.copy_(transfer[0].weight.roll(16, dims=1))
        assert not torch.allclose(network(a, b), network(b, a), atol=1e-4)
        network.last.weight[:, 64:] = network.last.weight[:, :64]
        torch.testing.assert_close(network(a, b), network(b, a))


def test_pmgi_paths_see_each_other():
    network, (a, b) = untrained("PMGI"), images(13, 17)
    with torch.inference_mode():
        network.last.weight[:, 64:] = 0  # the infrared path alone
        before = network(a, b)
        network.visible.layers[1][0].weight *= -1
        assert not torch.allclose(network(a, b), before, atol=1e-3)


def test_sdnet_decomposes_what_it_fused():
    network, pair = untrained("SDNet-training"), images(13, 17)
    with torch.inference_mode():
        result = network(*pair)
        assert torch.equal(result.fused, network.squeeze(*pair))
        assert torch.equal(torch.cat(network.decomposition(result.fused)), torch.cat((result.infrared, result.visible)))


def test_fusiongan_takes_off_the_margin_and_repeats_the_border():
    network, (a, b) = untrained("FusionGAN"), images(20, 23)
    with torch.inference_mode():
        assert network.generator(torch.cat((a, b), dim=1)).shape == (1, 1, 8, 11)
        wide = [torch.from_numpy(np.pad(x[0, 0].numpy(), 6, "edge"))[None, None] for x in (a, b)]
        assert torch.equal(network.generator(torch.cat(wide, dim=1)), network(a, b))


def test_u2fusion_reflects_where_the_port_has_zeros():
    reflecting, port, pair = untrained("U2Fusion"), untrained("U2Fusion-port"), images(26, 25)
    port.load_state_dict(reflecting.state_dict())
    with torch.inference_mode():
        difference = (reflecting(*pair) - port(*pair)).abs()[0, 0]
    assert difference[10:-10, 10:-10].max() < 1e-6  # ten convolutions of 3x3
    assert difference[0].max() > 1e-4


@pytest.mark.parametrize("training", [True, False])
def test_norm_equals_pytorchs(training):
    ours = CurrentNorm(4).double().train(training)
    with torch.no_grad():
        ours.weight.copy_(torch.rand(4))
        ours.bias.copy_(torch.rand(4))
    theirs = nn.BatchNorm2d(4) if training else nn.InstanceNorm2d(4, affine=True)
    theirs.double().load_state_dict(ours.state_dict(), strict=False)
    x = torch.randn(3, 4, 5, 6, dtype=torch.float64) * 3 + 7
    torch.testing.assert_close(ours(x), theirs(x))


# --- names of weights


def conv(state: dict, key: str, x, reflect: bool = False):
    weight = state[f"{key}.weight"]
    return functional.conv2d(x, weight, state.get(f"{key}.bias"), padding=weight.shape[-1] // 2)


def random_state(biased: dict[str, tuple[int, ...]], bare: dict[str, tuple[int, ...]] | None = None) -> dict:
    """Weights of convolutions with and without bias."""
    generator = torch.Generator().manual_seed(0)
    shapes = biased | (bare or {})
    state = {
        f"{key}.weight": torch.randn(shape, generator=generator) / np.sqrt(np.prod(shape[1:]))
        for key, shape in shapes.items()
    }
    return state | {f"{key}.bias": torch.randn(shape[0], generator=generator) * 0.1 for key, shape in biased.items()}


def port_weights() -> dict:
    """Weights under the names of the PyTorch port."""
    shapes = {"conv_1.0": (44, 2, 3, 3)}
    shapes |= {f"dense_layers.{i}.conv.0": (44, 44 * (i + 1), 3, 3) for i in range(5)}
    shapes |= {"sub.0.0": (128, 264, 3, 3), "sub.1.0": (64, 128, 3, 3), "sub.2.0": (32, 64, 3, 3)}
    return random_state(shapes | {"sub.3": (1, 32, 3, 3)})


def port_forward(state: dict, infrared, visible):
    def step(key, x):
        return functional.leaky_relu(conv(state, key, x), 0.2)

    x = step("conv_1.0", torch.cat((visible, infrared), 1))
    for i in range(5):
        x = torch.cat((x, step(f"dense_layers.{i}.conv.0", x)), 1)
    for i in range(3):
        x = step(f"sub.{i}.0", x)
    return (torch.tanh(conv(state, "sub.3", x)) + 1) / 2


def umf_weights() -> dict:
    """Weights under the names of UMF-CMGR's authors."""
    shapes = {"conv1_1.0": (64, 1, 3, 3), "conv2_1.0": (64, 1, 3, 3)}
    bare = {}
    for path in ("ir_path", "vi_path"):
        bare |= {f"{path}.0.dense_layers.{i}.conv": (64, 64 * (i + 1), 3, 3) for i in range(3)}
        bare[f"{path}.0.conv_1x1"] = (64, 256, 1, 1)
    shapes |= {f"fuse.{name}_conv": (64, 64, 3, 3) for name in ("query", "key")}
    shapes |= {f"fuse.gamma{i}": (2, 128, 3, 3) for i in (1, 2)}
    return random_state(shapes | {"fuse_res": (64, 128, 3, 3), "out_conv": (1, 64, 3, 3)}, bare)


def umf_forward(state: dict, infrared, visible):
    def path(head, name, image):
        start = found = functional.leaky_relu(conv(state, head, image), 0.2)
        for i in range(3):
            found = torch.cat((found, conv(state, f"{name}.0.dense_layers.{i}.conv", found).relu()), 1)
        return conv(state, f"{name}.0.conv_1x1", found) + start

    x, y = path("conv1_1.0", "ir_path", infrared), path("conv2_1.0", "vi_path", visible)
    gate = (conv(state, "fuse.query_conv", x) * conv(state, "fuse.key_conv", y)).sigmoid()
    mixed = []
    for features, name in ((x, "fuse.gamma1"), (y, "fuse.gamma2")):
        own, gated = conv(state, name, torch.cat((features, features * gate), 1)).split(1, dim=1)
        mixed.append(features * own + features * gate * gated)
    return conv(state, "out_conv", conv(state, "fuse_res", torch.cat(mixed, 1))).tanh()


PUBLISHED = {
    "U2Fusion-port": ("model", port_weights, port_forward),
    "UMF-CMGR": ("net", umf_weights, umf_forward),
}


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("wrapped", [True, False])
def test_weights_under_their_published_names(tmp_path, name, wrapped):
    wrapper, weights, forward = PUBLISHED[name]
    state, network, pair = weights(), untrained(name), images(12, 15)
    converted = METHODS[name].convert({wrapper: state} if wrapped else state, tmp_path)
    assert sorted(v.data_ptr() for v in converted.values()) == sorted(v.data_ptr() for v in state.values())
    load_strictly(network, converted, name)
    with torch.inference_mode():
        torch.testing.assert_close(network(*pair), forward(state, *pair), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PUBLISHED)
def test_other_weights_are_refused(tmp_path, name):
    _, weights, _ = PUBLISHED[name]
    state, key = weights(), next(iter(weights()))
    for changed in ({k: v for k, v in state.items() if k != key}, state | {"stray": torch.zeros(1)}):
        with pytest.raises(CheckpointError, match=r"1 missing|1 left over"):
            load_strictly(METHODS[name].build(), METHODS[name].convert(changed, tmp_path), name)
    with pytest.raises(CheckpointError, match="not a mapping"):
        METHODS[name].convert([1, 2], tmp_path)


def test_the_ports_list_of_losses_is_left_aside(tmp_path):
    """It holds NumPy's numbers, whose constructor the file names: nothing is called, the weights are read."""
    weights = port_weights()
    torch.save({"model": weights, "train_loss_1": [np.float64(0.5)]}, tmp_path / "model.pth")
    read = read_checkpoint(tmp_path / "model.pth")["model"]
    assert read.keys() == weights.keys()
    assert all(torch.equal(read[key], weights[key]) for key in weights)


def test_fusing_files_with_a_network(tmp_path):
    root = make_tno(tmp_path, 1)
    torch.save({"net": umf_weights()}, tmp_path / "any name.pth")
    fuser = make_fuser(method_card("UMF-CMGR"), files=[tmp_path / "any name.pth"], device="cpu")
    gray = ImagePair("01", root / "TNO/ir/01.png", root / "TNO/vi/01.png")
    write_png(root / "colour.png", np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8))
    (one, other) = fuser.fuse([gray, ImagePair("02", root / "TNO/ir/01.png", root / "colour.png")])
    assert (one.shape, one.dtype) == ((48, 64), np.uint8)
    assert other.shape == (48, 64, 3)


# --- values, bytes and colour


@every_method
def test_values_go_in_as_the_authors_have_them(name):
    method: NetworkMethod = METHODS[name]
    for byte, unit in ((0, 0), (51, 0.2), (255, 1)):
        for image in (np.full((2, 3), byte, np.uint8), np.full((2, 3, 3), byte, np.uint8)):
            for tensor in method.prepare(image, image):
                assert tensor.shape == (1, 2, 3)
                assert tensor.dtype == torch.float32
                assert tensor.numpy() == pytest.approx(2 * unit - 1 if name in SIGNED else unit, abs=1e-6)


@pytest.mark.parametrize("name", STRETCHED)
@pytest.mark.parametrize("scale", [1, 0.1])
def test_output_is_stretched_and_gray(name, scale):
    colour = np.full((1, 4, 3), 90, np.uint8)
    fused = METHODS[name].finish(torch.tensor([[[0, 0.25, 0.5, 1]]]) * scale, colour[..., 0], colour)
    assert fused.dtype == np.uint8
    assert fused.tolist() == [[0, 64, 128, 255]]
    assert (METHODS[name].finish(torch.full((1, 1, 4), 0.7), colour[..., 0], colour) == 0).all()


def test_halves_are_rounded_up():
    assert saved(np.array([0, 0.5, 1.5, 2.5, 255])).tolist() == [0, 1, 2, 3, 255]


def test_flattened_colour_is_luminance_with_a_fraction():
    colour = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    flat = flattened(colour)
    assert flat.dtype == np.float32
    assert np.abs(flat - to_gray(colour)).max() < 3  # 8-bit YCbCr lies between
    assert (flat != np.rint(flat)).any()
    assert (flattened(colour[..., 0]) == colour[..., 0]).all()


@pytest.mark.parametrize(("value", "gray", "colour"), [(100.6, 101, 100), (-1.5, 0, 255), (300, 255, 44)])
def test_umf_cmgr_rounds_gray_and_casts_colour(value, gray, colour):
    neutral = np.full((2, 3, 3), 90, np.uint8)
    finish, fused = METHODS["UMF-CMGR"].finish, torch.full((1, 2, 3), value / 255)
    assert (finish(fused, neutral[..., 0], neutral[..., 0]) == gray).all()
    assert (finish(fused, neutral[..., 0], neutral) == colour).all()


def test_the_port_cuts_the_fraction_off_and_keeps_the_chroma():
    red = np.full((2, 3, 3), (200, 20, 20), np.uint8)
    finish, fused = METHODS["U2Fusion-port"].finish, torch.full((1, 2, 3), 100.6 / 255)
    assert (finish(fused, red[..., 0], red[..., 0]) == 100).all()
    coloured = finish(fused, red[..., 0], red)
    assert (coloured[..., 0] > coloured[..., 1].astype(int) + 100).all()


@pytest.mark.parametrize("name", ["PMGI", "SDNet", "STDFusionNet", "U2Fusion"])
def test_in_float64_it_is_the_authors_program(name):
    """The authors' TensorFlow program and ours, filled by the same rule, differ by the rounding of float64."""
    system, method = name.lower(), METHODS[name]
    content = {key: torch.from_numpy(value) for key, value in filled(system, tensorflow_values).items()}
    network = method.build().eval()
    load_strictly(network, method.convert(content, Path(name)), name)
    visible, infrared = (torch.from_numpy(image).double() for image in exact_inputs(system))
    with torch.inference_mode():
        assert exact_difference(system, 0, network.double()(infrared, visible).numpy()) <= EXACT_BOUND
