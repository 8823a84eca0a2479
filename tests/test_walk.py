"""A new user's walk: folders as people have them, `evalkit init`, `evalkit reproduce`, and the full table is there."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from evalkit.cli import main
from evalkit.data.images import write_png
from evalkit.data.samples.samples import make_scene

METHODS = ("Ours", "CDDFuse", "Avg")
COUNT = 3
Names = Callable[[str, str, int], str]  # method, data set, number of the scene -> path below OUTPUTS
Sources = Callable[[str, str, int], str]  # role, data set, number -> path below DATA


def data_path(role: str, dataset: str, i: int) -> str:
    return f"{dataset}/{role}/{i:02}.png"


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(one) for one in arguments])
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def images() -> dict[tuple[str, str, int], np.ndarray]:
    """What is written of each scene: the two sources, and three ways to fuse them."""
    made = {}
    for d, dataset in enumerate(("TNO", "harbour")):
        for i in range(1, COUNT + 1):
            scene = make_scene(COUNT * d + i, width=96, height=80)
            infrared, visible = scene.infrared, np.asarray(Image.fromarray(scene.visible).convert("L"))
            both = np.stack([infrared, visible]).astype(float)
            fused = {"Ours": both.max(0), "CDDFuse": 0.3 * both[0] + 0.7 * both[1], "Avg": both.mean(0)}
            made[dataset, "ir", i], made[dataset, "vi", i] = infrared, visible
            for method, values in fused.items():
                made[dataset, method, i] = values.astype(np.uint8)
    return made


def lay(root: Path, images: dict, names: Names, sources: Sources = data_path, datasets: tuple = ("TNO", "harbour")):
    """Write the images below root/data and root/outputs."""
    for (dataset, kind, i), pixels in images.items():
        if dataset in datasets:
            path = root / "data" / sources(kind, dataset, i) if kind in ("ir", "vi") else None
            path = path or root / "outputs" / names(kind, dataset, i)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_png(path.with_suffix(".png"), pixels)
            if path.suffix != ".png":
                path.with_suffix(".png").rename(path)


def walk(root: Path) -> dict[tuple[str, str, str], str]:
    """The two commands; the values of the table."""
    code, told = run(
        "init", root / "bench.yaml", "--data", root / "data", "--outputs", root / "outputs", "--metrics", "EN,SF,VIF"
    )
    assert code == 0, told
    code, told = run("reproduce", root / "bench.yaml", "--out", root / "run", "--workers", 1)
    assert code == 0, told
    with open(root / "run/table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return {(row["dataset"], row["method"], row["metric"]): row["value"] for row in rows}


@pytest.fixture(scope="module")
def clean(images: dict, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str, str], str]:
    """The table of OUTPUTS/<method>/<dataset>/<stem>.png."""
    root = tmp_path_factory.mktemp("clean")
    lay(root, images, lambda m, d, i: f"{m}/{d}/{i:02}.png")
    table = walk(root)
    assert len(table) == 3 * 2 * 3
    assert all(float(value) > 0 for value in table.values())
    return table


LAYOUTS: dict[str, Names] = {
    "suffix": lambda m, d, i: f"{m}/{d}/{i:02}_fused.png",
    "method prefix": lambda m, d, i: f"{m}/{d}/{m}_{i:02}.png",
    "nested": lambda m, d, i: f"{m}/{d}/results/epoch100/{i:02}.png",
    "swapped": lambda m, d, i: f"{d}/{m}/{i:02}.png",
    "one folder for both names": lambda m, d, i: f"{m}_{d}/{i:02}.png",
    "flat per data set": lambda m, d, i: f"{d}/{m}_{i:02}.png",
    "upper-case endings": lambda m, d, i: f"{m}/{d}/fused_{i:02}.PNG",
    "other case": lambda m, d, i: f"{m.lower() if m == 'CDDFuse' else m}/{d.lower()}/{i:02}.png",
    "a folder for each scene": lambda m, d, i: f"{m}/{d}/{i:02}/fused.png",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_two_commands_give_the_table_of_the_clean_layout(tmp_path, images, clean, layout):
    lay(tmp_path, images, LAYOUTS[layout])
    assert walk(tmp_path) == clean


def in_one_folder(role: str, dataset: str, i: int) -> str:
    return data_path(role, dataset, i) if dataset == "TNO" else f"harbour/{i:02}_{role}.png"


def in_two_folders(role: str, dataset: str, i: int) -> str:
    folder, prefix = ("thermal", "IR_") if role == "ir" else ("rgb", "VIS_")
    return data_path(role, dataset, i) if dataset == "TNO" else f"harbour/{folder}/{prefix}{i:02}.PNG"


@pytest.mark.parametrize("sources", [in_one_folder, in_two_folders])
def test_a_data_set_of_ones_own_needs_no_card(tmp_path, images, clean, sources):
    lay(tmp_path, images, lambda m, d, i: f"{d}/{m}_{i:02}.png", sources)
    assert walk(tmp_path) == clean


def test_numbers_without_zeros(tmp_path, images, clean):
    """Of the data set that has no card; a card's names are its own."""
    lay(tmp_path, images, lambda m, d, i: f"{m}/{d}/{i}.png", datasets=("harbour",))
    assert walk(tmp_path) == {cell: value for cell, value in clean.items() if cell[0] == "harbour"}


def test_ambiguous_and_broken_layouts_name_files(tmp_path, images):
    lay(tmp_path, images, lambda m, d, i: f"{m}/{d}/{i:02}.png")
    shutil.copytree(tmp_path / "outputs/Ours/TNO", tmp_path / "outputs/Late/epoch50/TNO")
    shutil.copytree(tmp_path / "outputs/Ours/TNO", tmp_path / "outputs/Late/epoch100/TNO")
    shutil.copytree(tmp_path / "outputs/Ours/TNO", tmp_path / "outputs/Untold")
    arguments = ("init", tmp_path / "bench.yaml", "--data", tmp_path / "data", "--outputs", tmp_path / "outputs")
    code, told = run(*arguments)
    assert code == 3
    assert "Late/epoch50/TNO/01.png" in told
    assert "Late/epoch100/TNO/01.png" in told
    assert "3 files such as Untold/01.png fit TNO and harbour alike" in told
    code, told = run("reproduce", tmp_path / "bench.yaml", "--out", tmp_path / "run", "--workers", 1)
    assert code == 0  # what was understood is measured; what was not is in no table
    assert "Late" not in told
    assert "Untold" not in told
