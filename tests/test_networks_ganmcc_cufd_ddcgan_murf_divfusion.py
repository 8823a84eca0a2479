"""GANMcC, CUFD, DDcGAN, MURF and DIVFusion: structure, the published outputs, byte rules.

The published networks are TensorFlow's. Their vectors come from a transcription to PyTorch in float32; in float64 they
are held against the authors' own programs.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from bundles import bundle
from conftest import textured
from vectors import (
    BOUND,
    EXACT,
    EXACT_BOUND,
    arrays,
    difference,
    exact_difference,
    exact_inputs,
    filled,
    tensorflow_values,
    variables,
)

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402

from evalkit.data.card import load_card  # noqa: E402
from evalkit.data.images import read_image, to_gray, write_png  # noqa: E402
from evalkit.data.pairs import ImagePair, find_pairs  # noqa: E402
from evalkit.methods.checkpoints import CheckpointError, load_strictly  # noqa: E402
from evalkit.methods.complexity import complexity  # noqa: E402
from evalkit.methods.fuse import make_fuser  # noqa: E402
from evalkit.methods.network import count_parameters  # noqa: E402
from evalkit.methods.networks import cufd, ddcgan, divfusion, ganmcc, murf  # noqa: E402
from evalkit.methods.registry import method_card  # noqa: E402

METHODS = ganmcc.METHODS | cufd.METHODS | ddcgan.METHODS | murf.METHODS | divfusion.METHODS
# published parameters, those of them that evalkit leaves out because the published test does, multiply-adds in G at
# 480x640 (of the square of 640 that MURF works on)
FACTS = {
    "GANMcC": (1_864_129, 1_920, 579.8),
    "GANMcC-stored": (1_864_129, 0, 579.8),
    "CUFD": (955_297, 0, 1002.6),
    "DDcGAN": (1_097_665, 0, 495.8),
    "MURF": (115_707, 0, 24.31),
    "MURF-aligned": (115_707, 0, 10.69),
    "DIVFusion": (4_397_185, 0, 1350.0),
}
SYSTEMS = {name: name.split("-")[0].lower() for name in METHODS}
FILES_OF = {"cufd": ("m_", "s_"), "divfusion": ("DecomNet/", "enhance/")}  # the beginnings of names in each file
# what has no effect: biases before a norm, an offset field that is not looked at, weights that a norm makes equal
DEAD = {
    "GANMcC": r"(infrared|visible)\.\d\.0\.bias",
    "GANMcC-stored": r"(infrared|visible)\.\d\.0\.bias",
    "CUFD": r".*(\.0\.bias)",
    "DDcGAN": r"(first|dense\.\d|decoder\.\d)\.0\.bias",
    "MURF": r"offset\.(?!halved|last).*\.conv\.bias",
    "MURF-aligned": r"offset\..*",
    "DIVFusion": r".*\.bias|of_(infrared|visible)\..*",
}
every_method = pytest.mark.parametrize("name", METHODS)


def published(name: str) -> list[dict]:
    """What the authors' files hold, filled by the rule."""
    system = SYSTEMS[name]
    state = {key: torch.from_numpy(value) for key, value in filled(system, tensorflow_values).items()}
    starts = FILES_OF.get(system)
    if starts is None:
        return [state]
    return [{k: v for k, v in state.items() if k.removeprefix("DenseFuseNet/").startswith(start)} for start in starts]


def loaded(name: str, contents: list[dict]):
    network = METHODS[name].build().eval()
    state = METHODS[name].convert(*(part for content in contents for part in (content, Path(name))))
    load_strictly(network, state, name)
    return network


def images(name: str, dtype=torch.float32):
    data = arrays(SYSTEMS[name])
    return [torch.from_numpy(data[f"in_{i}"]).to(dtype) for i in range(2)]


def differences(name: str, outputs: dict) -> dict[int, float]:
    """Number of a published output -> how far ours is from it; prints all."""
    data = arrays(SYSTEMS[name])
    values = {number: difference(ours.numpy(), data[f"out_{number}"]) for number, ours in outputs.items()}
    print(name, {number: f"{value:.2g}" for number, value in values.items()})
    return values


def mean(features):
    return features.mean((2, 3))


@every_method
def test_parameters_card_and_cost(name):
    card, method = method_card(name), METHODS[name]
    parameters, left_out, cost = FACTS[name]
    assert count_parameters(method.build()) == parameters - left_out == card.parameters
    assert method.files == card.checkpoint
    assert all((card.doi, card.colour, card.values, card.output, card.weights, card.licence, card.note, card.compared))
    # shapes alone run through; GANMcC's kernels also work on a border, and so do not cost in proportion to the pixels
    part = 1 if name.startswith("GANMcC") else 4
    counted = complexity(method, 480 // part, 640 // part).multiply_adds * part**2
    assert counted / 1e9 == pytest.approx(cost, rel=0.002)


@every_method
@pytest.mark.parametrize("size", [(21, 27), (16, 33)])
def test_any_size(name, size):
    torch.manual_seed(0)
    network, method = METHODS[name].build().eval(), METHODS[name]
    gray, colour = textured(1, *size), np.dstack([textured(seed, *size) for seed in (2, 3, 4)])
    for infrared, visible in ((gray, gray), (gray, colour), (np.repeat(gray[..., None], 3, axis=2), colour)):
        with torch.inference_mode():
            output = network(*(tensor[None] for tensor in method.prepare(infrared, visible)))[0]
        assert torch.isfinite(output).all()
        fused = method.finish(output, infrared, visible)
        assert fused.dtype == np.uint8
        assert fused.shape == (visible.shape if name.startswith(("MURF", "DIV")) else size)
        if not name.startswith("MURF"):  # whose result is RGB of another size, not clipped
            assert output.shape == (1, *size)
            assert -1 <= output.min() <= output.max() <= 1
            assert name.startswith("GANMcC") or output.min() >= 0


@every_method
def test_a_batch_gives_what_each_image_gives(name):
    torch.manual_seed(0)
    network, method = METHODS[name].build().eval(), METHODS[name]
    pairs = [tuple(x[None] for x in method.prepare(textured(k, 16, 16), textured(k + 1, 16, 16))) for k in (1, 3)]
    with torch.inference_mode():
        together = network(*(torch.cat(both) for both in zip(*pairs, strict=True)))
        for i, pair in enumerate(pairs):
            torch.testing.assert_close(together[i : i + 1], network(*pair), rtol=1e-3, atol=1e-4)


@every_method
def test_every_parameter_learns_or_is_dead(name):
    torch.manual_seed(0)
    network, method = METHODS[name].build().double().train(), METHODS[name]
    colour = np.dstack([textured(seed, 24, 24) for seed in (2, 3, 4)])
    pair = [tensor[None].double() for tensor in method.prepare(textured(1, 24, 24), colour)]
    output = network(*pair)
    (output * torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view_as(output).cos()).sum().backward()
    gradients = {key: 0.0 if p.grad is None else float(p.grad.abs().max()) for key, p in network.named_parameters()}
    largest = max(gradients.values())
    still = {key for key, value in gradients.items() if value <= 1e-12 * largest}
    dead = {key for key in gradients if re.fullmatch(DEAD[name], key)}
    assert still <= dead
    assert len(still) > len(dead) / 2


@every_method
def test_a_missing_and_a_left_over_key_are_refused(name):
    assert loaded(name, published(name))
    for change in ("missing", "left over"):
        contents = published(name)
        content = contents[-1]
        if change == "missing":
            content.pop(next(key for key in reversed(content) if "BatchNorm" not in key))
        else:
            content[f"{next(iter(content)).split('/')[0]}/layer77/w77"] = torch.zeros(1)
        with pytest.raises(CheckpointError, match=change):
            loaded(name, contents)


@pytest.mark.parametrize("name", ["CUFD", "DDcGAN", "MURF"])
def test_a_written_checkpoint_fuses(tmp_path, name):
    contents = [{key: value.numpy() for key, value in content.items()} for content in published(name)]
    files = iter(METHODS[name].files)
    for content in contents:
        for part in bundle(content):
            path = tmp_path / next(files)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(part)
    for kind, seed in (("ir", 1), ("vi", 2)):
        write_png(tmp_path / f"{kind}.png", textured(seed, 16, 16))
    fuser = make_fuser(method_card(name), tmp_path, device="cpu")
    image = next(iter(fuser.fuse([ImagePair("1", tmp_path / "ir.png", tmp_path / "vi.png")])))
    assert image.shape == (16, 16)
    assert image.max() > image.min()


# --- GANMcC


def ganmcc_outputs(network, infrared, visible) -> dict:
    stored = loaded("GANMcC-stored", published("GANMcC")).to(infrared.dtype)
    first, second = (functional.pad(x, [6] * 4, mode="replicate") for x in (infrared, visible))
    a, b = stored.streams(infrared, visible)
    return {
        0: network(infrared, visible),
        1: stored(infrared, visible),
        2: network.streams(infrared, visible)[0][:, :4],
        3: b[:, :4],
        4: mean(stored.infrared[:1](torch.cat((first, first, second), 1))),
        5: mean(stored.visible[:2](torch.cat((second, second, first), 1))),
        6: mean(a),
    }


def test_ganmcc_is_the_published_network():
    with torch.inference_mode():
        outputs = ganmcc_outputs(loaded("GANMcC", published("GANMcC")), *images("GANMcC"))
    assert max(differences("GANMcC", outputs).values()) <= BOUND


def test_ganmcc_reads_raw_kernels_and_resets_norms():
    contents = published("GANMcC")
    changed = [{k: v * 3 if "BatchNorm" in k else v for k, v in contents[0].items()}]
    changed[0]["fusion_model/layer1/BatchNorm/moving_mean"] = torch.ones(256)
    changed[0]["discriminator/layer_1/w1"] = torch.ones(3, 3, 1, 32)
    network, other = loaded("GANMcC", contents), loaded("GANMcC", changed)
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in network.state_dict().items())
    assert loaded("GANMcC-stored", changed)


# --- CUFD


def cufd_outputs(network, visible, infrared) -> dict:
    first, second = (network.encoder(cufd.unit_range(image)) for image in (visible, infrared))
    return {
        0: network(infrared, visible),
        1: mean(first[0]),
        2: mean(first[3]),
        3: mean(second[3]),
        4: mean(torch.cat(network.parts(first[0], second[0]), 1)),
        5: mean(torch.cat(network.parts(first[3], second[3]), 1)),
        6: mean(network.fused_parts(first[0], second[0])),
        7: mean(network.fused_parts(first[3], second[3])),
        8: torch.cat(network.parts(first[1], second[1]), 1)[:, ::32],
    }


def test_cufd_is_the_published_network():
    """The result spreads over .014 only, so that rounding of its values alone, in float32, is 4e-6 of that."""
    with torch.inference_mode():
        values = differences("CUFD", cufd_outputs(loaded("CUFD", published("CUFD")), *images("CUFD")))
    assert values.pop(0) <= 4e-5
    assert max(values.values()) <= BOUND


def test_cufd_takes_each_part_from_its_own_file():
    images_file, features_file = published("CUFD")
    fresh = {key: torch.zeros_like(value) for key, value in (images_file | features_file).items()}
    slots = {f"{key}/RMSProp": value for key, value in fresh.items()}
    network = loaded("CUFD", [images_file, features_file])
    other = loaded("CUFD", [fresh | slots | images_file, fresh | slots | features_file])
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in network.state_dict().items())


def test_cufd_does_not_see_contrast():
    """Both images are stretched first; a constant one is black."""
    torch.manual_seed(0)
    network = METHODS["CUFD"].build().eval()
    infrared, visible = torch.rand(2, 1, 1, 12, 16)
    with torch.inference_mode():
        torch.testing.assert_close(network(infrared / 2 + 0.25, visible / 4), network(infrared, visible))
        assert torch.isfinite(network(torch.ones_like(infrared), visible)).all()


# --- DDcGAN


def ddcgan_outputs(network, visible, infrared) -> dict:
    features = network.features(infrared, visible)
    steps = [torch.relu(network.again[0](features))]
    for layer in (network.again, *network.decoder):
        steps.append(layer(steps[-1]))
    return {
        0: network(infrared, visible),
        1: mean(features),
        **{2 + i: mean(steps[i]) for i in range(3)},
        5: mean(steps[4]),
        6: features[:, ::48],
    }


def test_ddcgan_is_the_published_network():
    with torch.inference_mode():
        outputs = ddcgan_outputs(loaded("DDcGAN", published("DDcGAN")), *images("DDcGAN"))
    assert max(differences("DDcGAN", outputs).values()) <= BOUND


# --- MURF


def murf_outputs(network, visible, infrared) -> dict:
    offset = network.offset(visible, infrared)
    registered = network.registered(visible, infrared)
    fused = network.fuse(registered, infrared)
    return {
        0: network(visible, infrared),
        1: fused.luminance,
        2: offset,
        3: registered,
        4: mean(fused.visible),
        5: mean(fused.infrared),
        6: fused.scale,
        7: mean(fused.merged),
    }


def test_murf_is_the_published_network():
    """Sampling multiplies the offset's rounding by half the side and by the softmax's 20.

    So the pixels it gives are compared by their number, and what follows from the published ones.
    """
    contents, data, (visible, infrared) = published("MURF"), arrays("murf"), images("MURF")
    network, aligned = loaded("MURF", contents), loaded("MURF-aligned", contents)
    with torch.inference_mode():
        offset = network.offset(visible, infrared)
        fused = network.fuse(torch.from_numpy(data["out_3"]), infrared)
        outputs = {
            0: fused.rgb,
            1: fused.luminance,
            2: offset,
            3: murf.sampled(visible, torch.from_numpy(data["out_2"])),
            4: mean(fused.visible),
            5: mean(fused.infrared),
            6: fused.scale,
            7: mean(fused.merged),
            8: aligned(visible, infrared),
        }
        pixels = network.registered(visible, infrared)
        assert difference(network(visible, infrared).numpy(), data["out_0"]) <= 1e-4
    assert max(differences("MURF", outputs).values()) <= BOUND
    assert (np.abs(pixels.numpy() - data["out_3"]) < 1e-5).mean() > 0.99


def test_murf_samples_nearly_the_nearest_pixel():
    image = torch.rand(1, 2, 9, 11, generator=torch.Generator().manual_seed(0))
    offset = torch.zeros(1, 2, 9, 11)
    torch.testing.assert_close(murf.sampled(image, offset)[..., :-1, :-1], image[..., :-1, :-1])
    offset[:, 0] = 2 / 10 * 1.2  # by 1.2 pixels to the right
    shifted = murf.sampled(image, offset)
    torch.testing.assert_close(shifted[..., :-1, :-3], image[..., :-1, 1:-2], atol=1e-4, rtol=0)
    assert not shifted[..., -1].any()  # beyond the border it is black
    offset[:, 0] = 2 / 10 * 1.5  # halfway between two pixels
    torch.testing.assert_close(murf.sampled(image, offset)[0, :, 3, 4], image[0, :, 3, 5:7].mean(1), atol=1e-3, rtol=0)


def test_murf_squeezes_into_a_square_and_scales_by_the_maximum():
    colour, gray = np.dstack([textured(seed, 20, 30) for seed in (2, 3, 4)]), textured(1, 20, 30)
    visible, infrared = METHODS["MURF"].prepare(gray, colour)
    assert visible.shape == (3, 32, 32)
    assert infrared.shape == (1, 32, 32)
    output = torch.full((3, 32, 32), -0.1)
    output[1] = 0.5
    fused = METHODS["MURF"].finish(output, gray, colour)
    assert fused.shape == (20, 30, 3)
    assert np.unique(fused.reshape(-1, 3), axis=0).tolist() == [[0, 255, 0]]


def test_murf_with_its_weights(shared):
    """The image is in its place: nearer to its sources than to them a few pixels away."""
    pair = next(pair for pair in find_pairs(load_card("TNO"), shared / "data", None).pairs if pair.stem == "19")
    fuser = make_fuser(method_card("MURF"), shared / "checkpoints", device="cpu")
    assert len(fuser.weights) == 2
    fused = to_gray(next(iter(fuser.fuse([pair]))))
    assert fused.max() == 255
    visible = to_gray(read_image(pair.visible)).astype(float)
    inside = (slice(8, -8), slice(8, -8))

    def likeness(shift: tuple[int, int]) -> float:
        return float(np.corrcoef(np.roll(fused, shift, (0, 1))[inside].ravel(), visible[inside].ravel())[0, 1])

    assert all(likeness((0, 0)) > likeness(shift) for shift in ((6, 0), (-6, 0), (0, 6), (0, -6)))


# --- DIVFusion


def divfusion_outputs(network, visible, infrared) -> dict:
    features = network.encoder(torch.cat((visible, infrared), dim=1))
    steps = network.steps(features)
    layers = torch.cat([layer(steps.gradients) for layer in network.contrast.layers], dim=1)
    evenly = 3e-9 if features.dtype == torch.float32 else 1e-15
    assert (network.of_infrared(features) - 1 / 256).abs().max() < evenly
    return {
        0: steps.fused,
        1: mean(features),
        3: mean(steps.joined),
        4: divfusion.laplacian_map(steps.joined),
        5: divfusion.gradient_map(steps.joined),
        6: mean(steps.gradients.abs()),
        7: network.contrast.contrast(layers),
    }


def test_divfusion_is_the_published_network():
    """In float32 rounding alone is larger than elsewhere: the first layers' features go on divided by 256."""
    network = loaded("DIVFusion", published("DIVFusion"))
    assert np.abs(arrays("divfusion")["out_2"] - 1 / 256).max() < 3e-9  # the attention, as ours
    with torch.inference_mode():
        values = differences("DIVFusion", divfusion_outputs(network, *images("DIVFusion")))
    assert values.pop(0) <= 6e-5
    assert values.pop(3) <= 6e-4  # channels have nearly one mean, which makes the deviation small
    assert max(values.values()) <= BOUND


def test_divfusion_leaves_out_what_its_test_does_not_read():
    first, second = published("DIVFusion")
    network = loaded("DIVFusion", [first, second])
    unread = {"enhance/encoder/layer1/w1": torch.ones(1), "enhance/CAM_IR/layer/w1": torch.ones(1)}
    norms = {"enhance/layer/BatchNorm/gamma": torch.ones(256)}
    other = loaded("DIVFusion", [first | second, first | second | unread | norms])
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in network.state_dict().items())


def test_divfusion_keeps_the_chroma():
    colour = np.full((8, 8, 3), (200, 100, 50), np.uint8)
    method = METHODS["DIVFusion"]
    luminance, _ = method.prepare(textured(1, 8, 8), colour)
    assert luminance[0, 0, 0] == pytest.approx((0.299 * 200 + 0.587 * 100 + 0.114 * 50) / 255)
    same = method.finish(luminance + 1e-3, textured(1, 8, 8), colour)
    assert np.abs(same.astype(int) - colour).max() <= 1
    assert not method.finish(torch.zeros(1, 8, 8), textured(1, 8, 8), np.zeros((8, 8), np.uint8)).any()


# --- in float64

OUTPUTS = {
    "GANMcC": ganmcc_outputs,
    "CUFD": cufd_outputs,
    "DDcGAN": ddcgan_outputs,
    "MURF": murf_outputs,
    "DIVFusion": divfusion_outputs,
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_in_float64_it_is_the_authors_program(name):
    """All that float32 hides: ours and the authors' TensorFlow program differ by the rounding of float64."""
    system = SYSTEMS[name]
    pair = [torch.from_numpy(image).double() for image in exact_inputs(system)]
    with torch.inference_mode():
        outputs = OUTPUTS[name](loaded(name, published(name)).double(), *pair)
    assert {str(number) for number in outputs} == set(EXACT[system]["outputs"])
    values = {number: exact_difference(system, number, ours.numpy()) for number, ours in outputs.items()}
    print(name, {number: f"{value:.2g}" for number, value in values.items()})
    assert max(values.values()) <= EXACT_BOUND


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_numbers_in_float64_are_of_the_published_inputs_and_variables(name):
    system = SYSTEMS[name]
    data = arrays(system)
    assert all(np.array_equal(image, data[f"in_{number}"]) for number, image in enumerate(exact_inputs(system)))
    assert {key: tuple(shape) for key, shape in EXACT[system]["variables"].items()} == variables(system)
