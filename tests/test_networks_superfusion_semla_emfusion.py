"""SuperFusion, SemLA and EMFusion: structure, outputs of the published networks with filled tensors, byte rules."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import textured
from vectors import BOUND, arrays, difference, filled

torch = pytest.importorskip("torch")

from evalkit.errors import ImageError  # noqa: E402
from evalkit.methods.checkpoints import CheckpointError, load_strictly, read_checkpoint  # noqa: E402
from evalkit.methods.complexity import complexity  # noqa: E402
from evalkit.methods.layers.colour import to_rgb, to_ycrcb, unit_rgb  # noqa: E402
from evalkit.methods.network import count_parameters  # noqa: E402
from evalkit.methods.networks import emfusion, semla, semla_registration, superfusion  # noqa: E402
from evalkit.methods.networks import superfusion_registration as registration  # noqa: E402
from evalkit.methods.registry import method_card  # noqa: E402

METHODS = superfusion.METHODS | emfusion.METHODS | semla.METHODS
# parameters, multiply-adds at 480x640 in G
FACTS = {
    "SuperFusion": (138_741, 42.4 - 3.72),  # without the branch that the published code computes in vain
    "SuperFusion-registered": (138_741 + 1_823_688, 72.87),
    "EMFusion": (148_545, 9.72 * 480 * 640 / 256**2),
    "EMFusion-CT": (148_545, 9.72 * 480 * 640 / 256**2),
    "SemLA": (4_559, 2.66),
    # matching of positions grows with the square of the image: .41 at 240x320
    **dict.fromkeys(list(semla.METHODS)[1:], (4_559 + 7_277_807, 2.66 / 4 + 16.5 + 0.41)),
}
MATCHED = ("SemLA-registered", "SemLA-registered-semantic")  # which untrained find no matches
DEAD = {"SuperFusion": "attention.unused_directions.", "SuperFusion-registered": "fusion.attention.unused_directions."}
every_method = pytest.mark.parametrize("name", METHODS)
every_unmatched = pytest.mark.parametrize("name", [name for name in METHODS if name not in MATCHED])


def inputs(name: str, height: int, width: int, batch: int = 1):
    """A gray image and a colour one as `prepare` gives them, batched."""
    gray, colour = textured(1, height, width), np.dstack([textured(seed, height, width) for seed in (2, 3, 4)])
    return tuple(tensor.expand(batch, -1, -1, -1) for tensor in METHODS[name].prepare(gray, colour))


def tensors(state):
    return {key: torch.from_numpy(value) for key, value in state.items()}


def built(name: str, *contents):
    """The network with published contents of files, through the loader of these files."""
    network = METHODS[name].build().eval()
    arguments = [argument for content in contents for argument in (content, Path(name))]
    load_strictly(network, METHODS[name].convert(*arguments), name)
    return network


def close(outputs, published) -> None:
    """Each output within the bound of `out_0`, `out_1`, ...; prints the largest difference."""
    differences = [difference(ours.numpy(), published[f"out_{i}"]) for i, ours in enumerate(outputs)]
    print([f"{value:.2g}" for value in differences])
    assert max(differences) <= BOUND


def mean(features):
    return features.mean(1, keepdim=True)


@every_method
def test_parameters_card_and_cost(name):
    card, method = method_card(name), METHODS[name]
    assert count_parameters(method.build()) == FACTS[name][0] == card.parameters
    assert method.files == card.checkpoint
    assert all((card.doi, card.colour, card.values, card.output, card.weights, card.licence, card.note, card.compared))


@every_method
def test_multiply_adds(name):
    attending = name in semla.METHODS and name != "SemLA"
    # of the others convolutions alone, in proportion to the pixels: a small image counts faster
    height, width, scale = (240, 320, 1) if attending else (60, 80, 64)
    counted = complexity(METHODS[name], height, width).multiply_adds * scale
    assert counted / 1e9 == pytest.approx(FACTS[name][1], rel=0.01)


@every_unmatched
@pytest.mark.parametrize("size", [(21, 27), (16, 33)])
def test_any_size(name, size):
    torch.manual_seed(0)
    network, method = METHODS[name].build().eval(), METHODS[name]
    gray, colour = textured(1, *size), np.dstack([textured(seed, *size) for seed in (2, 3, 4)])
    for infrared, visible in ((gray, gray), (gray, colour), (np.repeat(gray[..., None], 3, axis=2), colour)):
        with torch.inference_mode():
            output = network(*(tensor[None] for tensor in method.prepare(infrared, visible)))[0]
        assert output.shape == (1, *size)
        assert output.min() >= 0
        assert output.max() <= 1
        fused = method.finish(output, infrared, visible)
        assert fused.dtype == np.uint8
        assert fused.shape == (size if name == "EMFusion-CT" else visible.shape)


@every_unmatched
def test_a_batch_gives_what_each_image_gives(name):
    torch.manual_seed(0)
    network = METHODS[name].build().eval()
    pairs = [inputs(name, 24, 32), tuple(tensor.flip(3) for tensor in inputs(name, 24, 32))]
    with torch.inference_mode():
        together = network(*(torch.cat(both) for both in zip(*pairs, strict=True)))
        for i, pair in enumerate(pairs):
            torch.testing.assert_close(together[i : i + 1], network(*pair), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [*superfusion.METHODS, *emfusion.METHODS, "SemLA"])
def test_every_parameter_learns_but_dead_ones(name):
    still = None
    for seed in range(4):  # a unit may be dead in one of them
        torch.manual_seed(seed)
        network = METHODS[name].build().train()
        network(*inputs(name, 32, 40, batch=2)).square().mean().backward()
        zero = {key for key, value in network.named_parameters() if value.grad is None or not value.grad.any()}
        still = zero if still is None else still & zero
    prefix = DEAD.get(name)
    assert still == {key for key, _ in network.named_parameters() if prefix and key.startswith(prefix)}


OF_ANOTHER = {
    "SuperFusion": ({"FN": {"encoder_ir.0.model.0.bias": torch.zeros(8), "decoder.4.model.0.bias": torch.zeros(1)}},),
    "SuperFusion-registered": ({"FN": {"decoder.4.model.0.bias": torch.zeros(1)}, "DM": {}},),
    "EMFusion-CT": ({"fnet/fuse/conv5/bias": torch.zeros(32), "fnet/fuse/conv1/bias": torch.zeros(32)},),
    "SemLA": ({"fusion.fuse6.conv.weight": torch.zeros(1), "fusion.fuse1.conv.weight": torch.zeros(8, 1, 3, 3)},),
    "SemLA-semantic": ({"backbone.reg4.norm.weight": torch.zeros(1)}, {}),
    "SemLA-registered": ({"backbone.sa4.norm.weight": torch.zeros(1)}, {}),
}


@pytest.mark.parametrize("name", OF_ANOTHER)
def test_weights_of_another_network_are_refused(name):
    with pytest.raises(CheckpointError, match=r"keys \d+ missing: .*; 1 left over: "):
        built(name, *OF_ANOTHER[name])


# --- SuperFusion


def published_superfusion() -> dict:
    state = filled("superfusion")
    # values of the plain rule would make the recurrences explode
    state |= {key: value * np.float32(0.2) for key, value in state.items() if key.endswith("_weight.weight")}
    return {"FN": tensors(state), "DM": tensors(filled("superfusion-registration")), "ep": 1}


def test_superfusion_is_the_published_network():
    data = arrays("superfusion")
    infrared, visible = (torch.from_numpy(data[f"in_{i}"]) for i in range(2))
    network = built("SuperFusion", published_superfusion())
    with torch.inference_mode():
        first, second = network.infrared(infrared), network.visible(visible)
        joined = torch.cat((first, second), dim=1)
        recurrences = network.attention.recurrence1(network.attention.first(joined)).chunk(4, dim=1)
        mask = network.attention(joined)
        outputs = [network(infrared, visible), mean(first), mean(second), mask[:, :4], *map(mean, recurrences)]
    assert len(outputs) == sum(key.startswith("out") for key in data)
    close(outputs, data)
    assert mask.min() < 0  # no sigmoid


def test_superfusions_registration_is_the_published_network():
    data = arrays("superfusion-registration")
    infrared, visible = (torch.from_numpy(data[f"in_{i}"]) for i in range(2))
    network = built("SuperFusion-registered", published_superfusion())
    with torch.inference_mode():
        found = network.registration(infrared, visible)
        moved = registration.warped(infrared, torch.from_numpy(data["out_0"]))
        both = registration.warped(infrared, found.flow)
        fused = network.fusion(both[:, :1], to_ycrcb(visible)[:, :1])
        assert torch.equal(network(infrared, visible), fused)
    close([found.flow, moved, *map(mean, found.pyramid)], data)
    # one last digit of the float32 place, -1..1, at the faded border makes 2.8e-5 of the warped image's deviation
    assert difference(both.numpy(), data["out_1"]) <= 3 * BOUND


@pytest.mark.parametrize("name", superfusion.METHODS)
@pytest.mark.parametrize("change", ["missing", "left over"])
def test_superfusion_refuses_other_keys(name, change):
    arrays("superfusion")  # skips where the names are not at hand
    content = published_superfusion()
    if change == "missing":
        content["FN"].pop("SAM.conv2.model.0.bias")
    else:
        content["FN"]["decoder.4.model.0.bias"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=change):
        built(name, content)
    with pytest.raises(CheckpointError, match="no entry 'FN'"):
        built(name, {"DM": content["DM"]})


def test_recurrences_run_in_their_directions():
    x = torch.zeros(1, 1, 3, 4)
    x[0, 0, 1, 1] = 1.0
    weight, bias = torch.tensor([0.5]), torch.tensor([-0.125])
    right = superfusion.recurrence(x, weight, bias, 3)
    torch.testing.assert_close(right[0, 0, 1], torch.tensor([0.0, 0.875, 0.3125, 0.03125]))
    down = superfusion.recurrence(x, weight, bias, 2)
    torch.testing.assert_close(down[0, 0, :, 1], torch.tensor([0.0, 0.875, 0.3125]))
    for dim in (2, 3):
        flipped = superfusion.recurrence(x.flip(dim), weight, bias, dim).flip(dim)
        torch.testing.assert_close(superfusion.recurrence(x, weight, bias, dim, reverse=True), flipped)


def test_a_flow_moves_the_image_and_zeros_come_from_outside():
    image = torch.rand(1, 1, 8, 10, generator=torch.Generator().manual_seed(0)) + 1
    two_right = torch.zeros(1, 2, 8, 10)
    two_right[:, 0] = 2 * 2 / 10
    still, moved = (registration.warped(image, flow) for flow in (torch.zeros(1, 2, 8, 10), two_right))
    torch.testing.assert_close(moved[..., :-2], _shifted_place(image, 2)[..., :-2])
    assert (moved[..., -1] == 0).all()
    assert still[..., 0, 0] < image[..., 0, 0] / 2 + 0.5  # the border fades


def _shifted_place(image, columns: int):
    """Bilinear values at places `columns` further right, of places from -1/2 to the last pixel plus 1/2."""
    height, width = image.shape[2:]
    wide = torch.nn.functional.pad(image, [1, 1, 1, 1])[0, 0]
    rows, places = np.linspace(0.5, height + 0.5, height), np.linspace(0.5, width + 0.5, width) + columns
    values = np.zeros((height, width))
    for i, row in enumerate(rows):
        for j, column in enumerate(places):
            top, left = min(int(row), height), min(int(column), width)
            a, b = row - top, column - left
            corner = wide[top : top + 2, left : left + 2].numpy()
            values[i, j] = (np.array([1 - a, a]) @ corner @ np.array([1 - b, b])).item()
    return torch.from_numpy(values.astype(np.float32))[None, None]


def test_a_blur_keeps_flat_parts_and_its_border():
    flat = torch.full((1, 2, 20, 9), 3.0)
    torch.testing.assert_close(registration.blurred(flat, 13, 3, "replicate"), flat)
    zeros = registration.blurred(flat, 13, 3, "constant")
    assert zeros[0, 0, 10, 4] < 3
    assert zeros[0, 0, 0, 0] < 1


# --- EMFusion


def from_torch_names(state) -> dict:
    """The vectors' names (conv1.weight, ...) as TensorFlow has them, kernels (height, width, in, out)."""
    content = {}
    for key, value in tensors(state).items():
        layer, kind = key.split(".")
        kernel = kind == "weight"
        content[f"fnet/fuse/{layer}/{'kernel' if kernel else kind}"] = value.permute(2, 3, 1, 0) if kernel else value
    return content


def test_emfusion_is_the_published_network():
    data = arrays("emfusion")
    ct, mri = (torch.from_numpy(data[f"in_{i}"]) for i in range(2))
    network = built("EMFusion-CT", from_torch_names(filled("emfusion")))
    with torch.inference_mode():
        features = network.features(ct, mri)
        first = network.first(torch.cat((ct, mri), dim=1))
        outputs = [network(ct, mri), mean(first), mean(features), mean(network.decoder[:2](features))]
    assert len(outputs) == sum(key.startswith("out") for key in data)
    close(outputs, data)


def test_emfusion_with_its_weights(shared):
    index = shared / "checkpoints" / emfusion.FILES[0]
    if not index.is_file():
        pytest.skip("needs the weights of EMFusion, models/3200 of CT-MRI.zip")
    data, network = arrays("emfusion.real"), built("EMFusion-CT", read_checkpoint(index))
    pairs = [[torch.from_numpy(data[f"in_{i}"]) for i in pair] for pair in ((0, 1), (2, 3))]
    with torch.inference_mode():
        close([network(*pair) for pair in pairs], data)


@pytest.mark.parametrize("change", ["missing", "left over"])
def test_emfusion_refuses_other_keys_and_leaves_training_out(change):
    network = METHODS["EMFusion-CT"].build()
    names = {key: f"conv{i}" for i, key in zip((1, 2, 3, 4, 6, 7, 8), _layers(network), strict=True)}
    content = from_torch_names(
        {
            f"{names[key[: -len(kind) - 1]]}.{kind}": value.numpy()
            for key, value in network.state_dict().items()
            for kind in ("weight", "bias")
            if key.endswith(kind)
        }
    )
    others = ("fnet/fuse/conv1/bias/Adam_1", "spatial_ED_1/decoder/conv2_3/bias", "beta1_power", "Variable")
    content |= {key: torch.zeros(1) for key in others}
    loaded = built("EMFusion-CT", content)
    assert all(torch.equal(loaded.state_dict()[key], value) for key, value in network.state_dict().items())
    if change == "missing":
        content.pop("fnet/fuse/conv3/bias")
    else:
        content["fnet/fuse/conv5/bias"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=change):
        built("EMFusion-CT", content)


def _layers(network) -> list[str]:
    return [key for key, module in network.named_modules() if isinstance(module, torch.nn.Conv2d)]


def test_emfusion_stretches_and_keeps_the_chroma():
    gray, colour = textured(1, 20, 24), np.dstack([textured(seed, 20, 24) for seed in (2, 3, 4)])
    output = 0.4 + 0.1 * torch.rand(1, 20, 24, generator=torch.Generator().manual_seed(0))
    fused = METHODS["EMFusion-CT"].finish(output, gray, gray)
    assert (fused.min(), fused.max()) == (0, 255)
    in_three_channels = np.repeat(gray[..., None], 3, axis=2)
    assert np.array_equal(METHODS["EMFusion-CT"].finish(output, gray, in_three_channels), fused)
    prepared = (METHODS["EMFusion-CT"].prepare(gray[::-1], image) for image in (gray, in_three_channels))
    assert all(torch.equal(one, other) for one, other in zip(*prepared, strict=True))
    recoloured = METHODS["EMFusion"].finish(output, gray, colour)
    luminance = (output - output.min()) / (output.max() - output.min())
    chroma = to_ycrcb(unit_rgb(colour))[1:]
    expected = to_rgb(torch.cat((luminance, chroma))).permute(1, 2, 0).numpy() * 255
    assert np.abs(recoloured - expected).max() <= 0.5 + 1e-4


# --- SemLA


def published_semla() -> dict:
    """One state of both networks, filled, with the filters of Haar's transform that the authors' file holds."""
    filters = {
        f"backbone.dwt.w_{name}": torch.tensor(signs).reshape(1, 1, 2, 2) / 2 for name, signs in semla.HAAR.items()
    }
    return tensors(filled("semla")) | filters


def test_semla_is_the_published_network():
    data, state = arrays("semla"), published_semla()
    visible, infrared = (torch.from_numpy(data[f"in_{i}"]) for i in range(2))
    scene, semantic = built("SemLA", state), built("SemLA-semantic", state, state)
    with torch.inference_mode():
        described = semantic.describe(infrared, visible)
        outputs = [
            scene(infrared, visible),
            semantic(infrared, visible),
            mean(described.visible),
            mean(described.infrared),
            described.visible_semantic,
            described.infrared_semantic,
            mean(semantic.registration.features(torch.cat((visible, infrared)), levels=2)),
            semla_registration.enlarged_map(described.infrared_semantic),
        ]
    close(outputs, data)
    for i in range(2):  # of a small deviation
        assert np.abs(outputs[i].numpy() - data[f"out_{i}"]).max() <= 1e-6
    places = semla_registration.matches(described, "scene")
    assert [p.tolist() for p in places] == [data[f"out_{i}"].tolist() for i in (8, 9)]
    assert {f"out_{i}" for i in range(10)} == {key for key in data if key.startswith("out")}


@pytest.mark.parametrize("change", ["missing", "left over", "another filter", "which SemLA has not"])
def test_semla_refuses_other_keys(change):
    arrays("semla")  # skips where the names are not at hand
    state = published_semla()
    match change:
        case "missing":
            state.pop("backbone.csc1.qkv.weight")
        case "left over":
            state["backbone.reg4.norm.weight"] = torch.zeros(1)
        case "another filter":
            state["backbone.dwt.w_hl"] = -state["backbone.dwt.w_hl"]
        case _:
            state["teacher.weight"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=change):
        built("SemLA-semantic", state, published_semla())


def test_every_parameter_of_semlas_registration_learns():
    still = None
    for seed in range(4):  # a unit may be dead in one of them
        torch.manual_seed(seed)
        network = semla_registration.SemlaRegistration().train()
        described = network(*torch.rand(2, 2, 1, 24, 32))
        sum((tensor * torch.rand_like(tensor)).sum() for tensor in described).backward()
        zero = {key for key, value in network.named_parameters() if value.grad is None or not value.grad.any()}
        still = zero if still is None else still & zero
    assert still == set()


def test_haar_keeps_energy_and_sorts_details():
    x = torch.rand(2, 3, 8, 6, generator=torch.Generator().manual_seed(0))
    y = semla_registration.haar(x)
    assert y.shape == (2, 12, 4, 3)
    torch.testing.assert_close(y.square().sum(), x.square().sum())
    steps = torch.zeros(1, 1, 2, 2)
    steps[..., 1, :] = 1.0  # from row to row
    assert semla_registration.haar(steps).flatten().tolist() == [1, -1, 0, 0]
    assert semla_registration.haar(steps.transpose(2, 3)).flatten().tolist() == [1, 0, -1, 0]


def test_objects_decide_where_infrared_counts():
    torch.manual_seed(0)
    network, (infrared, visible) = METHODS["SemLA"].build().eval(), torch.rand(2, 1, 1, 16, 24)
    torch.nn.init.constant_(network.decoder.first[1].bias, 0.5)  # an untrained decoder of one channel may be dead
    with torch.inference_mode():
        nowhere, everywhere = (network(infrared, visible, torch.full_like(visible, value)) for value in (0.0, 1.0))
        torch.testing.assert_close(nowhere, network.decode(network.features(visible)))
        mixed = 0.7 * network.features(infrared) + 0.6 * network.features(visible)
        torch.testing.assert_close(everywhere, network.decode(mixed))
        summed = 0.6 * (network.features(infrared) + network.features(visible))
        torch.testing.assert_close(network(infrared, visible), network.decode(summed))
    assert not torch.allclose(nowhere, everywhere)


def described(visible_features, infrared_features, height: int, objects=None) -> semla_registration.Described:
    """Of features (H W, 256) and of where both images' objects are."""
    images = [semla_registration.to_image(features[None], height) for features in (visible_features, infrared_features)]
    maps = torch.ones_like(images[0][:, :1]) if objects is None else objects
    return semla_registration.Described(*images, maps, maps)


def test_matches_are_mutual_and_lie_on_objects():
    features = torch.eye(256)[:12]  # 3 x 4 positions, none like another
    moved = features.roll(1, dims=0)  # position i of the visible image is position i + 1 of the infrared one
    visible, infrared = semla_registration.matches(described(features, moved, 3), "scene")
    assert visible.tolist() == [[8 * (i % 4), 8 * (i // 4)] for i in range(12)]
    assert infrared.tolist() == [[8 * ((i + 1) % 12 % 4), 8 * ((i + 1) % 12 // 4)] for i in range(12)]
    objects = torch.zeros(1, 1, 3, 4)
    objects[0, 0, 1, :3] = 0.9  # positions 4, 5 and 6
    visible, infrared = semla_registration.matches(described(features, moved, 3, objects), "semantic")
    assert visible.tolist() == [[0, 8], [8, 8]]
    assert infrared.tolist() == [[8, 8], [16, 8]]
    nothing = semla_registration.matches(described(features, moved, 3, 0 * objects), "semantic")
    assert [places.shape for places in nothing] == [(0, 2), (0, 2)]
    twice = moved.clone()
    twice[3] *= 2  # position 2's partner; no other changes
    twice[7] = moved[3]  # position 2 again, less alike: it has lost its own partner, 6
    visible, infrared = semla_registration.matches(described(features, twice, 3), "scene")
    assert [16, 0] in visible.tolist()
    assert [16, 8] not in visible.tolist()


def grid_of_places(step: int = 16):
    return np.stack(np.meshgrid(np.arange(8, 96, step), np.arange(8, 80, step)), axis=-1).reshape(-1, 2)


def test_a_thin_plate_takes_the_infrared_image_to_the_visible_one():
    image, places = textured(3, 88, 104), grid_of_places()
    moved = places + np.array((6, -3))
    moved[7] = [80, 5]  # a wrong match
    plate = semla_registration.ThinPlate(places, moved)
    aligned = plate.warp(image)
    assert aligned.dtype == np.uint8
    assert np.abs(aligned[3:, :-6].astype(int) - image[:-3, 6:]).max() <= 1
    assert (aligned[:2] == 0).all()  # above the infrared image
    floats = plate.warp((image / 255).astype(np.float32))
    assert np.abs(floats[4:, :-7] - image[1:-3, 6:-1] / 255).max() < 1e-3


def test_a_thin_plate_bends_and_goes_through_its_matches_but_the_first():
    places = grid_of_places()
    bent = places + np.round(3 * np.sin(places[:, ::-1] / 20)).astype(int)
    inliers = np.flatnonzero(cv2.findHomography(places, bent, cv2.RANSAC, 5)[1])
    spline = semla_registration.ThinPlate(places, bent).spline
    error = np.abs(spline(places[inliers].astype(float)) - bent[inliers]).max(axis=1)
    assert error[1:].max() < 1e-6
    assert error[0] > 1e-3


@pytest.mark.parametrize("count", [0, 3, 4, 5])
def test_too_few_matches_are_one_sentence(count):
    line = np.stack([np.arange(count), np.arange(count)], axis=1) * 8
    with pytest.raises(ImageError, match=f"{count} matches, .* used"):
        semla_registration.ThinPlate(line, line)


@pytest.mark.parametrize("mode", ["scene", "semantic"])
def test_registered_semla_fuses_the_warped_image(mode, monkeypatch):
    torch.manual_seed(0)
    network = semla.RegisteredSemLA(mode).eval()
    torch.nn.init.constant_(network.fusion.decoder.first[1].bias, 0.5)
    places = grid_of_places()
    monkeypatch.setattr(semla_registration, "matches", lambda one, mode: (places, places + np.array((8, 0))))
    infrared, visible = (torch.from_numpy(textured(i, 75, 101) / np.float32(255))[None, None] for i in (1, 2))
    with torch.inference_mode():
        fused = network(infrared, visible)
        objects = semla_registration.enlarged_map(network.describe(infrared, visible).infrared_semantic)
        shifted = [torch.nn.functional.pad(x[..., 8:101], [0, 8]) for x in (infrared, objects[..., :75, :101])]
        expected = network.fusion(shifted[0], visible, shifted[1] if mode == "semantic" else None)
    assert fused.shape == (1, 1, 75, 101)
    torch.testing.assert_close(fused[..., :80], expected[..., :80], rtol=0, atol=2e-3)
    monkeypatch.undo()
    network = METHODS["SemLA-registered"].build().eval()
    for parameter in network.registration.parameters():
        torch.nn.init.zeros_(parameter)
    with pytest.raises(ImageError, match="Fuse it without registration"), torch.inference_mode():
        network(infrared, visible)
