"""S4Fusion: its structure against the specification, weights, ablations."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from conftest import SHARED, two_threads  # noqa: E402
from tensors import naive_scan, noise  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from evalkit.methods.checkpoints import CheckpointError, load_strictly, read_checkpoint  # noqa: E402
from evalkit.methods.complexity import complexity  # noqa: E402
from evalkit.methods.layers import cross_modal, selective_scan, state_space  # noqa: E402
from evalkit.methods.network import NetworkMethod, count_parameters  # noqa: E402
from evalkit.methods.networks import s4fusion  # noqa: E402
from evalkit.methods.networks.s4fusion import CPU_OPTIONS, METHODS, Options, S4Fusion, padded  # noqa: E402
from evalkit.methods.registry import method_card  # noqa: E402
from evalkit.training.papers import s4fusion as losses  # noqa: E402
from evalkit.training.papers.s4fusion import ABLATIONS  # noqa: E402

METHOD = METHODS["S4Fusion"]


TINY = Options(widths=(8, 16, 32), cmsa_blocks=2, states=3, cmsa_states=4)


PARAMETERS, ACTIVE = 3_562_981, 3_410_893


def untrained(options: Options = TINY, seed: int = 0) -> S4Fusion:
    torch.manual_seed(seed)
    return S4Fusion(options).eval()


def randomised(options: Options = TINY, seed: int = 0) -> S4Fusion:
    """Weights large enough that every part shows in the output."""
    network = untrained(options, seed)
    with torch.no_grad():
        for name, p in network.named_parameters():
            if name.endswith(("proj.weight", "expand.weight", "reduction.weight", "mark.weight")):
                p.copy_(torch.randn_like(p) / p.shape[-1] ** 0.5)
    return network


# --- the selective scan


# --- structure


def test_size_rule():
    for side in range(1, 701):
        own = padded(side)
        # a side of 1 has no patch, so the smallest is 13
        assert own == next(h for h in range(max(side, 2), 800) if (h - 1) % 12 == 0)
        assert (own - 1) % 3 == 0
        assert (own - 1) // 3 % 4 == 0
        before, behind = s4fusion._border(side)
        assert before == (own - side) // 2
        assert before + side + behind == own
    assert padded(229) == 229
    assert (padded(256), padded(480), padded(640)) == (265, 481, 649)
    assert s4fusion._border(256) == (4, 5)


def test_border_is_zero_and_cut_off():
    network, a, b = randomised(), noise(1, 1, 20, 31), noise(1, 1, 20, 31, seed=1)
    canvas = [torch.zeros(1, 1, 25, 37) for _ in range(2)]
    for whole, image in zip(canvas, (a, b), strict=True):
        whole[..., 2:22, 3:34] = image
    with torch.inference_mode():
        assert torch.equal(network(a, b), network.in_one_piece(*canvas)[..., 2:22, 3:34])


@pytest.mark.parametrize("size", [(1, 1), (13, 13), (14, 13), (37, 26), (5, 61)])
def test_any_size(size):
    with torch.inference_mode():
        fused = randomised()(noise(1, 1, *size), noise(1, 1, *size, seed=1))
    assert fused.shape == (1, 1, *size)
    assert fused.dtype == torch.float32
    assert torch.isfinite(fused).all()


def test_shapes_inside(monkeypatch):
    shapes = {}
    network = untrained(Options())
    with torch.device("meta"):
        network = network.to("meta")
        for name in ("infrared.embed", "infrared.merging.0", "infrared.merging.1", "fusion.1", "fusion.2"):
            network.get_submodule(name).register_forward_hook(
                lambda _, __, out, name=name: shapes.update({name: tuple(out.shape)})
            )
        for name in ("decoder.0", "decoder.1", "decoder.2", "output.expand", "output"):
            network.get_submodule(name).register_forward_hook(
                lambda _, __, out, name=name: shapes.update({name: tuple(out.shape)})
            )
        assert network(torch.empty(1, 1, 256, 256), torch.empty(1, 1, 256, 256)).shape == (1, 1, 256, 256)
    assert shapes == {
        "infrared.embed": (1, 88, 88, 48),
        "infrared.merging.0": (1, 44, 44, 96),
        "infrared.merging.1": (1, 22, 22, 192),
        "fusion.1": (1, 44, 44, 96),
        "fusion.2": (1, 22, 22, 192),
        "decoder.0": (1, 22, 22, 192),
        "decoder.1": (1, 44, 44, 96),
        "decoder.2": (1, 88, 88, 48),
        "output.expand": (1, 88, 88, 192),
        "output": (1, 1, 265, 265),
    }


def test_merging_order():
    index = torch.arange(24.0).view(1, 4, 6, 1)
    merged = s4fusion.two_by_two(index)
    assert merged.shape == (1, 2, 3, 4)
    assert merged[0, 0, 0].tolist() == [0, 6, 1, 7]  # (0, 0), (1, 0), (0, 1), (1, 1)
    assert merged[0, 1, 2].tolist() == [16, 22, 17, 23]
    assert s4fusion.PatchMerging(8)(noise(2, 4, 6, 8)).shape == (2, 2, 3, 16)


def test_expanding_order():
    expand = s4fusion.PatchExpand(4)
    with torch.no_grad():
        expand.expand.weight.copy_(torch.eye(8, 4) + torch.eye(4).repeat(2, 1).flip(0))
    x = noise(1, 2, 3, 4)
    out = expand(x)
    assert out.shape == (1, 4, 6, 2)
    channels = expand.expand(x)
    for row in range(2):
        for column in range(2):
            part = channels[..., 4 * row + 2 * column : 4 * row + 2 * column + 2]
            torch.testing.assert_close(out[:, row::2, column::2], expand.norm(part))


def test_folding_adds_overlaps_up():
    x = noise(1, 1, 25, 37)
    counted = functional.fold(functional.unfold(torch.ones_like(x), 4, stride=3), x.shape[2:], 4, stride=3)
    rows, columns = torch.ones(25), torch.ones(37)
    rows[3:-1:3] = columns[3:-1:3] = 2  # every third line, but not the last
    assert torch.equal(counted[0, 0], rows[:, None] * columns)
    assert set(counted.unique().tolist()) == {1, 2, 4}
    torch.testing.assert_close(
        functional.fold(functional.unfold(x, 4, stride=3), x.shape[2:], 4, stride=3), counted * x
    )
    # the network's own output layer, given patches of ones
    output = s4fusion.FoldedOutput(4, dead_weights=False)
    with torch.no_grad():
        output.expand.weight.fill_(0.25)
        output.mix.weight.fill_(1 / 12)
        output.mix.bias.zero_()
        torch.testing.assert_close(output(torch.ones(1, 8, 12, 4)), counted)


def test_output_channels_are_channel_then_row_then_column():
    output = s4fusion.FoldedOutput(1, dead_weights=False)
    with torch.no_grad():
        output.expand.weight.copy_(torch.arange(192.0)[:, None])
        output.mix.weight.zero_()
        output.mix.weight[0, 5] = 1
        output.mix.bias.zero_()
        patch = output(torch.ones(1, 1, 1, 1))
    assert torch.equal(patch[0, 0], 5 * 16 + torch.arange(16.0).view(4, 4))


def test_cmsa_knows_which_image_is_which():
    torch.manual_seed(0)
    block = s4fusion.CMSABlock(8, TINY)
    nn.init.normal_(block.out_proj.weight)
    with torch.no_grad():
        block.visible_projection.copy_(block.infrared_projection)
    x = noise(1, 5, 6, 8)
    a, b = block(x, x)
    assert not torch.allclose(a, b)  # the same features and weights: only the place in the sequence differs


def test_cmsa_against_its_definition():
    """A block written down anew, with loops over the directions and the naive scan."""
    torch.manual_seed(0)
    width, n = 8, TINY.cmsa_states
    block = s4fusion.CMSABlock(width, TINY).double()
    for p in block.parameters():
        nn.init.normal_(p, std=0.3)
    scan, inner = block.scan, TINY.inner(width)
    x, y = noise(2, 3, 5, width, dtype=torch.float64), noise(2, 3, 5, width, seed=1, dtype=torch.float64)
    u, z = [], []
    for features in (x, y):
        both = features @ block.in_proj.weight.T
        u.append(functional.silu(block.conv(both[..., :inner].permute(0, 3, 1, 2))))
        z.append(both[..., inner:])
    mark = torch.einsum("dc,nchw->ndhw", block.mark.weight, torch.cat(u, dim=1))
    totals = [torch.zeros(2, inner, 15, dtype=torch.float64) for _ in range(2)]
    for k in range(4):
        order = torch.arange(15).view(3, 5)
        order = (order.T if k % 2 else order).flatten()
        order = order.flip(0) if k >= 2 else order
        columns = {name: [] for name in ("u", "dt", "B", "C")}
        for t in order:
            for features, projection in zip(u, (block.infrared_projection, block.visible_projection), strict=True):
                token = features.flatten(2)[..., t]
                found = token @ projection[k].T
                columns["dt"].append(found[:, :1] @ scan.dt_weight[k].T)
                columns["B"].append(found[:, None, 1 : 1 + n])
                columns["C"].append(found[:, None, 1 + n :])
                columns["u"].append(token + mark.flatten(2)[..., t])
        sequence = {name: torch.stack(values, dim=-1) for name, values in columns.items()}
        part = slice(k * inner, (k + 1) * inner)
        scanned = naive_scan(
            sequence["u"],
            sequence["dt"],
            -scan.A_log[part].exp(),
            sequence["B"],
            sequence["C"],
            scan.D[part],
            scan.dt_bias[k],
        )
        for i, t in enumerate(order):
            totals[0][..., t] += scanned[..., 2 * i]
            totals[1][..., t] += scanned[..., 2 * i + 1]
    for source, total, gate, found in zip((x, y), totals, z, block(x, y), strict=True):
        normed = block.out_norm(total.transpose(1, 2)).view(2, 3, 5, inner)
        torch.testing.assert_close(found, source + (normed * functional.silu(gate)) @ block.out_proj.weight.T)


def test_unused_finest_features_change_nothing():
    a, b = noise(1, 1, 30, 25), noise(1, 1, 30, 25, seed=1)
    network = randomised()
    computing = S4Fusion(replace(TINY, use_r1=True)).eval()
    computing.load_state_dict(network.state_dict())
    with torch.inference_mode():
        assert torch.equal(network(a, b), computing(a, b))


@pytest.mark.parametrize("wiring", ["code", "paper"])
def test_wiring_against_its_definition(wiring):
    n = randomised(replace(TINY, wiring=wiring))
    a, b = noise(1, 1, 25, 37), noise(1, 1, 25, 37, seed=1)
    with torch.inference_mode():
        sides = []
        for encoder, image in ((n.infrared, a), (n.visible, b)):
            first = encoder.embed(image)
            second = encoder.merging[0](encoder.levels[0](first))
            third = encoder.merging[1](encoder.levels[1](second))
            sides.append((first, second, third, encoder.levels[2](third)))
        r1, r2, r3 = (fuse(x, y) for fuse, x, y in zip(n.fusion, *sides, strict=False))
        deepest = sides[0][3] + sides[1][3]
        d, up = n.decoder, n.expanding
        if wiring == "code":
            out = d[2](up[1](d[1](up[0](d[0](deepest) + r3)) + r2))
        else:
            out = d[2](up[1](d[1](up[0](d[0](deepest + r3)) + r2)) + r1)
        torch.testing.assert_close(n(a, b), n.output(out))


@pytest.mark.parametrize(
    "option",
    [{"wiring": "paper"}, {"pre_norm": True}, {"marked_parameters": True}, {"separate_steps": True}, {"marks": False}],
    ids=str,
)
def test_options_change_the_output(option):
    a, b = noise(1, 1, 30, 25), noise(1, 1, 30, 25, seed=1)
    network, other = randomised(), S4Fusion(replace(TINY, **option)).eval()
    other.load_state_dict(network.state_dict(), strict=False)  # the same weights wherever both have them
    with torch.inference_mode():
        assert not torch.allclose(network(a, b), other(a, b), atol=1e-5)


def test_separate_steps_are_the_shared_ones_where_their_weights_are():
    torch.manual_seed(0)
    shared, separate = (s4fusion.CMSABlock(8, replace(TINY, separate_steps=s)) for s in (False, True))
    separate.load_state_dict({**shared.state_dict(), "visible_dt_weight": shared.scan.dt_weight.detach()})
    x, y = noise(1, 4, 4, 8), noise(1, 4, 4, 8, seed=1)
    for a, b in zip(shared(x, y), separate(x, y), strict=True):
        assert torch.equal(a, b)


# --- counts


def test_parameters():
    network = S4Fusion()
    assert count_parameters(network) == PARAMETERS == method_card("S4Fusion").parameters
    assert count_parameters(S4Fusion(Options(dead_weights=False))) == ACTIVE
    assert len(network.state_dict()) == 304
    e = network.infrared
    levels = [count_parameters(level) for level in e.levels]
    merging = [*(count_parameters(m) for m in e.merging), 0]
    assert [a + b for a, b in zip(levels, merging, strict=True)] == [42_816, 218_880, 241_152]
    assert count_parameters(e.embed) == 912
    assert [count_parameters(f) for f in network.fusion] == [152_064, 444_096, 1_448_064]
    assert [count_parameters(f.blocks[0]) for f in network.fusion] == [50_688, 148_032, 482_688]
    assert [count_parameters(level[0]) for level in e.levels] == [24_000, 72_192, 241_152]
    assert count_parameters(network.decoder) + count_parameters(network.expanding) == 501_984
    assert count_parameters(network.output.expand) + count_parameters(network.output.unused_norm) == 9_240
    assert count_parameters(network.output.mix) == 13


@pytest.mark.parametrize(("size", "billions"), [((265, 265), 7.29), ((229, 229), 5.44), ((481, 649), 32.5)])
def test_multiply_adds(size, billions):
    """Of convolutions and matrix products, without scans.

    The figures of the published code hold the finest fusion module, and the mark computed anew in each of the four
    directions; here it is computed once.
    """
    options = Options(use_r1=True)
    counted = complexity(NetworkMethod(lambda: S4Fusion(options), METHOD.prepare, METHOD.finish), *size).multiply_adds
    mark = 0
    for level, width in enumerate(options.widths):
        tokens = (size[0] // 3 >> level) * (size[1] // 3 >> level)
        mark += options.cmsa_blocks * tokens * 2 * options.inner(width) ** 2
    assert (counted + 3 * mark) / 1e9 == pytest.approx(billions, rel=5e-3)


def test_scan_operations():
    with_first = S4Fusion(Options(use_r1=True)).scan_flops(265, 265)
    assert with_first / 1e9 == pytest.approx(1.63 + 2.17 + 1.08 + 0.54, abs=0.01)
    assert (with_first - S4Fusion().scan_flops(265, 265)) / 1e9 == pytest.approx(2.17, abs=0.005)
    assert S4Fusion(Options(fusion="ADD")).scan_flops(265, 265) / 1e9 == pytest.approx(1.63, abs=0.005)


def test_scan_operations_are_those_that_run(monkeypatch):
    counted = []

    def counting(u, dt, A, *rest):
        counted.append(selective_scan.scan_flops(u.shape[0], u.shape[2], *A.shape))
        return selective_scan.selective_scan(u, dt, A, *rest)

    monkeypatch.setattr(state_space, "selective_scan", counting)
    network = untrained(Options()).to("meta")
    network(*(torch.empty(1, 1, 100, 130, device="meta") for _ in range(2)))
    assert sum(counted) == network.scan_flops(100, 130)


# --- weights


def published_state() -> dict:
    """Random weights under the names and in the shapes of the authors' checkpoint."""
    listing = SHARED / "specs" / "keys_s4fusion.txt"
    if not listing.is_file():
        pytest.skip("needs the list of the checkpoint's keys")
    generator = torch.Generator().manual_seed(0)
    state = {}
    for line in listing.read_text().splitlines():
        if line and not line.startswith("#"):
            key, shape = line.split("\t")
            state[key] = torch.randn([int(n) for n in re.findall(r"\d+", shape)], generator=generator) / 10
    return state


def test_published_keys_load_strictly(tmp_path):
    state = published_state()
    assert len(state) == 304
    path = tmp_path / METHOD.files[0]
    torch.save({"model": state, "epoch": 800}, path)
    converted = METHOD.convert(read_checkpoint(path), path)
    network = METHOD.build()
    load_strictly(network, converted, "S4Fusion")
    # no tensor lost, none doubled, and each in its place
    own = network.state_dict()
    sums = sorted(float(v.double().sum()) for v in state.values())
    assert sorted(float(v.double().sum()) for v in own.values()) == sums
    same = {
        "patch_embed_y.proj.weight": "visible.embed.proj.weight",
        "layers_x.1.blocks.1.self_attention.x_proj_weight": "infrared.levels.1.1.mix.projection",
        "layers_y.0.blocks.0.ln_1.bias": "visible.levels.0.0.norm.bias",
        "layers_y.1.downsample.norm.weight": "visible.merging.1.norm.weight",
        "fusion_layers.2.layers.1.x_proj_weight": "fusion.2.blocks.1.infrared_projection",
        "fusion_layers.2.layers.1.y_proj_weight": "fusion.2.blocks.1.visible_projection",
        "fusion_layers.0.layers.2.mark_proj": "fusion.0.blocks.2.mark.weight",
        "fusion_layers.0.layers.2.A_logs": "fusion.0.blocks.2.scan.A_log",
        "fusion_layers.0.layers.2.Ds": "fusion.0.blocks.2.scan.D",
        "layers_up.1.blocks.0.self_attention.conv2d.bias": "decoder.1.0.mix.conv.bias",
        "layers_up.2.upsample.expand.weight": "expanding.1.expand.weight",
        "final_up.norm.bias": "output.unused_norm.bias",
        "final_conv.bias": "output.mix.bias",
    }
    for theirs, ours in same.items():
        assert torch.equal(state[f"vmunet.{theirs}"], own[ours])


def test_a_checkpoint_of_another_network_is_refused():
    state = published_state()
    path = Path("model.pkl")
    with pytest.raises(CheckpointError, match="'model'"):
        METHOD.convert(state, path)
    del state["vmunet.final_conv.bias"]
    with pytest.raises(CheckpointError, match=r"output\.mix\.bias"):
        load_strictly(METHOD.build(), METHOD.convert({"model": state}, path), "x")


def test_initialisation_follows_the_seed():
    a, b, c = (untrained(seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not all(torch.equal(a[key], c[key]) for key in a)


def test_initial_linear_layers():
    network = untrained(Options())
    block = network.fusion[2].blocks[0]
    assert float(block.in_proj.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert float(block.mark.weight.detach().abs().max()) == pytest.approx(576**-0.5, rel=0.01)  # as nn.Linear begins
    assert float(block.infrared_projection.detach().abs().max()) == pytest.approx(288**-0.5, rel=0.01)
    assert len(network.no_weight_decay()) == 2 * (12 + 9)


# --- behaviour


def test_a_batch_gives_what_its_images_give_alone():
    network, a, b = randomised(), noise(2, 1, 37, 26), noise(2, 1, 37, 26, seed=1)
    with torch.inference_mode():
        together = network(a, b)
        alone = torch.cat([network(a[i : i + 1], b[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_threads_do_not_change_the_result():
    network, a, b = untrained(CPU_OPTIONS), noise(1, 1, 25, 25), noise(1, 1, 25, 25, seed=1)
    with torch.inference_mode():
        one = network(a, b)
        with two_threads():
            two = network(a, b)
    torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)


OPTIONS = {
    "published": TINY,
    "paper": replace(TINY, wiring="paper", pre_norm=True, marked_parameters=True, separate_steps=True),
    **{
        key: replace(
            TINY, **{f.name: getattr(a.options, f.name) for f in fields(Options) if f.name in ("fusion", "marks")}
        )
        for key, a in ABLATIONS.items()
    },
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_parameter_learns_but_the_dead_ones(options):
    network = randomised(options).train()
    target = noise(2, 1, 25, 25, seed=2)
    (network(noise(2, 1, 25, 25), noise(2, 1, 25, 25, seed=1)) - target).square().mean().backward()
    idle = {key for key, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    dead = {key for key, _ in network.named_parameters() if key.startswith("output.unused_norm")}
    if options.wiring == "code":
        dead |= {key for key, _ in network.named_parameters() if key.startswith("fusion.0.")}
    assert idle == dead
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_fusing_a_pair():
    rng = np.random.default_rng(0)
    infrared = rng.integers(0, 256, (29, 40), dtype=np.uint8)
    visible = rng.integers(0, 256, (29, 40, 3), dtype=np.uint8)
    a, b = METHOD.prepare(infrared, visible)
    assert a.shape == b.shape == (1, 29, 40)
    assert a.dtype == b.dtype == torch.float32
    luminance = visible.astype(float) @ [0.299, 0.587, 0.114] / 255
    np.testing.assert_allclose(b[0].numpy(), luminance, atol=1e-6)
    assert torch.equal(METHOD.prepare(infrared, infrared)[1], a)
    output = torch.tensor([[[-0.5, 0.0, 0.1, 0.999, 1.5]]])
    assert METHOD.finish(output, infrared, visible).tolist() == [[0, 0, 26, 255, 255]]


def test_small_variant_trains_a_step():
    network = untrained(CPU_OPTIONS).train()
    a, b = noise(2, 1, 37, 37), noise(2, 1, 37, 37, seed=1)
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3)
    half = torch.full((2,), 0.5)
    options = losses.LossOptions(perception=0)
    values = []
    for _ in range(4):
        loss = losses.loss(network(a, b), a, b, (half, half), options=options)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(loss.item())
    assert values[-1] < values[0]
    assert count_parameters(network) == 523_669


@pytest.mark.slow
def test_a_whole_image():
    network, a, b = untrained(Options()), noise(1, 1, 480, 640), noise(1, 1, 480, 640, seed=1)
    with torch.inference_mode():
        fused = network(a, b)
    assert fused.shape == (1, 1, 480, 640)
    assert torch.isfinite(fused).all()


# --- Table 3


def test_ablations_differ_in_the_named_part_only():
    changes = {
        key: {f.name for f in fields(Options) if getattr(a.options, f.name) != getattr(Options(), f.name)}
        for key, a in ABLATIONS.items()
    }
    assert changes == {
        "Exp.1": {"fusion", "widths"},  # A.1: encoders and decoder are widened to match the number of parameters
        "Exp.2": {"fusion"},
        "Exp.3": {"fusion"},
        "Exp.4": {"fusion"},
        "Exp.5": {"marks"},
        "Exp.6": set(),
        "Exp.7": set(),
    }
    assert [key for key, a in ABLATIONS.items() if not a.perception] == ["Exp.6"]
    assert len({a.title for a in ABLATIONS.values()}) == 7


@pytest.mark.parametrize("key", ["Exp.2", "Exp.3", "Exp.4", "Exp.5", "Exp.6", "Exp.7"])
def test_ablations_keep_everything_else(key):
    def outside(network):
        return {k: tuple(v.shape) for k, v in network.state_dict().items() if not k.startswith("fusion.")}

    def inside(network):
        return {k: tuple(v.shape) for k, v in network.state_dict().items() if k.startswith("fusion.")}

    with torch.device("meta"):
        full, ablated = S4Fusion(), ABLATIONS[key].build()
    assert outside(ablated) == outside(full)
    if key == "Exp.5":
        assert inside(ablated) == {k: s for k, s in inside(full).items() if ".mark." not in k}
    else:
        assert (inside(ablated) == inside(full)) == (key in ("Exp.6", "Exp.7"))


def test_addition_is_a_sum_and_has_the_same_structure_around():
    x, y = noise(1, 2, 3, 4), noise(1, 2, 3, 4, seed=1)
    assert torch.equal(cross_modal.Addition()(x, y), x + y)
    with torch.device("meta"):
        full, added = S4Fusion(), ABLATIONS["Exp.1"].build()
    assert [k for k in full.state_dict() if not k.startswith("fusion.")] == list(added.state_dict())


@pytest.mark.parametrize("key", ["Exp.1", "Exp.2", "Exp.3", "Exp.4"])
def test_replacements_have_as_many_parameters(key):
    with torch.device("meta"):
        network = S4Fusion(replace(ABLATIONS[key].options, dead_weights=False))
    assert count_parameters(network) == pytest.approx(ACTIVE, rel=0.005)


@pytest.mark.parametrize("fusion", ["ADD", "CNN", "CA", "FSSM", "CMSA"])
def test_fusion_modules_keep_the_shape_and_use_both(fusion):
    torch.manual_seed(0)
    module = s4fusion.fusion_module(16, replace(TINY, fusion=fusion))
    x, y = noise(2, 4, 6, 16).requires_grad_(), noise(2, 4, 6, 16, seed=1).requires_grad_()
    fused = module(x, y)
    assert fused.shape == x.shape
    fused.square().sum().backward()
    assert x.grad.any()
    assert y.grad.any()


@pytest.mark.parametrize(
    "block", [cross_modal.CrossAttention(16, 8), cross_modal.CrossScan(16, 8, 3)], ids=["CA", "FSSM"]
)
def test_what_comes_from_the_other_image(block):
    x, y = noise(1, 4, 6, 16), noise(1, 4, 6, 16, seed=1)
    with torch.inference_mode():
        before, after = block(x, y), block(x, noise(1, 4, 6, 16, seed=2))
    assert not torch.equal(before[0], after[0])  # each asks the other
