"""The same bytes and digits on every machine: sample scenes, classical fusion, the first table.

The hashes stand for any processor and any version of NumPy and OpenCV that evalkit takes; they change only when scenes
or methods do, which raises the REVISION beside the methods.
"""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import evalkit
from evalkit.data.images import to_gray
from evalkit.data.samples.samples import make_scene
from evalkit.methods.classical import FUSERS

ROOT = Path(__file__).parents[1]
SIZE = 160, 120
SCENES = {
    "000_day": "fae9fe6fc54bfecf",
    "001_night": "bfbaf3f5244bba04",
    "002_glare": "b7a03d9efccb760d",
    "003_smoke": "199304002242c00e",
}
FUSED = {
    "average": "48704fa490257006",
    "maximum": "0f3bc4495ba922df",
    "PCA": "49ef0f8007a47cb9",
    "laplacian": "5b305a11359a6307",
    "RP": "8ca9ba1ff02a5c96",
    "contrast": "e4a0bcd524826993",
    "DWT": "9685256561b79060",
    "DTCWT": "614776722aa2b1d4",
    "MSVD": "4724e1af41c43130",
    "GFF": "4936ab43f10b2a63",
    "GTF": "bdc99ccb9bb3b8ca",
    "NSST-PAPCNN": "5e100dad515ed4c9",
}


def sha(*arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()[:16]


@pytest.fixture(scope="module")
def scenes():
    return [make_scene(index, 0, *SIZE) for index in range(4)]


def test_scenes_are_the_same_bytes_everywhere(scenes):
    assert {s.name: sha(s.infrared, s.visible, s.classes, s.salient) for s in scenes} == SCENES


@pytest.mark.parametrize("method", FUSERS)
def test_fused_images_are_the_same_bytes_everywhere(scenes, method):
    assert sha(*(FUSERS[method](s.infrared, to_gray(s.visible)) for s in scenes)) == FUSED[method]


def test_the_first_table_of_the_readme_is_what_is_printed():
    """Character for character, on any machine."""
    shown = re.search(r"\n(smfnet-table1 on generated.*?)\n```", (ROOT / "README.md").read_text(), re.S)[1]
    scenes = [make_scene(index) for index in range(8)]
    columns = ["EN", "SD", "SF", "MI", "VIF", "Qabf", "AG", "SSIM"]
    for row in shown.splitlines()[2:]:
        method, *printed = row.split()
        values = []
        for scene in scenes:
            fused = FUSERS[method](scene.infrared, to_gray(scene.visible))
            values.append(list(evalkit.evaluate(fused, scene.infrared, scene.visible, columns, "smfnet").values()))
        assert [f"{value:.4f}" for value in np.mean(values, axis=0)] == printed


@pytest.mark.slow
def test_pixels_and_digits_do_not_depend_on_vector_units():
    command = [sys.executable, str(ROOT / "scripts/same_digits.py"), "--scenes", "2", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.stdout.endswith("equal\n"), done.stdout + done.stderr
    assert done.returncode == 0
