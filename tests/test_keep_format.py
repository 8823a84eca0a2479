"""Fused images that a script saves under the infrared image's name lose what JPEG loses."""

from __future__ import annotations

import io
import json
import pickle
import shutil
from functools import partial

import numpy as np
import pytest
from conftest import textured
from PIL import Image

torch = pytest.importorskip("torch")

import evalkit  # noqa: E402
from evalkit.data.images import named_jpeg, read_image, through_jpeg, to_gray, write_png  # noqa: E402
from evalkit.data.pairs import ImagePair  # noqa: E402
from evalkit.leaderboards.verify import verify  # noqa: E402
from evalkit.methods.fuse import make_fuser  # noqa: E402
from evalkit.methods.network import NetworkMethod, round_levels, unit_gray_pair  # noqa: E402
from evalkit.methods.registry import method_card  # noqa: E402


class Visible(torch.nn.Module):
    """Gives back the visible image."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(1))

    def forward(self, infrared, visible):
        return visible * self.factor


def unchanged(state, path):
    return state


def network() -> NetworkMethod:
    return NetworkMethod(Visible, unit_gray_pair, round_levels, ("visible.pth",), unchanged)


@pytest.fixture
def folder(tmp_path):
    torch.save({"factor": torch.ones(1)}, tmp_path / "visible.pth")
    for kind, seed in (("ir", 0), ("vi", 10)):
        (tmp_path / kind).mkdir()
        for number in (1, 2):
            Image.fromarray(textured(seed + number, 48, 64)).save(tmp_path / kind / f"{number}.jpg", quality=95)
    card = {"name": "Saver", "kind": "network", "title": ".", "checkpoint": ["visible.pth"], "jpeg": "pillow 75"}
    evalkit.register_method(card, network=network)
    return tmp_path


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("saved", ["pillow 75", "opencv 95"])
def test_an_image_is_what_the_programs_jpeg_holds(saved, colour):
    image = np.dstack([textured(k, 40, 56) for k in (1, 2, 3)]) if colour else textured(1, 40, 56)
    quality = int(saved.split()[1])
    content = io.BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=quality)  # both programs write with libjpeg's tables
    expected = np.asarray(Image.open(content)).astype(int)
    lossy = through_jpeg(image, saved)
    assert lossy.shape == image.shape
    assert lossy.dtype == np.uint8
    assert np.abs(lossy - expected).max() <= 1
    assert np.abs(lossy.astype(int) - image).mean() > 0.3


def test_only_of_jpegs_and_in_any_process(folder):
    write_png(folder / "ir.png", textured(1, 48, 64))
    jpeg, png = (ImagePair("1", folder / ir, folder / "vi" / "1.jpg") for ir in ("ir/1.jpg", "ir.png"))
    assert [named_jpeg(pair.infrared) for pair in (jpeg, png)] == [True, False]
    plain, keeping = (make_fuser(method_card("Saver"), folder, device="cpu", keep_format=k) for k in (False, True))
    visible = to_gray(read_image(folder / "vi" / "1.jpg"))
    for fuser in (keeping, pickle.loads(pickle.dumps(keeping))):  # noqa: S301  as a worker process does
        of_jpeg, of_png = fuser.fuse([jpeg, png])
        np.testing.assert_array_equal(of_jpeg, through_jpeg(visible, "pillow 75"))
        np.testing.assert_array_equal(of_png, visible)
    np.testing.assert_array_equal(next(iter(plain.fuse([jpeg]))), visible)
    assert plain.identity != keeping.identity  # images of the one are not taken for those of the other


def test_records_name_it_and_verify_makes_it_again(folder):
    fields = {
        "title": "Saved",
        "convention": "smfnet",
        "metrics": ["EN", "SF"],
        "datasets": {"Mine": {"infrared": "ir/{stem}.jpg", "visible": "vi/{stem}.jpg", "root": str(folder)}},
        "methods": {"Saver": "checkpoint"},
        "checkpoints": str(folder),
    }
    values = {}
    run = partial(evalkit.benchmark, workers=1)
    for name, keep in (("file says so", None), ("asked for", True), ("refused", False)):
        said = {"keep_format": True} if keep is None else {}
        table = run(fields | said, out=folder / name, **({} if keep is None else {"keep_format": keep}))
        assert table.complete
        (file,) = (folder / name / "records").glob("*.json")
        record = json.loads(file.read_text())
        assert record["method"].get("saved") == (None if keep is False else "JPEG, pillow 75")
        values[name] = record["scores"]["SF"]
        shutil.rmtree(folder / name / "fused")  # so that verify fuses again
        verdicts = verify(folder / name, remeasure=2, checkpoints=folder)
        assert not any(verdict.problems for verdict in verdicts), verdicts
        assert sum(verdict.remeasured for verdict in verdicts) == 2
    assert values["file says so"] == values["asked for"] != values["refused"]
