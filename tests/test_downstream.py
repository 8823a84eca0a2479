"""What detection, segmentation and saliency share: lists, seeds, leakage, images per method, quiet frameworks."""

import json
import os
import subprocess
import sys
from importlib import resources

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import evalkit
from evalkit.cli import main
from evalkit.data.card import load_card
from evalkit.data.images import read_image, to_gray
from evalkit.data.pairs import find_pairs
from evalkit.data.samples.samples import write_scenes
from evalkit.downstream import environment
from evalkit.downstream.images import conditions, fused_images, labelled, printed_classes
from evalkit.downstream.leakage import leakage_by_content, leakage_by_paper, shared_images
from evalkit.downstream.splits import PARTS, divide
from evalkit.downstream.spread import mean_and_spread, paired_bootstrap, remembered
from evalkit.errors import DataError, EvalkitError
from evalkit.protocols.plan import Settings, plan_datasets, plan_methods
from evalkit.protocols.schema import protocol
from evalkit.protocols.table.table import read_table
from evalkit.protocols.tasks import Job
from evalkit.protocols.use import DatasetUse

M3FD = [f"{i:05d}" for i in range(4200)]  # as the data set numbers its pairs


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(root, 4, 0, 96, 72)
    return root


def job_of(root, out, methods, name="smfnet-table2", **changes):
    fields = {"outputs": None, "checkpoints": None, "device": "cpu", "recolour": False, "existing": "reuse"}
    settings = Settings(out, workers=1, progress=lambda items, total, text: items, **(fields | changes))
    return Job(protocol(name), {"samples": DatasetUse()}, methods, {}, root, True, settings)


# ---------------------------------------------------------------- lists


@pytest.mark.parametrize(
    ("ratio", "kind", "counts", "published"),
    [
        ("8:1:1", "random", "3360/420/420", "9c04ebcea804b222"),
        ("7:1:2", "random", "2940/420/840", "6a9858649164a867"),
        ("8:1:1", "sequence", "3360/420/420", "9cb663ebc6f9b811"),
        ("7:1:2", "sequence", "2940/420/840", "e480e7562ab11145"),
    ],
)
def test_lists_of_m3fd_are_fixed(ratio, kind, counts, published):
    split = divide(M3FD, ratio, kind)
    assert split.counts == counts
    assert split.hash == published
    assert divide(reversed(M3FD), ratio, kind) == split
    assert divide(M3FD, ratio, kind, seed=1) != split


@given(st.integers(60, 400), st.sampled_from(["8:1:1", "7:1:2", "6:1:3"]), st.sampled_from(["random", "sequence"]))
def test_parts_share_nothing_and_hold_everything(count, ratio, kind):
    stems = [str(i) for i in range(count)]
    split = divide(stems, ratio, kind, block=5)
    parts = [set(getattr(split, part)) for part in PARTS]
    assert sum(map(len, parts)) == count
    assert set.union(*parts) == set(stems)
    shares = [int(n) for n in ratio.split(":")]
    slack = 1 if kind == "random" else 5
    for part, share in zip(parts, shares, strict=True):
        assert abs(len(part) - count * share / sum(shares)) <= slack


def test_neighbours_stay_together():
    stems = [str(i) for i in range(200)]
    part_of = divide(stems, "7:1:2", "sequence", block=20).part_of()
    for start in range(0, 200, 20):
        assert len({part_of[str(i)] for i in range(start, start + 20)}) == 1
    apart = divide(stems, "7:1:2", "random").part_of()
    assert sum(apart[str(i)] != apart[str(i + 1)] for i in range(199)) > 50  # why the sequence lists exist


def test_every_part_holds_every_condition():
    stems = [f"{i:03d}_{'day' if i % 4 else 'night'}" for i in range(80)]
    split = divide(stems, "7:1:2", strata={stem: stem[4:] for stem in stems})
    for part in PARTS:
        inside = getattr(split, part)
        assert sum(stem.endswith("night") for stem in inside) * 4 == len(inside)


@pytest.mark.parametrize("ratio", ["8:2", "8:1:0", "a:b:c", "", "8:1:1:1", "-1:1:1"])
def test_ratio_is_checked(ratio):
    with pytest.raises(EvalkitError, match="expected training:validation:test"):
        divide(M3FD, ratio)


def test_too_few_pairs_for_the_parts():
    with pytest.raises(EvalkitError, match="leave nothing for val"):
        divide(["a", "b", "c"], "8:1:1", "sequence")
    with pytest.raises(EvalkitError, match="twice"):
        divide(["a", "a", "b", "c"], "8:1:1")


# ---------------------------------------------------------------- seeds and the bootstrap


def test_mean_and_spread():
    assert mean_and_spread([0.5]) == (0.5, None)
    mean, spread = mean_and_spread([1.0, 2.0, 4.0])
    assert mean == pytest.approx(7 / 3)
    assert spread == pytest.approx(np.std([1.0, 2.0, 4.0], ddof=1))
    with pytest.raises(EvalkitError, match="no mean over"):
        mean_and_spread([0.5, float("nan")])
    with pytest.raises(EvalkitError, match="no mean over"):
        mean_and_spread([])


def test_bootstrap_of_means_has_the_standard_error_of_the_mean():
    rng = np.random.default_rng(3)
    a = rng.normal(0.3, 1, 200)
    b = rng.normal(0, 1, 200)
    found = paired_bootstrap(lambda k: a[k].mean(), lambda k: b[k].mean(), 200, 2000)
    error = (a - b).std(ddof=1) / np.sqrt(200)
    assert found.value == pytest.approx((a - b).mean())
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * error, rel=0.1)
    assert paired_bootstrap(lambda k: a[k].mean(), lambda k: b[k].mean(), 200, 2000) == found


def test_bootstrap_is_paired():
    """What both share does not widen the interval; without pairing it would be some 40 times as wide."""
    hard = np.random.default_rng(0).normal(0, 10, 100)
    found = paired_bootstrap(lambda k: hard[k].mean() + 0.1, lambda k: hard[k].mean(), 100, 200)
    assert found.low == pytest.approx(0.1) == found.high
    assert found.p == pytest.approx(2 / 201)  # no draw on the other side, but the smallest p of 200
    same = paired_bootstrap(lambda k: hard[k].mean(), lambda k: hard[k].mean(), 100, 200)
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_a_remembered_score_is_computed_once_per_draw():
    calls = []

    def score(draw):
        calls.append(1)
        return float(draw.sum())

    quick = remembered(score)
    first = paired_bootstrap(lambda k: 0.5, quick, 20, 50)
    assert paired_bootstrap(lambda k: 0.5, quick, 20, 50) == first == paired_bootstrap(lambda k: 0.5, score, 20, 50)
    assert len(calls) == 2 * 51


def test_draws_without_a_score_are_left_out():
    """A class that only one image shows has no AP in the 35 % of draws without it."""
    found = paired_bootstrap(lambda k: 1.0 if 0 in k else np.nan, lambda k: 0.0, 10, 1000)
    assert found.resamples == pytest.approx(1000 * (1 - 0.9**10), abs=45)
    assert found.low == found.high == 1
    with pytest.raises(EvalkitError, match="draws of images have scores"):
        paired_bootstrap(lambda k: np.nan, lambda k: 0.0, 10, 50)
    with pytest.raises(EvalkitError, match="two or more"):
        paired_bootstrap(lambda k: 0.0, lambda k: 0.0, 1)


# ---------------------------------------------------------------- leakage


def test_images_are_recognised_under_other_names(scenes, tmp_path):
    pairs = find_pairs(load_card("samples"), scenes).pairs
    other = tmp_path / "samples"
    for role in ("ir", "vi"):
        (other / role).mkdir(parents=True)
    for old, new in ((pairs[1], "x"), (pairs[3], "y")):
        (other / "ir" / f"{new}.png").write_bytes(old.infrared.read_bytes())
        (other / "vi" / f"{new}.png").write_bytes(old.visible.read_bytes())
    training = find_pairs(load_card("samples"), tmp_path).pairs
    assert shared_images(pairs, training) == [pairs[1].stem, pairs[3].stem]
    assert shared_images(pairs[:1], training) == []
    assert leakage_by_content(pairs, {"samples": None}, tmp_path).startswith(
        "leakage: 2 of 4 test pairs are in samples"
    )
    assert leakage_by_content(pairs[:1], {"samples": None}, tmp_path) == "none: no test image is in samples"
    assert leakage_by_content(pairs, {"TNO": None}, tmp_path).startswith("not known: TNO")


def test_what_the_papers_say_they_trained_on():
    assert leakage_by_paper("S4Fusion", "M3FD", "detection").startswith("possible: trained on M3FD (70 %")
    assert leakage_by_paper("SMFNet", "M3FD", "detection").startswith("none")
    assert leakage_by_paper("PSFusion", "MSRS", "test").startswith("none by name")
    assert leakage_by_paper("PSFusion", "MSRS", "train").startswith("possible")
    assert leakage_by_paper("GTF", "MSRS", "test").startswith("not known")


# ---------------------------------------------------------------- images per method


def test_rows_are_images_in_place_of_the_visible_ones(scenes, tmp_path):
    images = fused_images(job_of(scenes, tmp_path, ["average", "Visible", "Infrared", "FusionGAN"]), "samples",
                          DatasetUse(), "boxes", scenes)  # fmt: skip
    average, visible, infrared, unknown = images.rows
    assert "--outputs" in unknown.reason
    for pair in images.pairs.pairs:
        assert visible.fused[pair.stem] == pair.visible
        assert infrared.fused[pair.stem] == pair.infrared
        fused, source = read_image(average.fused[pair.stem]), read_image(pair.visible)
        assert fused.shape == source.shape  # a classical method keeps the chroma of the visible image
        half = (to_gray(source).astype(float) + to_gray(read_image(pair.infrared))) / 2
        assert np.abs(to_gray(fused) - half).mean() < 2
    assert tmp_path in average.fused[pair.stem].parents
    assert images.fused_hash(visible) != images.fused_hash(average)


def test_a_row_that_lacks_an_image_is_a_missing_value(scenes, tmp_path):
    given = tmp_path / "outputs" / "Mine" / "samples"
    given.mkdir(parents=True)
    pairs = find_pairs(load_card("samples"), scenes).pairs
    for pair in pairs[:3]:
        (given / f"{pair.stem}.png").write_bytes(pair.visible.read_bytes())
    job = job_of(scenes, tmp_path / "out", ["Mine"], outputs=tmp_path / "outputs")
    row = fused_images(job, "samples", DatasetUse(), "boxes", scenes).rows[0]
    assert row.reason == f"no value for 1 of 4 images: no fused image ({pairs[3].stem})"


def test_pairs_without_labels_teach_nothing(scenes, tmp_path):
    for role in ("ir", "vi"):
        (tmp_path / "samples" / role).mkdir(parents=True)
        (tmp_path / "samples" / role / "a.png").write_bytes((scenes / "samples" / role / "000_day.png").read_bytes())
    with pytest.raises(EvalkitError, match="has 1 pairs but no boxes of objects"):
        labelled(find_pairs(load_card("samples"), tmp_path), "boxes")


def test_conditions_and_class_names():
    assert conditions("samples", ("003_smoke", "001_night")) == {"003_smoke": "smoke", "001_night": "night"}
    assert conditions("MSRS", ("00004N", "00055D")) == {"00004N": "night", "00055D": "day"}
    assert conditions("M3FD", ("00001",)) == {}
    names = [c.name for c in load_card("M3FD").detection]
    printed = printed_classes(names, protocol("smfnet-table2").classes)
    assert printed["motorcycle"] == "Motor"
    assert sorted(printed.values()) == sorted(protocol("smfnet-table2").classes)


def test_sources_and_other_labelled_sets_can_be_named():
    chosen = protocol("smfnet-table2")
    assert plan_methods(chosen, ["visible", "INFRARED", "average"], None, sources=True) == [
        "Visible",
        "Infrared",
        "average",
    ]
    assert list(plan_datasets(chosen, ["msrs", "m3fd"], False, "boxes")) == ["MSRS", "M3FD"]
    with pytest.raises(EvalkitError, match="unknown data set"):
        plan_datasets(chosen, ["TNO"], False, "boxes")  # no boxes
    with pytest.raises(EvalkitError, match="unknown"):
        plan_methods(protocol("smfnet-table1"), ["visible"], None)  # fusion metrics of a source mean nothing


# ---------------------------------------------------------------- the frameworks


def test_without_the_extra_rows_are_missing_values_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setitem(environment.EXTRAS, "detection", ("no_such_package",))
    arguments = ["reproduce", "smfnet-table2", "--sample", "--methods", "average,visible", "--out", str(tmp_path)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 3
    cells = read_table(tmp_path).cells
    assert {cell.method for cell in cells} == {"average", "Visible"}
    assert {cell.reason for cell in cells} == {"needs no_such_package: pip install 'evalkit[detection]'"}
    assert all(cell.value is None for cell in cells)
    assert not (tmp_path / "downstream").exists()


def test_unknown_recipe_is_named(tmp_path):
    with pytest.raises(EvalkitError, match=r"unknown detection recipe 'smal'\. Did you mean 'small'"):
        evalkit.reproduce("smfnet-table2", sample=True, recipe="smal", out=tmp_path)


@pytest.mark.parametrize("name", ["smfnet-table2", "s4fusion-table4", "tsjnet-table2"])
def test_paper_recipes_are_the_protocols_settings(name):
    from evalkit.downstream.detection.recipe import detection_recipe

    recipe, chosen = detection_recipe("paper", name), protocol(name)
    stated = chosen.downstream
    length = stated.get("epochs") or stated["detection"]
    assert str(recipe.epochs) in length
    assert {"smfnet-table2": 8, "s4fusion-table4": 16, "tsjnet-table2": 16}[name] == recipe.batch
    assert recipe.lr == 1e-2
    assert recipe.optimiser == "SGD"
    assert (recipe.stands_for or recipe.network) in chosen.variants
    if "split" in stated:
        assert stated["split"].startswith(recipe.ratio)
    assert len(recipe.seeds) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("steps: 4", "must say epochs or steps"),
        ("size: 50", "size: expected a multiple of 32, not 50"),
        ("options: {plots: 1}", "unknown options plots. Known: box"),
        ("seeds: []", "seeds: expected 1 or more items, not 0"),
        ("model: ../x.yaml", "has model: ../x.yaml"),
        ("colour: red", "colour: this is not a field"),
    ],
)
def test_recipe_mistakes_are_named(change, message):
    import yaml

    from evalkit.downstream.detection.recipe import parse

    good = {"name": "a", "source": "b", "network": "n", "model": "m.yaml", "ratio": "8:1:1", "seeds": [0], "size": 64,
            "epochs": 1, "batch": 2, "lr": 0.1, "scenes": {"count": 8, "width": 64, "height": 64}}  # fmt: skip
    assert parse(yaml.safe_dump(good), "x").epochs_for(100) == 1
    with pytest.raises(EvalkitError, match=message.replace("(", r"\(")):
        parse(yaml.safe_dump(good | yaml.safe_load(change)), "x")


def test_steps_are_epochs_of_the_set():
    from evalkit.downstream.detection.recipe import detection_recipe

    recipe = detection_recipe("small", "smfnet-table2")
    for images in (10, 72, 250, 100_000):
        epochs = recipe.epochs_for(images)
        steps = epochs * -(-images // recipe.batch)
        assert epochs == 1 or abs(steps - recipe.steps) <= -(-images // recipe.batch) / 2


def test_nms_keeps_what_brute_force_keeps():
    torch = pytest.importorskip("torch")
    from evalkit.downstream.operators import greedy_nms

    def overlap(a, b):
        width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
        height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
        both = width * height
        return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)

    rng = np.random.default_rng(5)
    for count in (0, 1, 2, 40):
        corners = rng.uniform(0, 20, (count, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(2, 12, (count, 2))], 1)
        scores = rng.random(count)
        kept = []
        for i in np.argsort(-scores):
            if all(overlap(boxes[i], boxes[k]) <= 0.4 for k in kept):
                kept.append(i)
        found = greedy_nms(torch.tensor(boxes), torch.tensor(scores), 0.4)
        assert found.tolist() == [int(i) for i in kept]


def test_variables_are_set_before_the_frameworks(tmp_path):
    """In a process of its own, as variables stay."""
    code = (
        "import json, os; from evalkit.downstream.environment import set_variables; set_variables(); "
        "print(json.dumps(dict(os.environ)))"
    )
    given = {**os.environ, "EVALKIT_CACHE": str(tmp_path / "cache"), "YOLO_OFFLINE": "0", "MPLBACKEND": "svg"}
    done = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["YOLO_OFFLINE"] == "1"
    assert found["YOLO_AUTOINSTALL"] == "False"
    assert found["YOLO_CONFIG_DIR"] == str(tmp_path / "cache" / "ultralytics")
    assert found["MPLBACKEND"] == "svg"  # the user's


def test_downstream_modules_import_without_the_frameworks():
    """The table is planned and refused without importing torch."""
    code = (
        "import sys; import evalkit.downstream.images, evalkit.downstream.splits, evalkit.downstream.leakage, "
        "evalkit.downstream.environment, evalkit.downstream.detection.table; "
        "print([m for m in ('torch', 'ultralytics', 'torchvision', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_recipe_of_two_tasks_is_divided(tmp_path):
    from evalkit.downstream.detection.recipe import detection_recipe
    from evalkit.downstream.segmentation.recipe import read_schedule

    small = resources.files("evalkit.downstream").joinpath("recipes", "detection-small.yaml").read_text()
    both = tmp_path / "both.yaml"
    both.write_text(yaml.safe_dump({"detection": yaml.safe_load(small), "segmentation": {"iterations": 70}}))
    assert detection_recipe(str(both), "tsjnet-table2") == detection_recipe("small", "tsjnet-table2")
    assert read_schedule(both).iterations == 70
    both.write_text("segmentation: {iterations: 70}\n")
    with pytest.raises(DataError, match="the fields of detection are missing"):
        detection_recipe(str(both), "tsjnet-table2")
