"""GeSeNet, IGNet, DeFusion and MsgFusion: structure, outputs of the published networks, byte rules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import textured
from vectors import BOUND, arrays, difference, filled

torch = pytest.importorskip("torch")

from evalkit.data.images import read_image  # noqa: E402
from evalkit.methods.checkpoints import CheckpointError, load_strictly, read_checkpoint  # noqa: E402
from evalkit.methods.network import count_parameters  # noqa: E402
from evalkit.methods.networks import defusion, gesenet, ignet, msgfusion  # noqa: E402
from evalkit.methods.registry import method_card  # noqa: E402

METHODS = {**gesenet.METHODS, **ignet.METHODS, **defusion.METHODS, **msgfusion.METHODS}
# parameters of the published network, and those of them that evalkit leaves out because they have no effect
FACTS = {
    **dict.fromkeys(gesenet.METHODS, (240_587, 2)),
    **dict.fromkeys(ignet.METHODS, (7_871_327, 768)),
    "DeFusion": (7_874_473, 435),
    "MsgFusion": (2_971_110, 330_019),
    "MsgFusion-CT": (2_971_622, 330_531),
}
# method -> its vectors
SYSTEMS = {
    **dict.fromkeys(gesenet.METHODS, "gesenet"),
    **dict.fromkeys(ignet.METHODS, "ignet"),
    "DeFusion": "defusion",
    **dict.fromkeys(msgfusion.METHODS, "msgfusion"),
}
FROZEN = {name: {"channels.conv1.weight"} for name in msgfusion.METHODS}
UNTRAINED = {"DeFusion": {"project.weight", "project.bias"}}  # of the parts, which fusion does not need
every_method = pytest.mark.parametrize("name", METHODS)


def inputs(name: str, height: int, width: int, batch: int = 1):
    """Two gray images and a colour one as `prepare` gives them, batched."""
    infrared, visible = textured(1, height, width), np.dstack([textured(seed, height, width) for seed in (2, 3, 4)])
    return tuple(tensor.expand(batch, -1, -1, -1) for tensor in METHODS[name].prepare(infrared, visible))


def untrained(name: str, seed: int = 0):
    torch.manual_seed(seed)
    network = METHODS[name].build()
    for key, value in network.named_parameters():
        if key.endswith("gamma"):  # what starts at 0 hides all that it weighs
            torch.nn.init.ones_(value)
    return network


def of_vectors(name: str):
    """The network with the published tensors, filled, through the loader of the published file."""
    system = SYSTEMS[name]
    arrays(system)  # skips where they are not at hand
    state = {key: torch.from_numpy(value) for key, value in filled(system).items()}
    network = METHODS[name].build().eval()
    load_strictly(network, METHODS[name].convert(state, Path(system)), system)
    return network


def close(outputs, data, first: int = 0) -> None:
    """Each output within the bound of the published one, out_0 or out_<first> and following; prints the largest."""
    differences = [difference(ours.numpy(), data[f"out_{i}"]) for i, ours in enumerate(outputs, first)]
    print(f"{max(differences):.2g}")
    assert max(differences) <= BOUND, differences


@every_method
def test_parameters_and_card(name):
    card = method_card(name)
    published, dead = FACTS[name]
    assert count_parameters(METHODS[name].build()) == published - dead == card.parameters
    assert all((card.doi, card.colour, card.values, card.output, card.weights, card.licence, card.note, card.compared))


@every_method
def test_any_size(name):
    network, method = untrained(name).eval(), METHODS[name]
    gray, colour = textured(1, 21, 27), np.dstack([textured(seed, 21, 27) for seed in (2, 3, 4)])
    for infrared, visible in ((gray, gray), (gray, colour), (np.repeat(gray[..., None], 3, axis=2), colour)):
        with torch.inference_mode():
            output = network(*(tensor[None] for tensor in method.prepare(infrared, visible)))[0]
        assert output.shape[1:] == (21, 27)
        assert torch.isfinite(output).all()
        fused = method.finish(output, infrared, visible)
        assert fused.dtype == np.uint8
        assert fused.shape[:2] == (21, 27)


@every_method
def test_a_batch_gives_what_each_image_gives(name):
    network = untrained(name).eval()
    pairs = [inputs(name, 24, 32), tuple(tensor.flip(3) for tensor in inputs(name, 24, 32))]
    with torch.inference_mode():
        together = network(*(torch.cat(tensors) for tensors in zip(*pairs, strict=True)))
        for i, pair in enumerate(pairs):
            torch.testing.assert_close(together[i : i + 1], network(*pair), rtol=1e-4, atol=1e-5)


@every_method
def test_every_parameter_learns(name):
    still, seed = {"not yet"}, 0
    while still and seed < 4:  # a ReLU of two channels may be dead in one of them
        network = untrained(name, seed).train()
        network(*inputs(name, 32, 32, batch=2)).square().mean().backward()
        learns = {key: value for key, value in network.named_parameters() if value.requires_grad}
        zero = {key for key, value in learns.items() if value.grad is None or not value.grad.any()}
        still, seed = (zero if seed == 0 else still & zero), seed + 1
    assert still == UNTRAINED.get(name, set())
    assert {key for key, value in network.named_parameters() if not value.requires_grad} == FROZEN.get(name, set())


@every_method
def test_a_missing_and_a_left_over_key_are_refused(name):
    system = SYSTEMS[name]
    arrays(system)  # skips where they are not at hand
    published = {key: torch.from_numpy(value) for key, value in filled(system).items()}
    for change in ("missing", "left over"):
        state = dict(published)
        if change == "missing":
            # some tensors have no effect and are not read
            state.pop(next(key for key, value in state.items() if METHODS[name].convert({key: value}, Path(system))))
        else:
            state["decoder7.weight"] = torch.zeros(1)
        with pytest.raises(CheckpointError, match=change):
            load_strictly(METHODS[name].build(), METHODS[name].convert(state, Path(system)), system)


# --- GeSeNet


def test_gesenet_is_the_published_network():
    network, data = of_vectors("GeSeNet"), arrays("gesenet")
    luminance, mri, *noise = (torch.from_numpy(data[f"in_{i}"]) for i in range(6))
    first, second = gesenet.Uniforms(*noise[:2]), gesenet.Uniforms(*noise[2:])
    with torch.inference_mode():
        branch = network.functional
        edges, features = branch(luminance, None, False)
        mri_edges, mri_features = network.anatomical(mri, None, False)
        modulated = network.modulation(torch.cat((features, mri_features), 1), mri_edges)
        spatial, channels = branch.region.masks(edges, first, False)
        outputs = (
            network(mri, luminance),
            branch.region.masks(edges, None, False)[0],
            *(x.mean((2, 3)) for x in (edges, features, modulated)),
            network.fuse(mri, luminance, first, second),
            spatial,
            channels,
            of_vectors("GeSeNet-hard")(mri, luminance),
        )
    close(outputs, data)


def test_gesenet_with_its_weights(shared):
    path = shared / "checkpoints" / "GeSeNet.pth"
    if not path.is_file():
        pytest.skip("needs the weights of GeSeNet")
    data, networks = arrays("gesenet.real"), {}
    for name in ("GeSeNet", "GeSeNet-sampled"):
        networks[name] = METHODS[name].build().eval()
        load_strictly(networks[name], METHODS[name].convert(read_checkpoint(path), path), name)
    for stem in ("11", "30"):
        mri, pet = (read_image(shared / "data/Harvard/MRI_PET" / kind / f"{stem}.png") for kind in ("MRI", "PET"))
        prepared = [tensor[None] for tensor in METHODS["GeSeNet"].prepare(mri, pet)]
        with torch.inference_mode():
            plain, drawn = (networks[name](*prepared)[0] for name in ("GeSeNet", "GeSeNet-sampled"))
        crop = np.s_[96:160, 96:160]
        assert np.abs(plain[0].numpy() - data[f"y_{stem}"]).max() < 1e-3  # stored in half precision
        assert np.abs(plain[0].numpy()[crop] - data[f"y_crop_{stem}"]).max() < 1e-4
        assert np.abs(drawn[0].numpy()[crop] - data[f"y_seed0_crop_{stem}"]).max() < 1e-4
        fused = METHODS["GeSeNet"].finish(plain, mri, pet).astype(int)
        assert np.abs(fused - data[f"rgb_{stem}"]).max() <= 1


def test_gesenet_draws_the_same_masks_again_and_others_in_training():
    torch.manual_seed(0)
    sampled, pair = METHODS["GeSeNet-sampled"].build().eval(), inputs("GeSeNet", 16, 16)
    soft = METHODS["GeSeNet"].build().eval()
    soft.load_state_dict(sampled.state_dict())
    with torch.no_grad():
        assert torch.equal(sampled(*pair), sampled(*pair))
        assert not torch.equal(sampled(*pair), soft(*pair))
        assert torch.equal(soft(*pair), soft(*pair))
        soft.train()
        assert not torch.equal(soft(*pair), soft(*pair))


def test_gesenet_keeps_gray_gray():
    gray, method = textured(5, 16, 16), METHODS["GeSeNet"]
    output = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(0))
    fused = method.finish(output, gray, gray)
    assert fused.shape == (16, 16)
    assert (fused.min(), fused.max()) == (0, 255)
    colour = method.finish(output, gray, np.repeat(gray[..., None], 3, axis=2))
    assert np.abs(colour.astype(int) - fused[..., None]).max() <= 1  # chroma of gray is .5 but for rounding


# --- IGNet


def ignet_outputs(network, infrared, luminance):
    """The result and features: (N, 1, H, W), the encoders' deepest and what the graphs give."""
    with torch.inference_mode():
        first, second = network.infrared(infrared), network.visible(luminance)
        return network(infrared, luminance), first[0], second[0], network.cascades(first, second)


def test_ignet_is_the_published_network():
    data = arrays("ignet")
    luminance, infrared = (torch.from_numpy(data[f"in_{i}"]) for i in range(2))
    network = of_vectors("IGNet")
    result, first, second, cascades = ignet_outputs(network, infrared, luminance)
    close((result, *(x.mean((2, 3)) for x in (first, second, *cascades[0]))), data)
    assert difference(nodes_of_the_last_level(network, infrared, luminance), data["out_7"]) <= BOUND
    # statistics of 12x16 values amplify rounding: as far as this the published network is from itself in float64
    assert difference(cascades[2][0].numpy(), data["out_5"]) <= 1e-4
    assert difference(cascades[2][1].numpy(), data["out_6"]) <= 1e-4

    result, _, _, cascades = ignet_outputs(of_vectors("IGNet-stored"), infrared, luminance)
    close((result, cascades[0][0].mean((2, 3)), cascades[2][0]), data, first=8)


def nodes_of_the_last_level(network, infrared, luminance):
    """The infrared nodes of the finest level after their graph, means (3, 1, C)."""
    nodes = []
    handle = network.levels[2].infrared.reasoning.register_forward_hook(lambda _, __, output: nodes.extend(output))
    with torch.inference_mode():
        network(infrared, luminance)
    handle.remove()
    return torch.stack([node.mean((2, 3)) for node in nodes]).numpy()


def test_ignet_in_double_precision_is_the_published_network_to_the_last_digits():
    """Numbers of the published code, run in float64 with the filled tensors."""
    data = arrays("ignet")
    luminance, infrared = (torch.from_numpy(data[f"in_{i}"]).double() for i in range(2))
    result, _, _, cascades = ignet_outputs(of_vectors("IGNet").double(), infrared, luminance)
    rows = [1.070847552613, 1.524424186138, 0.978070896169, 0.627902574956, 0.258637862696, 1.749814569473]
    assert result[0, 0, ::16, ::16].flatten()[:6].tolist() == pytest.approx(rows, abs=2e-12)
    means = [0.363505997201, 0.262501199788, 0.377509695707, 0.414202503946]
    assert cascades[2][0].mean((0, 2, 3)).tolist() == pytest.approx(means, abs=2e-12)
    means = [0.457171026617, 0.499756933521, 0.418983480159, 0.276589000129]
    assert cascades[2][1].mean((0, 2, 3)).tolist() == pytest.approx(means, abs=2e-12)


def test_ignet_normalises_by_the_image_or_as_stored():
    """With the image's own statistics it does after training what it does within; with stored ones something else."""
    pair = inputs("IGNet", 32, 32)
    for name, same in (("IGNet", True), ("IGNet-stored", False)):
        network = untrained(name).eval()
        with torch.no_grad():
            after = network(*pair)
            assert torch.allclose(network.train()(*pair), after, atol=1e-5) == same


# --- DeFusion


def test_defusion_is_the_published_network():
    network, data = of_vectors("DeFusion"), arrays("defusion")
    infrared, visible = (torch.from_numpy(data[f"in_{i}"]) for i in range(2))
    with torch.inference_mode():
        features = network.encoder(infrared)
        deep = network.common(torch.cat((features[2], network.encoder(visible)[2]), dim=1))
        common, first, _ = network.embeddings(infrared, visible)
        means = (network.encoder.first(infrared), features[2], deep, common, first)
        close((*network.decompose(infrared, visible), *(x.mean((2, 3)) for x in means)), data)


def test_defusion_mirrors_the_border():
    network = untrained("DeFusion").eval()
    first, second = inputs("DeFusion", 20, 24)
    padded = (
        torch.from_numpy(np.pad(x.numpy(), ((0, 0), (0, 0), (16, 16), (16, 16)), "reflect")) for x in (first, second)
    )
    with torch.inference_mode():
        expected = network.decompose(*padded).fused[..., 16:36, 16:40]
        torch.testing.assert_close(network(first, second), expected)


# --- MsgFusion


@pytest.mark.parametrize("name", msgfusion.METHODS)
def test_msgfusion_is_the_published_network(name):
    network, data = of_vectors(name), arrays("msgfusion")
    first, second, light = (torch.from_numpy(data[f"in_{i}"]) for i in range(3))
    with torch.inference_mode():
        features = (network.channels(second), network.structure(first), network.smooth(first), network.spatial(first))
        close((network(first, second, light), *(x.mean(1, keepdim=True) for x in features)), data)


def test_msgfusion_light():
    colours = np.array([[[200, 100, 50], [10, 10, 10]], [[255, 255, 255], [255, 0, 0]]], np.uint8)
    # sums less the brightest: 150, 20, 510 (255 as a byte), 0; sums above 255: 95, 0, 510, 0
    expected = np.array([[150, 20], [255, 0]]) / 255
    np.testing.assert_allclose(msgfusion.light(colours, clipped=False), expected, rtol=1e-6)
    expected = np.array([[95, 0], [255, 0]]) / 255
    np.testing.assert_allclose(msgfusion.light(colours, clipped=True), expected, rtol=1e-6)
    assert not msgfusion.light(np.full((3, 4, 3), 80, np.uint8), clipped=True).any()


def test_msgfusion_takes_mri_first_and_ct_first():
    mri, other = textured(1, 16, 16), textured(2, 16, 16)
    for name, order in (("MsgFusion", (mri, other)), ("MsgFusion-CT", (other, mri))):
        prepared = METHODS[name].prepare(mri, other)
        for tensor, image in zip(prepared, order, strict=False):
            np.testing.assert_allclose(tensor.numpy(), np.repeat(image[None], 3, axis=0) / 255, rtol=1e-6)
