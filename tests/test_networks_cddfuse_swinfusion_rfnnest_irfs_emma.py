"""CDDFuse, SwinFusion, RFN-Nest, IRFS and EMMA.

Their weights are not here. Each network is compared with a second, literal implementation that reads random weights
under the names of the published code: it fails where a name, a shape, an order or an operation differs.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from conftest import two_threads  # noqa: E402
from tensors import pair  # noqa: E402
from torch.nn import functional  # noqa: E402

from evalkit.data.images import to_gray  # noqa: E402
from evalkit.methods.checkpoints import CheckpointError, load_strictly  # noqa: E402
from evalkit.methods.layers.windows import (  # noqa: E402
    relative_positions,
)
from evalkit.methods.network import count_parameters  # noqa: E402
from evalkit.methods.networks import cddfuse, emma, irfs, rfnnest, swinfusion  # noqa: E402
from evalkit.methods.registry import method_card  # noqa: E402

MODULES = {"cddfuse": cddfuse, "swinfusion": swinfusion, "rfnnest": rfnnest, "irfs": irfs, "emma": emma}


METHODS = {name: method for module in MODULES.values() for name, method in module.METHODS.items()}


# parameters, multiply-adds (billions) at 480x640, range of the output, smallest side
FACTS = {
    "CDDFuse": (1_188_272, 552.5, (0, 1), 2),
    "SwinFusion": (973_681, 350.1, (-np.inf, np.inf), 5),
    "RFN-Nest": (7_524_249, 520.7, (0, np.inf), 16),
    "IRFS": (241_701, 73.5, (-np.inf, np.inf), 1),
    "EMMA": (1_517_657, 40.4, (0, 1), 1),
}


UNUSED = {
    "SwinFusion": {f"unused.{i}.{kind}" for i in (0, 1) for kind in ("weight", "bias")},
    # eight heads of one channel each: a softmax of one score
    "EMMA": {
        f"{part}.0.wide.attention.temperature"
        for part in ("infrared.blocks", "visible.blocks", "fusion", "decoder.blocks")
    },
}


every_method = pytest.mark.parametrize("name", METHODS)


def untrained(name: str, seed: int = 0):
    torch.manual_seed(seed)
    network = METHODS[name].build().eval()
    if name == "RFN-Nest":  # ends with a ReLU, which some seeds leave at 0 everywhere
        torch.nn.init.constant_(network.decoder.output[0].bias, 0.5)
    return network


# --- structure


def test_methods_and_their_facts():
    assert set(METHODS) == set(FACTS)


@every_method
def test_parameters_files_and_card_agree(name):
    card = method_card(name)
    assert count_parameters(METHODS[name].build()) == FACTS[name][0] == card.parameters
    assert METHODS[name].files == card.checkpoint
    assert name in MODULES[card.module].METHODS
    assert all((card.task, card.colour, card.values, card.output, card.weights, card.licence))
    assert "not tested with" in " ".join(card.note.split())


def test_rfn_nest_has_the_size_of_its_two_files():
    network = rfnnest.RFNNest()
    assert count_parameters(network.encoder) + count_parameters(network.decoder) == 2_732_761
    assert count_parameters(network.fusion) == 4_791_488


@every_method
def test_multiply_adds(name):
    counting = pytest.importorskip("fvcore.nn")
    from fvcore.nn.jit_handles import get_shape

    def attention(inputs, outputs):
        *batch, queries, length = get_shape(inputs[0])
        return 2 * int(np.prod(batch)) * queries * get_shape(inputs[1])[-2] * length

    # everything is proportional to the pixels, where the sides are multiples of what is padded
    height, width = (64, 96) if name == "EMMA" else (24, 32)
    counts = counting.FlopCountAnalysis(untrained(name), pair(height, width))
    counts.set_op_handle("aten::scaled_dot_product_attention", attention)
    counts.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    operators = counts.by_operator()
    multiplying = sum(operators[key] for key in ("conv", "linear", "matmul", "scaled_dot_product_attention"))
    assert multiplying * (480 * 640) / (height * width) / 1e9 == pytest.approx(FACTS[name][1], rel=2e-3)


def test_multiply_adds_of_swinfusion_by_hand():
    c, hidden, passes, pixels = 60, 120, 28, 480 * 640  # 12 blocks of 20 within an image, 4 across with two each
    convolutions = 2 * 9 * (30 + 30 * c) + 9 * 2 * c * c + 9 * (c * 30 + 30 * 15 + 15)
    linear = passes * (4 * c * c + 2 * c * hidden)
    attention = passes * 2 * 64 * c
    assert (convolutions + linear + attention) * pixels / 1e9 == pytest.approx(FACTS["SwinFusion"][1], abs=0.05)


@every_method
@pytest.mark.parametrize("size", [(37, 53), (16, 16), (17, 31)])
def test_odd_sizes(name, size):
    with torch.inference_mode():
        fused = untrained(name)(*pair(*size))
    check_output(name, fused, size)


def check_output(name, fused, size):
    assert fused.shape == (1, 1, *size)
    assert fused.dtype == torch.float32
    assert torch.isfinite(fused).all()
    low, high = FACTS[name][2]
    assert low <= fused.min()
    assert fused.max() <= high


@every_method
def test_smallest_size(name):
    smallest = FACTS[name][3]
    with torch.inference_mode():
        check_output(name, untrained(name)(*pair(smallest, smallest)), (smallest, smallest))
        check_output(name, untrained(name)(*pair(smallest, 29)), (smallest, 29))
        if smallest > 1:
            with pytest.raises((RuntimeError, ValueError)):
                untrained(name)(*pair(smallest - 1, 32))


@every_method
def test_a_batch_gives_what_its_images_give_alone(name):
    network, (infrared, visible) = untrained(name), pair(18, 19, batch=2)
    with torch.inference_mode():
        together = network(infrared, visible)
        alone = torch.cat([network(infrared[i : i + 1], visible[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


@every_method
def test_threads_do_not_change_the_result(name):
    network, images = untrained(name), pair(16, 16)
    with torch.inference_mode():
        one = network(*images)
        with two_threads():
            two = network(*images)
    torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)


@every_method
def test_every_parameter_learns_but_the_unused(name):
    network = untrained(name)
    network(*pair(18, 33, batch=2)).square().mean().backward()
    idle = {key for key, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    assert idle == UNUSED.get(name, set())
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


@every_method
def test_the_seed_decides_the_first_weights(name):
    def weights(seed):
        torch.manual_seed(seed)
        return METHODS[name].build().state_dict()

    first, again, other = weights(3), weights(3), weights(4)
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert any(not torch.equal(value, other[key]) for key, value in first.items())


# --- weights under the authors' names, as random numbers


def random_weights(shapes, seed=0):
    """Numbers that keep features of about the same size through a layer."""
    rng = np.random.default_rng(seed)

    def draw(key, shape):
        values = rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]) if len(shape) > 1 else 25)
        if len(shape) == 1 and key.endswith("weight"):  # of a normalisation, or a slope
            values += 1
        if key.endswith(("temperature", "scale")):
            values = rng.uniform(0.5, 3, shape)
        if "theta_rho" in key or key.startswith("output."):  # neither e to the power of it nor the sigmoid is saturated
            values *= 0.3
        return torch.from_numpy(values.astype(np.float32))

    return {key: draw(key, shape) for key, shape in shapes.items()}


def below(prefix, shapes):
    return {f"{prefix}.{key}": shape for key, shape in shapes.items()}


def convolution(out, inputs, size=3, bias=True):
    return {"weight": (out, inputs, size, size)} | ({"bias": (out,)} if bias else {})


def norms(c, body):
    return {f"norm{i}{body}.{kind}": (c,) for i in (1, 2) for kind in ("weight", "bias")}


def restormer_names(c, heads=8):
    return norms(c, ".body") | {
        "attn.temperature": (heads, 1, 1),
        "attn.qkv.weight": (3 * c, c, 1, 1),
        "attn.qkv_dwconv.weight": (3 * c, 1, 3, 3),
        "attn.project_out.weight": (c, c, 1, 1),
        "ffn.project_in.weight": (4 * c, c, 1, 1),
        "ffn.dwconv.weight": (4 * c, 1, 3, 3),
        "ffn.project_out.weight": (c, 2 * c, 1, 1),
    }


def lite_names(c, heads=8):
    return norms(c, ".body") | {
        "attn.scale": (heads, 1, 1),
        "attn.qkv1.weight": (3 * c, c, 1, 1),
        "attn.qkv2.weight": (3 * c, 3 * c, 3, 3),
        "attn.proj.weight": (c, c, 1, 1),
        "mlp.project_in.weight": (2 * c, c, 1, 1),
        "mlp.dwconv.weight": (2 * c, 2, 3, 3),
        "mlp.project_out.weight": (c, c, 1, 1),
    }


def node_names(c=64):
    h = c // 2
    return below("shffleconv", convolution(c, c, 1)) | {
        f"theta_{part}.bottleneckBlock.{i}.weight": shape
        for part in ("phi", "rho", "eta")
        for i, shape in ((0, (c, h, 1, 1)), (3, (c, 1, 3, 3)), (5, (h, c, 1, 1)))
    }


def cddfuse_file(prefix="module."):
    blocks = {i: restormer_names(64) for i in range(4)}
    parts = {
        "DIDF_Encoder": {"patch_embed.proj.weight": (64, 1, 3, 3)}
        | {k: v for i in blocks for k, v in below(f"encoder_level1.{i}", blocks[i]).items()}
        | below("baseFeature", lite_names(64))
        | {k: v for i in range(3) for k, v in below(f"detailFeature.net.{i}", node_names()).items()},
        "DIDF_Decoder": {"reduce_channel.weight": (64, 128, 1, 1)}
        | {k: v for i in blocks for k, v in below(f"encoder_level2.{i}", blocks[i]).items()}
        | {"output.0.weight": (32, 64, 3, 3), "output.2.weight": (1, 32, 3, 3)},
        "BaseFuseLayer": lite_names(64),
        "DetailFuseLayer": below("net.0", node_names()),
    }
    return [
        {
            part: {prefix + k: v for k, v in random_weights(shapes, seed).items()}
            for seed, (part, shapes) in enumerate(parts.items())
        }
    ]


def emma_file():
    def block(inputs, c):
        return (
            below("embed", convolution(c, inputs, bias=False))
            | below("GlobalFeature", lite_names(c))
            | {
                f"LocalFeature.Extraction.{i}.conv.{j}.{k}": v
                for i in (0, 1)
                for j in (0, 2)
                for k, v in convolution(c, c).items()
            }
            | below("FFN", convolution(c, 2 * c, bias=False))
        )

    widths, shapes = [8, 16, 32, 32], {}
    for level, (inputs, c) in enumerate(itertools.pairwise([1, *widths]), 1):
        for side in "VI":
            shapes |= below(f"{side}_en_{level}", block(inputs, c))
            if level < 4:
                shapes |= below(f"{side}_down{level}", convolution(c, c, bias=False))
        shapes |= below(f"f_{level}", block(2 * c, c))
        shapes |= below(f"de_{level}", block(2 * c if level < 4 else c, c))
    for level in (2, 3, 4):
        shapes[f"up{level}.0.weight"] = (widths[level - 1], widths[level - 2], 4, 4)
    return [random_weights(shapes | below("last.0", convolution(1, 8)))]


def irfs_file():
    def head():
        return {
            "body.0.weight": (64, 1, 3, 3),
            "body.1.weight": (1,),
            "body.2.weight": (64, 64, 3, 3),
            "SA.spatial.conv.weight": (1, 2, 5, 5),
            "CA.conv_du.0.weight": (8, 64, 1, 1),
            "CA.conv_du.2.weight": (64, 8, 1, 1),
            "conv1x1.weight": (64, 128, 1, 1),
        }

    shapes = below("head_1", head()) | below("head_2", head()) | {"tail.0.weight": (1, 64, 3, 3)}
    for i, j in itertools.product((0, 1), (0, 2)):
        shapes |= below(f"body.{i}.body.{j}", convolution(64, 64))
    weights = random_weights(shapes)
    weights["head_2.body.1.weight"] = weights["head_1.body.1.weight"] = torch.tensor([0.3])
    return [weights]


def rfn_nest_files():
    widths = [64, 112, 160, 208]

    def block(prefix, inputs, out):
        return below(f"{prefix}.denseblock.0.conv2d", convolution(inputs // 2, inputs)) | below(
            f"{prefix}.denseblock.1.conv2d", convolution(out, inputs // 2, 1)
        )

    auto = below("conv0.conv2d", convolution(16, 1, 1)) | below("conv_out.conv2d", convolution(1, 64, 1))
    for level, (inputs, out) in enumerate(itertools.pairwise([16, *widths]), 1):
        auto |= block(f"DB{level}_0", inputs, out)
    for level, column in ((1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (1, 3)):
        auto |= block(f"DB{level}_{column}", column * widths[level - 1] + widths[level], widths[level - 1])
    fusion = {}
    for level, c in enumerate(widths, 1):
        parts = {"conv_fusion": (c, 2 * c), "conv_ir": (c, c), "conv_vi": (c, c), "bottelblock.0": (c, 2 * c, 1)}
        parts |= {"bottelblock.1": (c, c), "bottelblock.2": (c, c)}
        for part, shape in parts.items():
            fusion |= below(f"fusion_block{level}.{part}.conv2d", convolution(*shape))
    weights = [random_weights(auto), random_weights(fusion, 1)]
    weights[0]["conv_out.conv2d.bias"] += 1  # away from the last ReLU
    return weights


def swinfusion_file():
    c, shapes = 60, {}

    def mlp(suffix=""):
        return {
            f"mlp{suffix}.{name}.{kind}": shape
            for name, shapes in (("fc1", ((120, 60), (120,))), ("fc2", ((60, 120), (60,))))
            for kind, shape in zip(("weight", "bias"), shapes, strict=True)
        }

    def attn(suffix, maps):
        return {f"attn{suffix}.relative_position_bias_table": (225, 6)} | {
            f"attn{suffix}.{name}.{kind}": (out, c)[: 2 if kind == "weight" else 1]
            for name, out in [*maps, ("proj", 60)]
            for kind in ("weight", "bias")
        }

    def block():
        return norms(c, "") | attn("", [("qkv", 180)]) | mlp()

    def cross():
        return {
            k: v for s in ("_A", "_B") for k, v in (norms(c, s) | attn(s, [("q", 60), ("kv", 120)]) | mlp(s)).items()
        }

    for side in "AB":
        shapes |= below(f"conv_first1_{side}", convolution(30, 1))
        shapes |= below(f"norm_Ex_{side}", {"weight": (c,), "bias": (c,)})
        shapes |= below(f"norm_Fusion_{side}", {"weight": (c,), "bias": (c,)})
        for i in range(4):
            shapes |= below(f"layers_Ex_{side}.0.residual_group.blocks.{i}", block())
        for layer, i in itertools.product((0, 1), (0, 1)):
            shapes |= below(f"layers_Fusion.{layer}.residual_group_{side}.blocks.{i}", block())
    shapes |= below("conv_first2_A", convolution(60, 30)) | below("conv_first2_B", convolution(30, 30))
    for layer, i in itertools.product((0, 1), (0, 1)):
        shapes |= below(f"layers_Fusion.{layer}.residual_group.blocks.{i}", cross())
    for i in range(4):
        shapes |= below(f"layers_Re.0.residual_group.blocks.{i}", block())
    for place in ("patch_embed.norm", "norm_Re"):
        shapes |= below(place, {"weight": (c,), "bias": (c,)})
    shapes |= below("conv_after_body_Fusion", convolution(60, 120))
    for i, (out, inputs) in enumerate(((30, 60), (15, 30), (1, 15)), 1):
        shapes |= below(f"conv_last{i}", convolution(out, inputs))
    weights = random_weights(shapes)
    for key in list(weights):
        if key.endswith("relative_position_bias_table"):
            weights[key] *= 5
            weights[key.replace("bias_table", "index")] = relative_positions(8)
        if key.split("blocks.")[-1] in ("1.norm1.weight", "3.norm1.weight", "1.norm1_A.weight"):
            weights[key.rsplit(".", 2)[0] + ".attn_mask"] = torch.zeros(256, 64, 64)
    return [{"params": weights}]


FILES = {
    "CDDFuse": cddfuse_file,
    "SwinFusion": swinfusion_file,
    "RFN-Nest": rfn_nest_files,
    "IRFS": irfs_file,
    "EMMA": emma_file,
}


def convert(name, contents):
    return METHODS[name].convert(*itertools.chain(*((part, Path(f"file{i}")) for i, part in enumerate(contents))))


def flat(contents):
    """All tensors of the files, whatever wraps them."""
    if isinstance(contents, list):
        return {key: value for part in contents for key, value in flat(part).items()}
    if all(isinstance(value, torch.Tensor) for value in contents.values()):
        return contents
    return {f"{part} {key}": value for part, inside in contents.items() for key, value in flat(inside).items()}


def loaded(name, contents):
    network = METHODS[name].build().eval()
    load_strictly(network, convert(name, contents), name)
    return network


# --- the second implementation: literal, in float64, by the authors' names


class Names:
    """Weights below a prefix."""

    def __init__(self, weights, prefix=""):
        self.weights, self.prefix = weights, prefix

    def __truediv__(self, name):
        return Names(self.weights, f"{self.prefix}{name}.")

    def __contains__(self, name):
        return self.prefix + name in self.weights

    def __getitem__(self, name):
        return self.weights[self.prefix + name].double()

    def bias(self, name):
        found = self.weights.get(f"{self.prefix}{name}.bias")
        return None if found is None else found.double()

    def conv(self, x, name, reflect=False, stride=1, groups=1):
        weight = self[f"{name}.weight"]
        border = weight.shape[-1] // 2
        x = functional.pad(x, [border] * 4, mode="reflect" if reflect else "constant")
        return functional.conv2d(x, weight, self.bias(name), stride=stride, groups=groups)

    def linear(self, x, name):
        return x @ self[f"{name}.weight"].T + self[f"{name}.bias"]

    def norm(self, x, name, axis):
        centred = x - x.mean(axis, keepdim=True)
        unit = centred / (centred.square().mean(axis, keepdim=True) + 1e-5).sqrt()
        shape = [-1 if i == axis % x.ndim else 1 for i in range(x.ndim)]
        return unit * self[f"{name}.weight"].view(shape) + self[f"{name}.bias"].view(shape)


def attend_channels(q, k, v, factor):
    out = torch.empty_like(v)
    c = q.shape[1] // len(factor)
    for n, head in itertools.product(range(len(q)), range(len(factor))):
        own = slice(head * c, (head + 1) * c)
        a, b, values = (t[n, own].flatten(1) for t in (q, k, v))
        a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
        out[n, own] = (torch.softmax(a @ b.T * factor[head, 0, 0], 1) @ values).view_as(out[n, own])
    return out


def restormer(w, x):
    y = w.norm(x, "norm1.body", 1)
    y = w.conv(w.conv(y, "attn.qkv"), "attn.qkv_dwconv", groups=192)
    x = x + w.conv(attend_channels(*y.chunk(3, 1), w["attn.temperature"]), "attn.project_out")
    a, b = w.conv(w.conv(w.norm(x, "norm2.body", 1), "ffn.project_in"), "ffn.dwconv", groups=256).chunk(2, 1)
    return x + w.conv(functional.gelu(a) * b, "ffn.project_out")


def lite(w, x, reflect=False):
    c = x.shape[1]
    y = w.conv(w.conv(w.norm(x, "norm1.body", 1), "attn.qkv1"), "attn.qkv2")
    x = x + w.conv(attend_channels(*y.chunk(3, 1), w["attn.scale"]), "attn.proj")
    y = w.conv(w.norm(x, "norm2.body", 1), "mlp.project_in")
    a, b = w.conv(y, "mlp.dwconv", reflect, groups=c).chunk(2, 1)
    return x + w.conv(functional.gelu(a) * b, "mlp.project_out")


def node(w, x):
    def bottleneck(part, x):
        part = w / f"theta_{part}" / "bottleneckBlock"
        x = functional.relu6(part.conv(x, "0"))
        return part.conv(functional.relu6(part.conv(x, "3", True, groups=64)), "5")

    z1, z2 = w.conv(x, "shffleconv").split(32, 1)
    z2 = z2 + bottleneck("phi", z1)
    return torch.cat([z1 * torch.exp(bottleneck("rho", z2)) + bottleneck("eta", z2), z2], 1)


def cddfuse_by_names(contents, infrared, visible):
    encoder, decoder, base, detail = (Names(part, "module.") for part in contents[0].values())

    def encode(x):
        x = encoder.conv(x, "patch_embed.proj")
        for i in range(4):
            x = restormer(encoder / f"encoder_level1.{i}", x)
        d = x
        for i in range(3):
            d = node(encoder / f"detailFeature.net.{i}", d)
        return lite(encoder / "baseFeature", x), d

    (b1, d1), (b2, d2) = encode(infrared), encode(visible)
    x = torch.cat([lite(base, b1 + b2), node(detail / "net.0", d1 + d2)], 1)
    x = decoder.conv(x, "reduce_channel")
    for i in range(4):
        x = restormer(decoder / f"encoder_level2.{i}", x)
    x = decoder.conv(functional.leaky_relu(decoder.conv(x, "output.0"), 0.01), "output.2")
    return torch.sigmoid(x + visible)


def emma_by_names(contents, infrared, visible):
    w = Names(contents[0])

    def block(name, *x):
        part = w / name
        x = part.conv(torch.cat(x, 1), "embed", True)
        local = x
        for i in (0, 1):
            one = part / f"LocalFeature.Extraction.{i}.conv"
            local = local + one.conv(functional.relu(one.conv(local, "0", True)), "2", True)
        return part.conv(torch.cat([lite(part / "GlobalFeature", x, True), local], 1), "FFN", True)

    def encode(side, x):
        features = [block(f"{side}_en_1", x)]
        for level in (1, 2, 3):
            x = w.conv(features[-1], f"{side}_down{level}", True, stride=2)
            features.append(block(f"{side}_en_{level + 1}", x))
        return features

    pairs = zip(encode("I", infrared), encode("V", visible), strict=True)
    fused = [block(f"f_{level}", a, b) for level, (a, b) in enumerate(pairs, 1)]
    x = block("de_4", fused[3])
    for level in (3, 2, 1):
        x = functional.relu(functional.conv_transpose2d(x, w[f"up{level + 1}.0.weight"], stride=2, padding=1))
        x = block(f"de_{level}", x, fused[level - 1])
    return torch.sigmoid(w.conv(x, "last.0", True))


def irfs_by_names(contents, infrared, visible):
    w = Names(contents[0])

    def head(part, x):
        x = part.conv(x, "body.0")
        x = part.conv(torch.where(x > 0, x, x * part["body.1.weight"]), "body.2")
        where = torch.sigmoid(part.conv(torch.cat([x.max(1, True)[0], x.mean(1, True)], 1), "SA.spatial.conv"))
        means = functional.relu(part.conv(x.mean((2, 3), True), "CA.conv_du.0"))
        which = torch.sigmoid(part.conv(means, "CA.conv_du.2"))
        return part.conv(torch.cat([x * where, x * which], 1), "conv1x1")

    x = head(w / "head_1", visible) + head(w / "head_2", infrared)
    for i in (0, 1):
        part = w / f"body.{i}.body"
        x = x + part.conv(functional.relu(part.conv(x, "0")), "2")
    return w.conv(x, "tail.0")


def rfn_nest_by_names(contents, infrared, visible):
    auto, fusion = map(Names, contents)

    def conv(w, x, name):
        return functional.relu(w.conv(x, f"{name}.conv2d", True))

    def block(name, *x):
        return conv(auto, conv(auto, torch.cat(x, 1), f"{name}.denseblock.0"), f"{name}.denseblock.1")

    def encode(x):
        features = [block("DB1_0", conv(auto, x, "conv0"))]
        for level in (2, 3, 4):
            features.append(block(f"DB{level}_0", functional.max_pool2d(features[-1], 2)))
        return features

    def up(like, x):
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return functional.pad(x, [0, like.shape[3] - x.shape[3], 0, like.shape[2] - x.shape[2]], mode="reflect")

    f = []
    for level, (a, b) in enumerate(zip(encode(infrared), encode(visible), strict=True), 1):
        w = fusion / f"fusion_block{level}"
        x = torch.cat([conv(w, a, "conv_ir"), conv(w, b, "conv_vi")], 1)
        for i in range(3):
            x = conv(w, x, f"bottelblock.{i}")
        f.append(conv(w, torch.cat([a, b], 1), "conv_fusion") + x)
    x11 = block("DB1_1", f[0], up(f[0], f[1]))
    x21 = block("DB2_1", f[1], up(f[1], f[2]))
    x12 = block("DB1_2", f[0], x11, up(f[0], x21))
    x31 = block("DB3_1", f[2], up(f[2], f[3]))
    x22 = block("DB2_2", f[1], x21, up(f[1], x31))
    x13 = block("DB1_3", f[0], x11, x12, up(f[0], x22))
    return conv(auto, x13, "conv_out")


def swinfusion_by_names(contents, infrared, visible):
    w = Names(contents[0]["params"])

    def within(part, x, y, shift, suffix=""):
        """Attention of x to y, both (H, W, 60), window by window; a window holds what shifting brings there."""
        h, wide, _ = x.shape
        out = torch.empty_like(x)
        attn = part / f"attn{suffix}"
        if "q.weight" in attn:
            q, (k, v) = attn.linear(x, "q"), attn.linear(y, "kv").split(60, -1)
        else:
            q, k, v = attn.linear(x, "qkv").split(60, -1)
        table = attn["relative_position_bias_table"]
        inside = [(i, j) for i in range(8) for j in range(8)]
        offset = [[(a - c + 7) * 15 + b - d + 7 for c, d in inside] for a, b in inside]
        for top, left in itertools.product(range(0, h, 8), range(0, wide, 8)):
            rows = torch.tensor([(top + i + shift) % h for i, _ in inside])
            columns = torch.tensor([(left + j + shift) % wide for _, j in inside])
            wrapped = torch.tensor([(top + i + shift >= h) * 2 + (left + j + shift >= wide) for i, j in inside])
            for head in range(6):
                own = slice(10 * head, 10 * head + 10)
                scores = q[rows, columns, own] @ k[rows, columns, own].T / 10**0.5 + table[offset, head]
                scores = scores.masked_fill(wrapped[:, None] != wrapped[None], -torch.inf)
                out[rows, columns, own] = torch.softmax(scores, 1) @ v[rows, columns, own]
        return attn.linear(out, "proj")

    def mlp(part, x, suffix=""):
        y = functional.gelu(part.linear(part.norm(x, f"norm2{suffix}", -1), f"mlp{suffix}.fc1"))
        return x + part.linear(y, f"mlp{suffix}.fc2")

    def blocks(name, x, depth):
        for i in range(depth):
            part = w / f"{name}.blocks.{i}"
            y = part.norm(x, "norm1", -1)
            x = mlp(part, x + within(part, y, y, 4 * (i % 2)))
        return x

    def lrelu(x):
        return torch.where(x > 0, x, 0.2 * x)

    def features(x, side):
        x = lrelu(w.conv(lrelu(w.conv(x, "conv_first1_A")), "conv_first2_A"))[0].permute(1, 2, 0)
        x = blocks(f"layers_Ex_{side}.0.residual_group", w.norm(x, "patch_embed.norm", -1), 4)
        return w.norm(w.norm(x, f"norm_Ex_{side}", -1), "patch_embed.norm", -1)

    h, wide = infrared.shape[2:]
    grow = [0, -wide % 8, 0, -h % 8]
    x, y = (features(functional.pad(t, grow, mode="reflect"), s) for t, s in ((infrared, "A"), (visible, "B")))
    for layer in (0, 1):
        x = blocks(f"layers_Fusion.{layer}.residual_group_A", x, 2)
        y = blocks(f"layers_Fusion.{layer}.residual_group_B", y, 2)
        for i in (0, 1):
            part = w / f"layers_Fusion.{layer}.residual_group.blocks.{i}"
            a, b = part.norm(x, "norm1_A", -1), part.norm(y, "norm1_B", -1)
            x, y = x + within(part, a, b, 4 * i, "_A"), y + within(part, b, a, 4 * i, "_B")
            x, y = mlp(part, x, "_A"), mlp(part, y, "_B")
    x = torch.cat([w.norm(x, "norm_Fusion_A", -1), w.norm(y, "norm_Fusion_B", -1)], -1).permute(2, 0, 1)[None]
    x = lrelu(w.conv(x, "conv_after_body_Fusion"))[0].permute(1, 2, 0)
    x = blocks("layers_Re.0.residual_group", w.norm(x, "patch_embed.norm", -1), 4)
    x = w.norm(x, "norm_Re", -1).permute(2, 0, 1)[None]
    x = w.conv(lrelu(w.conv(lrelu(w.conv(x, "conv_last1")), "conv_last2")), "conv_last3")
    return x[..., :h, :wide]


@pytest.mark.parametrize(
    ("name", "by_names", "size"),
    [
        ("CDDFuse", cddfuse_by_names, (7, 10)),
        ("SwinFusion", swinfusion_by_names, (13, 24)),
        ("RFN-Nest", rfn_nest_by_names, (19, 22)),
        ("IRFS", irfs_by_names, (7, 10)),
        ("EMMA", emma_by_names, (32, 64)),
    ],
)
def test_the_authors_weights_mean_the_same_here(name, by_names, size):
    contents = FILES[name]()
    infrared, visible = (x.double() for x in pair(*size))
    with torch.inference_mode():
        expected = by_names(contents, infrared, visible)
        fused = loaded(name, contents).double()(infrared, visible)
        swapped = by_names(contents, visible, infrared)
    torch.testing.assert_close(fused, expected, rtol=1e-9, atol=1e-9)
    assert expected.std() > 1e-3
    assert not torch.allclose(expected, swapped, rtol=1e-4)  # the order of the images matters: it is the right one


@every_method
def test_no_weight_is_lost_or_doubled(name):
    contents = FILES[name]()
    state = convert(name, contents)
    given = {k: v for k, v in flat(contents).items() if not k.endswith(("position_index", "attn_mask"))}
    assert sorted(v.data_ptr() for v in state.values()) == sorted(v.data_ptr() for v in given.values())
    assert sum(v.numel() for v in state.values()) == FACTS[name][0] + (name == "IRFS")  # its slope is stored twice
    network = METHODS[name].build()
    load_strictly(network, state, name)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


@every_method
def test_a_key_too_few_too_many_or_of_another_shape_is_refused(name):
    def load(change):
        contents = FILES[name]()
        inside = contents[-1]
        while not isinstance(next(iter(inside.values())), torch.Tensor):
            inside = list(inside.values())[-1]
        change(inside, next(k for k, v in inside.items() if v.ndim > 1 and k.endswith("weight")))
        loaded(name, contents)

    with pytest.raises(CheckpointError, match="1 missing"):
        load(lambda state, key: state.pop(key))
    with pytest.raises(CheckpointError, match=r"1 left over: .*nobody\.weight"):
        load(lambda state, key: state.update({"nobody.weight": torch.zeros(1)}))
    with pytest.raises(CheckpointError, match="1 of another shape"):
        load(lambda state, key: state.update({key: torch.zeros(7)}))
    with pytest.raises(CheckpointError, match="NaN"):
        load(lambda state, key: state.update({key: torch.full_like(state[key], torch.nan)}))


@every_method
def test_weights_of_another_network_are_refused(name):
    other = "IRFS" if name == "EMMA" else "EMMA"
    with pytest.raises(CheckpointError):
        loaded(name, FILES[other]() * len(METHODS[name].files))


def test_cddfuse_takes_its_parts_with_and_without_the_wrappers_name_but_none_less():
    state = convert("CDDFuse", cddfuse_file(prefix=""))
    assert all(torch.equal(value, state[key]) for key, value in convert("CDDFuse", cddfuse_file()).items())
    content = cddfuse_file()[0]
    del content["BaseFuseLayer"]
    with pytest.raises(CheckpointError, match="BaseFuseLayer"):
        convert("CDDFuse", [content])
    content = cddfuse_file()[0]
    content["DIDF_Decoder"]["encoder.embed.weight"] = torch.zeros(64, 1, 3, 3)
    with pytest.raises(CheckpointError, match="two parts"):
        convert("CDDFuse", [content])


def test_rfn_nest_files_in_the_wrong_order_are_refused():
    auto, fusion = rfn_nest_files()
    with pytest.raises(CheckpointError, match="not of RFNNest"):
        loaded("RFN-Nest", [fusion, auto])
    with pytest.raises(CheckpointError, match="both hold"):
        convert("RFN-Nest", [auto, fusion | {"encoder.first.0.weight": torch.zeros(1)}])


def test_irfs_with_two_slopes_is_refused():
    weights = irfs_file()[0]
    weights["head_2.body.1.weight"] = torch.tensor([0.4])
    with pytest.raises(CheckpointError, match="two slopes"):
        convert("IRFS", [weights])


def test_swinfusion_windows_must_be_its_own():
    weights = swinfusion_file()[0]["params"]
    assert convert("SwinFusion", [weights]).keys() == convert("SwinFusion", [{"params": weights}]).keys()
    index = next(k for k in weights if k.endswith("index"))
    mask = next(k for k in weights if k.endswith("mask"))
    for change in ({index: weights[index].T}, {index: torch.zeros(49, 49)}, {mask: torch.zeros(4, 49, 49)}):
        with pytest.raises(CheckpointError, match="other windows than 8x8"):
            convert("SwinFusion", [weights | change])
    with pytest.raises(CheckpointError, match="other windows than 8x8"):
        convert("SwinFusion", [{k: v for k, v in weights.items() if k != index}])
    with pytest.raises(CheckpointError, match="left over"):
        loaded("SwinFusion", [weights | {"somewhere.relative_position_index": weights[index]}])


# --- bytes, colour, borders


@every_method
def test_gray_in_gray_out(name):
    rng = np.random.default_rng(0)
    for size in ((40, 33), (19, 16)):
        infrared, visible = rng.integers(0, 256, (2, *size)).astype(np.uint8)
        with torch.inference_mode():
            tensors = METHODS[name].prepare(infrared, visible)
            assert all(t.dtype == torch.float32 for t in tensors)
            fused = METHODS[name].finish(untrained(name)(*(t[None] for t in tensors))[0], infrared, visible)
        assert fused.dtype == np.uint8
        assert fused.shape == size


@pytest.mark.parametrize("name", ["CDDFuse", "EMMA", "RFN-Nest"])
def test_outputs_are_stretched(name):
    gray = np.zeros((1, 3), np.uint8)
    fused = METHODS[name].finish(torch.tensor([[[0.2, 0.4999, 0.7]]]), gray, gray)
    middle = int((0.4999 - 0.2) / 0.5 * 255 + (name != "RFN-Nest") / 2)
    assert fused[0, :2].tolist() == [0, middle]
    assert fused[0, 2] >= 254  # the 1e-5 in RFN-Nest's range, and the fraction cut off
    assert not METHODS[name].finish(torch.full((1, 1, 3), 0.4), gray, gray).any()


@pytest.mark.parametrize("name", ["CDDFuse", "EMMA"])
def test_gray_is_rounded_luminance(name):
    rgb = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    _, visible = METHODS[name].prepare(rgb[..., 0], rgb)
    assert torch.equal((visible[0] * 255).round(), torch.from_numpy(to_gray(rgb).astype(np.float32)))


def test_rfn_nest_sees_bytes():
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert all(torch.equal(t[0], torch.from_numpy(gray.astype(np.float32))) for t in rfnnest._prepare(gray, gray))


def test_irfs_keeps_the_chroma_and_cuts_the_fraction_off():
    rgb = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    ycrcb = cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb)
    _, visible = METHODS["IRFS"].prepare(rgb[..., 0], rgb)
    np.testing.assert_array_equal((visible[0] * 255).round(), ycrcb[..., 0])
    finish = METHODS["IRFS"].finish
    again = finish(visible + 1e-4, rgb, rgb)
    np.testing.assert_array_equal(again, cv2.cvtColor(ycrcb, cv2.COLOR_YCrCb2RGB))
    gray = np.zeros((1, 4), np.uint8)
    assert finish(torch.tensor([[[-0.5, 100.9 / 255, 1.0, 1.5]]]), gray, gray).tolist() == [[0, 100, 255, 255]]


def test_swinfusion_is_clipped_rounded_and_cropped():
    gray = np.zeros((1, 4), np.uint8)
    output = torch.full((1, 8, 8), 0.9)
    output[0, 0, :4] = torch.tensor([-0.5, 100.4 / 255, 100.6 / 255, 1.5])
    assert swinfusion._finish(output, gray, gray).tolist() == [[0, 100, 101, 255]]


@pytest.mark.parametrize("size", [(8, 16), (13, 7), (1, 3), (4, 4)])
def test_swinfusion_mirrors_by_one_to_eight_pixels(size):
    image = np.random.default_rng(0).random((1, *size), np.float32)
    grown = [(0, 8 - side % 8) for side in size]
    np.testing.assert_array_equal(
        swinfusion.mirrored(torch.from_numpy(image)), np.pad(image, [(0, 0), *grown], mode="symmetric")
    )


def test_rfn_nest_averages_the_overlap_of_four_parts():
    torch.manual_seed(0)
    network, (a, b) = rfnnest.RFNNest(largest=40).eval(), pair(41, 36)
    torch.nn.init.constant_(network.decoder.output[0].bias, 0.5)
    with torch.inference_mode():
        fused, whole = network(a, b), rfnnest.RFNNest.in_one_piece(network, a, b)
        assert not torch.allclose(fused, whole)
        rows, columns = (slice(0, 23), slice(18, 41)), (slice(0, 21), slice(16, 36))
        parts = {(r.start, c.start): network.in_one_piece(a[..., r, c], b[..., r, c]) for r in rows for c in columns}
        torch.testing.assert_close(fused[..., :18, :16], parts[0, 0][..., :18, :16])
        torch.testing.assert_close(fused[..., 23:, 21:], parts[18, 16][..., 5:, 5:])
        both = (parts[0, 0][..., 18:23, :16] + parts[18, 0][..., :5, :16]) / 2
        torch.testing.assert_close(fused[..., 18:23, :16], both)
        network.largest = 41
        torch.testing.assert_close(network(a, b), whole)
    assert METHODS["RFN-Nest"].build().largest == 512


def test_emma_sets_crops_side_by_side():
    network, (a, b) = untrained("EMMA"), pair(70, 45)
    with torch.inference_mode():
        fused = network(a, b)

        def crop(rows, columns):
            return network.in_one_piece(a[..., rows, columns], b[..., rows, columns])

        first, last = slice(0, 64), slice(-64, None)
        left, right = slice(0, 32), slice(-32, None)
        torch.testing.assert_close(fused[..., :64, :32], crop(first, left))
        torch.testing.assert_close(fused[..., :64, 32:], crop(first, right)[..., -13:])
        torch.testing.assert_close(fused[..., 64:, :32], crop(last, left)[..., -6:, :])
        torch.testing.assert_close(fused[..., 64:, 32:], crop(last, right)[..., -6:, -13:])
        small = network(a[..., :20, :32], b[..., :20, :32])
        grown = [functional.pad(t[..., :20, :32], (0, 0, 0, 12), mode="replicate") for t in (a, b)]
        torch.testing.assert_close(small, network(*grown)[..., :20, :])
