"""Metrics of batches of tensors: the numbers and the missing values of the NumPy ones, on the processor."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import evalkit
from evalkit.data.gray import GRAYS
from evalkit.data.images import to_gray
from evalkit.errors import EvalkitError, ImageError, UnknownNameError
from evalkit.metrics.card import CONVENTIONS

torch = pytest.importorskip("torch")
from evalkit.metrics.torch import Sources, evaluate, sources, vif  # noqa: E402
from evalkit.metrics.torch.forms import FORMS  # noqa: E402
from evalkit.metrics.torch.sources import DTYPES  # noqa: E402

SIZES = [(171, 203), (164, 162), (41, 57), (40, 64), (17, 16), (11, 12), (7, 9), (3, 3), (2, 3), (1, 5)]
TOOLBOX = "EN SD SF AG MI SCD CC MSE PSNR VIF Qabf SSIM"
REQUIRED = {
    "textbook": TOOLBOX + " EI NMI CE RMSE VIFF Nabf Labf MS-SSIM FMI CV CB",
    "cddfuse": TOOLBOX,
    "smfnet": TOOLBOX + " Nabf MS-SSIM",
    "tang": TOOLBOX + " Nabf",
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def scenes(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fused, infrared and visible images, (11, H, W): noise, smooth, dark, and all that leaves a metric undefined."""
    random = np.random.default_rng([seed, height, width])
    noise = random.integers(0, 256, (2, 11, height, width), dtype=np.uint8)
    infrared, visible = noise[0], np.stack([cv2.GaussianBlur(x, (0, 0), 2) for x in noise[1]])
    fused = ((infrared.astype(int) + 2 * visible) // 3).astype(np.uint8)
    infrared[1] = visible[1] = fused[1]  # all equal
    infrared[2] = 3
    visible[3] = 9
    infrared[4] = visible[4] = 200
    fused[5] = 0
    fused[6] = visible[6] // 2 + 50
    visible[6] //= 2  # the fused image is 50 more
    visible[7] //= 16
    infrared[7], fused[7] = infrared[7] // 8, visible[7] + 1
    infrared[8], visible[8], fused[8] = 255, 255, 255
    # night: flat parts whose borders are of all kinds, some of them in one image alone
    fused[9], infrared[9], visible[9] = (
        np.maximum(x[9], level) - level for x, level in zip((fused, infrared, visible), (140, 200, 131), strict=True)
    )
    rows, columns = height // 2, width // 3
    infrared[10, :rows], visible[10, :, :columns], fused[10, rows:] = 30, 0, 255
    return fused, infrared, visible


def tensors(*images: np.ndarray) -> list:
    return [torch.from_numpy(x) for x in images]


@pytest.mark.parametrize("convention", FORMS)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_numbers_and_reasons_of_the_numpy_path(convention, height, width):
    fused, infrared, visible = scenes(height, width)
    names = list(FORMS[convention])
    batch = Sources(*tensors(infrared, visible), as_on_gpu=True).evaluate(torch.from_numpy(fused), names, convention)
    assert list(batch) == names
    assert all(values.shape == (11,) and values.dtype == torch.float64 for values in batch.values())
    undefined = 0
    for n, scores in enumerate(batch.per_image()):
        expected = evalkit.evaluate(fused[n], infrared[n], visible[n], names, convention)
        assert scores.missing == expected.missing
        assert scores == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)
        undefined += len(expected.missing)
    assert undefined > 5


@pytest.mark.parametrize("threads", [1, 3])
def test_tensors_of_a_processor_are_measured_by_numpy(threads, monkeypatch):
    monkeypatch.setattr(sources, "form_of", lambda definition: torch.ones)  # of PyTorch none is used
    torch.set_num_threads(threads)
    fused, infrared, visible = scenes(41, 57)
    prepared = Sources(*tensors(infrared, visible))
    for images in (fused, infrared):
        batch = prepared.evaluate(torch.from_numpy(images), ["EN", "SCD", "VIF", "SSIM[tang]", "PSNR[metric_python]"])
        for n, scores in enumerate(batch.per_image()):
            expected = evalkit.evaluate(images[n], infrared[n], visible[n], list(batch))
            assert scores == pytest.approx(expected, rel=0, abs=0, nan_ok=True)
            assert scores.missing == expected.missing
    assert batch.missing["VIF"][2] == "VIF is 0/0: the infrared image is constant"


def test_every_metric_that_is_promised_has_a_form():
    for convention, names in REQUIRED.items():
        assert set(names.split()) <= set(FORMS[convention])
    for convention, forms in FORMS.items():
        assert set(forms) <= set(CONVENTIONS[convention].definitions)


def test_sources_are_prepared_once_for_many_batches(monkeypatch):
    fused, infrared, visible = scenes(64, 70)
    filtered: list[int] = []

    def counting(x, weights, inside=vif.inside):
        filtered.append(len(x))
        return inside(x, weights)

    monkeypatch.setattr(vif, "inside", counting)
    prepared = Sources(*tensors(infrared, visible), as_on_gpu=True)
    first = prepared.evaluate(torch.from_numpy(fused), ["VIF"], "smfnet")
    assert sum(filtered) == 11 * (3 * (3 + 8) + 8)  # of each image 3 halvings and 8 moments; 8 products
    filtered.clear()
    other = prepared.evaluate(torch.from_numpy(infrared), ["VIF"], "smfnet")
    assert sum(filtered) == 11 * ((3 + 8) + 8)
    assert torch.equal(prepared.evaluate(torch.from_numpy(fused), ["VIF"], "smfnet")["VIF"][:2], first["VIF"][:2])
    expected = evalkit.evaluate(infrared[0], infrared[0], visible[0], "VIF", "smfnet")
    assert other["VIF"][0].item() == pytest.approx(expected["VIF"], rel=1e-9)


@pytest.mark.parametrize("pixels", [1, 2 * 64 * 70, 4 * 64 * 70])
def test_parts_of_a_batch_give_the_same(pixels, monkeypatch):
    images = tensors(*scenes(64, 70))
    whole = evaluate(*images, convention="textbook", as_on_gpu=True)
    monkeypatch.setattr(sources, "CPU_PIXELS", pixels)
    parts = evaluate(*images, convention="textbook", as_on_gpu=True)
    assert parts.missing == whole.missing
    for metric, values in whole.items():
        assert parts[metric].tolist() == pytest.approx(values.tolist(), rel=1e-12, abs=1e-14, nan_ok=True), metric
    monkeypatch.setattr(sources, "CPU_PIXELS", 11 * 64 * 70)
    at_once = evaluate(*images, convention="textbook", as_on_gpu=True)
    assert at_once.missing == whole.missing
    for metric, values in whole.items():
        assert at_once[metric].tolist() == pytest.approx(values.tolist(), rel=1e-12, abs=1e-14, nan_ok=True), metric


@pytest.mark.parametrize("as_on_gpu", [True, False])
def test_channels_and_every_gray(as_on_gpu):
    random = np.random.default_rng(5)
    colour = random.integers(0, 256, (4, 48, 50, 3), dtype=np.uint8)
    infrared, fused = random.integers(0, 256, (2, 4, 48, 50), dtype=np.uint8)
    prepared = Sources(torch.from_numpy(infrared), torch.from_numpy(colour).permute(0, 3, 1, 2), as_on_gpu=as_on_gpu)
    seen = set()
    for gray in ("", *GRAYS):
        levels = np.stack([to_gray(image, gray or "rounded") for image in colour])
        batch = prepared.evaluate(torch.from_numpy(fused)[:, None], gray=gray)
        expected = evaluate(*tensors(fused, infrared, levels), as_on_gpu=as_on_gpu)
        assert batch.missing == expected.missing
        for metric in expected:
            assert torch.equal(batch[metric].nan_to_num(-9), expected[metric].nan_to_num(-9)), metric
        seen.add(batch["MSE"][0].item())
    assert len(seen) > 1


def test_gray_of_every_tenth_colour_is_the_same_bit_by_bit():
    levels = np.arange(256, dtype=np.uint8)
    red = levels[::10]
    image = np.stack(np.broadcast_arrays(red[:, None, None], levels[:, None], levels), -1)
    batch = torch.from_numpy(np.ascontiguousarray(image.transpose(0, 3, 1, 2)))
    for gray in GRAYS:
        expected = np.stack([to_gray(part, gray) for part in image])
        assert np.array_equal(sources.to_gray(batch, gray).numpy(), expected), gray


def test_single_precision_is_near():
    """The errors that docs/performance.md states, of images with structure."""
    random = np.random.default_rng(1)
    scene = [cv2.GaussianBlur(random.integers(0, 256, (240, 321), dtype=np.uint8), (0, 0), s) for s in (1, 3)]
    infrared, visible = (cv2.normalize(x, None, 0, 255, cv2.NORM_MINMAX)[None] for x in scene)
    fused = (infrared // 2 + visible // 2).astype(np.uint8)
    images = tensors(fused, infrared, visible)
    for convention in FORMS:
        precise, single = (evaluate(*images, convention=convention, dtype=t, as_on_gpu=True) for t in DTYPES)
        for metric, values in precise.items():
            small_constant = metric == "SSIM" and convention in ("cddfuse", "tang")
            limit = 1e-2 if small_constant else 1e-4
            assert single[metric].item() == pytest.approx(values.item(), rel=limit, abs=limit), (convention, metric)
    with torch.autocast("cpu", torch.bfloat16):  # as in a validation loop
        inside = evaluate(*images, convention="smfnet", dtype=torch.float32)
    outside = evaluate(*images, convention="smfnet", dtype=torch.float32)
    assert all(torch.equal(inside[metric], outside[metric]) for metric in outside)


def test_what_is_no_batch_of_pairs_is_refused():
    images = torch.zeros(2, 48, 50, dtype=torch.uint8)
    with pytest.raises(ImageError, match="infrared is a tensor of float32, expected uint8"):
        Sources(images.float(), images)
    with pytest.raises(ImageError, match=r"visible is a tensor of shape \(2, 2, 48, 50\)"):
        Sources(images, images[:, None].expand(-1, 2, -1, -1))
    with pytest.raises(ImageError, match=r"infrared is a tensor of shape \(48, 50\), expected \(N, H, W\)"):
        Sources(images[0], images)
    with pytest.raises(ImageError, match="infrared is a ndarray, not a tensor"):
        Sources(images.numpy(), images)
    with pytest.raises(ImageError, match="visible holds 1 images, infrared 2"):
        Sources(images, images[:1])
    with pytest.raises(ImageError, match="visible images are 49x48, the infrared images 50x48"):
        Sources(images, images[..., :49])
    with pytest.raises(ImageError, match="fused holds 1 images, infrared 2"):
        Sources(images, images).evaluate(images[:1])
    with pytest.raises(EvalkitError, match="dtype is"):
        Sources(images, images, torch.float16)
    with pytest.raises(EvalkitError, match=r"EN\[vifb\], .*no form for batches of tensors. evalkit.evaluate measures"):
        evaluate(images, images, images, convention="vifb")
    with pytest.raises(UnknownNameError):
        evaluate(images, images, images, ["EM"])


def test_evalkit_alone_does_not_import_torch():
    program = (
        "import sys, numpy as np, evalkit\n"
        "x = np.arange(64, dtype=np.uint8).reshape(8, 8)\n"
        "evalkit.evaluate(x, x, x, ['EN'])\n"
        "import evalkit.commands.evaluate, evalkit.protocols.run\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_convention_stands_for_its_metrics_with_a_form():
    images = tensors(*scenes(41, 57))
    assert set(evaluate(*images, convention="textbook")) == set(FORMS["textbook"])
    with pytest.raises(EvalkitError, match=r"QP\[textbook\]: no form"):
        evaluate(*images, ["EN", "QP"])
    with pytest.raises(EvalkitError, match=r"QMI\[liu\].*no form"):
        evaluate(*images, convention="liu")


def test_the_example_of_the_documentation_is_right():
    text = (Path(__file__).resolve().parents[1] / "docs/tensors.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert example is not None
    fused, infrared, visible = tensors(*scenes(64, 70))
    names = {"fused": fused, "infrared": infrared, "visible": visible}
    exec(example[1], names)  # noqa: S102
    assert names["scores"]["VIF"].shape == (11,)
    assert names["scores"].missing["VIF"][2] == "VIF is 0/0: the infrared image is constant"
    assert len(names["scores"].per_image()) == 11
