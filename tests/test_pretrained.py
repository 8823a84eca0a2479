"""Published weights that trainings begin with: their names and shapes as published, where they are found, what is said.

The tensors are made here from the published names and shapes, which are written out below, not taken from networks.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from evalkit.cli import main
from evalkit.data.samples.samples import write_scenes
from evalkit.downstream.detection.recipe import detection_recipe, find_weights, paper_recipes
from evalkit.downstream.segmentation.networks import SEGMENTERS
from evalkit.downstream.segmentation.networks import find_weights as find_encoder
from evalkit.downstream.segmentation.systems.cmx import SYSTEMS as CMX
from evalkit.errors import CheckpointError, DataError, UnknownNameError
from evalkit.methods.checkpoints import check_shapes, load_strictly, read_checkpoint
from evalkit.methods.layers.mit import MIT_B2, MixTransformer
from evalkit.methods.layers.mit_names import AUTHORS_FIRST, OPENMMLAB_FIRST, in_form_of
from evalkit.methods.layers.res2net import Res2NetEncoder
from evalkit.methods.layers.resnet import BasicBlock, BottleneckBlock, ResNetEncoder, imagenet_state
from evalkit.methods.layers.vgg import VGGEncoder, imagenet_vgg_state
from evalkit.methods.pretrained import pretrained_card, pretrained_cards, where_published
from evalkit.records.record import Record
from evalkit.training.find_recipe import load_recipe, recipes
from evalkit.training.loop import train
from evalkit.training.recipe import Recipe
from evalkit.training.state import read_recipe

needs_mmseg = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("mmseg", "mmengine", "mmcv")),
    reason="needs evalkit[segmentation]",
)
Shapes = dict[str, tuple[int, ...]]


def filled(shapes: Shapes) -> dict[str, torch.Tensor]:
    """Small values, different ones in every tensor; variances above zero."""
    random = torch.Generator().manual_seed(1)
    return {name: torch.rand(shape, generator=random) * 0.1 + 0.01 for name, shape in shapes.items()}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")} | {
        f"{name}.num_batches_tracked": ()
    }


def resnet_shapes(blocks: tuple[int, ...], bottleneck: bool) -> Shapes:
    """torchvision's ResNet, `fc` included."""
    shapes: Shapes = {"conv1.weight": (64, 3, 7, 7)} | norm("bn1", 64)
    before = 64
    for stage, count in enumerate(blocks):
        width = 64 * 2**stage
        out = width * (4 if bottleneck else 1)
        for i in range(count):
            name = f"layer{stage + 1}.{i}"
            kernels = [(width, before, 1), (width, width, 3), (out, width, 1)]
            if not bottleneck:
                kernels = [(width, before, 3), (width, width, 3)]
            for n, (outs, ins, side) in enumerate(kernels, 1):
                shapes |= {f"{name}.conv{n}.weight": (outs, ins, side, side)} | norm(f"{name}.bn{n}", outs)
            if before != out:
                shapes |= {f"{name}.downsample.0.weight": (out, before, 1, 1)} | norm(f"{name}.downsample.1", out)
            before = out
    return shapes | {"fc.weight": (1000, before), "fc.bias": (1000,)}


def vgg_shapes(batch_norm: bool) -> Shapes:
    """torchvision's VGG-16, classifier included."""
    shapes: Shapes = {}
    place, before = 0, 3
    for stage, count in enumerate((2, 2, 3, 3, 3)):
        for _ in range(count):
            width = (64, 128, 256, 512, 512)[stage]
            shapes |= {f"features.{place}.weight": (width, before, 3, 3), f"features.{place}.bias": (width,)}
            shapes |= norm(f"features.{place + 1}", width) if batch_norm else {}
            before, place = width, place + (3 if batch_norm else 2)
        place += 1
    for i, (out, ins) in {0: (4096, 25088), 3: (4096, 4096), 6: (1000, 4096)}.items():
        shapes |= {f"classifier.{i}.weight": (out, ins), f"classifier.{i}.bias": (out,)}
    return shapes


def linear(name: str, out: int, ins: int, *kernel: int) -> Shapes:
    return {f"{name}.weight": (out, ins, *kernel), f"{name}.bias": (out,)}


def mit_shapes(depths: tuple[int, ...], widths: tuple[int, ...] = (64, 128, 320, 512)) -> Shapes:
    """SegFormer's encoder as its authors published it, classifier included."""
    shapes: Shapes = {}
    before = 3
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True), 1):
        side, reduction = (7 if stage == 1 else 3), (8, 4, 2, 1)[stage - 1]
        shapes |= linear(f"patch_embed{stage}.proj", width, before, side, side)
        shapes |= {f"patch_embed{stage}.norm.{part}": (width,) for part in ("weight", "bias")}
        for i in range(depth):
            block = f"block{stage}.{i}"
            shapes |= {f"{block}.norm{n}.{part}": (width,) for n in (1, 2) for part in ("weight", "bias")}
            shapes |= linear(f"{block}.attn.q", width, width) | linear(f"{block}.attn.kv", 2 * width, width)
            shapes |= linear(f"{block}.attn.proj", width, width)
            if reduction > 1:
                shapes |= linear(f"{block}.attn.sr", width, width, reduction, reduction)
                shapes |= {f"{block}.attn.norm.{part}": (width,) for part in ("weight", "bias")}
            shapes |= linear(f"{block}.mlp.fc1", 4 * width, width) | linear(f"{block}.mlp.fc2", width, 4 * width)
            shapes |= linear(f"{block}.mlp.dwconv.dwconv", 4 * width, 1, 3, 3)
        shapes |= {f"norm{stage}.{part}": (width,) for part in ("weight", "bias")}
        before = width
    return shapes | linear("head", 1000, before)


def mscan_shapes(widths: tuple[int, ...], depths: tuple[int, ...], authors: bool) -> Shapes:
    """SegNeXt's encoder as published by its authors or by OpenMMLab, classifier included."""
    shapes: Shapes = {}
    depthwise = "mlp.dwconv.dwconv" if authors else "mlp.dwconv"
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True), 1):
        embed = f"patch_embed{stage}"
        if stage == 1:
            shapes |= linear(f"{embed}.proj.0", width // 2, 3, 3, 3) | norm(f"{embed}.proj.1", width // 2)
            shapes |= linear(f"{embed}.proj.3", width, width // 2, 3, 3) | norm(f"{embed}.proj.4", width)
        else:
            shapes |= linear(f"{embed}.proj", width, widths[stage - 2], 3, 3) | norm(f"{embed}.norm", width)
        for i in range(depth):
            block, gate = f"block{stage}.{i}", f"block{stage}.{i}.attn.spatial_gating_unit"
            hidden = width * (8, 8, 4, 4)[stage - 1]
            shapes |= {f"{block}.layer_scale_{n}": (width,) for n in (1, 2)}
            shapes |= norm(f"{block}.norm1", width) | norm(f"{block}.norm2", width)
            for name in ("attn.proj_1", "attn.proj_2", "attn.spatial_gating_unit.conv3"):
                shapes |= linear(f"{block}.{name}", width, width, 1, 1)
            shapes |= linear(f"{gate}.conv0", width, 1, 5, 5)
            for n, long in enumerate((7, 11, 21)):
                shapes |= linear(f"{gate}.conv{n}_1", width, 1, 1, long) | linear(
                    f"{gate}.conv{n}_2", width, 1, long, 1
                )
            shapes |= linear(f"{block}.mlp.fc1", hidden, width, 1, 1) | linear(f"{block}.mlp.fc2", width, hidden, 1, 1)
            shapes |= linear(f"{block}.{depthwise}", hidden, 1, 3, 3)
        shapes |= {f"norm{stage}.{part}": (width,) for part in ("weight", "bias")}
    return shapes | linear("head", 1000, widths[-1])


def without_memory(shapes: Shapes) -> dict[str, torch.Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


# --- the catalogue


def named() -> Iterator[str]:
    yield from filter(None, (one.card.encoder for one in SEGMENTERS.values()))
    yield from (file for recipe in recipes().values() for file in recipe.weights.values())
    yield from (recipe.weights for recipe in paper_recipes() if recipe.weights)


def test_every_file_that_something_begins_with_is_known_and_every_known_one_is_used() -> None:
    used = {name: pretrained_card(name).name for name in named()}
    assert set(used.values()) == set(pretrained_cards())
    for name in used:
        assert "licence: " in where_published(name), name
    with pytest.raises(UnknownNameError):
        pretrained_card("swin_tiny.pth")


def test_commands_say_file_source_and_licence(tmp_path: Path) -> None:
    (tmp_path / "mscan_b.pth").write_bytes(b"")
    listed = CliRunner().invoke(main, ["list", "pretrained", "--checkpoints", str(tmp_path), "--json"])
    by_name = {entry["name"]: entry for entry in json.loads(listed.output)}
    assert by_name["MSCAN-B"]["here"] == "mscan_b.pth"
    assert by_name["MiT-B2"]["here"] == "missing"
    assert "segmenter SegNeXt-B" in by_name["MSCAN-B"]["used by"]
    for name, texts in {
        "SegFormer-B2": ("mit_b2.pth", "NVlabs", "not commercial"),
        "resnet50-0676ba61.pth": ("torchvision", "BSD-3-Clause", "recipe S4Fusion-paper"),
        "YOLOv5s": ("yolov5su.pt", "AGPL-3.0", "detector YOLOv5s"),
    }.items():
        shown = CliRunner().invoke(main, ["show", name, "--json"]).output
        assert all(text in shown for text in texts), shown


# --- names and shapes as published


@pytest.mark.parametrize(
    ("blocks", "block", "millions"),
    [
        ((2, 2, 2, 2), BasicBlock, 11.69),
        ((3, 4, 6, 3), BasicBlock, 21.80),
        ((3, 4, 6, 3), BottleneckBlock, 25.56),
        ((3, 4, 23, 3), BottleneckBlock, 44.55),
        ((3, 8, 36, 3), BottleneckBlock, 60.19),
    ],
)
def test_resnets_as_torchvision_names_them(blocks: tuple[int, ...], block: type, millions: float) -> None:
    content = without_memory(resnet_shapes(blocks, block is BottleneckBlock))
    learned = [value.numel() for name, value in content.items() if "running" not in name and "tracked" not in name]
    assert sum(learned) / 1e6 == pytest.approx(millions, abs=0.005)  # as torchvision states
    with torch.device("meta"):
        network = ResNetEncoder(blocks, block=block)
    check_shapes(network, imagenet_state(content, Path("resnet.pth")), "resnet.pth")


@pytest.mark.parametrize(("batch_norm", "millions"), [(False, 138.36), (True, 138.37)])
def test_vgg_as_torchvision_names_it(batch_norm: bool, millions: float) -> None:
    content = without_memory(vgg_shapes(batch_norm))
    learned = [value.numel() for name, value in content.items() if "running" not in name and "tracked" not in name]
    assert sum(learned) / 1e6 == pytest.approx(millions, abs=0.005)
    with torch.device("meta"):
        network = VGGEncoder(norm=13 if batch_norm else 0)
    check_shapes(network, imagenet_vgg_state(content, Path("vgg.pth")), "vgg.pth")


def test_a_file_as_torch_writes_it_is_read_and_loaded(tmp_path: Path) -> None:
    content = filled(resnet_shapes((2, 2, 2, 2), False))
    torch.save(content, tmp_path / "resnet18-f37072fd.pth")
    network = ResNetEncoder((2, 2, 2, 2))
    load_strictly(network, imagenet_state(read_checkpoint(tmp_path / "resnet18-f37072fd.pth"), tmp_path), "resnet18")
    assert torch.equal(network.layer4[1].conv2.weight, content["layer4.1.conv2.weight"])
    with pytest.raises(CheckpointError, match="not of ResNetEncoder"):
        load_strictly(ResNetEncoder((3, 4, 6, 3)), imagenet_state(content, tmp_path), "resnet18")


def test_res2net_has_the_published_number_of_tensors() -> None:
    with torch.device("meta"):
        network = Res2NetEncoder()
    learned = sum(value.numel() for value in network.parameters())
    assert (learned + 2048 * 1000 + 1000) / 1e6 == pytest.approx(25.72, abs=0.005)  # with the classifier


def test_both_forms_of_segformers_weights_are_one(tmp_path: Path) -> None:
    depths, widths = (1, 2, 1, 1), (8, 16, 40, 64)
    authors = filled(mit_shapes(depths, widths))
    openmmlab = in_form_of(OPENMMLAB_FIRST, authors, tmp_path)
    assert openmmlab["layers.1.1.1.attn.attn.in_proj_weight"].shape == (48, 16)
    assert openmmlab["layers.0.1.0.ffn.layers.0.weight"].shape == (32, 8, 1, 1)
    again = in_form_of(AUTHORS_FIRST, openmmlab, tmp_path)
    assert again.keys() == {name for name in authors if not name.startswith("head.")}
    assert all(torch.equal(authors[name], value) for name, value in again.items())
    assert in_form_of(AUTHORS_FIRST, authors, tmp_path) is authors
    network = MixTransformer(depths, widths)
    load_strictly(network, again, "mit")
    broken = openmmlab | {"layers.0.1.0.attn.attn.in_proj_weight": torch.ones(7, 8)}
    with pytest.raises(CheckpointError, match="not of a Mix Transformer"):
        in_form_of(AUTHORS_FIRST, broken, tmp_path)


def test_cmx_takes_either_form_for_both_encoders(tmp_path: Path) -> None:
    system = CMX["CMX-B2"]
    network = system.build(9, depths=(1, 1, 1, 1), widths=(8, 16, 40, 64))
    authors = filled(mit_shapes((1, 1, 1, 1), (8, 16, 40, 64)))
    for content in (authors, {"state_dict": in_form_of(OPENMMLAB_FIRST, authors, tmp_path)}):
        for parameter in network.parameters():
            parameter.data.zero_()
        system.load_pretrained(network, content, tmp_path / "mit_b2.pth")
        for part in (network.visible, network.infrared):
            assert torch.equal(part.block3[0].attn.kv.weight, authors["block3.0.attn.kv.weight"])


def test_mit_b2_has_the_published_shapes() -> None:
    with torch.device("meta"):
        network = MixTransformer(MIT_B2)
    content = {n: v for n, v in without_memory(mit_shapes(MIT_B2)).items() if not n.startswith("head.")}
    check_shapes(network, content, "mit_b2.pth")
    assert sum(value.numel() for value in content.values()) / 1e6 == pytest.approx(24.20, abs=0.005)


@needs_mmseg
def test_segformer_and_segnext_begin_with_either_published_form(tmp_path: Path) -> None:
    from evalkit.downstream.segmentation.models import build, load_encoder, model_config

    def network(name: str) -> torch.nn.Module:
        return build(model_config(name, 9, [120.0] * 3, [60.0] * 3, (64, 64)))

    authors = filled(mit_shapes((2, 2, 2, 2), (32, 64, 160, 256)))
    torch.save(authors, tmp_path / "mit_b0.pth")
    torch.save({"state_dict": in_form_of(OPENMMLAB_FIRST, authors, tmp_path)}, tmp_path / "mit_b0_2022.pth")
    own = MixTransformer((2, 2, 2, 2), (32, 64, 160, 256)).eval()
    load_strictly(own, {name: value for name, value in authors.items() if not name.startswith("head.")}, "mit_b0")
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    segformer = network("SegFormer-B0").eval()
    for file in ("mit_b0.pth", "mit_b0_2022.pth"):
        load_encoder(segformer, tmp_path / file)
        with torch.inference_mode():
            features, x = segformer.backbone(image), image
            for i in range(4):
                x = own.stage(i, x)
                # OpenMMLab's normalisations add 1e-6 to the variance, the authors' in places 1e-5
                assert torch.allclose(features[i], x, rtol=5e-3, atol=2e-3), (file, i)
    segnext = network("SegNeXt-T")
    for form in (True, False):
        content = filled(mscan_shapes((32, 64, 160, 256), (3, 3, 5, 2), form))
        torch.save({"state_dict": content}, tmp_path / "mscan_t.pth")
        load_encoder(segnext, tmp_path / "mscan_t.pth")
        gate = "block3.4.attn.spatial_gating_unit.conv2_1.weight"
        assert torch.equal(segnext.backbone.state_dict()[gate], content[gate])


# --- what is said where one is missing, and in records


def test_a_missing_file_is_a_sentence_with_its_source(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"S4Fusion begins with .*resnet50-0676ba61\.pth.*published by torchvision"):
        train(load_recipe("S4Fusion", "paper").model_copy(update={"data": SAMPLES}), scenes(tmp_path), tmp_path / "run")
    with pytest.raises(DataError, match=r"yolov5xu\.pt or yolov5x\.pt is not in .*github\.com/ultralytics/assets"):
        find_weights(detection_recipe("paper", "smfnet-table2"), tmp_path)
    assert find_encoder("SegNeXt-B", tmp_path) is None
    assert find_encoder("SegNeXt-B", None) is None


def test_the_forerunners_file_serves_where_the_newer_is_missing(tmp_path: Path) -> None:
    recipe = detection_recipe("paper", "s4fusion-table4")
    (tmp_path / "yolov5s.pt").write_bytes(b"1")
    assert find_weights(recipe, tmp_path)[0] == tmp_path / "yolov5s.pt"
    (tmp_path / "yolov5su.pt").write_bytes(b"2")
    assert find_weights(recipe, tmp_path)[0] == tmp_path / "yolov5su.pt"


@pytest.mark.parametrize("name", ["mit_b2.pth", "mit_b2_20220624-66e8bf70.pth"])
def test_a_segmenters_file_is_found_under_either_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    for network in ("SegFormer-B2", "CMX-B2"):
        assert find_encoder(network, tmp_path) == tmp_path / name
        assert fnmatchcase(name, SEGMENTERS[network].card.encoder)


def test_a_record_of_another_training_is_not_compared() -> None:
    fields = {
        "status": "complete", "protocol": {"name": "psfusion-table1", "hash": ""}, "dataset": {"name": "MSRS"},
        "method": {"name": "Visible", "recipe": "paper", "pretrained": {}, "other_training": "other training: ..."},
        "convention": "set", "metrics": [], "images": 0, "scores": {}, "missing": {}, "failures": [], "provenance": {},
        "started": "", "finished": "",
    }  # fmt: skip
    assert Record.model_validate(fields).not_comparable == "other training: ..."
    fields["method"] |= {"pretrained": {"mscan_b.pth": "ab"}, "other_training": ""}
    assert Record.model_validate(fields).not_comparable == ""


SAMPLES = load_recipe("S4Fusion", "paper").data.model_copy(update={"datasets": {"samples": None}, "shares": {}})


def scenes(folder: Path) -> Path:
    return write_scenes(folder / "data", 3, 7, 80, 64)


def test_trained_weights_say_what_they_began_with_also_after_a_cut(tmp_path: Path) -> None:
    root = scenes(tmp_path)
    (tmp_path / "weights").mkdir()
    file = "resnet101-63fe2227.pth"
    torch.save({"conv1.weight": torch.rand(64, 3, 7, 7)}, tmp_path / "weights" / file)  # all that MsgFusion takes of it
    paper = load_recipe("MsgFusion", "paper")
    quick = {"data": SAMPLES, "batch": 1, "steps": 1, "augment": {"crop": 32}}
    fields = paper.model_dump() | quick | {"stages": [{"name": "fuse", "epochs": 1}]}
    recipe = Recipe.model_validate(fields | {"data": SAMPLES.model_dump()})
    result = train(recipe, root, tmp_path / "run", weights=tmp_path / "weights", device="cpu")
    assert list(result.pretrained) == [file]
    saved = read_recipe(result.weights)
    assert saved is not None
    assert saved[1]["pretrained"] == result.pretrained
    assert len(result.pretrained[file]) == 64
    longer = train(recipe, root, tmp_path / "run", device="cpu")  # nothing is left to do, and no folder is needed
    assert longer.pretrained == result.pretrained
