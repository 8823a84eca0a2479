"""The metrics: against exact values of public evaluators, dense references written here, and their own laws."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import SHARED, textured
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.signal import convolve2d
from skimage.measure import shannon_entropy
from skimage.metrics import structural_similarity

import evalkit
from evalkit.errors import EvalkitError, ImageError, UnknownNameError
from evalkit.metrics.card import CONVENTIONS
from evalkit.metrics.registry import definitions

NINE = ["EN", "SD", "SF", "AG", "MI", "SCD", "VIF", "Qabf", "SSIM"]


def triple(height=64, width=80, seed=0):
    a, b = textured(seed, height, width), textured(seed + 1, height, width)
    f = ((a.astype(int) + 2 * b) // 3).astype(np.uint8)
    return f, a, b


# --- exact values of the public evaluators

_SMFNET_DIALECTS = {
    "cddfuse_py_float64": ["EN", "SD", "SF", "MI", "MSE", "CC", "PSNR", "SCD", "VIF", "Qabf"],
    "smfnet_py_float64_AG1_no_sqrt2": ["AG"],
    "smfnet_py_float64_sum_L255": ["SSIM"],
}


def reference_rows():
    path = SHARED / "specs" / "reference_values.csv"
    if not path.is_file():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def reference_scores(row, convention):
    base = SHARED / "specs" / "reference_images" / f"{row['dataset']}_{row['image']}_"
    return evalkit.evaluate(
        f"{base}F_{row['fusion']}.png", f"{base}ir.png", f"{base}vi.png", [row["metric"]], convention
    )


@pytest.mark.parametrize("dialect", _SMFNET_DIALECTS)
def test_smfnet_equals_the_public_evaluator(shared, dialect):
    compared = 0
    for row in reference_rows():
        if row["dialect"] != dialect or row["metric"] not in _SMFNET_DIALECTS[dialect]:
            continue
        scores = reference_scores(row, "smfnet")
        expected = float(row["value"])
        if math.isnan(expected):
            assert "constant" in scores.missing[row["metric"]]
        else:
            assert scores[row["metric"]] == pytest.approx(expected, rel=1e-9), row
        compared += 1
    assert compared == 6 * len(_SMFNET_DIALECTS[dialect])


# --- independent implementations


def test_entropy_and_ssim_equal_scikit_image():
    f, a, b = triple()
    scores = evalkit.evaluate(f, a, b, ["EN", "SSIM", "SSIM[smfnet]"])
    assert scores["EN"] == pytest.approx(shannon_entropy(f), rel=1e-12)
    uniform = sum(structural_similarity(f, s, data_range=255) for s in (a, b))
    assert scores["SSIM[smfnet]"] == pytest.approx(uniform, rel=1e-12)
    gaussian = [
        structural_similarity(f, s, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
        for s in (a, b)
    ]
    assert scores["SSIM"] == pytest.approx(sum(gaussian) / 2, rel=1e-12)


def test_moment_metrics_equal_numpy():
    f, a, b = triple()
    x, y, z = (i.astype(float) for i in (f, a, b))
    scores = evalkit.evaluate(f, a, b)
    r = lambda p, q: np.corrcoef(p.ravel(), q.ravel())[0, 1]  # noqa: E731
    mse = (np.mean((x - y) ** 2) + np.mean((x - z) ** 2)) / 2
    assert scores["SD"] == pytest.approx(x.std(), rel=1e-12)
    assert scores["CC"] == pytest.approx((r(x, y) + r(x, z)) / 2, rel=1e-12)
    assert scores["SCD"] == pytest.approx(r(x - z, y) + r(x - y, z), rel=1e-10)
    assert scores["MSE"] == pytest.approx(mse, rel=1e-12)
    assert scores["PSNR"] == pytest.approx(10 * np.log10(255**2 / mse), rel=1e-12)
    peak = evalkit.evaluate(f, a, b, ["PSNR"], "smfnet")["PSNR"]
    assert peak == pytest.approx(10 * np.log10(float(f.max()) ** 2 / mse), rel=1e-12)


def test_mutual_information_equals_loops():
    f, a, b = triple(24, 20)
    total = 0.0
    for s in (a, b):
        joint: dict = {}
        for pair in zip(f.ravel().tolist(), s.ravel().tolist(), strict=True):
            joint[pair] = joint.get(pair, 0) + 1 / f.size
        pf, ps = np.bincount(f.ravel()) / f.size, np.bincount(s.ravel()) / f.size
        total += sum(p * math.log(p / (pf[i] * ps[j])) for (i, j), p in joint.items())
    assert evalkit.evaluate(f, a, b, ["MI"], "smfnet")["MI"] == pytest.approx(total, rel=1e-10)
    assert evalkit.evaluate(f, a, b, ["MI"])["MI"] == pytest.approx(total / math.log(2), rel=1e-10)


def dense_vif(reference, distorted):
    """VIFP with two-dimensional windows, from the equations of Sheikh and Bovik."""
    numerator = denominator = 0.0
    r, d = reference.astype(float), distorted.astype(float)
    for scale in range(1, 5):
        n = 2 ** (5 - scale) + 1
        i = np.arange(n) - n // 2
        window = np.exp(-(i[:, None] ** 2 + i**2) / (2 * (n / 5) ** 2))
        window /= window.sum()
        mean = lambda x, w=window: convolve2d(x, w, mode="valid")  # noqa: E731
        if scale > 1:
            r, d = mean(r)[::2, ::2], mean(d)[::2, ::2]
        vr = np.maximum(mean(r * r) - mean(r) ** 2, 0)
        vd = np.maximum(mean(d * d) - mean(d) ** 2, 0)
        gain = (mean(r * d) - mean(r) * mean(d)) / (vr + 1e-10)
        noise = vd - gain * (mean(r * d) - mean(r) * mean(d))
        gain[vr < 1e-10], noise[vr < 1e-10] = 0, vd[vr < 1e-10]
        vr[vr < 1e-10] = 0
        gain[vd < 1e-10] = noise[vd < 1e-10] = 0
        noise[gain < 0] = vd[gain < 0]
        gain = np.maximum(gain, 0)
        noise = np.maximum(noise, 1e-10)
        numerator += np.log10(1 + gain**2 * vr / (noise + 2)).sum()
        denominator += np.log10(1 + vr / 2).sum()
    return numerator / denominator


@pytest.mark.parametrize("size", [(41, 41), (64, 80), (67, 53)])
def test_vif_equals_dense_windows(size):
    f, a, b = triple(*size)
    b[10:40, 10:40] = 90  # a flat part, where variances vanish
    expected = dense_vif(a, f) + dense_vif(b, f)
    assert evalkit.evaluate(f, a, b, ["VIF"], "smfnet")["VIF"] == pytest.approx(expected, rel=1e-9)
    assert evalkit.evaluate(f, a, b, ["VIF"])["VIF"] == pytest.approx(expected / 2, rel=1e-9)


def loop_qabf(f, a, b, pad, equal):
    """Xydeas and Petrovic pixel by pixel."""

    def edges(image):
        p = np.pad(image.astype(float), 1, mode=pad)
        g, alpha = np.empty(image.shape), np.empty(image.shape)
        for y in range(image.shape[0]):
            for x in range(image.shape[1]):
                w = p[y : y + 3, x : x + 3]
                sx = w[0, 2] + 2 * w[1, 2] + w[2, 2] - w[0, 0] - 2 * w[1, 0] - w[2, 0]
                sy = w[0, 0] + 2 * w[0, 1] + w[0, 2] - w[2, 0] - 2 * w[2, 1] - w[2, 2]
                g[y, x] = math.hypot(sx, sy)
                alpha[y, x] = math.atan(sy / sx) if sx else math.pi / 2
        return g, alpha

    (gf, af), sources = edges(f), [edges(a), edges(b)]
    top = bottom = 0.0
    for g, alpha in sources:
        for i in np.ndindex(f.shape):
            s, t = g[i], gf[i]
            ratio = (t if equal == "itself" else 1.0) if s == t else min(s, t) / max(s, t)
            angle = 1 - abs(alpha[i] - af[i]) / (math.pi / 2)
            q = 0.9994 / (1 + math.exp(-15 * (ratio - 0.5))) * 0.9879 / (1 + math.exp(-22 * (angle - 0.8)))
            top += q * s
            bottom += s
    return top / bottom


def test_qabf_equals_loops():
    f, a, b = triple(17, 23)
    f[4:9, 4:9] = a[4:9, 4:9]  # equal edges
    a[12:, :6] = 40  # no edges
    smfnet = evalkit.evaluate(f, a, b, ["Qabf"], "smfnet")["Qabf"]
    assert smfnet == pytest.approx(loop_qabf(f, a, b, "constant", "itself"), rel=1e-12)
    textbook = evalkit.evaluate(f, a, b, ["Qabf"])["Qabf"]
    assert textbook == pytest.approx(loop_qabf(f, a, b, "edge", "one"), rel=1e-12)


def test_gradients_equal_loops():
    f, a, b = triple(9, 7)
    x = f.astype(float)
    rows, columns = x.shape
    dx = [(x[i, j + 1] - x[i, j]) ** 2 for i in range(rows) for j in range(columns - 1)]
    dy = [(x[i + 1, j] - x[i, j]) ** 2 for i in range(rows - 1) for j in range(columns)]

    def central(line, i):
        low, high = max(i - 1, 0), min(i + 1, len(line) - 1)
        return (line[high] - line[low]) / (high - low)

    g2 = [central(x[i], j) ** 2 + central(x[:, j], i) ** 2 for i in range(rows) for j in range(columns)]
    scores = evalkit.evaluate(f, a, b, ["SF", "AG", "AG[smfnet]"])
    assert scores["SF"] == pytest.approx(math.sqrt(np.mean(dx) + np.mean(dy)), rel=1e-12)
    assert scores["AG"] == pytest.approx(np.mean(np.sqrt(np.array(g2) / 2)), rel=1e-12)
    assert scores["AG[smfnet]"] == pytest.approx(np.mean(np.sqrt(g2)), rel=1e-12)


# --- laws

images = arrays(np.uint8, st.tuples(st.integers(41, 50), st.integers(41, 50)))


@settings(max_examples=10, deadline=None)
@given(st.data())
def test_symmetric_in_the_sources(data):
    f = data.draw(images)
    a = data.draw(arrays(np.uint8, f.shape))
    b = data.draw(arrays(np.uint8, f.shape))
    # the evaluators of smfnet and tang look at one source only here, and VIFF takes the infrared one of two equals
    one_sided = {"smfnet": {"MS-SSIM", "Nabf"}, "tang": {"Nabf"}, "textbook": {"VIFF"}}
    # Z. Liu's Cvejic counts a window 0 or 1 by the order of the sources; its QG gives them slightly different ratios
    one_sided |= {"liu": {"QC", "QG"}, "mefb": {"QC", "VIFF"}}
    for convention in CONVENTIONS:
        metrics = [m for m in CONVENTIONS[convention].definitions if m not in one_sided.get(convention, ())]
        one = evalkit.evaluate(f, a, b, metrics, convention)
        other = evalkit.evaluate(f, b, a, metrics, convention)
        assert one.missing.keys() == other.missing.keys()
        for metric, value in one.items():
            assert math.isnan(value) or value == pytest.approx(other[metric], rel=1e-9, abs=1e-12), metric


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_bounds_hold_and_nothing_is_infinite(data):
    f = data.draw(images)
    a = data.draw(arrays(np.uint8, f.shape))
    b = data.draw(arrays(np.uint8, f.shape))
    scores = evalkit.evaluate(f, a, b)
    bounds = {"EN": (0, 8), "SD": (0, 127.5), "SCD": (-2, 2), "CC": (-1, 1), "Qabf": (0, 1), "SSIM": (-1, 1)}
    bounds |= {"RMSE": (0, 255), "EI": (0, 1140), "NMI": (0, 2), "Nabf": (0, 1), "Labf": (0, 1), "CB": (0, 1)}
    bounds |= {"FMI": (0, 1), "VIFF": (0, math.inf), "CV": (0, math.inf), "MS-SSIM": (0, 1)}
    bounds |= {"MI": (0, 16), "VIF": (0, math.inf), "MSE": (0, 65025), "AG": (0, 361), "SF": (0, 361)}
    for metric, (low, high) in bounds.items():
        assert metric in scores.missing or low - 1e-12 <= scores[metric] <= high + 1e-12, metric
    assert all(math.isfinite(v) != (m in scores.missing) for m, v in scores.items())


def test_fused_equal_to_both_sources_is_perfect():
    f, *_ = triple()
    scores = evalkit.evaluate(f, f, f)
    assert scores["SSIM"] == pytest.approx(1)
    assert scores["VIF"] == pytest.approx(1, abs=1e-6)
    assert scores["CC"] == pytest.approx(1)
    assert scores["MSE"] == 0
    assert scores["MI"] == pytest.approx(2 * scores["EN"])
    perfect = 0.9994 / (1 + math.exp(-7.5)) * 0.9879 / (1 + math.exp(-4.4))
    assert scores["Qabf"] == pytest.approx(perfect)
    assert "infinite" in scores.missing["PSNR"]
    assert "constant" in scores.missing["SCD"]


def test_noise_lowers_fidelity_step_by_step():
    f, a, b = triple(96, 96)
    rng = np.random.default_rng(1)
    noise = rng.normal(size=f.shape)
    previous = None
    for sigma in (0, 5, 15, 40):
        noisy = np.clip(f + sigma * noise, 0, 255).astype(np.uint8)
        scores = evalkit.evaluate(noisy, a, b, ["VIF", "SSIM", "Qabf", "CC", "PSNR"])
        if previous:
            assert all(scores[m] < previous[m] for m in scores)
        previous = scores


def test_gray_level_order_does_not_matter_to_entropy_and_mutual_information():
    f, a, b = triple()
    one, other = (evalkit.evaluate(x, a, b, ["EN", "MI"]) for x in (f, 255 - f))
    assert one == pytest.approx(other)


def test_one_pass_equals_one_metric_at_a_time():
    f, a, b = triple()
    together = evalkit.evaluate(f, a, b, convention="smfnet")
    for metric, value in together.items():
        assert evalkit.evaluate(f, a, b, [metric], "smfnet")[metric] == value


# --- what is undefined, and what is wrong


def test_constant_images_are_missing_values_with_reasons():
    f, a, b = triple()
    flat = np.full_like(f, 7)
    scores = evalkit.evaluate(flat, a, b)
    assert scores["EN"] == 0
    assert scores["SD"] == 0
    assert "fused image is constant" in scores.missing["CC"]
    scores = evalkit.evaluate(f, flat, flat)
    assert "infrared image is constant" in scores.missing["VIF"]
    assert "neither source has an edge" in scores.missing["Qabf"]
    assert math.isnan(scores["Qabf"])
    black = np.zeros_like(f)
    assert "black" in evalkit.evaluate(black, a, b, ["PSNR"], "smfnet").missing["PSNR"]


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 2), (6, 6), (16, 16), (40, 41)])
def test_tiny_images_give_values_or_missing_values(shape):
    f, a, b = (np.random.default_rng(i).integers(0, 256, shape, dtype=np.uint8) for i in range(3))
    for convention in CONVENTIONS:
        scores = evalkit.evaluate(f, a, b, convention=convention)
        assert set(scores.missing) == {m for m, v in scores.items() if math.isnan(v)}
        if "VIF" in scores and convention != "zoo":  # which surrounds the image with zeros
            assert ("72x72" if convention == "tsjnet" else "41x41") in scores.missing["VIF"]
        assert "EN" not in scores.missing


def test_inputs_that_are_no_images():
    f, a, b = triple()
    with pytest.raises(ImageError, match=r"64x63 .* 80x64|80x64"):
        evalkit.evaluate(f[:, :64], a, b)
    with pytest.raises(ImageError, match="dtype float64"):
        evalkit.evaluate(f / 255, a, b)
    with pytest.raises(ImageError, match="NaN"):
        evalkit.evaluate(np.full(f.shape, np.nan), a, b)
    with pytest.raises(ImageError, match="shape"):
        evalkit.evaluate(np.dstack([f, f]), a, b)


def test_colour_is_measured_on_its_luminance():
    f, a, b = triple()
    colour = np.dstack([b, np.roll(b, 3), 255 - b])
    gray = np.rint(colour @ [0.299, 0.587, 0.114]).astype(np.uint8)
    one, other = evalkit.evaluate(f, a, colour, NINE), evalkit.evaluate(f, a, gray, NINE)
    assert one == pytest.approx(other, rel=2e-2)  # float32 may round a few pixels to the other side
    assert evalkit.evaluate(np.dstack([f] * 3), a, b, NINE) == evalkit.evaluate(f, a, b, NINE)


def test_names_parse_both_ways():
    found = definitions(["ssim", "SSIM[SMFNET]", " EN "], "textbook")
    assert list(found) == ["SSIM", "SSIM[smfnet]", "EN"]
    for definition in found.values():
        assert definitions([definition.full_name], "textbook").popitem()[1] is definition
    with pytest.raises(UnknownNameError, match="Did you mean 'SSIM'"):
        definitions(["SSMI"], "textbook")
    with pytest.raises(UnknownNameError, match="textbook"):
        definitions(["EN"], "textbok")
    with pytest.raises(EvalkitError, match=r"METRIC\[convention\]"):
        definitions(["SSIM[smfnet"], "textbook")


def test_folder_equals_single_images_on_any_number_of_threads(tmp_path):
    from conftest import make_outputs, make_tno

    root, outputs = make_tno(tmp_path / "data", 5), make_outputs(tmp_path / "out", count=5)
    folders = (outputs / "CDDFuse" / "TNO", root / "TNO" / "ir", root / "TNO" / "vi")
    frames = [evalkit.evaluate_folder(*folders, convention="smfnet", workers=n) for n in (1, 4)]
    assert frames[0].equals(frames[1])
    assert list(frames[0].index) == ["01", "02", "03", "04", "05"]
    for stem, row in frames[0].iterrows():
        single = evalkit.evaluate(*(folder / f"{stem}.png" for folder in folders), convention="smfnet")
        assert {m: v for m, v in single.items() if v == v} == row.dropna().to_dict()


def test_folder_tells_what_could_not_be_measured(tmp_path):
    from conftest import make_outputs, make_tno

    root, outputs = make_tno(tmp_path / "data", 4), make_outputs(tmp_path / "out", count=4)
    (root / "TNO" / "ir" / "02.png").unlink()
    broken = outputs / "CDDFuse" / "TNO" / "03.png"
    broken.write_bytes(broken.read_bytes()[:300])
    frame = evalkit.evaluate_folder(outputs / "CDDFuse" / "TNO", root / "TNO" / "ir", root / "TNO" / "vi", ["EN", "CC"])
    assert frame.loc["01"].notna().all()
    assert frame.loc[["02", "03"]].isna().all().all()
    assert "no infrared image" in frame.attrs["missing"]["02", "EN"]
    assert "damaged" in frame.attrs["missing"]["03", "CC"]


def test_images_leave_memory_with_their_last_reference():
    """No image stands in its own memo: a folder of large images must not pile up until the garbage collector runs."""
    import gc
    import weakref

    from evalkit.metrics.evaluate import measure
    from evalkit.metrics.image import Image, Pair

    f, a, b = triple()
    gc.disable()
    try:
        for convention in CONVENTIONS:
            pair = Pair(Image(f, "fused"), Image(a, "infrared"), Image(b, "visible"))
            measure(pair, definitions(None, convention))
            alive = [weakref.ref(image) for image in (pair.fused, *pair.sources)]
            del pair
            assert [reference() for reference in alive] == [None] * 3, convention
    finally:
        gc.enable()


def test_numbers_do_not_depend_on_vector_code():
    """Odd sizes, where filters, borders and resizing have code of their own for each processor."""
    program = (
        "import json, cv2, numpy as np, evalkit\n"
        "random = np.random.default_rng(3)\n"
        "noise = [random.integers(0, 256, (171, 203), dtype=np.uint8) for _ in range(3)]\n"
        "images = [cv2.GaussianBlur(x, (0, 0), 2) // 2 + x // 2 for x in noise]\n"
        "names = [name for name in evalkit.metrics.registry.all_full_names() if not name.startswith('FMI')]\n"
        "print(json.dumps(evalkit.evaluate(*images, names)))\n"
    )
    program = program.replace("evalkit\n", "evalkit, evalkit.metrics.registry\n", 1)
    results = []
    for switches in ({}, {"OPENCV_IPP": "disabled", "NPY_DISABLE_CPU_FEATURES": "AVX512_SKX AVX512F"}):
        done = subprocess.run(
            [sys.executable, "-c", program], env=os.environ | switches, capture_output=True, text=True, check=True
        )
        results.append(json.loads(done.stdout.splitlines()[-1]))
    first, second = results
    assert first == pytest.approx(second, rel=1e-9, abs=1e-12, nan_ok=True)  # two need models that are not here
