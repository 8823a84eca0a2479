"""GeSeNet: structure, the published network's outputs with filled tensors and with its weights, byte rules."""

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
from evalkit.methods.networks import gesenet  # noqa: E402
from evalkit.methods.registry import method_card  # noqa: E402

METHODS = {**gesenet.METHODS}
# parameters of the published network, and those of them that evalkit leaves out because they have no effect
FACTS = dict.fromkeys(gesenet.METHODS, (240_587, 2))
SYSTEMS = {"GeSeNet.pth": "gesenet"}  # file of the weights -> its vectors
every_method = pytest.mark.parametrize("name", METHODS)


def inputs(name: str, height: int, width: int, batch: int = 1):
    """Two gray images and a colour one as `prepare` gives them, batched."""
    infrared, visible = textured(1, height, width), np.dstack([textured(seed, height, width) for seed in (2, 3, 4)])
    return tuple(tensor.expand(batch, -1, -1, -1) for tensor in METHODS[name].prepare(infrared, visible))


def of_vectors(name: str, system: str):
    """The network with the published tensors, filled, through the loader of the published file."""
    state = {key: torch.from_numpy(value) for key, value in filled(system).items()}
    network = METHODS[name].build().eval()
    load_strictly(network, METHODS[name].convert(state, Path(system)), system)
    return network


def close(pairs) -> None:
    """Each (ours, published) within the bound; prints the largest difference."""
    differences = [difference(ours.numpy(), published) for ours, published in pairs]
    print(f"{max(differences):.2g}")
    assert max(differences) <= BOUND


@every_method
def test_parameters_and_card(name):
    card = method_card(name)
    published, dead = FACTS[name]
    assert count_parameters(METHODS[name].build()) == published - dead == card.parameters
    assert all((card.doi, card.colour, card.values, card.output, card.weights, card.licence, card.note, card.compared))


@every_method
def test_any_size(name):
    torch.manual_seed(0)
    network, method = METHODS[name].build().eval(), METHODS[name]
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
    torch.manual_seed(0)
    network = METHODS[name].build().eval()
    pairs = [inputs(name, 24, 32), tuple(tensor.flip(3) for tensor in inputs(name, 24, 32))]
    with torch.inference_mode():
        together = network(*(torch.cat(tensors) for tensors in zip(*pairs, strict=True)))
        for i, pair in enumerate(pairs):
            torch.testing.assert_close(together[i : i + 1], network(*pair), rtol=1e-4, atol=1e-5)


@every_method
def test_every_parameter_learns(name):
    still = None
    for seed in range(4):  # a ReLU of two channels may be dead in one of them
        torch.manual_seed(seed)
        network = METHODS[name].build().train()
        network(*inputs(name, 32, 32, batch=2)).square().mean().backward()
        zero = {key for key, value in network.named_parameters() if value.grad is None or not value.grad.any()}
        still = zero if still is None else still & zero
    assert still == set()


@every_method
def test_a_missing_and_a_left_over_key_are_refused(name):
    system = SYSTEMS[METHODS[name].files[0]]
    arrays(system)  # skips where they are not at hand
    published = {key: torch.from_numpy(value) for key, value in filled(system).items()}
    for change in ("missing", "left over"):
        state = dict(published)
        if change == "missing":
            state.pop(next(iter(state)))
        else:
            state["decoder7.weight"] = torch.zeros(1)
        with pytest.raises(CheckpointError, match=change):
            load_strictly(METHODS[name].build(), METHODS[name].convert(state, Path(system)), system)


# --- GeSeNet


def test_gesenet_is_the_published_network():
    network, data = of_vectors("GeSeNet", "gesenet"), arrays("gesenet")
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
            of_vectors("GeSeNet-hard", "gesenet")(mri, luminance),
        )
    close((ours, data[f"out_{i}"]) for i, ours in enumerate(outputs))


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
