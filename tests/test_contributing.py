"""The recipes of CONTRIBUTING.md, run from its very text; the numbers in its headings are counted."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import forget_plugins, make_tno, textured

from evalkit.cli import main
from evalkit.data.images import read_image, write_png
from evalkit.protocols.table.table import read_table
from evalkit.registry import VARIABLE

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
BLOCK = re.compile(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", re.S)
RECIPES = {
    section.partition(":")[0]: section for section in re.split(r"^###? ", TEXT, flags=re.M) if BLOCK.search(section)
}


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    forget_plugins()
    os.environ[VARIABLE] = ""
    assert result.exit_code == 0, result.output
    return result.output


def save(recipe: str, folder: Path) -> Path:
    """Save a recipe's files; the path of the first."""
    blocks = BLOCK.findall(RECIPES[recipe])
    for name, text in blocks:
        (folder / name).write_text(text)
    return folder / blocks[0][0]


def listed(kind: str, plugin: Path) -> dict[str, dict]:
    return {entry["name"]: entry for entry in json.loads(run("list", kind, "--json", "--plugin", plugin))}


@pytest.mark.parametrize("recipe", RECIPES)
def test_files_and_lines_are_counted(recipe):
    blocks = BLOCK.findall(RECIPES[recipe])
    lines = sum(bool(line.strip()) for _, text in blocks for line in text.splitlines())
    files = "1 file" if len(blocks) == 1 else f"{len(blocks)} files"
    assert RECIPES[recipe].splitlines()[0] == f"{recipe}: {files}, {lines} lines"


def test_every_recipe_is_there():
    kinds = ["metric", "convention", "method with weights", "trainable network", "protocol", "data set", "segmenter"]
    assert [name.removeprefix("A ") for name in RECIPES] == [*kinds, "salient-object system"]


def test_a_metric_takes_at_most_twelve_lines(tmp_path):
    plugin = save("A metric", tmp_path)
    assert len(plugin.read_text().strip().splitlines()) <= 12
    infrared, visible = textured(1), textured(2)
    for name, image in {"ir": infrared, "vi": visible, "fused": np.maximum(infrared, visible)}.items():
        write_png(tmp_path / name / "1.png", image)
    folders = [tmp_path / "fused", "--infrared", tmp_path / "ir", "--visible", tmp_path / "vi"]
    assert "1.0000" in run("evaluate", *folders, "--metrics", "QX[mine]", "--plugin", plugin)


def test_the_metric_of_the_readme(tmp_path):
    readme = Path(__file__).resolve().parents[1] / "README.md"
    blocks = re.findall(r"```python\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    plugin = tmp_path / "mine.py"
    plugin.write_text(next(block for block in blocks if "@evalkit.metric(" in block))
    assert listed("metrics", plugin)["QX"]["conventions"] == "mine"


def test_a_convention(tmp_path):
    assert listed("conventions", save("A convention", tmp_path))["lab"]["metrics"] == "SSIM EN"


def test_a_method_with_weights(tmp_path):
    plugin = save("A method with weights", tmp_path)
    np.savez(tmp_path / "blend.npz", weight=np.float64(0.25))
    make_tno(tmp_path / "data", 2)
    options = ["--data-root", tmp_path / "data", "--out", tmp_path / "run"]
    bench = tmp_path / "bench.yaml"
    bench.write_text("{title: x, convention: smfnet, metrics: [EN], datasets: {TNO: {pairs: 2}}, methods: [Blend]}")
    run("reproduce", bench, *options, "--plugin", plugin, "--workers", 1)
    infrared, visible = (read_image(tmp_path / f"data/TNO/{role}/01.png").astype(float) for role in ("ir", "vi"))
    fused = read_image(tmp_path / "run/fused/Blend/TNO/01.png")
    assert np.array_equal(fused, np.rint(0.25 * infrared + 0.75 * visible))


def test_a_trainable_network(tmp_path):
    plugin = save("A trainable network", tmp_path)
    run(
        "train",
        "Mix",
        "--recipe",
        "small",
        "--sample",
        "--device",
        "cpu",
        "--out",
        tmp_path / "out",
        "--plugin",
        plugin,
    )
    assert (tmp_path / "out" / "best.safetensors").is_file()


def test_a_protocol(tmp_path):
    make_tno(tmp_path / "data", 3)
    run("reproduce", save("A protocol", tmp_path), "--data-root", tmp_path / "data", "--out", tmp_path / "run")
    table = read_table(tmp_path / "run")
    assert [column.name for column in table.columns] == ["EN", "VIF", "SSIM[tang]"]
    assert [table.cell("TNO", method, "VIF").images for method in ("average", "laplacian")] == [3, 3]
    assert table.complete


def test_a_data_set(tmp_path):
    for i in range(3):
        write_png(tmp_path / "data" / "Pier" / "thermal" / f"{i}_ir.png", textured(i))
        write_png(tmp_path / "data" / "Pier" / "rgb" / f"{i}.png", textured(9 + i))
    plugin = save("A data set", tmp_path)
    assert listed("datasets", plugin)["Pier"]["pairs"] == 3
    assert "Pier" in run("data", "check", "Pier", "--data-root", tmp_path / "data", "--plugin", plugin)


def test_a_salient_object_system(tmp_path):
    plugin = save("A salient-object system", tmp_path)
    assert listed("saliency", plugin)["warm"]["here"] == "runs"
    out = tmp_path / "out"
    made = run("reproduce", "smrnet-table2", "--sample", "--methods", "warm", "--plugin", plugin, "--out", out)
    assert "warm" in made


def test_a_segmenter(tmp_path):
    assert "SegNeXt-T-wide" in listed("segmenters", save("A segmenter", tmp_path))
