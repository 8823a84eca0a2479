"""SMR-Net: both networks and their ablations."""

from __future__ import annotations

import copy
import itertools

import cv2
import numpy as np
import pytest
from conftest import textured, two_threads

torch = pytest.importorskip("torch")

from tensors import noise, normal, pair  # noqa: E402

from evalkit.data.images import merge_colour  # noqa: E402
from evalkit.methods.checkpoints import load_strictly  # noqa: E402
from evalkit.methods.complexity import complexity  # noqa: E402
from evalkit.methods.layers.luminance import luminance, with_luminance  # noqa: E402
from evalkit.methods.layers.msgd import MSGD, Aggregation, enlarged  # noqa: E402
from evalkit.methods.layers.resnet import (  # noqa: E402
    RESNET18,
    RESNET50,
    RESNET152,
    BottleneckBlock,
    ResNetEncoder,
    imagenet_state,
)
from evalkit.methods.network import NetworkMethod, count_parameters, unit_gray_pair  # noqa: E402
from evalkit.methods.networks.smrnet import (  # noqa: E402
    METHODS,
    PCI,
    GlobalInteraction,
    LocalInteraction,
    SMRNet,
    salient_objects,
    small,
)
from evalkit.methods.networks.smrnet_saliency import BPS, BitPlaneSlicing, DeformableEnhancement, reweighted  # noqa: E402
from evalkit.methods.registry import method_card  # noqa: E402
from evalkit.training.papers import smrnet as losses  # noqa: E402
from evalkit.training.papers.smrnet import ABLATIONS  # noqa: E402

METHOD = METHODS["SMR-Net"]


IRFS_PARAMETERS = 39_947_869  # FGCCNet 39,706,168 + FSFNet 241,701


SMALL = {"blocks": (1, 1, 1, 1), "width": 8, "heads": 8, "channels": 8}


DEAD = ("decoder.heads.0.", ".to_map.bias")  # read by nothing; subtracted by the normalisation


def pci(seed: int = 0, **options) -> PCI:
    torch.manual_seed(seed)
    return PCI(**({"channels": 16, "growth": 16} | options)).eval()


def bps(seed: int = 0, **options) -> BPS:
    """A small detector in double precision: there no pixel flips its bit by the order of a sum."""
    torch.manual_seed(seed)
    return BPS(**(SMALL | options)).double().eval()


def fusion_loss(fused, infrared, visible):
    """L_int + L_texture, of a fusion network that learns alone."""
    terms = (losses.intensity_loss, losses.joint_gradient_loss)
    return sum(term(fused, infrared, visible) for term in terms)


def images(batch: int = 1, size: int = 64, dtype=torch.float64):
    return [noise(batch, 3, size, size, seed=seed, dtype=dtype) for seed in range(3)]


# --- fusion network (acceptance 1)


@pytest.mark.parametrize(
    ("channels", "growth", "parameters", "giga"),
    [(64, 32, 288_533, 94.3), (32, 16, 72_941, 23.8), (16, 16, 27_593, 8.8)],
)
def test_cost_of_the_fusion_network(channels, growth, parameters, giga):
    counted = complexity(NetworkMethod(lambda: PCI(channels, growth), unit_gray_pair, METHOD.finish))
    assert counted.parameters == parameters
    assert counted.multiply_adds / 1e9 == pytest.approx(giga, abs=0.05)


def test_card_and_method_agree():
    card = method_card("smrnet")
    assert card.name in METHODS
    assert card.module == "smrnet"
    assert count_parameters(METHOD.build()) == card.parameters == 288_533
    assert METHOD.files == card.checkpoint == ()


@pytest.mark.parametrize("size", [(123, 217), (37, 53), (1, 1), (1, 6), (5, 2)])
def test_fused_has_the_size_of_the_pair_and_lies_in_0_1(size):
    with torch.inference_mode():
        fused = pci()(*pair(*size))
    assert fused.shape == (1, 1, *size)
    assert fused.dtype == torch.float32
    assert 0 <= fused.min() <= fused.max() <= 1


def tie(network: PCI) -> None:
    """Make both directions of the interactions equal."""
    across, local = network.across, network.local
    across.spatial_infrared.load_state_dict(across.spatial_visible.state_dict())
    across.channel_infrared.load_state_dict(across.channel_visible.state_dict())
    for conv in (local.channel, local.spatial):
        half = len(conv.weight) // 2
        with torch.no_grad():
            conv.weight[half:] = torch.cat((conv.weight[:half, half:], conv.weight[:half, :half]), dim=1)
            conv.bias[half:] = conv.bias[:half]


def test_swapping_the_images_exchanges_their_features_when_weights_are_tied():
    network = pci()
    tie(network)
    infrared, visible = pair(19, 23)
    with torch.inference_mode():
        a, b = network.interact(infrared, visible)
        c, d = network.interact(visible, infrared)
        torch.testing.assert_close(a, d)
        torch.testing.assert_close(b, c)
        torch.testing.assert_close(network(infrared, visible), network(visible, infrared))
        untied = pci()
        assert (untied(infrared, visible) - untied(visible, infrared)).abs().max() > 1e-4


def test_global_weights_come_from_the_other_image():
    torch.manual_seed(0)
    across = GlobalInteraction(8)
    visible, infrared = normal(1, 8, 6, 7), normal(1, 8, 6, 7, seed=1)
    of_visible, of_infrared = across(visible, infrared)
    weight = across.spatial_infrared(infrared) + across.channel_infrared(infrared)
    assert weight.shape == (1, 8, 6, 7)
    torch.testing.assert_close(of_visible, visible * weight)
    doubled = across(2 * visible, infrared)
    torch.testing.assert_close(doubled[0], 2 * of_visible)  # its own weights do not depend on it
    assert not torch.allclose(doubled[1], of_infrared)


def test_local_interaction_by_hand():
    torch.manual_seed(0)
    visible, infrared = normal(1, 4, 5, 6), normal(1, 4, 5, 6, seed=1)
    for gate in ("sigmoid", "none"):
        local = LocalInteraction(4, gate)
        both = torch.cat((visible, infrared), dim=1)
        weights = local.channel.weight[..., 0, 0] @ both.mean(dim=(2, 3))[0] + local.channel.bias
        weights = torch.sigmoid(weights) if gate == "sigmoid" else weights
        spatial = local.spatial(both)
        found = local(visible, infrared)
        torch.testing.assert_close(found[0], visible * weights[:4, None, None] + spatial[:, :4])
        torch.testing.assert_close(found[1], infrared * weights[4:, None, None] + spatial[:, 4:])


def test_fusion_of_a_batch_and_on_two_threads():
    network, (infrared, visible) = pci(), pair(37, 53, batch=2)
    with torch.inference_mode():
        together = network(infrared, visible)
        alone = torch.cat([network(infrared[i : i + 1], visible[i : i + 1]) for i in range(2)])
        with two_threads():
            threaded = network(infrared, visible)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(together, threaded, rtol=0, atol=1e-5)


def test_the_seed_decides_the_weights():
    for build in (pci, bps):
        one, same, other = build(3).state_dict(), build(3).state_dict(), build(4).state_dict()
        assert all(torch.equal(one[key], same[key]) for key in one)
        assert any(not torch.equal(one[key], other[key]) for key in one)


def test_every_weight_of_the_fusion_network_learns():
    # with 16 channels the channel attention has two hidden units, which some seeds leave at 0 for good
    network, (infrared, visible) = pci(channels=64), pair(24, 32)
    fusion_loss(network(infrared, visible), infrared, visible).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


def test_fused_bytes_keep_the_chroma():
    network, infrared = pci(), textured(1)
    visible = cv2.cvtColor(np.dstack([textured(2), textured(3) // 3 + 90, textured(4) // 4 + 100]), cv2.COLOR_YCrCb2RGB)
    with torch.inference_mode():
        a, b = METHOD.prepare(infrared, visible)
        fused = network(a[None], b[None])[0]
    merged = METHOD.finish(fused, infrared, visible)
    assert merged.shape == visible.shape
    assert merged.dtype == np.uint8
    gray = METHOD.finish(fused, infrared, textured(2))
    assert np.array_equal(gray, np.rint(fused[0].numpy() * 255))
    assert np.array_equal(merged, merge_colour(gray, visible))


def test_colour_inside_the_network_is_that_of_the_images():
    visible = np.dstack([textured(2), textured(3), textured(4)])
    y = textured(5)
    rgb = torch.from_numpy(visible.astype(np.float32) / 255).permute(2, 0, 1)[None]
    fused = with_luminance(torch.from_numpy(y.astype(np.float32) / 255)[None, None], rgb)
    assert 0 <= fused.min() <= fused.max() <= 1
    assert np.abs(fused[0].permute(1, 2, 0).numpy() * 255 - merge_colour(y, visible)).max() < 2
    torch.testing.assert_close(with_luminance(luminance(rgb), rgb), rgb)


# --- salient objects (acceptance 6, 7, 9)


def test_parameters_of_both_networks():
    with torch.device("meta"):
        network = SMRNet()
    total, detection = count_parameters(network), network.detection
    assert total == 28_991_525
    assert total == pytest.approx(29.2e6, rel=0.02)
    assert 0.25 < 1 - total / IRFS_PARAMETERS < 0.28  # the abstract: 26 % fewer than the nearest competitor
    assert count_parameters(detection.encoder) == 21_284_672
    assert count_parameters(detection.decoder.heads) == 2_565_984
    with torch.device("meta"):
        four = [count_parameters(BitPlaneSlicing(c, (1, 2, 3, 4))) for c in (64, 128, 256, 512)]
        enhancement = [count_parameters(DeformableEnhancement(c)) for c in (64, 128, 256, 512)]
    assert [a + b for a, b in zip(four, enhancement, strict=True)] == [62_227, 222_739, 838_675, 3_250_195]


@pytest.mark.parametrize(("height", "width", "irfs_giga"), [(352, 352, 50.0), (480, 640, 128.3)])
def test_the_detector_costs_less_than_that_of_irfs(height, width, irfs_giga):
    def prepare(*_):
        return tuple(torch.zeros(3, height, width) for _ in range(2))

    class Detector(BPS):
        def forward(self, thermal, visible):
            return super().forward(visible, thermal, visible)

    counted = complexity(NetworkMethod(Detector, prepare, METHOD.finish), height, width)
    assert counted.multiply_adds / 1e9 < irfs_giga
    assert counted.multiply_adds / 1e9 == pytest.approx({352: 35.88, 480: 88.96}[height], abs=0.01)


@pytest.mark.parametrize(("size", "coarse"), [(352, 11), (256, 8), (32, 1)])
def test_shapes_of_the_full_detector(size, coarse):
    with torch.device("meta"):
        network = BPS().eval()
        features = network.encode(torch.empty(6, 3, size, size))
        found = network.decoder(features)
    shapes = [(6, 64 * 2**i, size // 2 ** (i + 2), size // 2 ** (i + 2)) for i in range(4)]
    assert [tuple(f.shape) for f in features] == shapes
    assert found.coarse.shape == (6, 1, coarse, coarse)
    assert {tuple(logits.shape) for logits in found[1:]} == {(2, 1, size, size)}


def test_sides_must_be_multiples_of_32():
    with pytest.raises(ValueError, match=r"multiples of 32.*salient_objects"):
        bps()(*images(size=48))


def test_permuted_samples_give_permuted_maps():
    network, order = bps(), [2, 0, 1]
    with torch.inference_mode():
        straight = network(*images(3))
        permuted = network(*(image[order] for image in images(3)))
    for logits, others in zip(straight[1:], permuted[1:], strict=True):
        torch.testing.assert_close(logits[order], others)
    torch.testing.assert_close(straight.coarse.view(3, 3, -1)[:, order], permuted.coarse.view(3, 3, -1))


def test_detection_of_a_batch_and_on_two_threads():
    network, batch = bps(), images(2)
    with torch.inference_mode():
        together = network(*batch).total
        alone = torch.cat([network(*(image[i : i + 1] for image in batch)).total for i in range(2)])
        with two_threads():
            threaded = network(*batch).total
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(together, threaded, rtol=0, atol=1e-5)


def test_total_is_the_sum_of_its_parts():
    with torch.inference_mode():
        found = bps()(*images())
    torch.testing.assert_close(found.total, found.visible + found.thermal + found.joint)


def test_reweighting():
    source, guide = normal(2, 4, 5, 5), 3 * normal(2, 4, 5, 5, seed=1)
    literal = reweighted(source, guide, "mul")
    assert (literal.abs() <= source.abs()).all()
    torch.testing.assert_close(literal, source / (1 + torch.exp(-guide)))
    torch.testing.assert_close(reweighted(source, guide), source + literal)


def test_only_the_visible_image_is_normalised_unless_told():
    network, (visible, thermal, fused) = bps(), images()
    seen = []
    network.encode = lambda x: seen.append(x) or [x.new_zeros(3, c, 2, 2) for c in network.encoder.channels]
    network.decoder = torch.nn.Identity()
    network(visible, thermal, fused)
    network.norm_all = True
    network(visible, thermal, fused)
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    torch.testing.assert_close(seen[0], torch.cat(((visible - mean) / std, thermal, fused)), check_dtype=False)
    torch.testing.assert_close(seen[1], (torch.cat((visible, thermal, fused)) - mean) / std, check_dtype=False)


def test_the_fused_stream_goes_on_unchanged_and_guides_the_sources():
    network, (visible, thermal, fused) = bps(), images()
    other = noise(*fused.shape, seed=9, dtype=fused.dtype)
    with torch.inference_mode():
        features = network.encode(torch.cat((visible, thermal, fused)))
        plain = network.encoder(fused)
        guided_otherwise = network.encode(torch.cat((visible, thermal, other)))
    for found, expected, otherwise in zip(features, plain, guided_otherwise, strict=True):
        torch.testing.assert_close(found[2:], expected)
        assert not torch.allclose(found[:2], otherwise[:2])


def test_the_fused_share_reaches_the_coarse_map_only():
    torch.manual_seed(0)
    decoder = MSGD((8, 16, 32, 64), 8, 8).eval()
    features = [normal(3, 8 * 2**i, 16 // 2**i, 16 // 2**i, seed=i) for i in range(4)]
    changed = [f.clone() for f in features]
    for f in changed:
        f[2] += 1
    with torch.inference_mode():
        one, two = decoder(features), decoder(changed)
    assert all(torch.equal(a, b) for a, b in zip(one[1:], two[1:], strict=True))
    assert torch.equal(one.coarse[:2], two.coarse[:2])
    assert not torch.allclose(one.coarse[2], two.coarse[2])


def test_imagenet_weights_fit_the_encoder():
    torch.manual_seed(0)
    encoder = ResNetEncoder(RESNET18, width=8)
    state = encoder.state_dict() | {"fc.weight": torch.zeros(1000, 64), "fc.bias": torch.zeros(1000)}
    load_strictly(ResNetEncoder(RESNET18, width=8), imagenet_state(state, "resnet18.pth"), "resnet18.pth")
    assert {"conv1.weight", "bn1.running_mean", "layer2.0.downsample.1.bias", "layer4.1.conv2.weight"} <= set(state)


def test_resnet_with_bottlenecks_has_the_published_names_and_sizes():
    torch.manual_seed(0)
    encoder = ResNetEncoder((2, 1, 1, 1), width=4, block=BottleneckBlock).eval()
    state, x = encoder.state_dict(), noise(1, 3, 45, 70)
    half, *stages = encoder.scales(x)

    def layer(x, name, norm, stride=1, padding=0):
        x = torch.nn.functional.conv2d(x, state[f"{name}.weight"], stride=stride, padding=padding)
        norms = [state[f"{norm}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
        return torch.nn.functional.batch_norm(x, *norms)

    x = layer(x, "conv1", "bn1", 2, 3).relu()
    assert torch.allclose(half, x, atol=1e-6)
    x = torch.nn.functional.max_pool2d(x, 3, 2, 1)
    for index, blocks in enumerate((2, 1, 1, 1), 1):
        for block in range(blocks):
            name, stride = f"layer{index}.{block}", 2 if index > 1 and block == 0 else 1
            y = layer(x, f"{name}.conv1", f"{name}.bn1").relu()
            y = layer(y, f"{name}.conv2", f"{name}.bn2", stride, 1).relu()
            y = layer(y, f"{name}.conv3", f"{name}.bn3")
            if block == 0:
                x = layer(x, f"{name}.downsample.0", f"{name}.downsample.1", stride)
            x = (y + x).relu()
        assert torch.allclose(stages[index - 1], x, atol=1e-5)
    assert tuple(f.shape[1] for f in stages) == encoder.channels == (16, 32, 64, 128)
    assert len(state) == 6 + 24 + 18 + 3 * 24


def test_parameters_of_published_resnets():
    with torch.device("meta"):
        encoders = {blocks: ResNetEncoder(blocks, block=BottleneckBlock) for blocks in (RESNET50, RESNET152)}
    # as torchvision's documentation counts them, less the classifier of 2048 x 1000 + 1000
    assert count_parameters(encoders[RESNET50]) == 25_557_032 - 2_049_000
    assert count_parameters(encoders[RESNET152]) == 60_192_808 - 2_049_000


def test_resnet_sizes_on_odd_images():
    features = ResNetEncoder(RESNET18, width=4).eval()(noise(1, 3, 45, 70))
    assert [tuple(f.shape[1:]) for f in features] == [(4, 12, 18), (8, 6, 9), (16, 3, 5), (32, 2, 3)]


# --- both together


def test_salient_objects_of_any_size():
    torch.manual_seed(0)
    network = SMRNet(PCI(8, 8), BPS(**SMALL)).eval()
    with torch.inference_mode():
        found = salient_objects(network, noise(2, 1, 51, 83), noise(2, 3, 51, 83, seed=1), size=64)
    assert found.shape == (2, 1, 51, 83)
    assert 0 <= found.min() <= found.max() <= 1


def test_joint_output():
    torch.manual_seed(0)
    network = SMRNet(PCI(8, 8), BPS(**SMALL)).eval()
    infrared, visible = noise(1, 1, 64, 32), noise(1, 3, 64, 32, seed=1)
    with torch.inference_mode():
        found = network(infrared, visible)
        assert torch.equal(found.fused, network.fusion(infrared, luminance(visible)))
        assert torch.equal(found.colour, with_luminance(found.fused, visible))
        again = network.detection(visible, infrared.expand(-1, 3, -1, -1), found.colour)
    assert torch.equal(found.saliency.total, again.total)


def test_the_small_network():
    network = small()
    assert count_parameters(network.fusion) == 27_593
    assert count_parameters(network) < 2e6


def gradients_of_the_fusion_network(ste_slope: str, maps: str) -> float:
    """Largest gradient of a detector's loss on the fusion network."""
    torch.manual_seed(0)
    network = SMRNet(PCI(8, 8), BPS(**SMALL, ste_slope=ste_slope)).double()
    network.detection.eval()  # frozen, as while the fusion network learns
    infrared, visible = noise(2, 1, 64, 64, dtype=torch.float64), noise(2, 3, 64, 64, seed=1, dtype=torch.float64)
    target = (noise(2, 1, 64, 64, seed=2) > 0.5).double()
    saliency = network(infrared, visible).saliency
    if maps == "total":
        loss = losses.saliency_loss(saliency.total, target)
    elif maps == "coarse":
        loss = losses.saliency_loss(saliency.coarse, target[..., ::32, ::32].repeat(3, 1, 1, 1))
    else:
        loss = losses.detection_loss(saliency, target)
    if not loss.requires_grad:
        return 0.0
    found = torch.autograd.grad(loss, list(network.fusion.parameters()), allow_unused=True)
    assert all(torch.isfinite(g).all() for g in found if g is not None)
    return max((float(g.abs().max()) for g in found if g is not None), default=0.0)


def test_the_detectors_loss_reaches_the_fusion_network():
    assert gradients_of_the_fusion_network("unit", "total") > 0
    assert gradients_of_the_fusion_network("saw", "total") > 0
    assert gradients_of_the_fusion_network("none", "total") == 0  # the literal equations
    assert gradients_of_the_fusion_network("none", "coarse") > 0
    assert gradients_of_the_fusion_network("none", "all") > 0


@pytest.mark.parametrize("options", [{}, {"planes": (1, 2, 3, 4)}, {"reweight": "mul"}, {"ste_slope": "saw"}])
def test_every_weight_of_the_detector_learns_but_those_that_cannot(options):
    network = bps(**options)  # evaluation mode: on maps of few pixels a norm in training cancels the bias before it
    target = (noise(2, 1, 64, 64, seed=5) > 0.5).double()
    losses.detection_loss(network(*images(2)), target).backward()
    for name, parameter in network.named_parameters():
        if any(part in name for part in DEAD):
            assert parameter.grad is None or parameter.grad.abs().max() < 1e-12, name
        else:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().max() > 1e-12, name


def test_a_few_steps_lower_both_losses():
    torch.manual_seed(0)
    network = SMRNet(PCI(8, 8), BPS(**SMALL))
    infrared, visible = noise(2, 1, 32, 32), noise(2, 3, 32, 32, seed=1)
    y, target = luminance(visible), torch.zeros(2, 1, 32, 32)
    target[..., 8:24, 8:24] = 1
    fusion = torch.optim.Adam(network.fusion.parameters(), 1e-3)
    detection = torch.optim.Adam(network.detection.parameters(), 1e-3)
    history = []
    for _ in range(12):
        out = network(infrared, visible)
        sod = losses.detection_loss(out.saliency, target)
        history.append((fusion_loss(out.fused, infrared, y).item(), sod.item()))
        fusion.zero_grad()
        detection.zero_grad()
        (fusion_loss(out.fused, infrared, y) + sod).backward()
        fusion.step()
        detection.step()
    assert history[-1][0] < history[0][0]
    assert history[-1][1] < history[0][1]


# --- ablations (Tables 3 and 4)

PLANES = {"bit 1": (1,), "bit 2": (2,), "bit 3": (3,), "bit 4": (4,), "bits 1-2": (1, 2), "bits 1-3": (1, 2, 3)}


PLANES["bits 1-4"] = (1, 2, 3, 4)


@pytest.fixture(scope="module")
def ablated():
    with torch.device("meta"):
        return {name: build() for name, build in ABLATIONS.items()}


def shapes_of(network: BPS, without: str = "") -> dict[str, tuple[int, ...]]:
    return {k: tuple(v.shape) for k, v in network.state_dict().items() if not without or not k.startswith(without)}


def test_ablations_are_those_of_the_tables(ablated):
    assert set(ablated) == {"none", "BS", "DC", "BS+DC"} | set(PLANES)


def test_ablations_lack_exactly_what_they_name(ablated):
    full = shapes_of(ablated["BS+DC"])
    assert shapes_of(ablated["DC"]) == shapes_of(ablated["BS+DC"], without="slicing.")
    assert shapes_of(ablated["BS"]) == shapes_of(ablated["BS+DC"], without="deformable.")
    neither = {k for k in full if not k.startswith(("slicing.", "deformable."))}
    assert set(shapes_of(ablated["none"])) == neither


@pytest.mark.parametrize("name", PLANES)
def test_plane_ablations_differ_in_the_planes_only(ablated, name):
    network, full = ablated[name], ablated["BS+DC"]
    assert {slicing.planes for slicing in network.slicing} == {PLANES[name]}
    own, expected = shapes_of(network), shapes_of(full)
    assert set(own) == set(expected)
    several = {f"slicing.{i}.from_planes.weight" for i in range(4)} if len(PLANES[name]) > 1 else set()
    assert {key for key in own if own[key] != expected[key]} == several


def test_ablated_parts_are_skipped_not_replaced():
    full = bps()
    features = normal(1, 8, 6, 6, dtype=torch.float64)
    for slicing, deformable in itertools.product((True, False), repeat=2):
        network = bps(slicing=slicing, deformable=deformable)
        guide = features
        if slicing:
            network.slicing[0].load_state_dict(full.slicing[0].state_dict())
            guide = full.slicing[0](guide)
        if deformable:
            network.deformable[0].load_state_dict(full.deformable[0].state_dict())
            guide = full.deformable[0](guide)
        assert torch.equal(network.deformable[0](network.slicing[0](features)), guide)


def test_guide_follows_equations_13_to_15():
    torch.manual_seed(0)
    block, sliced = DeformableEnhancement(6), normal(1, 6, 7, 8)
    enhanced = block.enhance(sliced.clamp(min=0))
    expected = block.out(block.deform[1](block.deform[0].conv(enhanced)) * enhanced) + sliced
    torch.testing.assert_close(block(sliced), expected, rtol=1e-5, atol=1e-5)


def test_slicing_follows_equations_9_to_12():
    torch.manual_seed(0)
    block, fused = BitPlaneSlicing(6, (1, 2, 3, 4)), normal(2, 6, 7, 8)
    maps = block.to_map(fused).detach().double().numpy()
    maps -= maps.min(axis=(1, 2, 3), keepdims=True)
    maps /= maps.max(axis=(1, 2, 3), keepdims=True)
    sixteenths = np.minimum(np.floor(16 * maps), 15).astype(int)
    bits = np.concatenate([(sixteenths >> shift) & 1 for shift in (3, 2, 1, 0)], axis=1)
    expected = block.from_planes(torch.from_numpy(bits.astype(np.float32)))
    torch.testing.assert_close(block(fused), expected)


def test_a_copy_computes_the_same():
    network = bps()
    with torch.inference_mode():
        torch.testing.assert_close(copy.deepcopy(network)(*images()).total, network(*images()).total)


def test_the_deepest_features_are_doubled_twice() -> None:
    """As in the published decoder: one step by four, corner on corner, gives other values."""
    torch.manual_seed(0)
    decoder, seen = Aggregation(8, 4).eval(), []
    decoder.deep_times_fine.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    decoder(torch.rand(1, 8, 12, 16), torch.rand(1, 8, 6, 8), deep := torch.rand(1, 8, 3, 4))
    narrow = decoder.narrow[2](deep)
    torch.testing.assert_close(seen[0], enlarged(enlarged(narrow, 2), 2))
    assert not torch.allclose(seen[0], enlarged(narrow, 4), atol=1e-4)
