"""Weights are data: nothing in a file runs, every key is accounted for, and what is wrong is said."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import make_tno, textured
from test_reproduce import run

torch = pytest.importorskip("torch")

from evalkit import read_table  # noqa: E402
from evalkit.data.images import write_png  # noqa: E402
from evalkit.data.pairs import ImagePair  # noqa: E402
from evalkit.errors import EvalkitError, ImageError  # noqa: E402
from evalkit.methods.checkpoints import CheckpointError, as_state, load_strictly, read_checkpoint  # noqa: E402
from evalkit.methods.fuse import make_fuser  # noqa: E402
from evalkit.methods.network import NetworkMethod, count_parameters, unit_gray_pair  # noqa: E402
from evalkit.methods.network_fuser import NetworkFuser  # noqa: E402
from evalkit.methods.registry import METHODS, method_card, method_cards  # noqa: E402
from evalkit.protocols.schema import protocol  # noqa: E402


class Bomb:
    """A pickle that runs a command when it is opened."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self):
        return os.system, (f"touch '{self.proof}'",)


def small() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))


@pytest.mark.parametrize("container", ["torch", "pickle", "nested"])
def test_code_in_a_checkpoint_is_not_run(tmp_path, container):
    proof, file = tmp_path / "it ran", tmp_path / "weights.pth"
    if container == "torch":
        torch.save({"conv": Bomb(proof)}, file)
    elif container == "pickle":
        file.write_bytes(pickle.dumps(Bomb(proof)))
    else:
        torch.save({"weight": {"a": torch.zeros(2), "b": Bomb(proof)}, "epoch": 3}, file)
    with pytest.raises(CheckpointError, match="could run code"):
        read_checkpoint(file)
    assert not proof.exists()


def test_damaged_checkpoints(tmp_path):
    good = tmp_path / "good.pth"
    torch.save(small().state_dict(), good)
    data = good.read_bytes()
    cases = {"half.pth": data[: len(data) // 2], "empty.pth": b"", "text.pth": b"not a checkpoint at all " * 20}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=r"damaged or no checkpoint|could run code"):
            read_checkpoint(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as archive:
        archive.writestr("../../evil.txt", "x")
    with pytest.raises(CheckpointError):
        read_checkpoint(tmp_path / "other.pth")
    assert not (tmp_path.parent.parent / "evil.txt").exists()
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        read_checkpoint(tmp_path / "nowhere.pth")
    (tmp_path / "bad.safetensors").write_bytes(data[:100])
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(tmp_path / "bad.safetensors")


def test_safetensors_round_trip(tmp_path):
    from safetensors.torch import save_file

    network = small()
    save_file(dict(network.state_dict()), tmp_path / "w.safetensors")
    other = small()
    load_strictly(other, as_state(read_checkpoint(tmp_path / "w.safetensors"), tmp_path), "w")
    for one, two in zip(network.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(one, two)


def test_every_key_is_accounted_for():
    network = small()
    state = network.state_dict()
    load_strictly(network, {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}, "file")
    with pytest.raises(CheckpointError, match=r"1 missing: 0\.bias"):
        load_strictly(network, {k: v for k, v in state.items() if k != "0.bias"}, "file")
    with pytest.raises(CheckpointError, match=r"1 left over: 2\.weight"):
        load_strictly(network, state | {"2.weight": torch.zeros(1)}, "file")
    with pytest.raises(CheckpointError, match=r"1 of another shape: 0\.weight \(2, 1, 5, 5\), expected \(2, 1, 3, 3\)"):
        load_strictly(network, state | {"0.weight": torch.zeros(2, 1, 5, 5)}, "file")
    with pytest.raises(CheckpointError, match=r"NaN or infinity in 0\.bias"):
        load_strictly(network, state | {"0.bias": torch.full((2,), torch.nan)}, "file")


def test_what_is_no_state_dict(tmp_path):
    for content in ([torch.zeros(2)], {"weight": 3}, {1: torch.zeros(1)}, torch.zeros(3)):
        with pytest.raises(CheckpointError, match="not of this network"):
            as_state(content, tmp_path)
    with pytest.raises(CheckpointError, match="no entry 'params'"):
        as_state({"weight": torch.zeros(1)}, tmp_path, "params")


def test_weights_of_another_network_are_a_missing_value_with_the_reason(shared, tmp_path):
    root = make_tno(tmp_path / "data", 2)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "densefuse_gray.model").write_bytes((shared / "checkpoints" / "TarDAL.pt").read_bytes())
    (folder / "TarDAL.pt").write_bytes((shared / "checkpoints" / "TarDAL.pt").read_bytes()[:5000])
    arguments = ["reproduce", "smfnet-table1", "--data-root", root, "--datasets", "TNO", "--out", tmp_path / "run"]
    code, out, _ = run(*arguments, "--checkpoints", folder, "--methods", "DenseFuse,TarDAL,DIDFuse")
    assert code == 3
    assert "is not of DenseFuse" in out
    assert "TarDAL.pt is damaged" in out
    assert "its weights DIDFuse_Encoder.pkl and DIDFuse_Decoder.pkl are not in" in out


def test_fusing_with_weights(shared, tmp_path):
    root = make_tno(tmp_path / "data", 3)
    arguments = ["fuse", "DenseFuse", "--data-root", root, "--dataset", "TNO", "--out", tmp_path / "out"]
    (root / "TNO/ir/02.png").write_bytes(b"broken")
    write_png(root / "TNO/vi/03.png", textured(3, 20, 20))
    code, out, _ = run(*arguments, "--checkpoints", shared / "checkpoints")
    assert code == 3
    assert "1 fused images" in out
    assert "– 02: " in out
    assert "20x20" in out
    code, _, error = run(*arguments)
    assert code == 2
    assert "needs its weights densefuse_gray.model: give --checkpoints DIR" in error
    code, _, error = run(*arguments, "--checkpoint", tmp_path / "nowhere.model")
    assert code == 2
    assert "cannot read" in error or "no checkpoint" in error
    code, _, error = run("fuse", "DIDFuse", *arguments[2:], "--checkpoint", shared / "checkpoints/DIDFuse_Encoder.pkl")
    assert code == 2
    assert "takes 2 checkpoint files" in error


def test_batches_of_one_size_equal_single_pairs(shared, tmp_path, monkeypatch):
    root = make_tno(tmp_path, 5)
    write_png(root / "TNO/ir/03.png", textured(3, 40, 40))
    write_png(root / "TNO/vi/03.png", textured(4, 40, 40))
    pairs = [ImagePair(f"{i:02d}", root / f"TNO/ir/{i:02d}.png", root / f"TNO/vi/{i:02d}.png") for i in range(1, 6)]
    fuser = make_fuser(method_card("DenseFuse"), shared / "checkpoints", device="cpu")
    single = list(fuser.fuse(pairs))
    sizes = []
    real = fuser._fuse_group
    monkeypatch.setattr(fuser, "_fuse_group", lambda group: sizes.append(len(group)) or real(group))
    monkeypatch.setattr(fuser, "device", "cpu:0")  # batches, as on a GPU
    batched = list(fuser.fuse(pairs))
    assert sizes == [2, 1, 2]
    for one, other in zip(single, batched, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1


class Fussy(torch.nn.Module):
    """Takes two pairs at most, and no bright image."""

    def forward(self, infrared, visible):
        if len(infrared) > 2:
            raise RuntimeError("out of memory\nwith a long trace")
        if infrared.mean() > 0.45:
            raise ImageError("too bright")
        return infrared


def test_what_is_wrong_with_a_pair_is_not_its_batchs():
    method = NetworkMethod(Fussy, unit_gray_pair, lambda output, infrared, visible: infrared, (), dict)
    fuser = NetworkFuser("DenseFuse", method, {}, [], device="cpu")
    dark, bright = (np.full((8, 8), level, np.uint8) for level in (100, 200))

    def fused(*images):
        return list(fuser._fuse_group([(image, image) for image in images]))

    for count in (1, 2, 5):
        images = fused(*[dark] * count)
        assert len(images) == count
        assert all(np.array_equal(image, dark) for image in images)
    first, second, third = fused(dark, bright, dark)
    assert np.array_equal(first, dark)
    assert str(second) == "too bright"
    assert np.array_equal(third, dark)
    fuser.network.forward = lambda *_: (_ for _ in ()).throw(RuntimeError("out of memory\nwith a long trace"))
    (reason,) = {str(error) for error in fused(dark, dark)}
    assert reason.startswith("DenseFuse cannot fuse this pair: out of memory. 8x8 is too large for the memory")


def test_a_device_that_is_not_there(shared):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(EvalkitError, match="no GPU here"):
        make_fuser(method_card("DenseFuse"), shared / "checkpoints", device="cuda")


@pytest.mark.parametrize("name", [card.name for card in method_cards().values() if card.module])
def test_cards_agree_with_the_networks(name):
    import importlib

    card = method_card(name)
    method = importlib.import_module(f"evalkit.methods.networks.{card.module}").METHODS[name]
    assert method.files == card.checkpoint
    with torch.device("meta" if (card.parameters or 0) > 10**8 else "cpu"):  # gigabytes need not be drawn
        network = method.build()
    assert count_parameters(network) == card.parameters
    assert (method.convert is None) == (not card.checkpoint)


def test_cost_table_counts_as_the_paper_does(tmp_path, monkeypatch):
    monkeypatch.setattr("evalkit.methods.complexity.seconds_per_image", lambda *_: 0.5)
    code, out, _ = run("reproduce", "smfnet-table5", "--methods", "DenseFuse,DIDFuse,TarDAL,MURF", "--out", tmp_path)
    assert code == 0
    table = read_table(tmp_path)
    status = {(c.method, c.metric.split()[0]): c.status for c in table.cells}
    assert status["DenseFuse", "FLOPs"] == status["DenseFuse", "Params"] == status["DIDFuse", "Params"] == "equal"
    assert status["TarDAL", "FLOPs"] == "equal"
    assert status["MURF", "FLOPs"] == "differs"  # the printed one is seven times as large
    assert status["DenseFuse", "Time"] == "other data"
    assert "measured on" in out
    assert run("reproduce", "smfnet-table5", "--sample", "--out", tmp_path / "x")[0] == 2


def test_cost_table_has_segmentation_networks_of_two_streams(tmp_path, monkeypatch):
    """psfusion-fig3: feature-level networks beside a fusion network. It prints no times, so nothing is timed."""
    monkeypatch.delattr("evalkit.methods.complexity.seconds_per_image")
    code, out, _ = run("reproduce", "psfusion-fig3", "--methods", "MFNet,PSFusion,average", "--out", tmp_path)
    assert code == 3
    table = read_table(tmp_path)
    values = {(c.method, c.metric): c.value for c in table.cells}
    assert values["MFNet", "Params"] == pytest.approx(0.736275)
    assert values["MFNet", "FLOPs"] == pytest.approx(8.30, abs=0.0051)
    assert values["PSFusion", "Params"] == pytest.approx(45.899360)
    assert values["average", "FLOPs"] is None
    assert "evalkit has no code for this network" in out


def test_complexity_of_a_known_network():
    from evalkit.methods.complexity import complexity

    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = torch.nn.Conv2d(1, 4, 3, padding=1)
            self.decoder = torch.nn.Conv2d(4, 1, 1, bias=False)

        def forward(self, a, b):
            return self.decoder(self.encoder(a) + self.encoder(b))

    counted = complexity(NetworkMethod(Twice, unit_gray_pair, lambda o, i, v: i, per_modality=("encoder",)), 10, 20)
    assert counted.parameters == 40 + 4
    assert counted.parameters_by_call == 2 * 40 + 4
    assert counted.multiply_adds == counted.profiled == 10 * 20 * (2 * 9 * 4 + 4)


@pytest.mark.parametrize(
    ("name", "printed"),
    sorted(
        {"DenseFuse": 74, "DIDFuse": 373, "ReCoNet": 8, "TarDAL": 297, "U2Fusion": 659, "PMGI": 42}.items()
        | {"SwinFusion": 927, "CDDFuse": 1783, "SHIP": 526, "SMFNet": 4504}.items()
    ),
)
def test_parameters_as_the_cost_table_counts_them(name, printed):
    import importlib

    from evalkit.methods.complexity import complexity

    module = importlib.import_module(f"evalkit.methods.networks.{method_card(name).module}")
    assert round(complexity(module.METHODS[name], 64, 64).parameters_by_call / 1000) == printed


PROFILED = {  # what thop 0.1.1 gives of the authors' networks at the size that they run at
    "DenseFuse": (27.029, 27),
    "DIDFuse": (114.860, 115),
    "ReCoNet": (7.115, 7),
    "TarDAL": (91.138, 91),
    "SwinFusion": (307.513, 308),
    "CDDFuse": (547.740, 548),
    "SHIP": (156.770, 157),
    "SMFNet": (1461.707, 1462),
}


@pytest.mark.parametrize("name", PROFILED)
def test_flops_as_the_cost_table_counts_them(name):
    from evalkit.methods.complexity import complexity

    profiled = complexity(METHODS[name].network()).profiled / 1e9
    counted, printed = PROFILED[name]
    assert profiled == pytest.approx(counted, abs=6e-4)
    assert round(profiled) == printed


@pytest.mark.parametrize(
    ("layer", "shape", "operations"),
    [
        (torch.nn.BatchNorm2d(3), (1, 3, 4, 5), 4 * 60),
        (torch.nn.InstanceNorm2d(3), (1, 3, 4, 5), 2 * 60),
        (torch.nn.LayerNorm(5), (2, 4, 5), 4 * 40),
        (torch.nn.PReLU(), (1, 3, 4, 5), 60),
        (torch.nn.ReLU(), (1, 3, 4, 5), 0),
        (torch.nn.AvgPool2d(2), (1, 3, 4, 6), 18),
        (torch.nn.AdaptiveAvgPool2d(1), (1, 3, 4, 5), 63),
        (torch.nn.Softmax(-1), (2, 7), 2 * (7 + 6 + 7)),
        (torch.nn.Upsample(scale_factor=2, mode="bilinear"), (1, 3, 4, 5), 11 * 240),
        (torch.nn.Upsample(scale_factor=2), (1, 3, 4, 5), 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, torch.nn.Module) else None,
)
def test_operations_of_layers_as_the_profiler_counts_them(layer, shape, operations):
    from evalkit.methods.complexity import layer_operations

    x = torch.rand(shape)
    assert layer_operations(layer, (x,), layer(x)) == operations


@pytest.mark.slow
def test_the_notes_on_smfnets_table_5_are_what_is_counted():
    """At 640x480: with products of features, and as a profiler counts."""
    from evalkit.methods.complexity import complexity

    notes = protocol("smfnet-table5").notes
    for name in ("CDDFuse", "SHIP", "SMFNet", "SwinFusion", "DeFusion", "MURF", "U2Fusion", "PMGI"):
        cost = complexity(METHODS[name].network())
        assert f"{cost.profiled / 1e9:.1f}" in notes, name
        if name in ("CDDFuse", "SHIP", "SMFNet", "SwinFusion"):
            assert f"{cost.multiply_adds / 1e9:.1f}" in notes, name


def test_recoloured_results_keep_the_visible_chroma(shared, tmp_path):
    root = make_tno(tmp_path, 1)
    gray = textured(1001)
    write_png(root / "TNO/vi/01.png", np.dstack([gray, gray // 2, gray // 3]))
    pairs = [ImagePair("01", root / "TNO/ir/01.png", root / "TNO/vi/01.png")]
    fusers = [make_fuser(method_card("DenseFuse"), shared / "checkpoints", recolour=r) for r in (False, True)]
    plain, coloured = (next(iter(fuser.fuse(pairs))) for fuser in fusers)
    assert plain.ndim == 2
    assert coloured.shape == (*plain.shape, 3)
    assert fusers[0].identity != fusers[1].identity


def as_people_save(state: dict, kind: str) -> object:
    """The same weights as other tools leave them."""
    return {
        "plain": state,
        "DataParallel": {f"module.{key}": value for key, value in state.items()},
        "torch.compile": {f"_orig_mod.{key}": value for key, value in state.items()},
        "both": {f"module._orig_mod.{key}": value for key, value in state.items()},
        "state_dict": {"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3},
        "model": {"model": state, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}, "best": np.float64(0.3)},
        "profiled": {**state, "total_ops": torch.zeros(1), "0.total_params": torch.zeros(1)},
        "options": {"state_dict": state, "args": argparse.Namespace(lr=0.1), "path": Path("a/b")},
    }[kind]


@pytest.mark.parametrize("kind", ["plain", "DataParallel", "torch.compile", "both", "state_dict", "model", "profiled",
                                  "options"])  # fmt: skip
@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoints_as_people_have_them(tmp_path, kind, zipped):
    network = small()
    path = tmp_path / "w.pth"
    torch.save(as_people_save(network.state_dict(), kind), path, _use_new_zipfile_serialization=zipped)
    state = as_state(read_checkpoint(path), path)
    load_strictly(small(), state, "w")
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def of_other_kinds() -> dict[str, tuple[bytes, str]]:
    script = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), script)
    return {
        "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 680123\n", "a Git LFS pointer"),
        "page": (b"\n<!DOCTYPE html><html><head><title>Virus scan warning</title></head></html>", "a web page"),
        "script": (script.getvalue(), "a TorchScript program"),
        "index": (b"\0\0\6\10\1\32\2\10\1\0 encoder/conv1/bias" + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb", "TensorFlow"),
        "keras": (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"),
    }


@pytest.mark.parametrize("kind", ["pointer", "page", "script", "index", "keras"])
def test_what_is_not_weights_is_named(tmp_path, kind):
    content, name = of_other_kinds()[kind]
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=name) as told:
        read_checkpoint(tmp_path / "w.pth")
    assert "run code" not in str(told.value)


def test_a_tensorflow_prefix_is_named(tmp_path):
    (tmp_path / "model.ckpt.index").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"prefix of a TensorFlow checkpoint \(model\.ckpt\.index\)"):
        read_checkpoint(tmp_path / "model.ckpt")


@pytest.mark.parametrize("name", ["module_prefix", "state_dict", "model", "thop"])
def test_given_checkpoints_load(shared, name):
    from evalkit.methods.networks.seafusion import METHODS

    method, path = METHODS["SeAFusion"], shared / "cases" / "checkpoints" / f"{name}.pth"
    load_strictly(method.build(), method.convert(read_checkpoint(path), path), str(path))


@pytest.mark.parametrize(("name", "kind"), [("lfs_pointer", "Git LFS pointer"), ("drive_html", "web page"),
                                            ("jit", "TorchScript"), ("tf", "TensorFlow")])  # fmt: skip
def test_given_files_of_other_kinds_are_named(shared, name, kind):
    with pytest.raises(CheckpointError, match=kind):
        read_checkpoint(shared / "cases" / "checkpoints" / f"{name}.pth")


def test_published_files_are_read_as_pytorch_reads_them(shared):
    paths = [path for path in sorted((shared / "checkpoints").iterdir()) if path.is_file()]
    assert len(paths) >= 12
    for path in paths:
        own, other = read_checkpoint(path), torch.load(path, map_location="cpu", weights_only=True)
        for name in {"weight", "params"} & other.keys():
            own, other = own[name], other[name]
        assert list(own) == list(other)
        assert all(torch.equal(own[key], value) and own[key].dtype == value.dtype for key, value in other.items())
