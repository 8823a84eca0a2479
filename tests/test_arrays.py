"""Images in memory: arrays, PIL images, tensors and batches of them give the numbers of the files."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import evalkit
from evalkit.data.images import write_png
from evalkit.errors import EvalkitError

torch = pytest.importorskip("torch")
RNG = np.random.default_rng(0)
COUNT, HEIGHT, WIDTH = 4, 20, 27
FUSED, VISIBLE = (RNG.integers(0, 256, (COUNT, HEIGHT, WIDTH, 3), np.uint8) for _ in range(2))
INFRARED = RNG.integers(0, 256, (COUNT, HEIGHT, WIDTH), np.uint8)
METRICS = ["EN", "SD", "MI", "SSIM", "SSIM[smfnet]", "Qabf"]


def tensor(array):
    """(..., H, W, 3) or (..., H, W) with its channels first, (..., C, H, W)."""
    colour = array.shape[-1] == 3
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, -1, -3) if colour else array[..., None, :, :]))


def files(folder, n):
    images = {"fused": FUSED[n], "infrared": INFRARED[n], "visible": VISIBLE[n]}
    for name, image in images.items():
        write_png(folder / f"{name}.png", image)
    return [folder / f"{name}.png" for name in images]


@pytest.fixture(scope="module")
def of_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return [dict(evalkit.evaluate(*files(folder, n), METRICS)) for n in range(COUNT)]


ONE = {
    "arrays": (FUSED[1], INFRARED[1], VISIBLE[1]),
    "a gray array with its channel": (FUSED[1], INFRARED[1][..., None], VISIBLE[1]),
    "PIL images": tuple(map(Image.fromarray, (FUSED[1], INFRARED[1], VISIBLE[1]))),
    "tensors": (tensor(FUSED[1]), tensor(INFRARED[1]), tensor(VISIBLE[1])),
    "a tensor without channels": (tensor(FUSED[1]), torch.from_numpy(INFRARED[1]), tensor(VISIBLE[1])),
    "a view that is not contiguous": (torch.from_numpy(FUSED[1]).permute(2, 0, 1), INFRARED[1], VISIBLE[1]),
    "all kinds": (tensor(FUSED[1]), Image.fromarray(INFRARED[1]), VISIBLE[1]),
}
BATCHES = {
    "tensors": (tensor(FUSED), tensor(INFRARED), tensor(VISIBLE)),
    "arrays": (FUSED, INFRARED[..., None], VISIBLE),
    "both": (tensor(FUSED), INFRARED[..., None], VISIBLE),
}


@pytest.mark.parametrize("images", ONE.values(), ids=ONE)
def test_one_image_in_memory_is_measured_as_its_file(images, of_files):
    assert dict(evalkit.evaluate(*images, METRICS)) == of_files[1]


@pytest.mark.parametrize("images", BATCHES.values(), ids=BATCHES)
def test_a_batch_gives_the_scores_of_each_image_in_order(images, of_files):
    scores = evalkit.evaluate(*images, METRICS)
    assert [dict(one) for one in scores] == of_files
    assert type(scores[0]) is type(evalkit.evaluate(*ONE["arrays"], ["EN"]))


def test_a_batch_of_one_is_a_list_of_one(of_files):
    assert evalkit.evaluate(*(images[:1] for images in BATCHES["tensors"]), METRICS) == of_files[:1]


def test_what_an_image_of_a_batch_lacks_is_its_own():
    flat = torch.zeros((1, 1, HEIGHT, WIDTH), dtype=torch.uint8)
    gray = tensor(INFRARED[:1])
    fused, sources = torch.cat([flat, gray]), torch.cat([flat, gray])
    first, second = evalkit.evaluate(fused, sources, sources, ["Qabf"])
    assert "neither source has an edge" in first.missing["Qabf"]
    assert not second.missing


def zeros(*shape, dtype=torch.uint8):
    return torch.zeros(shape, dtype=dtype)


REFUSED = {  # the fused image, or all three -> what the sentence says
    "a float tensor": (tensor(FUSED[1]) / 255, r"float32.*\(x \* 255\)\.round\(\).*\.to\(torch\.uint8\)"),
    "a float batch": (tensor(FUSED) / 255, r"fused\[0\].*float32.*\.round\(\)"),
    "an integer tensor": (tensor(FUSED[1]).int(), "int32"),
    "a tensor with channels last": (torch.from_numpy(FUSED[1]), r"permute\(2, 0, 1\)"),
    "an array with channels first": (np.moveaxis(FUSED[1], -1, 0), r"np\.moveaxis\(x, 0, -1\)"),
    "an array with one channel first": (INFRARED[1][None], r"np\.moveaxis\(x, 0, -1\)"),
    "gray images without channels": (torch.from_numpy(INFRARED), r"\(N, 1, H, W\): x\[:, None\]"),
    "gray arrays without channels": (INFRARED, r"\(N, H, W, 1\): x\[\.\.\., None\]"),
    "a tensor that is either": (zeros(3, HEIGHT, 3), "could be first or last"),
    "an array that is either": (np.zeros((3, WIDTH, 3), np.uint8), "could be first or last"),
    "two channels": (zeros(COUNT, 2, HEIGHT, WIDTH), r"fused\[0\].*\(2, 20, 27\)"),
    "five axes": (zeros(1, COUNT, 3, HEIGHT, WIDTH), r"\(1, 4, 3, 20, 27\)"),
    "no pixels": (zeros(3, 0, 5), r"\(3, 0, 5\)"),
    "a palette": (Image.fromarray(FUSED[1]).convert("P"), r"convert\('RGB'\)"),
    "a list": ([FUSED[1]], "is a list"),
}


@pytest.mark.parametrize(("fused", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_for_sure_is_refused_with_its_cure(fused, sentence):
    batch = getattr(fused, "ndim", 0) == 4
    sources = (INFRARED[..., None], VISIBLE) if batch else (INFRARED[1], VISIBLE[1])
    with pytest.raises(EvalkitError, match=sentence):
        evalkit.evaluate(fused, *sources, ["EN"])


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        ((tensor(FUSED), INFRARED[1], tensor(VISIBLE)), "fused is a batch of 4, infrared is one image"),
        ((tensor(FUSED), tensor(INFRARED)[:3], tensor(VISIBLE)), "infrared is a batch of 3"),
        ((tensor(FUSED), "infrared.png", tensor(VISIBLE)), "infrared is one image"),
        (tuple(images[:0] for images in BATCHES["tensors"]), "empty"),
        ((tensor(FUSED)[..., 1:], tensor(INFRARED), tensor(VISIBLE)), "fused image is 26x20"),
    ],
)
def test_batches_that_do_not_go_together_are_refused(images, sentence):
    with pytest.raises(EvalkitError, match=sentence):
        evalkit.evaluate(*images, ["EN"])


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[::2, ::3],
        lambda x: x[::-1],
        lambda x: x.swapaxes(0, 1),
        lambda x: x[..., 1] if x.ndim == 3 else np.asfortranarray(x),
    ],
    ids=["every other", "upside down", "turned", "a channel"],
)
def test_views_of_arrays_are_measured_as_their_copies(view):
    images = [view(image) for image in (FUSED[0], INFRARED[0], VISIBLE[0])]
    assert evalkit.evaluate(*images) == evalkit.evaluate(*(np.ascontiguousarray(image) for image in images))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_tensors_of_a_gpu_are_taken(of_files):
    assert evalkit.evaluate(*(images.cuda() for images in BATCHES["tensors"]), METRICS) == of_files


def test_evaluating_an_array_does_not_import_torch():
    code = """if 1:
        import sys, numpy as np, evalkit
        evalkit.evaluate(*[np.zeros((2, 16, 16, 3), np.uint8)] * 3, ["EN"])
        print("torch" in sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
