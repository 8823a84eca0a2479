"""PIQE, NIQE and BRISQUE: values of the published programs, slow forms, model files that are missing or hostile."""

from __future__ import annotations

import contextlib
import math
import re
import runpy
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

import evalkit
from evalkit.cli import main
from evalkit.data.images import write_png
from evalkit.errors import DataError
from evalkit.files.matlab import read_matrices
from evalkit.metrics.card import DEFINITIONS, METRICS
from evalkit.metrics.evaluate import AS_STORED
from evalkit.metrics.image import Image, UndefinedError
from evalkit.metrics.models import VARIABLE
from evalkit.metrics.noreference.brisque import brisque, image_features
from evalkit.metrics.noreference.files import read_pristine, read_regression
from evalkit.metrics.noreference.natural_scenes import asymmetric_gaussian, generalised_gaussian, halved, normalised
from evalkit.metrics.noreference.niqe import block_features, fit, niqe
from evalkit.metrics.noreference.piqe import piqe
from evalkit.metrics.registry import all_full_names, full_names_of
from evalkit.protocols.table.table import read_table

FRACTIONS = np.arange(36) / 36
BRISQUE_FEATURES = [
    2.785,
    0.34775406614,
    0.916,
    0.122139491525,
    0.0557047949148,
    0.170378628095,
    0.927,
    0.135621266713,
    0.0499171644188,
    0.175597570844,
    0.898,
    -0.0479498425657,
    0.140135350142,
    0.0927652298236,
    0.896,
    -0.0515001803124,
    0.14152413611,
    0.0907281296724,
    2.907,
    0.328032479768,
    0.93,
    0.159040604749,
    0.034024134427,
    0.171113162787,
    0.895,
    0.2070065114,
    0.021302761295,
    0.200217936265,
    0.908,
    0.0466711510603,
    0.0801294747261,
    0.1230424695,
    0.949,
    0.0354693307075,
    0.0762641778259,
    0.1069295093,
]  # of scene(7, 64, 81)


def scene(seed: int, height: int, width: int) -> np.ndarray:
    """Smooth texture with some noise, by whole numbers alone: the same bytes everywhere."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (height + 8, width + 8))
    rows = sum(x[k : k + height] for k in range(9))
    smooth = sum(rows[:, k : k + width] for k in range(9)) // 81
    return np.clip((smooth - 90) * 3 + rng.integers(-4, 5, (height, width)), 0, 255).astype(np.uint8)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with models that are made up, in the files' true forms; no folder is named yet."""
    monkeypatch.setenv(VARIABLE, "")
    folder = tmp_path / "models"
    folder.mkdir()
    savemat(
        folder / "modelparameters.mat",
        {"mu_prisparam": (1 + FRACTIONS)[None], "cov_prisparam": np.diag(1 + FRACTIONS) + 0.01},
        do_compression=True,
    )
    (folder / "allrange").write_text("x\n-1 1\n" + "".join(f"{k} {-k / 100} {k / 10}\n" for k in range(1, 37)))
    head = "svm_type epsilon_svr\nkernel_type rbf\ngamma 0.05\nnr_class 2\ntotal_sv 2\nrho -40\nprobA 6.3\nSV\n"
    text = head + "30 1:0.5 2:-0.25 36:1 \n-20 3:0.1 \n"
    (folder / "allmodel").write_bytes(text.replace("\n", "\r\n").encode())  # as the release has it
    return folder


# the published programs


@pytest.mark.parametrize(
    ("seed", "height", "width", "expected"),
    [
        (5, 100, 150, (17.13803950549529, 15.217997036279002)),
        (6, 200, 310, (18.643857481969377, 18.621722522592606)),
        (8, 64, 64, (24.213613490389665, 20.457691132184415)),
    ],
)
def test_piqe_is_that_of_pypiqe(seed, height, width, expected):
    """pypiqe 1.2 (MIT), the port of MATLAB's piqe, on the same arrays."""
    x = scene(seed, height, width)
    assert piqe(Image(x)) == pytest.approx(expected[0], rel=1e-11)
    assert piqe(Image(x // 3 + 7)) == pytest.approx(expected[1], rel=1e-11)


def test_piqe_of_a_real_pair_is_that_of_pypiqe(shared):
    sources = [evalkit.data.images.read_image(shared / f"data/TNO/{folder}/07.png") for folder in ("ir", "vi")]
    assert piqe(Image(np.maximum(*sources))) == pytest.approx(20.209247324431374, rel=1e-11)


def test_niqe_is_that_of_the_release(models):
    """computequality.m of the release, in Octave 7.3 with its image package, on the same array and model."""
    model = read_pristine(models / "modelparameters.mat")
    assert niqe(Image(scene(6, 200, 310)), model) == pytest.approx(7.93592551958817, rel=1e-10)


def test_brisque_has_the_features_of_the_release(models):
    """brisque_feature.m of the release, in Octave 7.3 with its image package; the regression by its formula."""
    x = scene(7, 64, 81)
    features = image_features(x.astype(float))
    assert features == pytest.approx(BRISQUE_FEATURES, rel=1e-9, abs=1e-12)
    scaled = [2 * (f + k / 100) / (k / 10 + k / 100) - 1 for k, f in enumerate(features, 1)]
    first, second = np.zeros(36), np.zeros(36)
    first[[0, 1, 35]], second[2] = (0.5, -0.25, 1), 0.1
    expected = 40 + sum(
        weight * math.exp(-0.05 * sum((s - v) ** 2 for s, v in zip(scaled, vector, strict=True)))
        for weight, vector in ((30, first), (-20, second))
    )
    model = read_regression(models / "allmodel", models / "allrange")
    assert brisque(Image(x), model) == pytest.approx(expected, rel=1e-12)


# their parts, slowly


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 14), (3, 5)])
def test_halved_is_a_bicubic_mean_of_eight(height, width):
    x = scene(1, height, width).astype(float)

    def cubic(t: float) -> float:
        t = abs(t)
        return 1.5 * t**3 - 2.5 * t**2 + 1 if t <= 1 else -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t < 2 else 0.0

    def line(values: np.ndarray) -> list[float]:
        n = len(values)
        mirrored = [*range(n), *reversed(range(n))]
        return [
            sum(cubic((2 * i + 0.5 - j) / 2) / 2 * values[mirrored[j % (2 * n)]] for j in range(2 * i - 4, 2 * i + 6))
            for i in range((n + 1) // 2)
        ]

    rows = np.array([line(column) for column in x.T]).T
    assert halved(x) == pytest.approx(np.array([line(row) for row in rows]), abs=1e-9)


@pytest.mark.parametrize("border", ["edge", "constant"])
def test_normalised_window_by_window(border):
    x = scene(2, 9, 12).astype(float)
    offsets = np.arange(-3, 4)
    weights = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * (7 / 6) ** 2))
    weights /= weights.sum()
    padded = np.pad(x, 3, mode=border)
    values, deviation = normalised(x, border)
    for i, j in np.ndindex(x.shape):
        window = padded[i : i + 7, j : j + 7]
        mean = (weights * window).sum()
        spread = math.sqrt(abs((weights * window**2).sum() - mean**2))
        assert deviation[i, j] == pytest.approx(spread, rel=1e-9)
        assert values[i, j] == pytest.approx((x[i, j] - mean) / (spread + 1), abs=1e-10)


def test_flat_areas_hold_zeros_not_rounding_noise():
    x = np.full((20, 20), 95.0)
    x[:, 15:] = 143
    values, deviation = normalised(x, "edge")
    assert not values[:, :11].any()
    assert not deviation[:, :11].any()


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_fits_find_the_shape_of_what_was_drawn(power):
    """Signed powers of gamma-distributed values have a generalised Gaussian distribution of a known shape."""
    rng = np.random.default_rng(1)
    values = rng.gamma(1 / power, size=40_000) ** (1 / power) * rng.choice([-1, 1], 40_000)
    assert generalised_gaussian(values)[0] == pytest.approx(power, rel=0.06)
    shape, left, right, _ = asymmetric_gaussian(values)
    assert shape == pytest.approx(power, rel=0.06)
    assert left == pytest.approx(right, rel=0.08)


def test_a_model_is_fitted_from_sharp_blocks():
    images = [scene(seed, 192, 288) for seed in (1, 2)]
    images[0][:, :96] = images[0][:, :96] // 8  # two blocks of little contrast
    model = fit(map(Image, images))
    features, sharpness = zip(*(block_features(x.astype(float)) for x in images), strict=True)
    kept = np.concatenate([f[s > 0.75 * s.max()] for f, s in zip(features, sharpness, strict=True)])
    assert len(kept) == 10
    assert model.mean == pytest.approx(kept.mean(axis=0))
    assert model.covariance == pytest.approx(np.cov(kept.T))
    with pytest.raises(DataError, match="no model of pristine images"):
        fit([Image(scene(1, 96, 96))])


# what has no value


def test_what_has_no_value(models):
    black, flat = np.zeros((192, 192), np.uint8), np.full((192, 192), 7, np.uint8)
    with pytest.raises(UndefinedError, match="black"):
        piqe(Image(black))
    assert piqe(Image(flat)) == 100  # as the programs have it: no block has structure
    pristine = read_pristine(models / "modelparameters.mat")
    regression = read_regression(models / "allmodel", models / "allrange")
    for x in (flat, black, scene(1, 95, 300), scene(1, 96, 96)):
        with pytest.raises(UndefinedError, match="two blocks of 96 x 96"):
            niqe(Image(x), pristine)
    with pytest.raises(UndefinedError, match="without structure"):
        brisque(Image(black), regression)


# models from files


def folders(root: Path) -> list[str]:
    for number in (1, 2):
        for folder, seed in (("ir", 10), ("vi", 20), ("ours/Ours", 30)):
            write_png(root / folder / f"{number}.png", scene(seed + number, 200, 200))
    return [str(root / "ours"), "--infrared", str(root / "ir"), "--visible", str(root / "vi"), "--workers", "1"]


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(main, list(map(str, arguments)))
    assert "Traceback" not in done.output
    return done.exit_code, " ".join(done.output.split())


def test_a_model_that_is_missing_is_a_missing_value(models, tmp_path):
    arguments = ["evaluate", *folders(tmp_path), "--metrics", "PIQE[matlab],NIQE[live],BRISQUE[live]"]
    out = ["--out", tmp_path / "run"]
    code, said = run(*arguments, *out)
    assert code == 3
    assert "the model modelparameters.mat" in said
    assert "github.com/utlive/niqe" in said
    cells = {cell.metric: cell.value for cell in read_table(tmp_path / "run").cells}
    assert cells["PIQE[matlab]"] > 0
    assert cells["NIQE[live]"] is None
    code, said = run(*arguments, *out, "--models", models)  # measured again: the key has the models' hash
    assert code == 0, said
    cells = {cell.metric: cell.value for cell in read_table(tmp_path / "run").cells}
    pristine = read_pristine(models / "modelparameters.mat")
    images = [Image(scene(seed, 200, 200)) for seed in (31, 32)]
    assert cells["NIQE[live]"] == pytest.approx(np.mean([niqe(image, pristine) for image in images]))
    code, said = run(*arguments, "--models", tmp_path / "nowhere")
    assert code == 2
    assert "nowhere is not a folder" in said


def test_the_pages_model_in_a_benchmark_of_ones_own(tmp_path, monkeypatch):
    """As a reader of docs/noreference.md does it: a model of their own images, then `reproduce` with its folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "")
    page = (Path(__file__).parents[1] / "docs" / "noreference.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    for number in range(4):
        write_png(Path(f"pristine/{number}.png"), scene(number, 200, 300))
    Path("fit.py").write_text(snippet, encoding="utf-8")
    runpy.run_path("fit.py")
    folders(tmp_path)
    Path("bench.yaml").write_text(
        'title: No reference\nconvention: smfnet\nmetrics: ["PIQE[matlab]", "NIQE[live]"]\n'
        "datasets: {Mine: {infrared: ir, visible: vi, root: .}}\nmethods: {Ours: 'ours/{method}/{stem}', maximum: }\n"
    )
    code, said = run("reproduce", "bench.yaml", "--out", "run", "--workers", "1")
    assert code == 3
    assert "the model modelparameters.mat is not given" in said
    code, said = run("reproduce", "bench.yaml", "--out", "run", "--workers", "1", "--models", "models")
    assert (code, "4 of 4 cells measured" in said) == (0, True), said
    model = read_pristine(Path("models/modelparameters.mat"))
    expected = np.mean([niqe(Image(scene(30 + number, 200, 200)), model) for number in (1, 2)])
    values = {(cell.method, cell.metric): cell.value for cell in read_table(tmp_path / "run").cells}
    assert values["Ours", "NIQE[live]"] == pytest.approx(expected, rel=1e-12)
    assert run("leaderboard", "verify", "run")[0] == 0
    monkeypatch.setenv(VARIABLE, "")
    code, said = run("leaderboard", "verify", "run")
    assert code == 1
    assert "or of other model files: name their folder with --models" in said


def test_workers_and_keys_have_the_models(models, tmp_path, monkeypatch):
    arguments = ["evaluate", *folders(tmp_path)[:-1], "2", "--metrics", "NIQE[live],BRISQUE[live]", "--json"]
    code, two = run(*arguments, "--models", models)
    assert code == 0, two
    code, one = run(*[*arguments[:-4], "1", *arguments[-3:]], "--models", models)
    assert one == two
    code, said = run(*arguments)  # as the command line does: the folder is named until the program ends
    assert (code, said) == (0, two)
    monkeypatch.setenv(VARIABLE, "")
    code, said = run(*arguments)  # the processes are still there, and know it
    assert code == 3
    monkeypatch.setenv(VARIABLE, str(models))
    definitions = [DEFINITIONS[name] for name in ("NIQE[live]", "BRISQUE[live]", "PIQE[matlab]", "EN[smfnet]")]
    keys = [AS_STORED.key([definition]) for definition in definitions]
    assert keys[3] == "EN[smfnet]"
    assert "model" not in keys[2]
    (models / "allrange").write_text((models / "allrange").read_text().replace("36 -0.36", "36 -0.37"))
    assert AS_STORED.key(definitions[:1]) == keys[0]
    assert AS_STORED.key(definitions[1:2]) != keys[1]
    monkeypatch.setenv(VARIABLE, "")
    assert "no model" in AS_STORED.key(definitions[:1])


def test_where_a_device_measures_numpy_measures_these(models, tmp_path):
    pytest.importorskip("torch")
    arguments = ["evaluate", *folders(tmp_path), "--metrics", "EN[smfnet],PIQE[matlab],NIQE[live]", "--models", models]
    assert run(*arguments, "--out", tmp_path / "numpy")[0] == 0
    assert run(*arguments, "--out", tmp_path / "torch", "--device", "torch")[0] == 0
    first, second = ({c.metric: c.value for c in read_table(tmp_path / name).cells} for name in ("numpy", "torch"))
    assert first.pop("EN[smfnet]") == pytest.approx(second.pop("EN[smfnet]"))
    assert first == second


def test_gray_is_chosen_as_for_other_metrics(models, tmp_path):
    arguments = folders(tmp_path)
    for number in (1, 2):
        path = tmp_path / f"ours/Ours/{number}.png"
        write_png(path, np.stack([scene(seed + number, 200, 200) for seed in (1, 5, 9)], axis=2))
    values = {}
    for gray in ("matlab", "truncated"):
        out = tmp_path / gray
        code, said = run("evaluate", *arguments, "--metrics", "PIQE[matlab]", "--gray", gray, "--out", out)
        assert code == 0, said
        (values[gray],) = (cell.value for cell in read_table(out).cells)
    assert values["matlab"] != values["truncated"]


def test_all_conventions_leave_out_what_has_no_model(models, monkeypatch):
    assert {"NIQE[live]", "BRISQUE[live]", "PIQE[matlab]"} <= set(all_full_names())
    assert not {"NIQE[live]", "BRISQUE[live]"} & set(full_names_of(None))
    assert full_names_of("NIQE") == ["NIQE[live]"]
    monkeypatch.setenv(VARIABLE, str(models))
    assert {"NIQE[live]", "BRISQUE[live]"} <= set(full_names_of(None))


def test_cards_say_what_they_were_made_for():
    for name in ("PIQE", "NIQE", "BRISQUE"):
        assert METRICS[name].better == "lower"
        assert "visible photographs" in METRICS[name].definition


def damaged(data: bytes, place: int, value: bytes) -> bytes:
    return data[:place] + value + data[place + len(value) :]


def test_mat_files_are_read_within_limits(tmp_path, monkeypatch):
    path = tmp_path / "x.mat"
    numbers = {"a": np.arange(6.0).reshape(2, 3), "b": np.array([[1, 2]], np.uint8), "s": "text", "c": {"d": 1.0}}
    for compressed in (False, True):
        savemat(path, numbers | {"z": np.array([[1j]])}, do_compression=compressed)
        found = read_matrices(path)
        assert sorted(found) == ["a", "b"]
        assert (found["a"] == numbers["a"]).all()
        assert (found["b"] == [[1, 2]]).all()
        whole = path.read_bytes()
        for end in range(0, 128, 17):
            path.write_bytes(whole[:end])
            with pytest.raises(DataError, match="is not a MAT-file"):
                read_matrices(path)
        path.write_bytes(whole[:200])
        with pytest.raises(DataError, match="is a damaged MAT-file"):
            read_matrices(path)
    bomb = zlib.compress(b"\0" * 2**27)
    path.write_bytes(whole[:128] + struct.pack("<II", 15, len(bomb)) + bomb)
    with pytest.raises(DataError, match="more than 67108864 bytes"):
        read_matrices(path)
    path.write_bytes(b"\x80\x04pickle")
    with pytest.raises(DataError, match="is not a MAT-file"):
        read_matrices(path)


@given(st.binary(max_size=200), st.integers(0, 400))
@settings(max_examples=60)
def test_bytes_in_a_mat_file_raise_one_error(noise, place):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.mat"
        savemat(path, {"a": np.arange(6.0).reshape(2, 3)})
        path.write_bytes(damaged(path.read_bytes(), 128 + place % 80, noise))
        with contextlib.suppress(DataError):
            read_matrices(path)


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("allmodel", "gamma 0.05", "gamma nan", "not finite"),
        ("allmodel", "epsilon_svr", "c_svc", "not of the kind"),
        ("allmodel", "total_sv 2", "total_sv 99999999", "says 99999999"),
        ("allmodel", "36:1", "37:1", "'37:1' is of no feature"),
        ("allmodel", "36:1", "x:1", "invalid literal"),
        ("allmodel", "SV\n", "", "it has 0 vectors"),
        ("allrange", "-1 1\n", "0 1\n", "does not hold the ranges"),
        ("allrange", "36 -0.36 3.6\n", "", "does not hold the ranges"),
        ("allrange", "1 -0.01 0.1\n", "1 0.1 0.1\n", "does not hold the ranges"),
    ],
)
def test_models_that_are_none_are_told(models, name, old, new, says):
    text = (models / name).read_text()
    assert old in text
    (models / name).write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=says):
        read_regression(models / "allmodel", models / "allrange")


def test_a_pristine_model_that_is_none_gives_no_value(models, tmp_path):
    savemat(models / "modelparameters.mat", {"mu_prisparam": np.ones((1, 35)), "cov_prisparam": np.eye(36)})
    arguments = "--metrics", "NIQE[live],PIQE[matlab]", "--models", models, "--out", tmp_path / "run"
    code, said = run("evaluate", *folders(tmp_path), *arguments)
    assert code == 3
    cells = {cell.metric: cell.value for cell in read_table(tmp_path / "run").cells}
    assert cells["NIQE[live]"] is None
    assert cells["PIQE[matlab]"] > 0
    assert "is not a model of NIQE: expected mu_prisparam with 36 numbers" in said
