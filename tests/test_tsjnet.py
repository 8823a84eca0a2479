"""TSJNet, the blocks it is made of and deformable convolution.

The network is compared with a second, literal implementation that reads random weights under the names of the published
code.
"""

from __future__ import annotations

import ast
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import tensors  # noqa: E402
from conftest import two_threads  # noqa: E402
from tensors import noise, pair  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from evalkit.data.images import to_gray  # noqa: E402
from evalkit.methods.checkpoints import CheckpointError, load_strictly  # noqa: E402
from evalkit.methods.complexity import complexity  # noqa: E402
from evalkit.methods.layers.borders import padded  # noqa: E402
from evalkit.methods.layers.deform import DeformableConv2d, deform_conv2d  # noqa: E402
from evalkit.methods.layers.nat import DropPath, NeighbourhoodTransformer  # noqa: E402
from evalkit.methods.layers.resnest import Bottleneck, SplitAttention  # noqa: E402
from evalkit.methods.network import count_parameters  # noqa: E402
from evalkit.methods.networks.tsjnet import METHODS, SMALL, DetailSalience, Sizes, TSJNet  # noqa: E402
from evalkit.methods.registry import method_card  # noqa: E402
from evalkit.training.papers import tsjnet as losses  # noqa: E402
from evalkit.training.papers.tsjnet import ABLATIONS, Ablation  # noqa: E402

normal = partial(tensors.normal, dtype=torch.float64)

KEYS = Path(__file__).resolve().parents[2] / "shared" / "specs" / "keys_tsjnet.txt"


PARTS = ("DIDF_Encoder", "DIDF_Decoder", "BaseFuseLayer", "DetailFuseLayer")


KERNEL = 7


TINY = Sizes(stem=(8, 8, 16), planes=8, width=16, depths=(1, 1), heads=1)


def small(seed: int = 0, **options):
    torch.manual_seed(seed)
    return TSJNet(TINY, **options).eval()


# neighbourhood attention


def brute_start(i: int, length: int, kernel: int = KERNEL) -> int:
    """The compiled operators' rule for the first neighbour."""
    r = kernel // 2
    return max(i - r, 0) + (length - i - r - 1 if i + r >= length else 0)


# the other blocks


def test_transformer_levels_halve_and_double():
    network = NeighbourhoodTransformer(5, 8, (1, 1, 1), 1, kernel=3).eval()
    assert network(noise(2, 5, 64, 48)).shape == (2, 32, 4, 3)
    rates = [block.drop.rate for level in network.levels for block in level.blocks]
    assert rates == pytest.approx([0, 0.1, 0.2])


def test_stochastic_depth_keeps_the_mean():
    torch.manual_seed(0)
    drop, x = DropPath(0.2), torch.ones(20_000, 1, 1, 2)
    kept = drop.train()(x)
    assert set(kept.unique().tolist()) == {0.0, 1.25}
    assert torch.equal(kept[..., 0], kept[..., 1])
    assert kept.mean().item() == pytest.approx(1, abs=0.02)
    assert drop.eval()(x) is x


def test_split_attention_weighs_the_splits():
    torch.manual_seed(0)
    layer = SplitAttention(8).double().eval()
    x = normal(2, 8, 6, 5)
    splits = layer.split(x).unflatten(1, (2, 8))
    weights = layer.weights(splits)
    assert weights.shape == (2, 2, 8, 1, 1)
    assert torch.allclose(weights.sum(1), torch.ones(2, 8, 1, 1, dtype=torch.float64))
    assert torch.allclose(layer(x), weights[:, 0] * splits[:, 0] + weights[:, 1] * splits[:, 1])


def test_split_attention_with_equal_splits_is_that_of_one_split():
    torch.manual_seed(0)
    two, one = SplitAttention(8, radix=2).double().eval(), SplitAttention(8, radix=1).double().eval()
    x = normal(2, 4, 6, 5).repeat(1, 2, 1, 1)  # both groups see the same channels
    with torch.no_grad():
        for tensor in (two.split[0].weight, two.split[0].bias):
            tensor[8:] = tensor[:8]
        one.split[0].weight[:] = two.split[0].weight[:8].repeat(1, 2, 1, 1) / 2
        one.split[0].bias[:] = two.split[0].bias[:8]
    assert torch.allclose(two(x), one(x), rtol=0, atol=1e-12)


def test_bottleneck_has_a_projection_only_where_the_width_changes():
    assert isinstance(Bottleneck(32, 8).shortcut, nn.Identity)
    layer = Bottleneck(16, 8).eval()
    assert [type(part) for part in layer.shortcut] == [nn.MaxPool2d, nn.Conv2d, nn.BatchNorm2d]
    assert layer(noise(1, 16, 5, 7)).shape == (1, 32, 5, 7)


# deformable convolution


def test_deformable_convolution_without_offsets_is_a_convolution():
    x, weight, bias = normal(2, 3, 7, 6), normal(4, 3, 3, 3, seed=1), normal(4, seed=2)
    for padding, dilation in ((0, 1), (1, 1), (2, 2)):
        expected = functional.conv2d(x, weight, bias, padding=padding, dilation=dilation)
        offset = torch.zeros(2, 18, *expected.shape[2:], dtype=x.dtype)
        found = deform_conv2d(x, offset, weight, bias, padding, dilation)
        assert torch.allclose(found, expected, rtol=0, atol=1e-10)
    layer = DeformableConv2d(3, 5).double()
    assert torch.allclose(layer(x), layer.conv(x), rtol=0, atol=1e-10)
    one = deform_conv2d(x[..., :1, :1], torch.zeros(2, 18, 1, 1, dtype=x.dtype), weight, bias, 1)
    assert torch.allclose(one, functional.conv2d(x[..., :1, :1], weight, bias, padding=1))


def test_deformable_convolution_is_the_loop_over_pixels_and_taps():
    x, weight = normal(1, 2, 5, 6), normal(3, 2, 3, 3, seed=1)
    offset = 1.7 * normal(1, 18, 5, 6, seed=2)

    def bilinear(plane, y, x_):
        total = 0.0
        for row in (int(np.floor(y)), int(np.floor(y)) + 1):
            for column in (int(np.floor(x_)), int(np.floor(x_)) + 1):
                if 0 <= row < 5 and 0 <= column < 6:
                    total += (1 - abs(y - row)) * (1 - abs(x_ - column)) * plane[row, column]
        return total

    expected = np.zeros((3, 5, 6))
    for o, c, i, j, tap in np.ndindex(3, 2, 5, 6, 9):
        y = i - 1 + tap // 3 + offset[0, 2 * tap, i, j].item()
        x_ = j - 1 + tap % 3 + offset[0, 2 * tap + 1, i, j].item()
        expected[o, i, j] += weight[o, c, tap // 3, tap % 3].item() * bilinear(x[0, c].numpy(), y, x_)
    found = deform_conv2d(x, offset, weight, padding=1)[0].numpy()
    assert found == pytest.approx(expected, abs=1e-9)


# the network


def test_parameters_and_card():
    for name, method in METHODS.items():
        card = method_card(name)
        assert count_parameters(method.build()) == card.parameters == 45_133_055
        assert (method.files, card.module) == (card.checkpoint, "tsjnet")
    network = TSJNet()
    parts = {"encoder": 22_739_465, "decoder": 1_946_248, "fuse_base": 20_307_494, "fuse_detail": 139_848}
    parts |= {"encoder.trunk": 743_360, "encoder.refine": 1_548_736, "encoder.base": 20_307_494, "encoder.embed": 27}
    parts |= {f"fuse_base.nat.levels.{i}": n for i, n in enumerate((200_182, 959_632, 5_139_376, 13_151_440))}
    assert {name: count_parameters(network.get_submodule(name)) for name in parts} == parts
    unused = [p.numel() for name, p in network.named_parameters() if ".unused." in name]
    assert sum(unused) == 17_040
    assert count_parameters(TSJNet(SMALL)) < 2_000_000
    assert count_parameters(TSJNet(relative_bias=False)) == 45_082_355 == 45_133_055 - 2 * 25_350


def test_multiply_adds():
    found = complexity(METHODS["TSJNet"], 256, 256).multiply_adds
    assert found == pytest.approx(453.325e9, rel=1e-5)
    # the published code was measured at 460.6 G, which is one 3x3 convolution of 64 channels more in each of the three
    # runs of the detail module
    assert found + 3 * 256 * 256 * 64 * 64 * 9 == pytest.approx(460.6e9, rel=0.0005)


@pytest.fixture(scope="module")
def shapes_only():
    """The published network, which computes shapes and no values."""
    return TSJNet().to("meta").eval()


@pytest.mark.parametrize("size", [(224, 224), (256, 256), (480, 640), (225, 230)])
def test_shapes(size, shapes_only):
    image = torch.zeros(2, 1, *size, device="meta")
    assert shapes_only(image, image).shape == (2, 1, *size)


def test_images_below_the_window_need_padding(shapes_only):
    image = torch.zeros(1, 1, 64, 64, device="meta")
    with pytest.raises(ValueError, match="7x7"):
        shapes_only(image, image)
    assert METHODS["TSJNet"].build().to("meta").eval()(image, image).shape == image.shape
    with pytest.raises(ValueError, match="7x7"):
        small()(*pair(48, 48))
    assert small(pad_small=True)(*pair(48, 48)).shape == (1, 1, 48, 48)


def published_state(seed: int = 0):
    """Random weights under the published names, of a size that keeps features near 1."""
    if not KEYS.is_file():
        pytest.skip("needs the list of names in ../shared/specs")
    random = torch.Generator().manual_seed(seed)
    state: dict = {}
    for line in KEYS.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            part = state[line[3:]] = {}
        elif "\t" in line:
            key, shape = line.split("\t")
            value = torch.randn(ast.literal_eval(shape), generator=random)
            if value.ndim > 1:
                fan_in = value[0].numel() if "transposed" not in key else value.shape[0]
                value *= fan_in**-0.5
            elif key.endswith(("running_var", "weight")):
                value = 1 + 0.2 * value.abs()
            elif key.endswith("num_batches_tracked"):
                value = torch.tensor(1)
            else:
                value *= 0.1
            part[key] = value
    return state


class Literal:
    """The published network on plain tensors, part by part and under the published names."""

    def __init__(self, state, part: str) -> None:
        self.state = state[part]

    def __getitem__(self, key: str):
        return self.state[key]

    def conv(self, x, key: str, **options):
        return functional.conv2d(x, self[f"{key}.weight"], self.state.get(f"{key}.bias"), **options)

    def linear(self, x, key: str):
        return functional.linear(x, self[f"{key}.weight"], self.state.get(f"{key}.bias"))

    def batch_norm(self, x, key: str):
        mean, var, weight, bias = (
            self[f"{key}.{name}"][:, None, None] for name in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    def layer_norm(self, x, key: str):
        """Over the last axis."""
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * self[f"{key}.weight"] + self[f"{key}.bias"]

    def resnest(self, x):
        for i in (0, 3, 6):
            x = self.batch_norm(self.conv(x, f"ResNest.deep_stem.{i}", padding=1), f"ResNest.deep_stem.{i + 1}").relu()
        for i in (0, 1):
            key = f"ResNest.layer1.{i}"
            y = self.batch_norm(self.conv(x, f"{key}.conv1.0"), f"{key}.conv1.1").relu()
            y = self.conv(y, f"{key}.conv2.radix_conv.0", padding=1, groups=2)
            y = self.batch_norm(y, f"{key}.conv2.radix_conv.1").relu()
            one, two = y[:, :128], y[:, 128:]
            z = (one + two).mean((2, 3), keepdim=True)
            for fc in ("fc1", "fc2"):
                z = self.batch_norm(self.conv(z, f"{key}.conv2.{fc}.0"), f"{key}.conv2.{fc}.1").relu()
            odds = (z[:, :128] - z[:, 128:]).sigmoid()  # a softmax of two
            y = self.batch_norm(self.conv(odds * one + (1 - odds) * two, f"{key}.conv3.0"), f"{key}.conv3.1")
            if i == 0:
                x = functional.max_pool2d(x, 3, 1, 1)
                x = self.batch_norm(self.conv(x, f"{key}.shortcut.1"), f"{key}.shortcut.2")
            x = (x + y).relu()
        return x

    def base(self, x, prefix: str):
        y = self.layer_norm(x.permute(0, 2, 3, 1), f"{prefix}norm1.body").permute(0, 3, 1, 2)
        for i in (0, 1):
            y = self.conv(y, f"{prefix}attn.patch_embed.proj.{i}", stride=2, padding=1)
        y = self.layer_norm(y.permute(0, 2, 3, 1), f"{prefix}attn.patch_embed.norm")
        for level, (depth, heads) in enumerate(((3, 2), (4, 4), (6, 8), (5, 16))):
            key = f"{prefix}attn.levels.{level}"
            for i in range(depth):
                block = f"{key}.blocks.{i}"
                y = y + self.attention(self.layer_norm(y, f"{block}.norm1"), f"{block}.attn", heads)
                z = functional.gelu(self.linear(self.layer_norm(y, f"{block}.norm2"), f"{block}.mlp.fc1"))
                y = y + self.linear(z, f"{block}.mlp.fc2")
            if level < 3:
                y = self.conv(y.permute(0, 3, 1, 2), f"{key}.downsample.reduction", stride=2, padding=1)
                y = self.layer_norm(y.permute(0, 2, 3, 1), f"{key}.downsample.norm")
        y = y.permute(0, 3, 1, 2)
        for i in (1, 2):
            y = self.conv(y, f"{prefix}attn.conv{i}.0", padding=1).clamp(0, 6)
        for i, factor in ((1, 4), (2, 4), (3, 2)):
            y = functional.conv_transpose2d(y, self[f"{prefix}attn.transposed_conv{i}.weight"], stride=factor)
        return x + y.clamp(0, 6)

    def attention(self, x, key: str, heads: int):
        """Full attention of one image with everything but the window masked; small maps padded with zeros."""
        _, height, width, channels = x.shape
        x = functional.pad(x, (0, 0, 0, max(7 - width, 0), 0, max(7 - height, 0)))
        rows, columns = x.shape[1:3]
        found = self.linear(x, f"{key}.qkv").reshape(rows * columns, 3, heads, channels // heads)
        scores = torch.einsum("qhc,khc->hqk", found[:, 0] * (channels // heads) ** -0.5, found[:, 1])
        mask = torch.full_like(scores, -torch.inf)
        for i, j in np.ndindex(rows, columns):
            y, x_ = brute_start(i, rows), brute_start(j, columns)
            for a, b in np.ndindex(7, 7):
                place = self[f"{key}.rpb"][:, y + a - i + 6, x_ + b - j + 6]
                mask[:, i * columns + j, (y + a) * columns + x_ + b] = place
        mixed = torch.einsum("hqk,khc->qhc", (scores + mask).softmax(-1), found[:, 2])
        return self.linear(mixed.reshape(1, rows, columns, channels), f"{key}.proj")[:, :height, :width]

    def detail(self, x, prefix: str):
        y = self.batch_norm(self.conv(x, f"{prefix}convp1.0", padding=1), f"{prefix}convp1.1").relu()
        y = y + self.conv(y, f"{prefix}coa.conv.0").relu()
        y = self.batch_norm(self.conv(y, f"{prefix}convp2.0", padding=1), f"{prefix}convp2.1").relu()
        y = self.conv(y, f"{prefix}conv1.1")
        z = functional.leaky_relu(self.conv(x, f"{prefix}conv4", padding=1), 0.2)
        z = functional.max_pool2d(z, 2, 2, ceil_mode=True) + functional.avg_pool2d(z, 2, 2, ceil_mode=True)
        w = self.linear(self.linear(z.mean((2, 3)), f"{prefix}fc1").relu(), f"{prefix}fc2").sigmoid()
        z = functional.conv_transpose2d(
            z * w[:, :, None, None], self[f"{prefix}conv_transpose.weight"], self[f"{prefix}conv_transpose.bias"], 2
        )
        return y + z

    def encode(self, image):
        x = self.resnest(self.conv(image, "patch_embed.proj", padding=1))
        for i in (1, 2, 3):
            x = self.conv(x, f"conv{i}.0", padding=1).clamp(0, 6)
        return self.base(x, "baseFeature."), self.detail(x, "detailFeature.")

    def decode(self, base, detail):
        x = torch.cat((base, detail), 1)
        maps = [self.conv(x[:, 16 * i : 16 * i + 16], f"spa.conv.{i}").sigmoid() for i in range(8)]
        x = torch.cat([x[:, 16 * i : 16 * i + 16] * maps[i] for i in range(8)], 1)
        x = self.resnest(self.conv(x, "reduce_channel"))
        x = functional.leaky_relu(self.conv(x, "output.0", padding=1), 0.01)
        return self.conv(x, "output.2", padding=1).sigmoid(), torch.cat(maps, 1)


def test_the_network_is_the_literal_one_under_the_published_names():
    state = published_state()
    method = METHODS["TSJNet"]
    network = method.build().eval()
    load_strictly(network, method.convert(state, Path("TSJNet.pth")), "TSJNet.pth")
    encoder, decoder, base, detail = (Literal(state, part) for part in PARTS)
    images = pair(32, 64)
    with torch.inference_mode():
        (base_i, detail_i), (base_v, detail_v) = (encoder.encode(image) for image in images)
        expected, maps = decoder.decode(base.base(base_i + base_v, ""), detail.detail(detail_i + detail_v, ""))
        found = network.outputs(*images)
        assert torch.allclose(found.infrared, decoder.decode(base_i, detail_i)[0], atol=1e-4)
        assert torch.allclose(found.visible, decoder.decode(base_v, detail_v)[0], atol=1e-4)
    assert expected.std() > 0.01
    assert torch.allclose(found.fused, expected, atol=1e-4)
    assert torch.allclose(found.attention, maps, atol=1e-4)


def test_the_checkpoint_loads_strictly_and_nothing_else_does():
    state, method = published_state(), METHODS["TSJNet"]
    own = method.convert(state, Path("x.pth"))
    assert len(own) == sum(map(len, state.values())) == len(method.build().state_dict())
    for part in PARTS:
        with pytest.raises(CheckpointError, match=part):
            method.convert({k: v for k, v in state.items() if k != part}, Path("x.pth"))
    own.pop("encoder.embed.weight")
    with pytest.raises(CheckpointError, match=r"missing: encoder\.embed\.weight"):
        load_strictly(method.build(), own, "x.pth")


def test_odd_sizes_are_padded_and_cut():
    infrared, visible = pair(59, 61)
    both = padded(infrared, 8), padded(visible, 8)
    assert both[0].shape == (1, 1, 64, 64)
    assert torch.equal(both[0][..., :59, :61], infrared)
    assert torch.equal(both[0][..., 59:, :61], infrared[..., -1:, :].expand(1, 1, 5, 61))
    assert padded(both[0], 8).shape == (1, 1, 64, 64)
    network = small()
    with torch.inference_mode():
        assert torch.equal(network(infrared, visible), network(*both)[..., :59, :61])
        assert small(pad_small=True)(*pair(5, 3)).shape == (1, 1, 5, 3)


def test_evaluation_is_deterministic_and_training_is_not():
    network, images = small(), pair(56, 56, batch=2)
    with torch.inference_mode():
        assert torch.equal(network(*images), network(*images))
        network.train()
        assert not torch.equal(network(*images), network(*images))


def test_initialisation_follows_the_seed():
    one, same, other = small(3).state_dict(), small(3).state_dict(), small(4).state_dict()
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["encoder.base.nat.levels.0.blocks.0.attn.rpb"], other[next(iter(other))])
    bias = torch.cat([v.flatten() for k, v in one.items() if k.endswith("rpb")])
    assert bias.std().item() == pytest.approx(0.02, rel=0.1)


def test_linear_layers_of_the_transformer_start_as_published():
    """Truncated normal of deviation .02, biases of 0; its convolutions as PyTorch starts them."""
    torch.manual_seed(0)
    network = NeighbourhoodTransformer(8, 32, (2, 1), 1)
    layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.Linear)]
    assert len(layers) == 3 * 4  # qkv, proj, fc1 and fc2 of each block
    for layer in layers:
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
        assert layer.weight.mean().item() == pytest.approx(0, abs=3e-3)
        assert not layer.bias.any()
    assert all(conv.bias.any() for conv in network.tokens)


def test_a_batch_is_its_images():
    network, images = small(), pair(56, 64, batch=3)
    with torch.inference_mode():
        together = network(*images)
        single = torch.cat([network(i[None], v[None]) for i, v in zip(*images, strict=True)])
    assert torch.allclose(together, single, atol=1e-5)


def test_threads_do_not_matter():
    network, images = small(), pair(56, 56)
    with torch.inference_mode():
        one = network(*images)
        with two_threads():
            two = network(*images)
    assert torch.allclose(one, two, atol=1e-5)


def test_outputs_and_attention_maps():
    network = small()
    infrared, visible = pair(56, 56, batch=2)
    with torch.inference_mode():
        outputs = network.outputs(infrared, visible)
        assert torch.equal(outputs.fused, network(infrared, visible))
        assert torch.equal(outputs.infrared, network.decoder(*network.encoder(infrared))[0])
    assert [tuple(x.shape) for x in outputs] == [(2, 1, 56, 56)] * 3 + [(2, 8, 56, 56)]
    assert all(x.min() > 0 and x.max() < 1 for x in outputs)


def test_every_parameter_but_the_unused_ones_learns():
    torch.manual_seed(0)
    network = TSJNet(TINY).train()
    for module in network.modules():
        if isinstance(module, nn.Dropout2d | DropPath):
            module.eval()
    infrared, visible = pair(56, 56, batch=2)
    outputs = network.outputs(infrared, visible)
    torch.stack(list(losses.fusion_terms(outputs, infrared, visible, losses.PRESETS["code"]).values())).sum().backward()
    idle = {name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    assert idle == {name for name, _ in network.named_parameters() if ".unused." in name}
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


# ablations


def test_ablations_differ_in_exactly_the_named_part():
    assert set(ABLATIONS) == {"w/o DSM", "w/o L_Det", "w/o L_Seg", "w/o L_Det, L_Seg"}
    full = Ablation()
    assert ABLATIONS["w/o DSM"] == replace(full, detail=False)
    assert ABLATIONS["w/o L_Det"] == replace(full, detection=False)
    assert ABLATIONS["w/o L_Seg"] == replace(full, segmentation=False)
    assert ABLATIONS["w/o L_Det, L_Seg"] == replace(full, detection=False, segmentation=False)
    whole = {k: v.shape for k, v in full.build(TINY).state_dict().items()}
    without = {k: v.shape for k, v in ABLATIONS["w/o DSM"].build(TINY).state_dict().items()}
    detail = {k for k in whole if k.startswith(("encoder.detail.", "fuse_detail."))}
    assert without == {k: v for k, v in whole.items() if k not in detail}
    for name in ("w/o L_Det", "w/o L_Seg", "w/o L_Det, L_Seg"):
        assert {k: v.shape for k, v in ABLATIONS[name].build(TINY).state_dict().items()} == whole
    assert count_parameters(ABLATIONS["w/o DSM"].build()) == 45_133_055 - 2 * 139_848


def test_without_the_detail_module_the_features_pass():
    network = ABLATIONS["w/o DSM"].build(TINY).eval()
    image = pair(56, 56)[0]
    with torch.inference_mode():
        _, detail = network.encoder(image)
        assert torch.equal(detail, network.encoder.refine(network.encoder.trunk(network.encoder.embed(image))))
        assert torch.equal(network.fuse_detail(detail), detail)


def test_total_loss_leaves_out_what_the_ablation_says():
    fusion, detection, segmentation = (torch.tensor(float(v)) for v in (1, 10, 100))
    totals = {
        name: losses.total_loss(
            fusion, detection if row.detection else None, segmentation if row.segmentation else None
        ).item()
        for name, row in ABLATIONS.items()
    }
    assert totals == {
        "w/o DSM": 111, "w/o L_Det": 101, "w/o L_Seg": 11, "w/o L_Det, L_Seg": 1,
    }  # fmt: skip


# pixels


def pixels(height: int, width: int):
    random = np.random.default_rng(0)
    return random.integers(0, 256, (height, width), np.uint8), random.integers(0, 256, (height, width, 3), np.uint8)


def test_padded_method_keeps_the_size():
    infrared, visible = pixels(37, 45)
    method = METHODS["TSJNet"]
    inputs = method.prepare(infrared, visible)
    assert torch.equal(inputs[1][0] * 255, torch.from_numpy(to_gray(visible)).float())
    fused = method.finish(noise(1, 37, 45) / 3 + 0.1, infrared, visible)
    assert (fused.dtype, fused.shape, fused.min(), fused.max()) == (np.uint8, (37, 45), 0, 255)
    assert np.array_equal(method.finish(torch.zeros(1, 37, 45), infrared, visible), np.zeros((37, 45)))
    assert np.unique(method.finish(torch.full((1, 37, 45), 0.4), infrared, visible, minmax=False)).tolist() == [102]


def test_resized_method_resizes_there_and_back():
    infrared, visible = pixels(37, 45)
    method = METHODS["TSJNet-512"]
    inputs = method.prepare(infrared, visible)
    assert [(x.dtype, tuple(x.shape)) for x in inputs] == [(torch.float32, (1, 512, 512))] * 2
    fused = method.finish(inputs[0], infrared, visible)
    assert (fused.dtype, fused.shape) == (np.uint8, (37, 45))
    assert np.abs(fused.astype(int) - infrared).mean() < 8


def test_resized_method_keeps_fractions_and_cuts_them_off_at_the_end():
    """By hand: a doubling takes 1/4 and 3/4 of neighbours, a halving their mean."""
    method = METHODS["TSJNet-512"]
    steps = np.tile(np.array([[10, 11]], np.uint8), (256, 128))
    row = method.prepare(steps, steps)[0][0, 0, :8] * 255
    torch.testing.assert_close(row, torch.tensor([10, 10.25, 10.75, 10.75, 10.25, 10.25, 10.75, 10.75]))
    ends = np.zeros((512, 512), np.float32)
    ends[:, 1::2] = np.float32(201 / 255)
    ends[0, :2] = 1.0  # the stretching changes nothing
    halved = method.finish(torch.from_numpy(ends)[None], np.zeros((256, 256), np.uint8), steps)
    assert halved[1].tolist() == [100] * 256  # of 100.5


def test_detail_module_by_its_parts():
    module = DetailSalience(16).eval()
    x = noise(2, 16, 6, 8)
    with torch.no_grad():
        for parameter in module.mix.parameters():
            parameter.zero_()
        pooled = functional.leaky_relu(module.entry[0](x), 0.2).unflatten(2, (3, 2)).unflatten(4, (4, 2))
        pooled = pooled.amax((3, 5)) + pooled.mean((3, 5))
        gate = module.weigh(pooled.mean((2, 3)))
        assert torch.allclose(module(x), module.enlarge(pooled * gate[:, :, None, None]), atol=1e-6)


@pytest.mark.slow
def test_the_published_network_at_the_smallest_size_without_padding():
    torch.manual_seed(0)
    network, padding = TSJNet().eval(), partial(TSJNet, pad_small=True)().eval()
    padding.load_state_dict(network.state_dict())
    images = pair(224, 224)
    with torch.inference_mode():
        assert torch.equal(network(*images), padding(*images))
