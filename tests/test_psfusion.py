"""PSFusion: structure, published names, byte rules and ablations.

Its weights are not here. The network is compared with a second, literal implementation that makes random weights under
the names of the published code: the test fails where a name, a shape, an order or an operation differs.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from conftest import textured, two_threads
from PIL import Image

torch = pytest.importorskip("torch")

from tensors import noise  # noqa: E402
from torch.nn import functional  # noqa: E402

from evalkit.methods.checkpoints import CheckpointError, load_strictly  # noqa: E402
from evalkit.methods.complexity import complexity  # noqa: E402
from evalkit.methods.layers.colour import to_rgb, to_ycrcb  # noqa: E402
from evalkit.methods.layers.gates import pointwise_pair  # noqa: E402
from evalkit.methods.network import count_parameters  # noqa: E402
from evalkit.methods.networks.psfusion import METHODS, Outputs, PSFusion, load_backbone  # noqa: E402
from evalkit.methods.networks.psfusion_modules import (  # noqa: E402
    CrossAttention,
    SemanticInjection,
    SuperficialDetailFusion,
    attend,
)
from evalkit.methods.registry import method_card  # noqa: E402
from evalkit.training.papers import psfusion as losses  # noqa: E402
from evalkit.training.papers.psfusion import ABLATIONS  # noqa: E402

METHOD = METHODS["PSFusion"]


SMALL = {"width": 8, "blocks": (1, 1, 1, 1)}


HEADS = ("visible_path.", "infrared_path.", "segment.")


@pytest.fixture(scope="module")
def full():
    """The default network, untrained."""
    torch.manual_seed(0)
    return PSFusion().eval()


def pair(height: int = 64, width: int = 64, batch: int = 2):
    """Infrared and visible."""
    return noise(batch, 1, height, width), noise(batch, 3, height, width, seed=1)


def lively(build=PSFusion, **arguments):
    """A small network in evaluation mode in which nothing is 0 or 1 by initialisation only."""
    torch.manual_seed(0)
    network = build(**SMALL, **arguments)
    for name, tensor in network.state_dict().items():
        if "gamma_" in name:
            tensor.fill_(0.5)
        elif tensor.dim() == 1 and tensor.is_floating_point():
            # biases above 0, or a ReLU of two channels is silent for every input
            low = 0.5 if name.endswith(("var", "weight")) else 0.2 if name.endswith("bias") else -0.5
            tensor.copy_(torch.rand_like(tensor) + low)
    return network.eval()


def labels(batch: int = 2, height: int = 64, width: int = 64):
    found = torch.zeros(batch, height, width, dtype=torch.int64)
    found[:, 8:24, 8:40] = 1
    found[:, 30:50, 20:30] = 2
    found[:, 40:60, 40:60] = 6
    return found


# --- structure


def test_parameters(full):
    def count(*names: str) -> int:
        return sum(count_parameters(full.get_submodule(name)) for name in names)

    assert count_parameters(full) == 45_908_840 == method_card("PSFusion").parameters
    assert count_parameters(full) - count("segment.unused") == 45_899_366
    assert (count("infrared"), count("visible")) == (21_343_328, 21_346_464)
    assert (count("superficial"), count("profound")) == (384_768, 2_143_078)
    assert [count(f"inject{i}") for i in (1, 2, 3)] == [37_024, 27_808, 37_024]
    assert (count("perception.lateral"), count("perception")) == (147_712, 147_712 + 221_952)
    assert count("reconstruct1") == count("reconstruct2") == 92_672
    assert count("fused_head") == 289
    assert count("visible_path") == count("infrared_path") == 2_137
    assert count("segment.binary") == 1_346
    assert count("segment.weighted", "segment.semantic") == 9_417
    assert count("segment.boundary") == 9_538
    assert count("segment.unused") == 9_474


@pytest.mark.parametrize(("size", "expected"), [((256, 256), 38.3e9), ((480, 640), 184.5e9)])
def test_multiply_adds(size, expected):
    counted = complexity(METHOD, *size)
    assert counted.multiply_adds == pytest.approx(expected, rel=0.005)
    assert counted.parameters == 45_908_840


@pytest.mark.parametrize(("height", "width"), [(256, 256), (480, 640)])
def test_shapes_of_all_levels(height, width):
    network = PSFusion().to("meta").eval()
    infrared, visible = (torch.empty(1, c, height, width, device="meta") for c in (1, 3))
    with torch.inference_mode():
        for levels in (network.infrared(infrared), network.visible(visible)):
            assert [x.shape[1:] for x in levels] == [
                (c, height // 2**i, width // 2**i) for i, c in enumerate((32, 64, 64, 128, 256, 512))
            ]
        fused = network.fused_features(infrared, visible)
        assert [x.shape[1:] for x in fused] == [
            (c, height // 2**i, width // 2**i) for i, c in enumerate((32, 32, 64, 64, 64, 64))
        ]
        assert network.perception(fused[2:]).shape == (1, 64, height // 4, width // 4)
        outputs = network.outputs(infrared, visible)
    assert [x.shape for x in outputs] == [(1, c, height, width) for c in (1, 1, 1, 9, 2, 2)]


@pytest.mark.parametrize("size", [(32, 64), (37, 53), (100, 65), (17, 31)])
def test_any_size_is_padded_and_cropped(size):
    network = lively()
    with torch.inference_mode():
        infrared, visible = pair(*size)
        outputs = network.outputs(infrared, visible)
        assert [x.shape for x in outputs] == [(2, c, *size) for c in (1, 1, 1, 9, 2, 2)]
        assert all(torch.isfinite(x).all() for x in outputs)
        for image in outputs[:3]:
            assert image.min() >= 0
            assert image.max() <= 1
        assert torch.equal(network(infrared, visible), outputs.fused)
        border = (0, -size[1] % 32, 0, -size[0] % 32)
        padded = network(*(functional.pad(x, border, mode="reflect") for x in (infrared, visible)))
    assert torch.equal(padded[..., : size[0], : size[1]], outputs.fused)


def test_images_too_small_to_be_reflected():
    with pytest.raises(RuntimeError, match="adding"), torch.inference_mode():
        lively()(*pair(16, 32))


def test_batch_and_threads_do_not_matter():
    network = lively()
    infrared, visible = pair(64, 96, batch=3)
    with torch.inference_mode():
        together = network.outputs(infrared, visible)
        for i in range(3):
            alone = network.outputs(infrared[i : i + 1], visible[i : i + 1])
            for a, b in zip(together, alone, strict=True):
                torch.testing.assert_close(a[i : i + 1], b, rtol=1e-5, atol=1e-5)
        with two_threads():
            for a, b in zip(together, network.outputs(infrared, visible), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_the_seed_decides_the_weights():
    first, second, third = [torch.manual_seed(seed) and PSFusion(**SMALL).state_dict() for seed in (7, 7, 8)]
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["fused_head.weight"], third["fused_head.weight"])


# --- gradients


def without_gradient(network, loss) -> set[str]:
    network.zero_grad()
    loss.backward()
    return {name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()}


UNUSED = {f"segment.unused.{k}" for k in ("0.weight", "1.weight", "1.bias", "3.weight", "3.bias")}


@pytest.mark.parametrize(
    "options", [losses.LossOptions(), losses.PAPER, losses.AUTHORS], ids=["default", "paper", "authors"]
)
def test_gradients_reach_all_but_the_unused_head(options):
    network = lively()
    infrared, visible = pair()
    loss = losses.psfusion_loss(
        network.outputs(infrared, visible), infrared, visible, losses.targets_of(labels()), options
    )
    assert without_gradient(network, loss) == UNUSED
    assert torch.isfinite(loss)


def test_the_fused_image_needs_everything_but_the_other_heads():
    network = lively()
    infrared, visible = pair()
    missing = without_gradient(network, (network(infrared, visible) - 0.3).square().sum())
    assert missing == {name for name, _ in network.named_parameters() if name.startswith(HEADS)}


def test_the_first_step_cannot_move_the_cross_attention():
    network = lively()
    for block in network.profound.values():
        torch.nn.init.zeros_(block.cross.gamma_visible)
        torch.nn.init.zeros_(block.cross.gamma_infrared)
    infrared, visible = pair()
    missing = without_gradient(network, network(infrared, visible).square().sum())
    inside = {name for name in missing if ".cross." in name}
    assert all(any(part in name for part in ("query", "_key", "_value")) for name in inside)
    assert missing - inside == {name for name, _ in network.named_parameters() if name.startswith(HEADS)}
    assert "profound.4.cross.query.0.weight" in inside


def test_training_mode_learns_with_a_batch_of_two():
    network = lively().train()
    infrared, visible = pair()
    targets = losses.targets_of(labels())
    options = losses.LossOptions(correlation=0)  # the sources are noise, of which no image is a function
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    values = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = losses.psfusion_loss(network.outputs(infrared, visible), infrared, visible, targets, options)
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert np.isfinite(values).all()
    assert values[-1] < values[0]
    with pytest.raises(ValueError, match="more than 1 value"):
        network.outputs(infrared[:1], visible[:1])


# --- modules


def test_fusion_shares_are_halves_where_the_attention_is_silent():
    torch.manual_seed(0)
    fusion = SuperficialDetailFusion(8, 8).eval()
    visible, infrared = noise(2, 8, 6, 6), noise(2, 8, 6, 6, seed=1)
    share = fusion.share(visible, infrared)
    assert share.min() > 0
    assert share.max() < 1
    assert share.std() > 0
    for gate in (fusion.spatial, fusion.channel):
        torch.nn.init.zeros_(gate[-1].weight)
        torch.nn.init.zeros_(gate[-1].bias)
    assert torch.all(fusion.share(visible, infrared) == 0.5)
    a, b = fusion.recalibrated(fusion.visible(visible), fusion.infrared(infrared))
    torch.testing.assert_close(fusion(visible, infrared), (a + b) / 2)


def test_the_share_is_that_of_the_visible_image():
    torch.manual_seed(0)
    fusion = SuperficialDetailFusion(8, 8).eval()
    visible, infrared = noise(1, 8, 6, 6), noise(1, 8, 6, 6, seed=1)
    for gate in (fusion.spatial, fusion.channel):
        torch.nn.init.zeros_(gate[-1].weight)
        torch.nn.init.constant_(gate[-1].bias, 6)  # the sigmoid of 36 is 1
    a, _ = fusion.recalibrated(fusion.visible(visible), fusion.infrared(infrared))
    torch.testing.assert_close(fusion(visible, infrared), a)


def test_recalibration_by_itself_or_by_the_other():
    torch.manual_seed(0)
    fusion = SuperficialDetailFusion(8, 8).eval()
    visible, infrared = noise(2, 8, 6, 6), noise(2, 8, 6, 6, seed=1)
    pooled = torch.cat((visible, infrared), dim=1).mean(dim=(2, 3), keepdim=True)
    weight = torch.sigmoid(fusion.recalibrate[1:](pooled))
    own = (visible + visible * weight[:, :8], infrared + infrared * weight[:, 8:])
    other = (visible + infrared * weight[:, 8:], infrared + visible * weight[:, :8])
    for kind, expected in (("self", own), ("cross", other)):
        fusion.recalibration = kind
        for a, b in zip(fusion.recalibrated(visible, infrared), expected, strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kind", ["code", "eq9"])
def test_attention_against_loops(kind):
    query, key, value = (noise(1, 4, 2, 3, seed=seed) * 3 for seed in range(3))
    q, k, v = (x[0].flatten(1).T.double() for x in (query, key, value))
    expected = torch.zeros(6, 4, dtype=torch.float64)
    for i in range(6):
        scores = [float(k[i] @ q[j] if kind == "code" else q[i] @ k[j]) for j in range(6)]
        total = sum(math.exp(s) for s in scores)
        for j in range(6):
            expected[i] += math.exp(scores[j]) / total * v[j]
    found = attend(query, key, value, kind)
    torch.testing.assert_close(found[0].flatten(1).T.double(), expected, rtol=1e-5, atol=1e-5)
    rows = attend(query, key, torch.ones_like(value), kind)  # what each row of the attention sums to
    torch.testing.assert_close(rows, torch.ones_like(rows))
    one = torch.zeros_like(value)  # all weights, one position after the other
    one[0, 0, 0, 0] = 1
    weight = attend(query, key, one, kind)[0, 0]
    assert weight.min() >= 0
    assert weight.max() < 1


def test_the_two_attentions_differ():
    query, key, value = (noise(1, 4, 2, 3, seed=seed) * 3 for seed in range(3))
    assert (attend(query, key, value, "code") - attend(query, key, value, "eq9")).abs().max() > 1e-3
    torch.testing.assert_close(attend(query, key, value, "code"), attend(key, query, value, "eq9"))


@pytest.mark.parametrize("kind", ["code", "eq9"])
def test_cross_attention_begins_without_context(kind):
    torch.manual_seed(0)
    block = CrossAttention(8, kind).eval()
    visible, infrared = noise(1, 8, 4, 4), noise(1, 8, 4, 4, seed=1)
    torch.testing.assert_close(block(visible, infrared), block.join(torch.cat((infrared, visible), dim=1)))
    torch.nn.init.constant_(block.gamma_visible, 2)
    query = block.query(torch.cat((visible, infrared), dim=1))
    context = attend(query, block.visible_key(visible), block.visible_value(visible), kind)
    expected = block.join(torch.cat((infrared + 2 * context, visible), dim=1))
    torch.testing.assert_close(block(visible, infrared), expected)


def test_injection_with_silent_conditions():
    block = SemanticInjection(4, 6, 8).eval()
    for conv in (block.gamma, block.beta):
        torch.nn.init.zeros_(conv.weight)
        torch.nn.init.zeros_(conv.bias)
    block.norm.running_mean.fill_(0.2)
    block.norm.running_var.fill_(3)
    x = noise(2, 4, 8, 8)
    normed = (x - x.mean(dim=(2, 3), keepdim=True)) / (x.var(dim=(2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(block(x, noise(2, 6, 4, 4)), block.norm(1.5 * normed), rtol=1e-5, atol=1e-5)


def test_gates_have_the_positions_of_the_checkpoints():
    assert {key.split(".")[0] for key in pointwise_pair(8).state_dict()} == {"0", "1", "3", "4"}
    assert {key.split(".")[0] for key in pointwise_pair(8, pooled=True).state_dict()} == {"1", "2", "4", "5"}


# --- the published names


class Published:
    """PSFusion once more, literally, in evaluation mode; weights appear in `state` under their published names."""

    def __init__(self, width: int = 8) -> None:
        self.width = width
        self.state: dict = {}
        self.random = torch.Generator().manual_seed(3)

    def tensor(self, name: str, *shape: int, low: float = -0.5, high: float = 0.5):
        if name not in self.state:
            self.state[name] = torch.rand(shape, generator=self.random) * (high - low) + low
        return self.state[name]

    def conv(self, name: str, x, out: int, size: int = 3, stride: int = 1, bias: bool = True, groups: int = 1):
        inputs = x.shape[1] // groups
        reach = (3 / (inputs * size**2)) ** 0.5
        weight = self.tensor(f"{name}.weight", out, inputs, size, size, low=-reach, high=reach)
        return functional.conv2d(
            x, weight, self.tensor(f"{name}.bias", out) if bias else None, stride, size // 2, groups=groups
        )

    def bn(self, name: str, x):
        c = x.shape[1]
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(1)
        return functional.batch_norm(
            x,
            self.tensor(f"{name}.running_mean", c),
            self.tensor(f"{name}.running_var", c, low=0.5, high=1.5),
            self.tensor(f"{name}.weight", c, low=0.5, high=1.5),
            self.tensor(f"{name}.bias", c),
        )

    def basic(self, name: str, x, out: int):
        return self.bn(f"{name}.basicconv.1", self.conv(f"{name}.basicconv.0", x, out, bias=False)).relu()

    def double(self, name: str, x, out: int):
        return self.bn(f"{name}.1", self.bn(f"{name}.0.bn", self.conv(f"{name}.0.conv", x, out, bias=False))).relu()

    def frelu(self, name: str, x):
        c = x.shape[1]
        return torch.max(x, self.bn(f"{name}.bn_frelu", self.conv(f"{name}.conv_frelu", x, c, groups=c)))

    def gate(self, name: str, x, first: int):
        hidden = self.bn(f"{name}.{first + 1}", self.conv(f"{name}.{first}", x, x.shape[1] // 4, 1)).relu()
        return self.bn(f"{name}.{first + 4}", self.conv(f"{name}.{first + 3}", hidden, x.shape[1], 1))

    def residual(self, name: str, x, out: int, stride: int):
        y = self.bn(f"{name}.bn1", self.conv(f"{name}.conv1", x, out, stride=stride, bias=False)).relu()
        y = self.bn(f"{name}.bn2", self.conv(f"{name}.conv2", y, out, bias=False))
        if stride != 1 or x.shape[1] != out:
            x = self.conv(f"{name}.downsample.0", x, out, 1, stride, bias=False)
            x = self.bn(f"{name}.downsample.1", x)
        return (x + y).relu()

    def encoder(self, name: str, x):
        w = self.width
        x = self.frelu(
            f"{name}_conv1.SFEB1.2", self.bn(f"{name}_conv1.SFEB1.1", self.conv(f"{name}_conv1.SFEB1.0", x, w, 7))
        )
        x = self.frelu(
            f"{name}_conv1.SFEB1.5", self.bn(f"{name}_conv1.SFEB1.4", self.conv(f"{name}_conv1.SFEB1.3", x, w))
        )
        levels = [x]
        x = self.bn(f"{name}_conv1.SFEB2.1", self.conv(f"{name}_conv1.SFEB2.0", x, 2 * w, stride=2))
        x = self.conv(f"{name}_conv1.SFEB2.3", self.frelu(f"{name}_conv1.SFEB2.2", x), 2 * w)
        x = self.bn(f"{name}_bn1", x).relu()
        levels.append(x)
        x = functional.max_pool2d(x, 3, 2, 1)
        for level, out, stride in ((3, 2, 1), (4, 4, 2), (5, 8, 2), (6, 16, 2)):
            x = self.residual(f"{name}_layer{level}.0", x, out * w, stride)
            x = self.residual(f"{name}_layer{level}.1", x, out * w, 1)
            levels.append(x)
        return levels

    def low_fuse(self, name: str, rgb, thermal, out: int):
        for part in ("obj1_1", "obj1_2", "spr"):
            rgb, thermal = self.basic(f"{name}.RGB{part}", rgb, out), self.basic(f"{name}.Inf{part}", thermal, out)
        x = torch.cat((rgb, thermal), 1)
        w = self.gate(f"{name}.obj_fuse.Recalibrate", x.mean((2, 3), keepdim=True), 1).sigmoid()
        x = x * w + x
        rgb, thermal = x[:, :out], x[:, out:]
        agg = self.bn(f"{name}.obj_fuse.channel_agg.1", self.conv(f"{name}.obj_fuse.channel_agg.0", x, out, 1)).relu()
        local = self.gate(f"{name}.obj_fuse.local_att", agg, 0)
        w = (self.gate(f"{name}.obj_fuse.global_att", agg.mean((2, 3), keepdim=True), 1) * local).sigmoid()
        return w * rgb + (1 - w) * thermal

    def dense(self, name: str, x, out: int):
        down = self.conv(f"{name}.down", x, out // 4, 1)
        found: list = []
        for i in range(4):
            found.append(self.basic(f"{name}.denseblock.{i}", torch.cat((*found, down), 1), out // 4))
        return self.basic(f"{name}.fuse", torch.cat((x, found[-1]), 1), out)

    def high_fuse(self, name: str, rgb, thermal, out: int):
        x, y = self.dense(f"{name}.RGBobj", rgb, out), self.dense(f"{name}.Infobj", thermal, out)
        name = f"{name}.obj_fuse"
        q = self.basic(f"{name}.Q", torch.cat((x, y), 1), out).flatten(2)

        def attended(prefix: str, z):
            k, v = (self.basic(f"{name}.{prefix}_{kind}", z, out).flatten(2) for kind in "KV")
            mask = torch.softmax(k.transpose(1, 2) @ q, dim=-1)
            return (v @ mask.transpose(1, 2)).reshape(z.shape)

        x_refined = self.tensor(f"{name}.gamma1", 1, low=0.5, high=1.5) * attended("RGB", x) + y
        y_refined = self.tensor(f"{name}.gamma2", 1, low=0.5, high=1.5) * attended("INF", y) + x
        return self.basic(f"{name}.Second_reduce", torch.cat((x_refined, y_refined), 1), out)

    def sim(self, name: str, x, condition):
        size, n = x.shape[2:], x.shape[1]
        condition = functional.interpolate(condition, size, mode="bilinear", align_corners=False)
        a = self.conv(f"{name}.mlp_shared.0", condition, self.width).relu()
        gamma, beta = self.conv(f"{name}.mlp_gamma.0", a, n).sigmoid(), self.conv(f"{name}.mlp_beta", a, n)
        return self.bn(f"{name}.bn", functional.instance_norm(x) * (1 + gamma)) + beta

    def decoder(self, name: str, x):
        c = x.shape[1]
        x1 = self.double(f"{name}.block1", x, c)
        x2 = self.double(f"{name}.block2", torch.cat((x, x1), 1), c)
        x3 = self.double(f"{name}.block3", torch.cat((x, x1, x2), 1), c)
        return self.double(f"{name}.block4", torch.cat((x, x1, x2, x3), 1), c)

    def relu6(self, name: str, x, out: int):
        return functional.relu6(self.bn(f"{name}.bnop", self.conv(f"{name}.conv", x, out, 1, bias=False)))

    def restored(self, name: str, x):
        c = x.shape[1]
        local = x
        for i in (0, 3, 6):
            local = self.bn(
                f"{name}.mask.local_att.{i + 1}", self.conv(f"{name}.mask.local_att.{i}", local, c, groups=c)
            )
            local = local if i == 6 else local.relu()
        mask = (local * self.gate(f"{name}.mask.global_att", x.mean((2, 3), keepdim=True), 1)).sigmoid()
        return (self.conv(f"{name}.conv_block.0", self.bn(f"{name}.mask.conv_block", x * mask), 1).tanh() + 1) / 2

    def __call__(self, thermal, rgb) -> list:
        w, deep = self.width, 2 * self.width
        a, b = self.encoder("encoder_rgb", rgb), self.encoder("encoder_thermal", thermal)
        f = [self.low_fuse(f"low_fuse{i}", a[i - 1], b[i - 1], out) for i, out in ((1, w), (2, w), (3, deep))]
        f += [self.high_fuse(f"high_fuse{i}", a[i - 1], b[i - 1], deep) for i in (4, 5, 6)]

        def up(x, scale: int):
            size = (x.shape[2] * scale, x.shape[3] * scale)
            return functional.interpolate(x, size, mode="bilinear", align_corners=True)

        s = torch.cat([up(self.conv(f"to_fused_seg.{i}.0", f[i + 2], deep), 2**i) for i in range(4)], 1)
        for i in (1, 2, 3):
            s = self.double(f"seg_decoder.block{i}", s, deep)
        binary = self.conv("classfier.binary_conv2", self.relu6("classfier.binary_conv1", s, deep // 4), 2)
        weight = binary.softmax(1)[:, 1:2]
        objects = self.relu6("classfier.semantic_conv1", up(s * weight, 2), deep)
        both = torch.cat((objects, up(s, 2)), 1)
        edge = self.bn("classfier.boundary_conv.1", self.conv("classfier.boundary_conv.0", both, deep, 1))
        edge = self.conv("classfier.boundary_conv.3", functional.relu6(edge), 2)
        self.conv("classfier.boundary_conv2", self.relu6("classfier.boundary_conv1", both, deep), 2)

        r = self.sim("SIM2", f[0], self.sim("SIM1", f[1], f[2]))
        r = self.decoder("seg_rec_decoder", self.sim("SIM3", self.decoder("rec_decoder", r), s))
        return [
            (self.conv("pred_fusion.conv_block.0", r, 1).tanh() + 1) / 2,
            self.restored("pred_vi", r),
            self.restored("pred_ir", r),
            up(self.conv("classfier.semantic_conv2", objects, 9), 2),
            up(binary, 4),
            up(edge, 2),
        ]


def test_published_names_and_a_literal_implementation_agree():
    published = Published()
    infrared, visible = pair(64, 96)
    expected = published(infrared, visible)
    content = {"MTAN": published.state, "optimizer": {}, "ep": 1, "total_it": 2, "best_mIou": 0.5}
    network = PSFusion(width=8, blocks=(2, 2, 2, 2)).eval()
    load_strictly(network, METHOD.convert(content, Path("best_model.pth")), "best_model.pth")
    with torch.inference_mode():
        found = network.outputs(infrared, visible)
    for name, a, b in zip(Outputs._fields, found, expected, strict=True):
        assert b.std() > 1e-4, name
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_a_checkpoint_of_another_network():
    with pytest.raises(CheckpointError, match="MTAN"):
        METHOD.convert({"model": {}}, Path("x.pth"))
    state = METHOD.convert({"MTAN": {"encoder_rgb_bn1.weight": torch.ones(64)}}, Path("x.pth"))
    assert set(state) == {"visible.bn1.weight"}
    with pytest.raises(CheckpointError, match="missing"):
        load_strictly(PSFusion(**SMALL), state, "x.pth")


def test_imagenet_weights_go_to_both_encoders():
    network, other = lively(), lively()
    stages = {}
    for key, value in other.infrared.state_dict().items():
        if key.startswith(("bn1.", "levels.")):
            name = key if key.startswith("bn1.") else f"layer{int(key[7]) - 2}{key[8:]}"
            stages[name] = torch.rand_like(value.float()).to(value.dtype)
    content = stages | {
        "conv1.weight": torch.ones(16, 3, 7, 7),
        "fc.weight": torch.ones(10, 128),
        "fc.bias": torch.ones(10),
    }
    before = {key: value.clone() for key, value in network.state_dict().items()}
    load_backbone(network, content, Path("resnet.pth"))
    changed = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert {key.split(".")[0] for key in changed} == {"infrared", "visible"}
    assert not any("sfeb" in key for key in changed)
    for encoder in (network.infrared, network.visible):
        assert torch.equal(encoder.levels["5"][0].conv2.weight, stages["layer3.0.conv2.weight"])
        assert torch.equal(encoder.bn1.running_var, stages["bn1.running_var"])
    del content["layer4.0.conv1.weight"]
    with pytest.raises(CheckpointError, match="missing"):
        load_backbone(network, content, Path("resnet.pth"))


# --- images


@pytest.mark.parametrize("size", [(64, 96), (70, 101), (20, 40), (1, 1)])
@pytest.mark.parametrize("colour", [False, True])
def test_images_in_and_images_out(size, colour):
    infrared = textured(1, *size)
    visible = np.stack([textured(seed, *size) for seed in (2, 3, 4)], axis=2) if colour else textured(2, *size)
    a, b = METHOD.prepare(infrared, visible)
    fitted = tuple(max(side // 32 * 32, 32) for side in size)
    assert (a.shape, b.shape) == ((1, *fitted), (3, *fitted))
    assert a.dtype == b.dtype == torch.float32
    with torch.inference_mode():
        fused = METHOD.finish(lively()(a[None], b[None])[0], infrared, visible)
    assert fused.dtype == np.uint8
    assert fused.shape == visible.shape


def test_other_sizes_are_resized_as_pillow_does():
    infrared, visible = textured(1, 70, 101), textured(2, 70, 101)
    small = np.array(Image.fromarray(infrared).resize((96, 64), Image.Resampling.BICUBIC))
    assert np.array_equal((METHOD.prepare(infrared, visible)[0][0] * 255).round().numpy(), small)


def test_colours_come_from_the_visible_image():
    visible = np.stack([textured(seed, 64, 64) for seed in (2, 3, 4)], axis=2)
    luminance = to_ycrcb(METHOD.prepare(visible, visible)[1])[:1]
    back = METHOD.finish(luminance, visible[..., 0], visible)
    assert np.abs(back.astype(int) - visible).max() < 2


def test_colour_round_trip():
    cube = torch.cartesian_prod(*[torch.linspace(0, 1, 18)] * 3).T.reshape(3, 18, -1)
    assert (to_rgb(to_ycrcb(cube)) - cube).abs().max() < 2 / 255
    gray = noise(1, 4, 4).expand(3, 4, 4)
    assert (to_ycrcb(gray)[1:] - 0.5).abs().max() < 1e-6


# --- ablations


def test_the_rows_of_the_ablation_tables():
    assert list(ABLATIONS) == ["w/o Mask", "w/o SFP", "w/o S2P2", "w/o PSFM"]
    for ablation in ABLATIONS.values():
        losses.LossOptions(**ablation.loss)


@pytest.mark.parametrize(("name", "part"), [("w/o SFP", HEADS[:2]), ("w/o S2P2", HEADS[2:])])
def test_removed_heads_leave_all_else_alone(name, part):
    whole, ablated = lively(), lively(ABLATIONS[name].build)
    own = whole.state_dict()
    kept = {key: value for key, value in own.items() if not key.startswith(part)}
    assert kept.keys() == ablated.state_dict().keys()
    ablated.load_state_dict(kept)
    with torch.inference_mode():
        a, b = whole.outputs(*pair()), ablated.outputs(*pair())
    gone = {"w/o SFP": {"visible", "infrared"}, "w/o S2P2": {"semantic", "binary", "boundary"}}[name]
    for field in Outputs._fields:
        x, y = getattr(a, field), getattr(b, field)
        assert (y is None) if field in gone else torch.equal(x, y)
    terms = [losses.psfusion_terms(o, *pair(), losses.targets_of(labels())) for o in (a, b)]
    removed = {"w/o SFP": {"visible fidelity", "infrared fidelity"}, "w/o S2P2": gone}[name]
    assert terms[0].keys() - terms[1].keys() == removed
    assert all(terms[0][key] == terms[1][key] for key in terms[1])


def test_without_profound_fusion_the_superficial_one_takes_its_place():
    whole, ablated = lively(), lively(ABLATIONS["w/o PSFM"].build)
    a, b = whole.state_dict(), ablated.state_dict()
    assert {key for key in a if not key.startswith("profound.")} == {
        key for key in b if not key.startswith("profound.")
    }
    assert all(a[key].shape == b[key].shape for key in b if not key.startswith("profound."))
    assert {type(module) for module in ablated.profound.values()} == {SuperficialDetailFusion}
    with torch.inference_mode():
        shapes = [[x.shape for x in network.fused_features(*pair())] for network in (whole, ablated)]
    assert shapes[0] == shapes[1]


def test_without_masks_only_the_intensity_term_changes():
    ablation = ABLATIONS["w/o Mask"]
    assert ablation.build is PSFusion
    default, changed = losses.LossOptions(), losses.LossOptions(**ablation.loss)
    assert dataclasses.replace(changed, intensity=default.intensity) == default
    outputs, targets = lively().outputs(*pair()), losses.targets_of(labels())
    a, b = (losses.psfusion_terms(outputs, *pair(), targets, options) for options in (default, changed))
    assert {key for key in a if a[key] != b[key]} == {"intensity"}


def test_paper_options_keep_the_parameters():
    network = lively(recalibration="cross", attention="eq9")
    assert count_parameters(network) == count_parameters(lively())
    with torch.inference_mode():
        assert (network(*pair()) - lively()(*pair())).abs().max() > 1e-5
