"""Salient-object systems as rows of tables: registered by a user, run with weights, trained; and their networks."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

import evalkit
from evalkit.cli import main
from evalkit.data.images import read_image, to_gray, write_png
from evalkit.errors import CheckpointError, EvalkitError
from evalkit.metrics.saliency import MEASURES, saliency_dataset

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")
from safetensors.torch import save_file  # noqa: E402
from salient import (  # noqa: E402
    check_card,
    check_maps,
    check_published_values,
    check_small,
    parameters_without_gradient,
    published,
)

from evalkit.methods.checkpoints import load_strictly  # noqa: E402
from evalkit.methods.complexity import complexity  # noqa: E402
from evalkit.methods.network import NetworkMethod  # noqa: E402
from evalkit.methods.saliency.feed import Feed, GrayFeed, logits_to_map, pillow_square, stretched_logits_to_map  # noqa: E402
from evalkit.methods.saliency.registry import SALIENCY_SYSTEMS  # noqa: E402
from evalkit.methods.saliency.systems import adf, csrnet, lafb, midd  # noqa: E402
from evalkit.training.salient import smoothness  # noqa: E402

NETWORKS: dict[str, Callable[[], torch.nn.Module]] = {
    "MIDD": partial(midd.MIDD, width=4),
    "ADF": partial(adf.ADF, width=4),
    "CSRNet": partial(csrnet.CSRNet, width=16, channels=8, inner=4),
    "LAFB": partial(lafb.LAFB, width=8, inner=8, channels=8),
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three pairs of a data set; the object is warm."""
    draw = np.random.default_rng(0)
    for i in range(3):
        mask = np.zeros((40, 48), np.uint8)
        mask[8 : 20 + i, 10 : 30 + i] = 255
        write_png(tmp_path / f"data/VT821/GT/{i}.png", mask)
        write_png(tmp_path / f"data/VT821/RGB/{i}.png", draw.integers(0, 256, (40, 48, 3), dtype=np.uint8))
        write_png(tmp_path / f"data/VT821/T/{i}.png", mask // 2 + 20)
    return tmp_path / "data"


@pytest.fixture
def added():
    """Names that a test registers are forgotten behind it."""
    before = set(SALIENCY_SYSTEMS)
    yield
    for name in set(SALIENCY_SYSTEMS) - before:
        del SALIENCY_SYSTEMS._items[name], SALIENCY_SYSTEMS._origins[name], SALIENCY_SYSTEMS._names[name.casefold()]


def run(data: Path, out: Path, method: str, **options):
    return evalkit.reproduce(
        "smrnet-table2", data, datasets=["VT821"], methods=[method], out=out, **{"workers": 1} | options
    )


def warmer(infrared, visible):
    return np.where(to_gray(infrared) > 100, 255, 0).astype(np.uint8)


# --- rows


def test_a_function_that_is_registered_fills_the_row_of_its_name(data, tmp_path, added) -> None:
    evalkit.register_saliency({"name": "MTMR-like", "kind": "classical", "title": "Warm is salient"}, warmer)
    protocol = tmp_path / "mine.yaml"
    fields = {"name": "mine", "title": "Mine", "task": "saliency", "convention": "pysodmetrics"}
    fields |= {"metrics": ["S", "MAE"], "datasets": {"VT821": {"pairs": 3}}, "methods": ["MTMR-like"]}
    protocol.write_text(yaml.safe_dump(fields))
    table = evalkit.reproduce(str(protocol), data, out=tmp_path / "run", workers=2)
    assert table.cell("VT821", "MTMR-like", "MAE").value == 0
    record = json.loads((tmp_path / "run/records/VT821__MTMR-like.json").read_text())
    assert record["method"]["filled_from"] == "classical"
    assert record["scores_hash"]
    assert read_image(tmp_path / "run/maps/MTMR-like/VT821/1.png").max() == 255


def test_a_function_that_fails_or_gives_no_map_is_a_missing_value_with_its_reason(data, tmp_path, added) -> None:
    def failing(infrared, visible):
        raise KeyError("cube")

    for name, function, reason in (
        ("ADF-like", failing, "failed with KeyError"),
        ("SGDL-like", lambda infrared, visible: infrared / 255, "gave float64"),
    ):
        evalkit.register_saliency({"name": name, "kind": "classical", "title": "."}, function)
        fields = {"name": "mine", "title": "Mine", "task": "saliency", "convention": "pysodmetrics"}
        fields |= {"metrics": ["S"], "datasets": {"VT821": {"pairs": 3}}, "methods": [name]}
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(fields))
        table = evalkit.reproduce(str(tmp_path / "mine.yaml"), data, out=tmp_path / name, workers=1)
        assert reason in table.cell("VT821", name, "S").reason


def test_a_name_is_registered_once(added) -> None:
    with pytest.raises(EvalkitError, match="midd"):
        evalkit.register_saliency({"name": "midd", "kind": "classical", "title": "."}, warmer)


@pytest.fixture
def narrow(monkeypatch):
    """MIDD with few channels in place of the published one: its weights are small."""
    network = NetworkMethod(NETWORKS["MIDD"], midd.FEED, midd.NETWORK.finish, ("MIDD.pth",), midd.NETWORK.convert)
    system = SALIENCY_SYSTEMS["MIDD"]
    monkeypatch.setitem(SALIENCY_SYSTEMS._items, "MIDD", type(system)(system.card, None, lambda: network))
    return network


def test_published_weights_fill_the_row_and_are_named_in_the_record(data, tmp_path, narrow) -> None:
    assert "give --checkpoints DIR" in run(data, tmp_path / "none", "MIDD").cell("VT821", "MIDD", "S").reason
    torch.manual_seed(0)
    torch.save(narrow.build().state_dict(), tmp_path / "MIDD.pth")  # our names, which no change of the loader fits
    table = run(data, tmp_path / "run", "MIDD", checkpoints=tmp_path, device="cpu")
    record = json.loads((tmp_path / "run/records/VT821__MIDD.json").read_text())
    assert record["method"]["filled_from"] == "checkpoint"
    assert list(record["method"]["weights"]) == ["MIDD.pth"]
    expected = saliency_dataset(
        (tmp_path / f"run/maps/MIDD/VT821/{i}.png", data / f"VT821/GT/{i}.png") for i in range(3)
    )
    for column, measure in MEASURES.items():
        assert table.cell("VT821", "MIDD", column).value == pytest.approx(expected.scores[measure], rel=1e-12)
    torch.save({"x": torch.ones(2)}, tmp_path / "MIDD.pth")
    assert "keys" in run(data, tmp_path / "other", "MIDD", checkpoints=tmp_path).cell("VT821", "MIDD", "S").reason


TINY = {
    "method": "MIDD", "name": "tiny", "source": "a test", "network": {"width": 2},
    "data": {"datasets": {"samples": None}, "labels": ["salient"]}, "batch": 2, "steps": 1,
    "augment": {"resize": 32}, "stages": [{"name": "detect", "epochs": 1}], "optimiser": {"lr": 0.001},
}  # fmt: skip


def test_a_row_is_trained_by_its_recipe_and_runs_from_the_weights_that_this_left(data, tmp_path) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    table = run(data, tmp_path / "run", "MIDD", train=True, recipe=str(tmp_path / "tiny.yaml"), device="cpu")
    cell = table.cell("VT821", "MIDD", "S")
    record = json.loads((tmp_path / "run/records/VT821__MIDD.json").read_text())
    assert record["method"]["filled_from"] == "trained"
    assert record["method"]["recipe"].startswith("tiny (custom recipe ")
    (tmp_path / "weights").mkdir()
    weights = tmp_path / "weights/MIDD.safetensors"
    (tmp_path / "run/training/MIDD/best.safetensors").rename(weights)
    again = run(data, tmp_path / "again", "MIDD", checkpoints=tmp_path / "weights", device="cpu")
    assert again.cell("VT821", "MIDD", "S").value == cell.value
    save_file({"x": torch.ones(2)}, weights)
    other = run(data, tmp_path / "other", "MIDD", checkpoints=tmp_path / "weights", device="cpu")
    assert "MIDD.safetensors" in other.cell("VT821", "MIDD", "S").reason


def test_the_list_has_code_weights_licence_comparison_and_tables() -> None:
    entries = json.loads(CliRunner().invoke(main, ["list", "saliency", "--json"]).output)
    by_name = {entry["name"]: entry for entry in entries}
    for name in NETWORKS:
        entry = by_name[name]
        assert entry["tables"] == "smrnet-fig1, smrnet-table2"
        assert all(entry[key] for key in ("year", "parameters", "weights", "licence", "compared", "here"))
        assert json.loads(CliRunner().invoke(main, ["show", name, "--json"]).output)["doi"]


# --- what goes in and comes out


def test_pairs_go_in_as_published() -> None:
    draw = np.random.default_rng(3)
    visible, infrared = draw.integers(0, 256, (2, 20, 30, 3), dtype=np.uint8)
    feed = Feed(16, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7), (0.4, 0.4, 0.4), (1, 1, 1))
    first, second = feed(infrared, visible)
    assert first.shape == second.shape == (3, 16, 16)
    assert float(Feed(**vars(feed) | {"bgr": True})(infrared, visible)[0][2, 3, 4]) == float(first[0, 3, 4])
    whole = Feed(**vars(feed) | {"size": None})(infrared, visible)
    assert float(whole[0][1, 5, 6]) == pytest.approx((visible[5, 6, 1] / 255 - 0.2) / 0.6, abs=1e-6)
    assert float(whole[1][2, 5, 6]) == pytest.approx(infrared[5, 6, 2] / 255 - 0.4, abs=1e-6)
    gray = GrayFeed(Feed(**vars(feed) | {"size": None}))(infrared, visible)[1]
    assert float(gray[0, 5, 6]) == float(gray[2, 5, 6])
    assert pillow_square(visible, 16).shape == (16, 16, 3)


def test_maps_come_out_as_published() -> None:
    logits = torch.tensor([[[-2.0, 2.0], [0.0, 4.0]]])
    pair = np.zeros((2, 2), np.uint8), np.zeros((2, 2, 3), np.uint8)
    expected = np.rint(255 / (1 + np.exp([[2.0, -2.0], [0.0, -4.0]])))
    assert np.array_equal(logits_to_map(logits, *pair), expected)
    stretched = stretched_logits_to_map(logits, *pair)
    assert (stretched.min(), stretched.max()) == (0, 255)


def test_smoothness_costs_where_the_mask_has_no_edge() -> None:
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 4:12, 4:12] = 1
    other = mask.roll(4, -1)
    assert smoothness(mask, mask) < smoothness(other, mask) / 5
    flat = torch.zeros(1, 1, 8, 8)
    assert float(smoothness(flat, flat)) == pytest.approx(10 * 2 * 0.001)


# --- the networks


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_is_the_published_one(name: str) -> None:
    check_published_values(name)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_card_counts_the_network(name: str) -> None:
    check_card(name)


@pytest.mark.parametrize("name", NETWORKS)
def test_maps_have_the_size_of_the_pair(name: str) -> None:
    check_maps(name, NETWORKS[name]())


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_learns(name: str) -> None:
    assert parameters_without_gradient(NETWORKS[name](), 128) == []


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_of_other_keys_are_refused(name: str) -> None:
    network = NETWORKS[name]()
    state = dict(network.state_dict())
    convert = published(name).convert
    assert convert is not None
    load_strictly(network, convert(state, Path("own.pth")), "own.pth")
    state.pop(next(iter(state)))
    with pytest.raises(CheckpointError, match="missing"):
        load_strictly(network, convert(state, Path("own.pth")), "own.pth")


@pytest.mark.parametrize(("name", "expected"), [("MIDD", 216.50), ("ADF", 191.42), ("CSRNet", 5.45), ("LAFB", 139.40)])
def test_multiply_adds(name: str, expected: float) -> None:
    side = SALIENCY_SYSTEMS[name].card.size or 352
    assert complexity(published(name), side, side).multiply_adds / 1e9 == pytest.approx(expected, abs=0.005)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_the_small_recipe_beats_constant_maps_and_the_luminance(name: str, tmp_path: Path) -> None:
    """Prints what docs/training.md quotes: pytest -m slow -s tests/test_salient_object_systems.py"""
    check_small(name, tmp_path)
