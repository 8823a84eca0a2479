"""Salient objects: maps that a user brings, maps of a trained network, measures, curves, cost."""

import csv
import json
import shutil
import sys

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from tiny_smrnet import TINY

import evalkit
from evalkit.cli import main
from evalkit.data.images import read_image, write_png
from evalkit.leaderboards.maps import saliency_folder
from evalkit.leaderboards.site.entries import Entry
from evalkit.leaderboards.site.pages import blocks
from evalkit.leaderboards.verify import verify
from evalkit.metrics.saliency import saliency_dataset
from evalkit.protocols.fusion import cell
from evalkit.protocols.same_data import other_data
from evalkit.protocols.schema import protocol, rows_of
from evalkit.protocols.tasks import TASKS
from evalkit.records.record import Record, load

COLUMNS = {"S": "S", "F": "F_adaptive", "E": "E_adaptive", "MAE": "MAE"}


@pytest.fixture
def data(tmp_path):
    """Five pairs of a data set with soft masks."""
    draw = np.random.default_rng(0)
    for i in range(5):
        mask = np.zeros((40, 48), np.uint8)
        mask[8 : 20 + i, 10 : 30 + i] = 251
        write_png(tmp_path / f"data/VT821/GT/{i}.png", mask)
        write_png(tmp_path / f"data/VT821/RGB/{i}.png", draw.integers(0, 256, (40, 48, 3), dtype=np.uint8))
        write_png(tmp_path / f"data/VT821/T/{i}.png", draw.integers(0, 256, (40, 48), dtype=np.uint8) // 2 + mask // 2)
    return tmp_path / "data"


@pytest.fixture
def maps(tmp_path):
    draw = np.random.default_rng(1)
    for i in range(5):
        write_png(tmp_path / f"maps/IRFS/VT821/{i}.png", draw.integers(0, 256, (40, 48), dtype=np.uint8))
    return tmp_path / "maps"


def run(name, data, out, **options):
    return evalkit.reproduce(name, data, datasets=["VT821"], out=out, workers=1, **options)


def values(table, dataset, method):
    return {column: table.cell(dataset, method, column).value for column in COLUMNS}


def test_given_maps_have_the_measures_of_the_folder(data, maps, tmp_path):
    table = run("smrnet-table2", data, tmp_path / "run", outputs=maps, methods=["IRFS", "Infrared"])
    for method, folder in (("IRFS", maps / "IRFS/VT821"), ("Infrared", data / "VT821/T")):
        expected = saliency_folder(folder, data / "VT821/GT").scores
        assert values(table, "VT821", method) == pytest.approx({c: expected[m] for c, m in COLUMNS.items()}, rel=1e-12)
    cell = table.cell("VT821", "IRFS", "MAE")
    assert (cell.status, cell.reason) == ("other data", "measured on 5 pairs, the paper's table on 821")
    assert table.cell("VT821", "IRFS", "MAE").published == ".036"
    record = json.loads((tmp_path / "run/records/VT821__IRFS.json").read_text())
    assert record["metrics"] == ["S[pysodmetrics]", "F[pysodmetrics]", "E[pysodmetrics]", "MAE[pysodmetrics]"]


def test_what_has_no_map_is_a_missing_value_with_a_cure(data, maps, tmp_path):
    (maps / "IRFS/VT821/3.png").unlink()
    table = run("smrnet-table2", data, tmp_path / "run", outputs=maps, methods=["IRFS", "SGDL", "SMR-Net"])
    assert "no value for 1 of 5 images" in table.cell("VT821", "IRFS", "S").reason
    assert "OUTPUTS/SGDL/VT821/<stem>.png" in table.cell("VT821", "SGDL", "S").reason
    assert "--train" not in table.cell("VT821", "SGDL", "S").reason
    assert "--train" in table.cell("VT821", "SMR-Net", "S").reason
    assert not table.measured
    assert not table.complete


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: write_png(path, np.zeros((20, 48), np.uint8)), "48x20"),
        (lambda path: path.write_bytes(path.read_bytes()[:60]), "2.png"),
    ],
)
def test_a_bad_map_is_named(data, maps, tmp_path, spoil, reason):
    spoil(maps / "IRFS/VT821/2.png")
    table = run("smrnet-table2", data, tmp_path / "run", outputs=maps, methods=["IRFS"])
    for column in COLUMNS:
        cell = table.cell("VT821", "IRFS", column)
        assert cell.value is None
        assert reason in cell.reason
        assert "(2)" in cell.reason


def test_no_path_of_this_machine_is_kept(data, maps, tmp_path):
    (maps / "IRFS/VT821/2.png").write_bytes(b"\x89PNG damaged")
    options = {"datasets": ["VT821", "VT1000"], "methods": ["IRFS", "SGDL", "SMR-Net"], "workers": 1}
    evalkit.reproduce("smrnet-table2", data, outputs=maps, out=tmp_path / "run", **options)
    for path in (tmp_path / "run").rglob("*"):
        if path.is_file():
            assert str(tmp_path) not in path.read_text(), path
    assert "OUTPUTS/IRFS/VT821/2.png" in (tmp_path / "run/scores/VT821/IRFS.csv").read_text()


def test_scores_follow_the_maps_and_the_masks(data, maps, tmp_path):
    out = tmp_path / "run"
    first = values(run("smrnet-table2", data, out, outputs=maps, methods=["IRFS"]), "VT821", "IRFS")
    before = (out / "scores/VT821/IRFS.csv").read_bytes()
    assert values(run("smrnet-table2", data, out, outputs=maps, methods=["IRFS"]), "VT821", "IRFS") == first
    assert (out / "scores/VT821/IRFS.csv").read_bytes() == before
    shutil.copy(data / "VT821/GT/4.png", maps / "IRFS/VT821/4.png")
    better = values(run("smrnet-table2", data, out, outputs=maps, methods=["IRFS"]), "VT821", "IRFS")
    assert better["S"] > first["S"]
    mask = read_image(data / "VT821/GT/0.png")
    write_png(data / "VT821/GT/0.png", mask[::-1].copy())
    assert values(run("smrnet-table2", data, out, outputs=maps, methods=["IRFS"]), "VT821", "IRFS") != better


def test_a_changed_map_or_score_is_found(data, maps, tmp_path):
    out = tmp_path / "run"
    run("smrnet-table2", data, out, outputs=maps, methods=["IRFS"])
    same_data = "measured on 5 pairs, the protocol's table on 821: not the same data"
    record = out / "records/VT821__IRFS.json"
    (found,) = verify(record, fused=maps, data_root=data)
    assert not found.problems
    assert same_data in found.notes
    assert {"scores", "sources", "fused images", "keys"} <= set(found.checked)
    shutil.copy(maps / "IRFS/VT821/1.png", maps / "IRFS/VT821/0.png")
    assert any("not those that were measured" in p for p in verify(record, fused=maps)[0].problems)
    scores = out / "scores/VT821/IRFS.csv"
    scores.write_text(scores.read_text().replace("0.4", "0.5", 1))
    assert any("its digest is not that of its cells" in problem for problem in verify(record)[0].problems)


def test_a_pair_without_a_mask_is_left_out_by_run_and_verification(data, maps, tmp_path):
    (data / "VT821/GT/2.png").unlink()
    table = run("smrnet-table2", data, tmp_path / "run", outputs=maps, methods=["IRFS", "Visible"])
    assert table.cell("VT821", "IRFS", "S").images == 4
    for method in ("IRFS", "Visible"):
        (found,) = verify(tmp_path / f"run/records/VT821__{method}.json", fused=maps, data_root=data)
        assert not found.problems
        assert "measured on 4 pairs, the protocol's table on 821: not the same data" in found.notes
    record = json.loads((tmp_path / "run/records/VT821__IRFS.json").read_text())
    for metrics in (["S[smfnet]", *record["metrics"][1:]], record["metrics"][::-1]):
        changed = Record.model_validate(record | {"metrics": metrics})
        path = tmp_path / "run/records/changed.json"
        path.write_text(changed.model_copy(update={"record_hash": changed.hash()}).model_dump_json())
        assert any("the metrics are" in p for p in verify(path, tmp_path / "run/scores/VT821/IRFS.csv")[0].problems)
    shutil.rmtree(data / "VT821/GT")
    result = CliRunner().invoke(
        main, ["reproduce", "smrnet-table2", "--plan", "--data-root", str(data), "--datasets", "VT821"]
    )
    assert "no masks of salient objects" in result.output


def test_results_do_not_depend_on_workers(data, maps, tmp_path):
    options = {"datasets": ["VT821"], "outputs": maps, "methods": ["IRFS", "Visible"]}
    for workers in (1, 2):
        evalkit.reproduce("smrnet-fig6", data, out=tmp_path / str(workers), workers=workers, **options)
    for name in ("scores/VT821/IRFS.csv", "curves/VT821/IRFS.csv", "curves/VT821/Visible.csv", "table.csv"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes(), name


def test_the_figure_of_curves_is_drawn_with_its_values(data, maps, tmp_path):
    table = run("smrnet-fig6", data, tmp_path / "run", outputs=maps, methods=["IRFS", "SGDL"])
    jobs = [(maps / f"IRFS/VT821/{i}.png", data / f"VT821/GT/{i}.png") for i in range(5)]
    expected = saliency_dataset(jobs).curves
    with (tmp_path / "run/curves/VT821/IRFS.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name in ("precision", "recall", "f", "e"):
        assert [float(row[name]) for row in rows] == pytest.approx(list(getattr(expected, name)), rel=1e-12)
    for name in ("pr-VT821.svg", "f-VT821.svg"):
        text = (tmp_path / "run" / name).read_text()
        assert "IRFS" in text
        assert "SGDL" in text  # as missing
    assert "pr-*.svg" in table.note
    (maps / "IRFS/VT821/0.png").unlink()
    assert not run("smrnet-fig6", data, tmp_path / "run", outputs=maps, methods=["IRFS", "SGDL"]).measured
    assert not [*(tmp_path / "run").glob("*.svg"), *(tmp_path / "run/curves/VT821").iterdir()]  # of the earlier run


def test_maps_at_hand_need_no_pytorch(data, maps, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    shutil.copytree(maps / "IRFS", maps / "SMR-Net")
    table = run("smrnet-fig1", data, tmp_path / "run", outputs=maps, methods=["IRFS", "SMR-Net"])
    assert table.cell("VT821", "SMR-Net", "F").value is not None
    assert "pip install 'evalkit[networks]'" in table.cell("VT821", "SMR-Net", "FLOPs").reason
    (tmp_path / "SMR-Net.safetensors").touch()
    table = run("smrnet-table2", data, tmp_path / "weights", checkpoints=tmp_path, methods=["SMR-Net"])
    assert "pip install 'evalkit[networks]'" in table.cell("VT821", "SMR-Net", "S").reason
    table = run("smrnet-table2", data, tmp_path / "train", train=True, methods=["SMR-Net"])
    assert "pip install 'evalkit[training]'" in table.cell("VT821", "SMR-Net", "S").reason


def test_rows_of_a_sample_run_are_those_that_can_be_trained():
    task = TASKS["saliency"]
    assert task.sample_methods(protocol("smrnet-table2")) == ["SMR-Net", "Visible", "Infrared"]
    trained = ["none", "BS", "DC", "SMR-Net"]
    assert task.sample_methods(protocol("smrnet-table3")) == [*trained, "Visible", "Infrared"]


def test_a_plan_says_what_each_row_lacks(data, maps):
    result = CliRunner().invoke(
        main, ["reproduce", "smrnet-table2", "--plan", "--data-root", str(data), "--outputs", str(maps)]
    )
    assert result.exit_code == 0
    assert "IRFS: outputs on VT821" in result.output
    assert "F: F with beta^2 = 0.3 at the threshold min(2 mean, 1)." in result.output


def test_the_16_real_pairs_have_the_measures_of_part_by_part_evaluation(shared, tmp_path):
    """Maps that are known: the visible luminance; masks are soft, in three channels."""
    data = shared / "data"
    table = evalkit.reproduce(
        "smrnet-table2", data, datasets=["VT5000"], methods=["Visible", "Infrared"], out=tmp_path / "run", workers=1
    )
    for method, folder in (("Visible", "RGB"), ("Infrared", "T")):
        expected = saliency_folder(data / "VT5000" / folder, data / "VT5000/GT")
        assert len(expected.images) == 16
        found = values(table, "VT5000", method)
        assert found == pytest.approx({c: expected.scores[m] for c, m in COLUMNS.items()}, rel=1e-12)


# --- the network


torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")
from safetensors import safe_open  # noqa: E402

from evalkit.training.loop import TrainingResult  # noqa: E402


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A sample run of an ablation with a tiny network."""
    folder = tmp_path_factory.mktemp("trained")
    recipe = folder / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(TINY))
    options = {"sample": True, "methods": ["BS"], "recipe": str(recipe), "out": folder / "run", "workers": 1}
    return evalkit.reproduce("smrnet-table3", **options), options


def test_a_row_of_a_sample_run_is_trained_and_measured(trained):
    from evalkit.methods.checkpoints import load_strictly, read_checkpoint
    from evalkit.methods.networks.smrnet import salient_objects
    from evalkit.training.data import as_tensors, read_scene
    from evalkit.training.papers.smrnet import SMRNetSystem
    from evalkit.training.state import read_recipe

    table, options = trained
    out = options["out"]
    assert table.complete
    cell = table.cell("samples", "BS", "S")
    assert cell.status == "other data"
    assert cell.reason.startswith("trained here by the recipe tiny (custom recipe ")
    weights = out / "training/BS/best.safetensors"
    recipe, _ = read_recipe(weights)
    assert recipe.variant == "BS"
    network = SMRNetSystem(recipe).network.eval()
    load_strictly(network, read_checkpoint(weights), "here")
    (root,) = (out / "downstream").iterdir()
    from evalkit.data.card import load_card
    from evalkit.data.pairs import find_pairs

    pair = find_pairs(load_card("samples"), root).pairs[3]
    sample = as_tensors(read_scene(pair, ["salient"]), "")
    expected = salient_objects(network, sample["infrared"][None], sample["visible"][None], 64)[0, 0].numpy()
    found = read_image(out / f"maps/BS/samples/{pair.stem}.png")
    assert np.abs(found - np.rint(expected * 255)).max() <= 1
    expected = saliency_dataset(
        (out / f"maps/BS/samples/{p.stem}.png", p.labels["salient"])
        for p in find_pairs(load_card("samples"), root).pairs
    )
    assert cell.value == pytest.approx(expected.scores["S"], rel=1e-12)


def test_a_second_run_neither_trains_nor_predicts(trained):
    table, options = trained
    files = [*(options["out"] / "maps").rglob("*.png"), options["out"] / "training/BS/best.safetensors"]
    before = [path.stat().st_mtime_ns for path in files]
    again = evalkit.reproduce("smrnet-table3", **options)
    assert [path.stat().st_mtime_ns for path in files] == before
    assert values(again, "samples", "BS") == values(table, "samples", "BS")


def test_weights_of_a_training_fill_a_row_on_other_data(trained, data, tmp_path):
    _, options = trained
    folder = tmp_path / "weights"
    folder.mkdir()
    shutil.copy(options["out"] / "training/BS/best.safetensors", folder / "BS.safetensors")
    shutil.copy(folder / "BS.safetensors", folder / "DC.safetensors")
    (folder / "none.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    for i in range(5):  # the pairs of this test, as VT5000
        for kind in ("GT", "RGB", "T"):
            target = data / f"VT5000/{kind}/{i}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(data / f"VT821/{kind}/{i}.png", target)
    table = evalkit.reproduce(
        "smrnet-table3", data, methods=["BS", "DC", "none"], checkpoints=folder, out=tmp_path / "run", workers=1
    )
    assert table.cell("VT5000", "BS", "S").value is not None
    assert "has not the weights of SMR-Net DC" in table.cell("VT5000", "DC", "S").reason
    assert "none.safetensors" in table.cell("VT5000", "none", "S").reason
    assert (tmp_path / "run/maps/BS/VT5000/4.png").is_file()
    # the cost is that of this network, not of the paper's
    shutil.copy(folder / "BS.safetensors", folder / "SMR-Net.safetensors")
    options = {"checkpoints": folder, "workers": 1}
    table = evalkit.reproduce("smrnet-fig1", data, methods=["SMR-Net"], out=tmp_path / "variant", **options)
    assert "has not the weights of SMR-Net as" in table.cell("VT5000", "SMR-Net", "FLOPs").reason


def test_a_recipe_is_the_papers_by_what_it_says():
    from evalkit.training.find_recipe import label, load_recipe
    from evalkit.training.recipe import Recipe
    from evalkit.training.trained import on_samples

    paper = load_recipe("SMR-Net", "paper", "BS")
    assert label(paper) == "paper"
    assert label(on_samples(paper)) == "paper on samples"
    assert label(paper.model_copy(update={"seed": 7})).startswith("paper (custom recipe ")
    assert label(Recipe.model_validate(TINY | {"name": "paper"})).startswith("paper (custom recipe ")


def test_values_of_other_recipes_are_apart_on_the_site_as_in_the_table(data, maps, tmp_path):
    run("smrnet-table2", data, tmp_path / "run", outputs=maps, methods=["IRFS"])
    record = load(tmp_path / "run/records/VT821__IRFS.json")
    chosen, rows = protocol("smrnet-table2"), rows_of(protocol("smrnet-table2"))
    for recipe, status in (("", "differs"), ("paper", "differs"), ("small", "other data"), ("paper on samples", None)):
        method = record.method | ({"recipe": recipe} if recipe else {})
        dataset = record.dataset | {"pairs": 821, "expected": 821}
        other = record.model_copy(update={"method": method, "dataset": dataset})
        block = next(b for b in blocks(chosen, rows, [Entry(other, recipe.encode(), None)]) if b.name == "VT821")
        shown = next(row for row in block.rows if row.entry).cells["S"].status
        printed = next(r for r in rows if r.method == "IRFS")
        of_table = cell(other, "S", printed, other_data(other, chosen)).status
        assert shown == of_table == (status or "other data")


def test_weights_whose_recipe_describes_no_network_are_refused_before_they_get_memory(trained, data, tmp_path):
    from safetensors.torch import load_file, save_file

    weights = trained[1]["out"] / "training/BS/best.safetensors"
    with safe_open(weights, framework="pt") as file:
        about = file.metadata()
    place = next(key for key, value in about.items() if '"detection"' in value)
    for change in ({"width": -8}, {"blocks": "abc"}, {"width": 384}):
        fields = json.loads(about[place])
        holder = fields if "network" in fields else fields["recipe"]
        holder["network"]["detection"] |= change
        save_file(load_file(weights), tmp_path / "BS.safetensors", about | {place: json.dumps(fields)})
        shutil.copytree(data / "VT821", data / "VT5000", dirs_exist_ok=True)
        table = evalkit.reproduce(
            "smrnet-table3", data, methods=["BS"], checkpoints=tmp_path, out=tmp_path / "run", workers=1
        )
        assert "BS.safetensors" in table.cell("VT5000", "BS", "S").reason


def test_a_network_is_trained_once_for_all_data_sets(data, tmp_path, monkeypatch):
    import evalkit.training.loop

    calls = []

    def failing(recipe, root, out, **options):
        calls.append(out)
        return TrainingResult(out, out / "best.safetensors", [], 0, 0, 0)

    monkeypatch.setattr(evalkit.training.loop, "train", failing)
    shutil.copytree(data / "VT821", data / "VT1000")
    table = evalkit.reproduce(
        "smrnet-table2", data, datasets=["VT821", "VT1000"], methods=["SMR-Net"], train=True, existing="replace",
        out=tmp_path / "run", workers=1,
    )  # fmt: skip
    assert len(calls) == 1
    assert not table.measured


def test_the_detector_sees_squares_of_the_size_it_learned_from():
    from evalkit.training.papers.smrnet import saliency_method
    from evalkit.training.recipe import Recipe

    for changes, size in (
        ({}, 64),
        ({"stages": TINY["stages"][::-1]}, 64),
        ({"augment": {"resize": 96}, "stages": [{"name": "detect", "epochs": 1, "parts": ["detection"]}]}, 96),
    ):
        assert saliency_method(Recipe.model_validate(TINY | changes)).build().size == size


def test_the_figure_of_quality_and_cost_is_drawn_where_a_row_has_both(data, maps, tmp_path):
    shutil.copytree(maps / "IRFS", maps / "SMR-Net")
    table = run("smrnet-fig1", data, tmp_path / "run", outputs=maps, methods=["IRFS", "SMR-Net"])
    assert table.cell("VT821", "SMR-Net", "FLOPs").value == pytest.approx(35.88, abs=0.005)
    assert "no code for this network" in table.cell("VT821", "IRFS", "FLOPs").reason
    assert "SMR-Net" in (tmp_path / "run/scatter.svg").read_text()
    run("smrnet-fig1", data, tmp_path / "none", outputs=maps, methods=["IRFS"])
    assert not (tmp_path / "none/scatter.svg").exists()


def test_cost_is_counted_of_the_network_that_makes_the_maps():
    from torch.utils.flop_counter import FlopCounterMode

    from evalkit.methods.networks.smrnet_saliency import BPS
    from evalkit.training.find_recipe import load_recipe
    from evalkit.training.papers.smrnet import detector_cost

    images = [torch.zeros(1, 3, 352, 352, device="meta")] * 3
    counter = FlopCounterMode(display=False)
    with torch.device("meta"), counter:
        BPS()(*images)
    paper, small = (detector_cost(load_recipe("SMR-Net", name)).multiply_adds for name in ("paper", "small"))
    assert paper == counter.get_total_flops() // 2
    assert small < paper / 10
