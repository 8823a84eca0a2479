"""SMFNet: structure, stages, graph reasoning, ablations, the authors' checkpoint format."""

from __future__ import annotations

import ast
from dataclasses import fields, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import SHARED, textured, two_threads

torch = pytest.importorskip("torch")

from tensors import noise, pair  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from evalkit.methods.checkpoints import CheckpointError, load_strictly, read_checkpoint  # noqa: E402
from evalkit.methods.complexity import complexity  # noqa: E402
from evalkit.methods.layers.enhanced import CrossChannelAttention, SobelGradient, enhanced_block  # noqa: E402
from evalkit.methods.layers.graph import ConvGRU, CrossModalityEdges, GraphReasoning, IntraModalityGraph  # noqa: E402
from evalkit.methods.layers.invertible import ClampedCoupling, InvertibleNode  # noqa: E402
from evalkit.methods.layers.restormer import TransposedAttention, channel_attention  # noqa: E402
from evalkit.methods.network import count_parameters  # noqa: E402
from evalkit.methods.networks.smfnet import METHODS, SMALL, Options, SMFNet, convert, finish  # noqa: E402
from evalkit.methods.registry import method_card  # noqa: E402
from evalkit.training.papers import smfnet as losses  # noqa: E402
from evalkit.training.papers.smfnet import (  # noqa: E402
    ABLATIONS,
)
from evalkit.training.terms import sobel_gradient  # noqa: E402

KEYS = SHARED / "specs" / "keys_smfnet.txt"


METHOD = METHODS["SMFNet"]


def network(options: Options = SMALL, seed: int = 0) -> SMFNet:
    torch.manual_seed(seed)
    return SMFNet(options)


def smooth_pair(height: int = 24, width: int = 32):
    return tuple(torch.from_numpy(textured(seed, height, width) / np.float32(255))[None, None] for seed in (1, 2))


def graph_and_nodes(layout: str = "block", nodes: int = 3, channels: int = 4, dtype=torch.float64):
    """An intra-modality graph with a gamma that lets messages through, and nodes for it."""
    torch.manual_seed(0)
    graph = IntraModalityGraph(channels, nodes, layout=layout).to(dtype)
    graph.gamma.data.fill_(0.7)
    for parameter in graph.gru.parameters():
        torch.nn.init.normal_(parameter, std=0.5)  # the initial .01 would hide mistakes
    return graph, [noise(2, channels, 3, 5, seed=i, dtype=dtype) - 0.5 for i in range(nodes)]


# --- size and shape


def test_parameters_card_and_files():
    card = method_card("SMFNet")
    full = network(Options(dead_layers=True))
    assert count_parameters(network(Options())) == count_parameters(METHOD.build()) == card.parameters == 2_650_098
    assert count_parameters(full) == 3_148_818
    assert count_parameters(full.unused) == 498_720
    assert "498,720" in card.note
    assert METHOD.files == card.checkpoint
    assert all((card.doi, card.colour, card.values, card.output, card.weights, card.licence))


def test_parameters_of_the_parts():
    parts = {name: count_parameters(part) for name, part in network(Options()).named_children()}
    assert parts == {
        "encoder": 1_886_768 - 27_104,
        "graph": 964_994 - 463_424,
        "fuse_base": 35_528 - 8_192,
        "fuse_detail": 211_008,
        "decoder": 50_520,
    }


def test_cost_as_in_table_v():
    counted = complexity(METHOD)
    assert counted.parameters_by_call == 4_504_464
    assert counted.multiply_adds / 1e9 == pytest.approx(1462, rel=0.005)
    assert METHOD.build().options.edge_layout == "interleaved"  # that of the authors' weights


def test_multiply_adds_of_the_convolutions_alone():
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        SMFNet().to("meta").eval()(*(x.to("meta") for x in pair(480, 640)))
    counts = {str(op): flops / 2e9 for op, flops in counter.get_flop_counts()["Global"].items()}
    convolutions = counts.pop("aten.convolution")
    assert convolutions == pytest.approx(1461.08, rel=0.001)
    assert sum(counts.values()) == pytest.approx(6.61, abs=0.01)  # attention


@pytest.mark.parametrize("size", [(64, 64), (123, 77)])
def test_full_size_network(size):
    with torch.inference_mode():
        output = METHOD.build().eval()(*pair(*size))
    assert output.shape == (1, 1, *size)
    assert 0 < output.min() <= output.max() < 1


@pytest.mark.parametrize("size", [(37, 53), (16, 20), (3, 5), (2, 2)])
def test_both_stages_take_any_size(size):
    small = network().eval()
    with torch.inference_mode():
        first, second = small.reconstruct(*pair(*size, batch=2)), small.fuse(*pair(*size, batch=2))
    for image in (first.infrared, first.visible, second.fused):
        assert image.shape == (2, 1, *size)
        assert 0 < image.min() <= image.max() < 1
    for features in (first.infrared_features, second.visible_features):
        assert {part.shape for part in features} == {(2, SMALL.width, *size)}


@pytest.mark.parametrize("size", [(1, 1), (1, 7)])
def test_one_pixel_wide_is_refused(size):
    with pytest.raises(RuntimeError, match=r"[Pp]adding"), torch.inference_mode():
        network()(*pair(*size))


def test_an_image_does_not_depend_on_its_batch():
    small, (a, b) = network().eval(), pair(19, 23, batch=3)
    with torch.inference_mode():
        together = small(a, b)
        alone = torch.cat([small(a[i : i + 1], b[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_threads_do_not_matter():
    small, inputs = network().eval(), pair(20, 18)
    with torch.inference_mode():
        one = small(*inputs)
        with two_threads():
            two = small(*inputs)
    torch.testing.assert_close(one, two, rtol=0, atol=1e-5)


def test_the_seed_decides_the_weights():
    first, again, other = (network(seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_stage_two_is_what_forward_gives_and_is_not_symmetric():
    small, (a, b) = network().eval(), pair(12, 14)
    with torch.inference_mode():
        torch.testing.assert_close(small(a, b), small.fuse(a, b).fused, rtol=0, atol=0)
        assert not torch.allclose(small(a, b), small(b, a), atol=1e-5)  # each modality has its own graph


def test_the_variant_for_training_without_a_gpu_is_small():
    assert count_parameters(network()) < 200_000


# --- blocks


def test_channel_attention_is_a_loop_over_heads():
    torch.manual_seed(0)
    module = TransposedAttention(8, 2).double()
    module.temperature.data.copy_(torch.tensor([[[0.5]], [[3.0]]]))
    x = noise(2, 8, 4, 5, dtype=torch.float64)
    query, key, value = module.mix(module.qkv(x)).split(8, dim=1)
    mixed = torch.empty_like(value)
    for n in range(2):
        for head in range(2):
            own = slice(4 * head, 4 * head + 4)
            q, k, v = (t[n, own].reshape(4, 20) for t in (query, key, value))
            for i in range(4):
                scores = [module.temperature[head, 0, 0] * q[i] @ k[j] / q[i].norm() / k[j].norm() for j in range(4)]
                weights = torch.stack(scores).exp()
                mixed[n, 4 * head + i] = ((weights / weights.sum()) @ v).reshape(4, 5)
    torch.testing.assert_close(module(x), module.out(mixed))


@pytest.mark.parametrize(("channels", "side"), [(64, 8), (32, 4)])
def test_attention_matrices(channels, side):
    """Values that are 1 in one pixel each read the matrix out of the attention."""
    unit = torch.eye(channels).reshape(1, channels, channels, 1)
    q, k = noise(1, channels, channels, 1), noise(1, channels, channels, 1, seed=1)
    matrix = channel_attention(q, k, unit, torch.full((8, 1, 1), 2.0))[0, :, :, 0]
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(channels))
    blocks = matrix.reshape(8, side, 8, side)
    for head in range(8):
        assert (blocks[head, :, head] > 0).all()
    assert torch.count_nonzero(matrix) == 8 * side**2


def test_cross_attention_serves_both_halves_alike():
    detail = network().encoder.detail
    a, b = noise(1, 8, 6, 7), noise(1, 8, 6, 7, seed=1)
    (first, second), (swapped_first, swapped_second) = detail.exchange(a, b), detail.exchange(b, a)
    assert torch.equal(first, swapped_second)
    assert torch.equal(second, swapped_first)


def test_cross_attention_takes_values_from_the_branch_itself():
    torch.manual_seed(0)
    cross = CrossChannelAttention(8, 2)
    guide, features = noise(1, 8, 5, 5), noise(1, 8, 5, 5, seed=1)
    with torch.no_grad():
        cross.out.bias.zero_()
        cross.kv.bias.zero_()
        cross.kv_mix.bias.zero_()
    torch.testing.assert_close(cross(guide, 2 * features), 2 * cross(guide, features))  # values double, cosines stay
    assert torch.count_nonzero(cross(guide, 0 * features)) == 0


def test_leff_adds_its_input_and_ends_with_gelu():
    torch.manual_seed(0)
    leff = enhanced_block(4, 2).feed_forward
    x = noise(1, 4, 5, 6) - 0.5
    inner = leff(x) - x
    assert inner.min() >= -0.171  # the lowest value of GELU
    torch.nn.init.zeros_(leff.out.weight)
    torch.nn.init.zeros_(leff.out.bias)
    assert torch.equal(leff(x), x)


def test_sobel_of_a_constant_is_zero_inside():
    gradient = SobelGradient(3)(torch.full((1, 3, 6, 7), 0.4))
    assert gradient[..., 1:-1, 1:-1].abs().max() < 1e-6
    assert gradient[..., 0, :].min() > 0.1  # zeros surround the map


def test_sobel_of_a_ramp():
    ramp = torch.arange(6.0).expand(1, 1, 5, 6)
    for kind in (SobelGradient(1), sobel_gradient):
        assert torch.equal(kind(ramp)[..., 1:-1, 1:-1], torch.full((1, 1, 3, 4), 8.0))
        assert torch.equal(kind(ramp.mT)[..., 1:-1, 1:-1], torch.full((1, 1, 4, 3), 8.0))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_coupling_inverts(dtype, tolerance):
    torch.manual_seed(0)
    block = ClampedCoupling(64).to(dtype)
    first, second = (noise(1, 32, 9, 11, seed=seed, dtype=dtype) * 4 - 2 for seed in (1, 2))
    for there, back in ((block.couple, block.decouple), (block.decouple, block.couple)):
        for x, y in zip(back(*there(first, second)), (first, second), strict=True):
            assert (x - y).abs().max() < tolerance
    scales = block.scale(torch.linspace(-100, 100, 9, dtype=dtype))
    torch.testing.assert_close(scales[[0, 4, 8]], torch.tensor([-2.0, 0, 2], dtype=dtype).exp())


def test_coupling_runs_in_the_inverse_direction_behind_its_shuffle():
    torch.manual_seed(0)
    block = ClampedCoupling(8).double()
    x = noise(1, 8, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(torch.cat(block.couple(*block(x).chunk(2, dim=1)), dim=1), block.shuffle(x))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_detail_node_inverts(dtype, tolerance):
    torch.manual_seed(0)
    node = InvertibleNode(64).to(dtype)
    x = noise(1, 64, 9, 11, dtype=dtype)
    first, second = node(x).chunk(2, dim=1)
    z1 = (first - node.eta(second)) / node.rho(second).exp()
    z2 = second - node.phi(z1)
    assert (torch.cat((z1, z2), dim=1) - node.shuffle(x)).abs().max() < tolerance


# --- graph


def test_conv_gru_is_a_loop_over_pixels():
    torch.manual_seed(0)
    gru = ConvGRU(3).double()
    for parameter in gru.parameters():
        torch.nn.init.normal_(parameter)
    message, state = (noise(2, 3, 4, 5, seed=seed, dtype=torch.float64) - 0.5 for seed in (1, 2))
    gates, candidate = gru.gates.weight[:, :, 0, 0], gru.candidate.weight[:, :, 0, 0]
    expected = torch.empty_like(state)
    for n, y, x in np.ndindex(2, 4, 5):
        m, h = message[n, :, y, x], state[n, :, y, x]
        both = 1 / (1 + torch.exp(-(gates @ torch.cat((m, h)) + gru.gates.bias)))
        r, u = both[:3], both[3:]
        c = torch.tanh(candidate @ torch.cat((m, r * h)) + gru.candidate.bias)
        expected[n, :, y, x] = (1 - u) * h + u * c
    torch.testing.assert_close(gru(message, state), expected)


def test_conv_gru_starts_small():
    torch.manual_seed(0)
    gru = ConvGRU(64)
    assert gru.gates.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert gru.candidate.weight.std().item() == pytest.approx(0.01, rel=0.05)


@pytest.mark.parametrize("layout", ["block", "interleaved"])
def test_message_is_a_double_loop(layout):
    graph, nodes = graph_and_nodes(layout)
    weight = graph.edges.weight[:, :, 0, 0]  # one row per neighbour
    for target in range(3):
        others = [j for j in range(3) if j != target]
        edges = [torch.einsum("c,nchw->nhw", weight[s], nodes[target] - nodes[j]) for s, j in enumerate(others)]
        expected = torch.zeros_like(nodes[0])
        for slot, j in enumerate(others):
            for channel in range(4):
                edge = edges[slot] if layout == "block" else edges[channel % 2]
                expected[:, channel] += nodes[j][:, channel] / (1 + torch.exp(-edge))
        torch.testing.assert_close(graph.message(nodes, target), expected)


def test_layouts_differ_as_documented():
    """Edges of +-infinity: a block gate lets one neighbour through, an interleaved one every second channel."""
    nodes = [torch.ones(1, 4, 1, 1), torch.full((1, 4, 1, 1), 2.0), torch.full((1, 4, 1, 1), 3.0)]
    messages = {}
    for layout in ("block", "interleaved"):
        graph = IntraModalityGraph(4, layout=layout)
        graph.edges.weight.data[0], graph.edges.weight.data[1] = -1e4, 1e4  # differences are negative
        messages[layout] = graph.message(nodes, 0).flatten().tolist()
    assert messages == {"block": [2, 2, 2, 2], "interleaved": [5, 0, 5, 0]}


def test_neighbours_and_their_edges_may_be_permuted_together():
    graph, nodes = graph_and_nodes()
    before = graph.message(nodes, 0)
    graph.edges.weight.data = graph.edges.weight.data.flip(0)
    torch.testing.assert_close(graph.message([nodes[0], nodes[2], nodes[1]], 0), before)


def test_nodes_may_be_permuted_where_edges_are_tied():
    graph, nodes = graph_and_nodes()
    order = [2, 0, 1]

    def permuted_after_and_before():
        return torch.stack([graph(nodes)[i] for i in order]), torch.stack(graph([nodes[i] for i in order]))

    assert not torch.allclose(*permuted_after_and_before())
    graph.edges.weight.data[1] = graph.edges.weight.data[0]
    torch.testing.assert_close(*permuted_after_and_before())


def test_intra_graph_starts_as_the_identity():
    torch.manual_seed(0)
    nodes = [noise(1, 4, 3, 3, seed=i) for i in range(3)]
    assert all(torch.equal(a, b) for a, b in zip(IntraModalityGraph(4)(nodes), nodes, strict=True))
    replaced = IntraModalityGraph(4, residual=False)(nodes)
    assert not any(torch.allclose(a, b) for a, b in zip(replaced, nodes, strict=True))


def test_all_nodes_are_updated_from_the_old_ones():
    graph, nodes = graph_and_nodes()
    graph.steps = 1
    new = graph(nodes)
    for i in range(3):
        expected = nodes[i] + 0.7 * graph.gru(graph.message(nodes, i), nodes[i])
        torch.testing.assert_close(new[i], expected)
    graph.steps = 2
    twice = graph(nodes)
    graph.steps = 1
    torch.testing.assert_close(torch.stack(twice), torch.stack(graph(new)))


def test_cross_modality_edges():
    torch.manual_seed(0)
    edges = CrossModalityEdges(3).double()
    a, b = noise(1, 3, 2, 2, dtype=torch.float64), noise(1, 3, 2, 2, seed=1, dtype=torch.float64)
    p0, p1 = (conv.weight[0, :, 0, 0] for conv in (edges.to_second, edges.to_first))
    new_a, new_b = edges(a, b)
    for y, x in np.ndindex(2, 2):
        u, v = a[0, :, y, x], b[0, :, y, x]
        torch.testing.assert_close(new_b[0, :, y, x], u / (1 + torch.exp(-p0 @ (u - v))) + v)
        torch.testing.assert_close(new_a[0, :, y, x], v / (1 + torch.exp(-p1 @ (v - u))) + u)


def test_dilations_reach_as_far_as_they_say():
    torch.manual_seed(0)
    graph = GraphReasoning(4, (2, 4, 8)).eval()
    for node, dilation in zip(graph.infrared.nodes, (2, 4, 8), strict=True):
        point = torch.zeros(1, 4, 21, 21)
        point[..., 10, 10] = 1
        reached = torch.nonzero(node[0](point)[0, 0])[:, 0].unique().tolist()
        assert reached == [10 - dilation, 10, 10 + dilation]


def test_graph_features_of_each_image_depend_on_both():
    small, (a, b) = network().eval(), pair(10, 12)
    with torch.inference_mode():
        before, after = small.features(a, b)[0], small.features(a, b + 0.5)[0]
    assert torch.equal(before.base, after.base)
    assert torch.equal(before.detail, after.detail)
    assert not torch.allclose(before.graph, after.graph)


# --- options and ablations


@pytest.mark.parametrize(
    ("change", "parameters"),
    [
        ({"edge_layout": "interleaved"}, 0),
        ({"graph_residual": False}, -2),
        ({"base_first_conv": False}, -36_928),
        ({"cross_norm": True}, 64),
        ({"trainable_sobel": False}, 0),
        ({"dead_layers": True}, 498_720),
    ],
)
def test_options_of_paper_and_code(change, parameters):
    changed = network(replace(Options(), **change))
    assert count_parameters(changed) - 2_650_098 == parameters
    frozen = sum(p.numel() for p in changed.parameters() if not p.requires_grad)
    assert frozen == (4 * 576 if "trainable_sobel" in change else 0)
    small = network(replace(SMALL, **change)).eval()
    with torch.inference_mode():
        assert small(*pair(8, 9)).shape == (1, 1, 8, 9)


@pytest.mark.parametrize("name", [name for name in ABLATIONS if name != "AE8"])
def test_an_ablation_changes_one_thing(name):
    ablation, proposed = ABLATIONS[name], ABLATIONS["AE8"]
    changed = [
        (part, field.name)
        for part in ("network", "loss")
        for field in fields(getattr(proposed, part))
        if getattr(getattr(ablation, part), field.name) != getattr(getattr(proposed, part), field.name)
    ]
    if ablation.epochs != proposed.epochs:
        changed.append(("epochs", ""))
    assert len(changed) == 1
    assert sum(ablation.epochs) == sum(proposed.epochs) == 120


# ablation -> where the weights differ, and the features that differ with all other weights equal
PARTS = {
    "AE1": ("encoder.detail.", {"detail"}),
    "AE2": ("encoder.base.", {"base"}),
    "AE3": ("graph.", {"graph"}),
    "AE4": ("nothing", set()),
    "AE5": ("nothing", set()),
    "AE6": ("nothing", set()),
    "AE7": ("nothing", set()),
}


@pytest.mark.parametrize("name", PARTS)
def test_an_ablation_changes_no_other_part(name):
    prefix, different = PARTS[name]

    def shrunk(options: Options) -> Options:
        return replace(options, width=16, heads=4, bottleneck=4, dilations=(2, 4, 8))

    proposed = network(shrunk(ABLATIONS["AE8"].network)).eval()
    ablated = network(shrunk(ABLATIONS[name].network), seed=1).eval()
    own, other = proposed.state_dict(), ablated.state_dict()
    assert all(key.startswith(prefix) for key in own.keys() ^ other.keys())
    ablated.load_state_dict({key: own.get(key, other[key]) for key in other})
    with torch.inference_mode():
        a, b = proposed.fuse(*pair(12, 13)), ablated.fuse(*pair(12, 13))
        x, y = proposed.reconstruct(*pair(12, 13)), ablated.reconstruct(*pair(12, 13))
    for part in ("base", "detail", "graph"):
        mine, theirs = getattr(a.infrared_features, part), getattr(b.infrared_features, part)
        same = theirs is not None and torch.equal(mine, theirs)
        assert same == (part not in different)
    assert torch.equal(a.fused, b.fused) == (name in ("AE5", "AE6", "AE7"))
    assert torch.equal(x.visible, y.visible) == (name in ("AE4", "AE5", "AE6", "AE7"))


def test_exchanged_fusion_layers():
    small = network(replace(SMALL, swap_fusion=True)).eval()
    calls = {}
    small.fuse_base.register_forward_pre_hook(lambda _, inputs: calls.update(base=inputs[0]))
    small.fuse_detail.register_forward_pre_hook(lambda _, inputs: calls.update(detail=inputs[0]))
    with torch.inference_mode():
        output = small.fuse(*pair(9, 9))
    a, b = output.infrared_features, output.visible_features
    assert torch.equal(calls["base"], a.detail + b.detail)
    assert torch.equal(calls["detail"], a.base + b.base)


# --- training


def without_gradient(net: SMFNet, loss) -> set[str]:
    net.zero_grad()
    loss.backward()
    return {name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0}


def is_silent_at_first(name: str) -> bool:
    """Weights behind a gamma of 0."""
    return ".reasoning." in name and not name.endswith("gamma")


def is_only_in_stage_two(name: str) -> bool:
    return name.startswith(("fuse_", "graph.join."))


@pytest.mark.parametrize("options", [SMALL, Options()], ids=["small", "full"])
def test_every_parameter_learns(options):
    net, inputs = network(options), smooth_pair()
    names = {name for name, _ in net.named_parameters()}
    silent = {name for name in names if is_silent_at_first(name)}
    later = {name for name in names if is_only_in_stage_two(name)}
    assert without_gradient(net, losses.stage_two_loss(net.fuse(*inputs), *inputs)) == silent
    for graph in (net.graph.infrared, net.graph.visible):
        graph.reasoning.gamma.data.fill_(0.5)
    assert without_gradient(net, losses.stage_two_loss(net.fuse(*inputs), *inputs)) == set()
    assert without_gradient(net, losses.stage_one_loss(net.reconstruct(*inputs), *inputs)) == later


def test_dead_layers_never_learn():
    net, inputs = network(replace(SMALL, dead_layers=True)), smooth_pair()
    dead = without_gradient(net, losses.stage_two_loss(net.fuse(*inputs), *inputs))
    assert {name for name in dead if not is_silent_at_first(name)} == {
        name for name, _ in net.named_parameters() if name.startswith("unused.")
    }


@pytest.mark.parametrize("stage", [1, 2])
def test_stages_update_their_parts(stage):
    net, inputs = network(), smooth_pair()
    parts = net.parts(stage)
    assert set(parts) == {"encoder", "graph", "decoder"} | ({"fuse_base", "fuse_detail"} if stage == 2 else set())
    optimisers = [torch.optim.Adam(part.parameters(), lr=1e-3) for part in parts.values()]
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    values = []
    for _ in range(6):
        net.zero_grad()
        if stage == 1:
            loss = losses.stage_one_loss(net.reconstruct(*inputs), *inputs)
        else:
            loss = losses.stage_two_loss(net.fuse(*inputs), *inputs)
        loss.backward()
        for optimiser in optimisers:
            optimiser.step()
        values.append(loss.item())
    assert values[-1] < values[0]
    moved = {name for name, p in net.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if stage == 2 or not is_only_in_stage_two(name)}


def test_without_a_graph_branch():
    net, inputs = network(replace(SMALL, graph=False)), smooth_pair()
    assert set(net.parts(2)) == {"encoder", "decoder", "fuse_base", "fuse_detail"}
    assert without_gradient(net, losses.stage_two_loss(net.fuse(*inputs), *inputs)) == set()


# --- the authors' format, and pixels


@pytest.fixture(scope="module")
def published() -> dict:
    """A checkpoint with the authors' names and shapes and random values."""
    if not KEYS.is_file():
        pytest.skip("needs the list of the authors' keys in ../shared")
    torch.manual_seed(0)
    parts: dict[str, dict] = {}
    for line in KEYS.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            part = parts.setdefault(line[3:].strip(), {})
        elif "\t" in line:
            key, shape = line.split("\t")
            count = key.endswith("num_batches_tracked")
            part[f"module.{key}"] = torch.tensor(1) if count else torch.rand(ast.literal_eval(shape)) * 0.1
    return parts


@pytest.mark.parametrize("dead", [False, True])
def test_the_authors_format_loads_strictly(published, dead):
    net = network(Options(dead_layers=dead, edge_layout="interleaved"))
    state = convert(published, Path("model_VIF.pth"), dead)
    load_strictly(net, state, "model_VIF.pth")
    values = sum(len(part) for part in published.values())
    assert len(state) == values - (0 if dead else sum("unused." in key for key in convert(published, Path("x"), True)))


def test_weights_go_where_they_belong(published):
    state = convert(published, Path("model_VIF.pth"), dead_layers=True)
    encoder, graph = published["DIDF_Encoder"], published["GraphModel"]
    expected = {
        "encoder.base.blocks.1.transformers.3.attention.mix.weight": encoder[
            "module.baseFeature.layers.1.residual_group.1.1.attn.qkv2.weight"
        ],
        "encoder.base.blocks.0.transformers.2.feed_forward.mix.bias": encoder[
            "module.baseFeature.layers.0.residual_group.1.0.ffn_leff.dwconv.0.bias"
        ],
        "encoder.detail.cross.q_mix.weight": encoder["module.detailFeature.TCA.q_dwconv.weight"],
        "encoder.detail.node.rho.2.weight": encoder["module.detailFeature.layer.theta_rho.bottleneckBlock.3.weight"],
        "graph.infrared.nodes.2.0.weight": graph["module.graph.graph.ppm_rgb.convs.2.0.weight"],
        "graph.visible.reasoning.gru.candidate.weight": graph["module.graph.graph.graph_dep.ConvGRU.Conv_ct.weight"],
        "graph.visible.read_out.0.weight": graph["module.graph.C_cat.1.0.weight"],
        "graph.cross.to_first.weight": graph["module.graph.graph.C_pa.1.weight"],
        "graph.join.bias": graph["module.C_cls.bias"],
        "fuse_detail.2.p.4.weight": published["DetailFuseLayer"]["module.net.1.p.bottleneckBlock.5.weight"],
        "fuse_detail.0.dense.convs.1.weight": published["DetailFuseLayer"]["module.GRDB.GRDB.dense.conv2.conv.weight"],
    }
    for key, value in expected.items():
        assert torch.equal(state[key], value), key


def test_a_foreign_or_changed_checkpoint_is_refused(published):
    path = Path("model_VIF.pth")
    with pytest.raises(CheckpointError, match="GraphModel"):
        convert({name: part for name, part in published.items() if name != "GraphModel"}, path)
    for change in (
        {"module.more.weight": torch.zeros(1)},
        {"module.patch_embed.proj.weight": torch.zeros(64, 1, 5, 5)},
    ):
        changed = published | {"DIDF_Encoder": published["DIDF_Encoder"] | change}
        with pytest.raises(CheckpointError, match=r"1 left over|1 of another shape"):
            load_strictly(METHOD.build(), convert(changed, path), "model_VIF.pth")


def test_from_file_to_fused_image(published, tmp_path):
    path = tmp_path / "model_VIF.pth"
    torch.save(published, path)
    net = METHOD.build().eval()
    load_strictly(net, METHOD.convert(read_checkpoint(path), path), str(path))
    infrared, visible = textured(1, 24, 26), np.stack([textured(seed, 24, 26) for seed in (2, 3, 4)], axis=-1)
    with torch.inference_mode():
        inputs = [tensor[None] for tensor in METHOD.prepare(infrared, visible)]
        fused = METHOD.finish(net(*inputs)[0], infrared, visible)
    assert all(tensor.shape == (1, 1, 24, 26) and 0 <= tensor.min() <= tensor.max() <= 1 for tensor in inputs)
    assert fused.shape == (24, 26, 3)
    assert fused.dtype == np.uint8


def test_finish_stretches_and_keeps_colour():
    gray = np.full((1, 3), 90, np.uint8)
    output = torch.tensor([[[0.4, 0.45, 0.6]]])
    assert finish(output, gray, gray).tolist() == [[0, 64, 255]]
    assert finish(output, gray, gray, minmax=False).tolist() == [[102, 115, 153]]
    assert finish(torch.full((1, 1, 3), 0.5), gray, gray).tolist() == [[0, 0, 0]]
    colour = np.tile(np.array([[[150, 90, 60]]], np.uint8), (1, 3, 1))
    fused = finish(torch.tensor([[[0.0, 0.4, 1.0]]]), gray, colour)
    assert fused[0, 1, 0] > fused[0, 1, 1] > fused[0, 1, 2]  # still reddish
    assert functional.l1_loss(METHOD.prepare(gray, colour)[1], torch.full((1, 1, 3), 104.52 / 255)) < 1e-6


def test_colour_is_rounded_once_as_by_opencvs_floats():
    visible = np.dstack([textured(seed, 40, 50) for seed in (2, 3, 4)])
    ycrcb = cv2.cvtColor(visible.astype(np.float32), cv2.COLOR_RGB2YCrCb)
    given = METHOD.prepare(textured(1, 40, 50), visible)[1]
    np.testing.assert_allclose(given[0] * 255, ycrcb[..., 0], atol=1e-4)
    output = torch.from_numpy(textured(5, 40, 50)[None] / np.float32(311))
    ycrcb[..., 0] = (output[0] - output.min()) / (output.max() - output.min()) * 255
    expected = cv2.cvtColor(ycrcb, cv2.COLOR_YCrCb2RGB)
    error = finish(output, visible, visible) - expected.clip(0, 255)
    assert np.abs(error).max() < 0.501  # the levels of floats, rounded to nearest
