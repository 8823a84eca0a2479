"""DDFM: its likelihood step and sampling as published, the diffusion model's form, and a small one that fuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import textured
from vectors import BOUND, arrays, difference, torch_values

torch = pytest.importorskip("torch")

from evalkit.data.images import write_png  # noqa: E402
from evalkit.data.pairs import ImagePair  # noqa: E402
from evalkit.methods.checkpoints import CheckpointError, load_strictly  # noqa: E402
from evalkit.methods.network import count_parameters  # noqa: E402
from evalkit.methods.network_fuser import NetworkFuser  # noqa: E402
from evalkit.methods.networks import ddfm  # noqa: E402
from evalkit.methods.networks.ddfm_unet import DiffusionUNet, PixelAttention  # noqa: E402
from evalkit.methods.registry import method_card  # noqa: E402

SMALL = {"width": 32, "multipliers": (1, 2), "units": 1, "attended": (2,), "head": 32}  # the same form
FILE = "256x256_diffusion_uncond.pt"


def published_keys(**unet: object) -> dict[str, tuple[int, ...]]:
    """Key and shape of a diffusion model's file, as its authors' network names them."""
    names = {
        "denoiser.time": "time_embed",
        "denoiser.first": "input_blocks.0.0",
        "denoiser.middle": "middle_block",
        "denoiser.decoder": "output_blocks",
        "denoiser.finish": "out",
        "norm_in": "in_layers.0",
        "conv_in": "in_layers.2",
        "embed": "emb_layers.1",
        "norm_out": "out_layers.0",
        "conv_out": "out_layers.3",
        "skip": "skip_connection",
        "project": "proj_out",
    }
    with torch.device("meta"):
        state = ddfm.DDFM(**unet).state_dict()
    keys = {}
    for key, value in state.items():
        parts = key.split(".")
        if parts[1] == "encoder":
            name = ".".join(["input_blocks", str(int(parts[2]) + 1), *(names.get(part, part) for part in parts[3:])])
        else:
            name = ".".join([names[".".join(parts[:2])], *(names.get(part, part) for part in parts[2:])])
        keys[name] = tuple(value.shape)
    return keys


def generated() -> dict[str, torch.Tensor]:
    """Weights of the small model, filled by their keys."""
    return {key: torch.from_numpy(torch_values(key, shape)) for key, shape in published_keys(**SMALL).items()}


def small(steps: int = 3) -> ddfm.DDFM:
    method = ddfm.method(steps, **SMALL)
    network = method.build().eval()
    load_strictly(network, method.convert(generated(), Path(FILE)), FILE)
    return network


def tensors(data, *names):
    return [torch.from_numpy(data[name]) for name in names]


def test_likelihood_steps_are_the_published():
    data = arrays("ddfm")
    a, b, f = tensors(data, "in_0", "in_1", "in_2")
    one = ddfm.likelihood(a, b, f, ddfm.Hidden())
    two = ddfm.likelihood(a, b, 0.9 * f + 0.05 * a, one.hidden)
    ours = (one.fused, one.first, one.second, one.smooth, two.fused, two.second, two.smooth)
    apart = [difference(values.numpy(), data[f"out_{i}"]) for i, values in enumerate(ours)]
    print(f"{max(apart):.2g}")
    assert max(apart) <= BOUND
    scales = [float(x) for step in (one, two) for x in (step.hidden.first, step.hidden.second)]
    np.testing.assert_allclose(scales, data["out_7"], rtol=1e-6)


def test_sampling_is_the_published():
    data = arrays("ddfm")
    images = ddfm.sample(lambda x, number: 0.6 * x, *tensors(data, "in_0", "in_1", "in_3"), steps=5)
    apart = [difference(images[i].numpy(), data[name]) for i, name in ((0, "out_8"), (-1, "out_9"))]
    print(f"{max(apart):.2g}")
    assert max(apart) <= BOUND
    np.testing.assert_allclose(ddfm.stretched_luminance(images[-1][0]), data["out_10"], atol=1e-2)
    numbers, left = ddfm.schedule(100)
    np.testing.assert_array_equal(numbers, data["timesteps_100"])
    np.testing.assert_allclose(left, data["alphas_cumprod_100"], rtol=1e-12)
    np.testing.assert_array_equal(ddfm.schedule(5)[0], data["timesteps_5"])


def test_parameters_and_card():
    card = method_card("DDFM")
    with torch.device("meta"):
        assert count_parameters(ddfm.METHODS["DDFM"].build()) == card.parameters == 552_814_086
    assert list(card.checkpoint) == [FILE]
    assert all((card.colour, card.values, card.output, card.weights, card.licence, card.note, card.compared))


def test_the_published_names_are_all_taken():
    keys = published_keys()
    assert len(keys) == 566
    assert keys["input_blocks.0.0.weight"] == (256, 3, 3, 3)
    assert keys["input_blocks.10.1.qkv.weight"] == (1536, 512, 1)
    assert keys["output_blocks.17.0.skip_connection.weight"] == (256, 512, 1, 1)
    with torch.device("meta"):
        state = {key: torch.empty(shape) for key, shape in keys.items()}
        own = ddfm.METHODS["DDFM"].build().state_dict()
    made = ddfm.METHODS["DDFM"].convert(state, Path(FILE))
    assert {key: value.shape for key, value in made.items()} == {key: value.shape for key, value in own.items()}


@pytest.mark.parametrize("damage", ["missing", "left over"])
def test_other_weights_are_refused(damage):
    state = generated()
    if damage == "missing":
        del state["middle_block.1.qkv.bias"]
    else:
        state["label_emb.weight"] = torch.zeros(1000, 128)
    with pytest.raises(CheckpointError, match=damage):
        load_strictly(ddfm.method(**SMALL).build(), ddfm.method(**SMALL).convert(state, Path(FILE)), FILE)


def test_every_parameter_has_a_gradient():
    network = DiffusionUNet(**SMALL)
    output = network(torch.randn(2, 3, 8, 12), torch.tensor([3, 700]))
    assert output.shape == (2, 6, 8, 12)
    output.square().mean().backward()
    silent = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    # a constant added to all keys changes no attention; biases before a norm of one channel a group have no effect
    assert not [name for name in silent if not name.endswith("bias")]


def test_time_and_attention_matter():
    network = DiffusionUNet(**SMALL).eval()
    x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        early, late = (network(x, torch.tensor([number])) for number in (10, 900))
        assert not torch.allclose(early, late)
        together = network(x.expand(2, -1, -1, -1), torch.tensor([10, 900]))
    torch.testing.assert_close(together, torch.cat((early, late)), rtol=1e-4, atol=1e-5)


def test_attention_against_its_definition():
    layer = PixelAttention(64, 32)
    x = torch.randn(2, 64, 3, 4)
    with torch.no_grad():
        q, k, v = layer.qkv(layer.norm(x.flatten(2))).reshape(4, 96, 12).split(32, dim=1)
        weights = (torch.einsum("nct,ncs->nts", q, k) / 32**0.5).softmax(-1)
        expected = x + layer.project(torch.einsum("nts,ncs->nct", weights, v).reshape(2, 64, 12)).view_as(x)
        torch.testing.assert_close(layer(x, torch.zeros(2, 1)), expected, rtol=1e-4, atol=1e-5)


def test_any_size_and_a_batch_gives_what_each_image_gives():
    network, method = small(), ddfm.method(3, **SMALL)
    pairs = [method.prepare(textured(seed, 21, 45), textured(seed + 1, 21, 45)) for seed in (1, 3)]
    with torch.inference_mode():
        each = [network(*(image[None] for image in pair)) for pair in pairs]
        together = network(*(torch.stack(images) for images in zip(*pairs, strict=True)))
    assert together.shape == (2, 3, 21, 45)
    torch.testing.assert_close(together, torch.cat(each), rtol=1e-3, atol=1e-3)
    fused = method.finish(each[0][0], textured(1, 21, 45), textured(2, 21, 45))
    assert fused.dtype == np.uint8
    assert (fused.min(), fused.max()) == (0, 255)


def test_a_perfect_estimate_is_drawn_to_the_sources():
    """Where the noise says that the image is gray at the first source, luminance lies between the two."""
    a, b = (2 * torch.from_numpy(textured(seed, 32, 32) / 255.0).float()[None, None] - 1 for seed in (1, 2))
    start = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    _, left = ddfm.schedule(20)
    shares = dict(zip(ddfm.schedule(20)[0].tolist(), left, strict=True))

    def noise(x, number):
        share = shares[int(number[0])]
        return (x - share**0.5 * (a + b) / 2) / (1 - share) ** 0.5

    y = torch.from_numpy(ddfm.stretched_luminance(ddfm.sample(noise, a, b, start, 20)[-1][0]))
    for source in (a, b):
        assert np.corrcoef(y.numpy().ravel(), source.numpy().ravel())[0, 1] > 0.4


def test_it_fuses_with_weights_from_a_file(tmp_path):
    torch.save(generated(), tmp_path / FILE)
    pair = ImagePair("1", tmp_path / "i.png", tmp_path / "v.png")
    write_png(pair.infrared, textured(1, 32, 40))
    write_png(pair.visible, np.dstack([textured(seed, 32, 40) for seed in (2, 3, 4)]))
    fuser = NetworkFuser("DDFM", ddfm.method(2, **SMALL), {}, [tmp_path / FILE], "cpu")
    (first,), (again,) = fuser.fuse([pair]), fuser.fuse([pair])
    assert first.shape == (32, 40)
    np.testing.assert_array_equal(first, again)
