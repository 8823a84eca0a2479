"""Paired tests, intervals, effect sizes, Friedman and Nemenyi against values from the literature and R."""

from __future__ import annotations

import csv
import itertools
import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import make_tno
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from test_reproduce import run

import evalkit
from evalkit.errors import DataError, EvalkitError, UnknownNameError
from evalkit.leaderboards.image_scores import read_scores
from evalkit.leaderboards.marks import significance_marks, with_marks
from evalkit.leaderboards.significance import (
    NoTestError,
    bootstrap_interval,
    cohen_dz,
    critical_difference,
    holm,
    paired_p,
    permutation,
    rank_biserial,
    wilcoxon,
)
from evalkit.protocols.table.cells import Cell, Column
from evalkit.protocols.table.table import Table, read_table

# Hollander and Wolfe 1973, the example on R's help page of wilcox.test: V = 40, one-sided p = 0.01953
DEPRESSION = np.subtract(
    [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30],
    [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29],
)
# Darwin's maize, in Fisher 1935: 1726 of the 32768 sign patterns lie as far out
DARWIN = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48])
# ranks of Demsar 2006, table 6: C4.5, C4.5+m, C4.5+cf, C4.5+m+cf on 14 data sets
DEMSAR = np.array(
    [
        [4, 3, 2, 1], [1, 2, 3, 4], [4, 1, 2, 3], [4, 1, 3, 2], [4, 2, 3, 1], [1, 2.5, 4, 2.5], [3, 2, 4, 1],
        [2.5, 2.5, 4, 1], [4, 3, 2, 1], [2.5, 2.5, 2.5, 2.5], [4, 2.5, 1, 2.5], [3, 2, 4, 1], [4, 1, 2, 3],
        [3, 1, 4, 2],
    ]
)  # fmt: skip
METHODS = ["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"]
# base running, Hollander and Wolfe 1973, R's help page of friedman.test: chi-squared = 11.143, df = 2, p = 0.003805
RUNNING = np.array(
    [
        [5.40, 5.50, 5.55], [5.85, 5.70, 5.75], [5.20, 5.60, 5.50], [5.55, 5.50, 5.40], [5.90, 5.85, 5.70],
        [5.45, 5.55, 5.60], [5.40, 5.40, 5.35], [5.45, 5.50, 5.35], [5.25, 5.15, 5.00], [5.85, 5.80, 5.70],
        [5.25, 5.20, 5.10], [5.65, 5.55, 5.45], [5.60, 5.35, 5.45], [5.05, 5.00, 4.95], [5.50, 5.50, 5.40],
        [5.45, 5.55, 5.50], [5.55, 5.55, 5.35], [5.45, 5.50, 5.55], [5.50, 5.45, 5.25], [5.65, 5.60, 5.40],
        [5.70, 5.65, 5.55], [6.30, 6.30, 6.25],
    ]
)  # fmt: skip


def test_wilcoxon_gives_the_values_of_r():
    assert wilcoxon(DEPRESSION) == pytest.approx(2 * 0.01953125)
    assert rank_biserial(DEPRESSION) == pytest.approx((40 - 5) / 45)


def test_permutation_gives_fishers_count():
    assert permutation(DARWIN) == pytest.approx(1726 / 2**15)


def test_exact_permutation_counts_every_sign_pattern():
    d = np.random.default_rng(3).normal(0.5, 1, 9)
    means = [abs(np.mean(d * signs)) for signs in itertools.product([1, -1], repeat=9)]
    assert permutation(d) == np.mean(np.array(means) >= abs(d.mean()) - 1e-12)


def test_random_permutation_is_seeded_and_near_the_normal_limit():
    d = np.random.default_rng(5).normal(0.1, 1, 300)
    p = permutation(d, seed=1)
    assert p == permutation(d, seed=1)
    assert p != permutation(d, seed=2)
    assert p == pytest.approx(stats.ttest_1samp(d, 0).pvalue, abs=0.02)


def test_holm_gives_the_values_of_r():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # p.adjust(, "holm")
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.01, 0.2))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values, alpha):
    rejected: set[int] = set()
    for i in sorted(range(len(p_values)), key=p_values.__getitem__):
        if (len(p_values) - len(rejected)) * p_values[i] > alpha:
            break
        rejected.add(i)
    assert {i for i, p in enumerate(holm(p_values)) if p <= alpha} == rejected


def test_the_interval_is_seeded_holds_the_mean_and_covers():
    low, high = bootstrap_interval(DARWIN)
    assert (low, high) == bootstrap_interval(DARWIN)
    assert low < DARWIN.mean() < high
    rng = np.random.default_rng(0)
    samples = [bootstrap_interval(rng.exponential(size=60), 0.9, 500, seed) for seed in range(200)]
    assert 0.83 <= np.mean([a <= 1 <= b for a, b in samples]) <= 0.96


def test_effect_sizes():
    assert cohen_dz(DARWIN) == pytest.approx(stats.ttest_1samp(DARWIN, 0).statistic / math.sqrt(15))
    assert cohen_dz(-DARWIN) == -cohen_dz(DARWIN)
    assert rank_biserial([1, 2, 3]) == 1
    plus = stats.wilcoxon(DARWIN, alternative="greater").statistic
    assert rank_biserial(DARWIN) == pytest.approx((2 * plus - 120) / 120)
    assert rank_biserial([0, 0, 2, -1]) == pytest.approx(1 / 3)


@pytest.mark.parametrize("function", [wilcoxon, permutation, bootstrap_interval, rank_biserial, cohen_dz])
def test_what_cannot_be_tested_is_no_number(function):
    for nothing, reason in (
        ([0.0, 0.0, 0.0], "zero|equal"), ([1.5], "1 pair"), ([], "0 pairs"), ([1.0, math.nan], "finite"),
    ):  # fmt: skip
        with pytest.raises(NoTestError, match=reason):
            function(nothing)


def test_a_constant_difference_has_a_p_but_neither_interval_nor_dz():
    assert wilcoxon([2.0] * 6) == pytest.approx(2 / 2**6)
    for function in (bootstrap_interval, cohen_dz):
        with pytest.raises(NoTestError, match="equal"):
            function([2.0] * 6)


def test_an_unknown_test_is_refused():
    with pytest.raises(EvalkitError, match="wilcoxon, permutation"):
        paired_p([1, 2, 3], "ttest")


# --- Friedman and Nemenyi


def test_demsars_example():
    found = critical_difference(pd.DataFrame(DEMSAR, columns=METHODS), better="lower")
    assert {m: round(r, 3) for m, r in found.ranks.items()} == {
        "C4.5+m+cf": 1.964, "C4.5+m": 2.0, "C4.5+cf": 2.893, "C4.5": 3.143,
    }  # fmt: skip
    assert found.cd == pytest.approx(1.25, abs=0.005)
    assert found.n == 14
    chi_square = 12 * 14 / (4 * 5) * (sum(r**2 for r in found.ranks.values()) - 4 * 25 / 4)
    assert chi_square == pytest.approx(9.28, abs=0.005)  # as printed, without the correction for ties
    assert found.statistic == pytest.approx(stats.friedmanchisquare(*DEMSAR.T).statistic)
    assert found.p < 0.05
    assert found.groups == [["C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5"]]  # 3.143 - 1.964 < 1.25
    at_ten = critical_difference(pd.DataFrame(DEMSAR, columns=METHODS), better="lower", alpha=0.1)
    assert at_ten.cd == pytest.approx(1.12, abs=0.005)
    # as the paper says: C4.5 is worse than +m and +m+cf, and it cannot be told to which group +cf belongs
    assert at_ten.groups == [["C4.5+m+cf", "C4.5+m", "C4.5+cf"], ["C4.5+cf", "C4.5"]]


@pytest.mark.parametrize(
    ("k", "q"), [(3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (7, 2.949), (8, 3.031), (9, 3.102), (10, 3.164)]
)
def test_the_critical_values_are_those_of_demsars_table_5(k, q):
    scores = pd.DataFrame(np.arange(k) + np.zeros((10, 1)))
    assert critical_difference(scores).cd == pytest.approx(q * math.sqrt(k * (k + 1) / 60), abs=0.001)


def test_friedman_gives_the_values_of_r():
    found = critical_difference(pd.DataFrame(RUNNING, columns=["round out", "narrow angle", "wide angle"]), "lower")
    assert found.statistic == pytest.approx(11.143, abs=5e-4)
    assert found.p == pytest.approx(0.003805, abs=5e-7)
    assert next(iter(found.ranks)) == "wide angle"


def test_higher_and_lower_mirror_each_other():
    scores = pd.DataFrame(np.random.default_rng(0).random((12, 5)), columns=list("abcde"))
    assert critical_difference(scores, "higher") == critical_difference(-scores, "lower")


def test_groups_are_the_largest_runs_within_the_critical_difference():
    rng = np.random.default_rng(1)
    scores = pd.DataFrame(rng.normal(size=(30, 8)) + np.arange(8) * 0.4, columns=list("abcdefgh"))
    found = critical_difference(scores)
    near = {
        pair for pair in itertools.combinations(found.ranks, 2)
        if abs(found.ranks[pair[0]] - found.ranks[pair[1]]) < found.cd
    }  # fmt: skip
    assert 0 < len(near) < 28
    assert {pair for group in found.groups for pair in itertools.combinations(group, 2)} == near
    assert not any(set(a) < set(b) for a in found.groups for b in found.groups)


def test_without_evidence_all_are_one_group():
    scores = pd.DataFrame([[1, 2, 3], [3, 1, 2], [2, 3, 1.0]], columns=list("abc"))
    found = critical_difference(scores)
    assert found.p == pytest.approx(1)
    assert found.groups == [["a", "b", "c"]]


def test_friedman_needs_numbers_three_methods_and_a_difference():
    good = pd.DataFrame(np.random.default_rng(0).random((4, 3)), columns=list("abc"), index=list("wxyz"))
    missing_cell = good.copy()
    missing_cell.loc["y", "b"] = math.nan
    for scores, reason in (
        (good[["a", "b"]], "needs three"), (good.iloc[:1], "needs two"), (missing_cell, "b has no value for y"),
        (good * 0, "equal values"),
    ):  # fmt: skip
        with pytest.raises(NoTestError, match=reason):
            critical_difference(scores)


# --- files of scores, `evalkit compare`


def write_scores(path, columns, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["image", *columns], *rows])
    return path


@pytest.fixture
def two(tmp_path):
    """Scores of two methods on twelve images, and their differences in EN and MSE."""
    rng = np.random.default_rng(7)
    a = rng.normal([7, 100], [0.3, 9], (12, 2))
    b = a - rng.normal([0.3, 5], [0.1, 9], (12, 2))
    names = [f"{i:02d}" for i in range(12)]
    columns = ["EN[smfnet]", "MSE[smfnet]"]
    files = [
        write_scores(
            tmp_path / f"{name}.csv", columns, [[n, *map(repr, r.tolist())] for n, r in zip(names, x, strict=True)]
        )
        for name, x in (("a", a), ("b", b))
    ]
    return *files, a - b


def test_compare_gives_what_scipy_gives(two):
    a, b, d = two
    found = evalkit.compare(a, b)
    assert [r.metric for r in found.results] == ["EN[smfnet]", "MSE[smfnet]"]
    p = [stats.wilcoxon(column).pvalue for column in d.T]
    assert [r.p for r in found.results] == pytest.approx(p)
    assert [r.p_holm for r in found.results] == pytest.approx(holm(p))
    for result, column in zip(found.results, d.T, strict=True):
        assert (result.n, result.left_out, result.missing) == (12, {}, {})
        assert result.difference == pytest.approx(column.mean())
        assert result.low < column.mean() < result.high
        assert result.d_z == pytest.approx(cohen_dz(column))
    assert found.results[0].winner == "a"
    assert found.complete
    assert evalkit.compare(b, a).results[0].winner == "b"
    assert evalkit.compare(a, b, test="permutation", metrics=["mse"]).results[0].p == permutation(d[:, 1])


def test_less_is_better_where_the_card_says_so(tmp_path):
    rows = [[str(i), 10 + i / 7] for i in range(8)], [[str(i), 11 + i / 5] for i in range(8)]
    a, b = (write_scores(tmp_path / f"{n}.csv", ["MSE[tang]"], r) for n, r in zip("ab", rows, strict=True))
    assert evalkit.compare(a, b).results[0].winner == "a"


def test_the_winner_is_named_by_the_corrected_p(tmp_path):
    """Six images, all won: p is 1/32, which two metrics double."""
    metrics = ["EN[tang]", "SD[tang]"]
    rows = [[str(i), 5 + i / 7 + shift, 40 + i / 3 + shift] for shift in (1, 0) for i in range(6)]
    rows = [[image, en + i * i / 90, sd + i * i / 80] for i, (image, en, sd) in enumerate(rows[:6])], rows[6:]
    a, b = (write_scores(tmp_path / f"{n}.csv", metrics, r) for n, r in zip("ab", rows, strict=True))
    (alone,) = evalkit.compare(a, b, metrics=["EN[tang]"]).results
    assert (alone.p, alone.p_holm, alone.winner) == (1 / 32, 1 / 32, "a")
    for result in evalkit.compare(a, b).results:
        assert (result.p, result.p_holm, result.winner) == (1 / 32, 1 / 16, "")


def test_images_without_a_partner_and_missing_values_are_named_and_left_out(tmp_path):
    columns = ["EN[tang]", "PSNR[tang]"]
    a = write_scores(tmp_path / "a.csv", columns, [["1", 1, ""], ["2", 2, 5], ["3", 4, 6], ["4", 8, "inf"]])
    b = write_scores(tmp_path / "b.csv", columns, [["2", 1, 1], ["3", 2, ""], ["4", 3, 1], ["5", 9, 9]])
    found = evalkit.compare(a, b)
    en, psnr = found.results
    assert en.left_out == {"1": "not in the scores of b", "5": "not in the scores of a"}
    assert (en.n, en.mean_a, en.mean_b) == (3, pytest.approx(14 / 3), 2)
    assert set(psnr.left_out) == {"1", "3", "4", "5"}
    assert psnr.left_out["3"] == "b has no value: no value in the file"
    assert (psnr.n, psnr.difference, psnr.p, psnr.low, psnr.d_z) == (1, 4, None, None, None)
    assert "1 pair" in psnr.missing["p"]
    assert not found.complete
    code, out, _ = run("compare", a, b)
    assert code == 3
    assert "left out of all metrics: 1: not in the scores of b" in out
    assert "left out of PSNR[tang]: 3: b has no value" in out
    assert "PSNR[tang], no interval, p, rank_biserial, d_z: 1 pair" in out
    code, out, _ = run("compare", a, b, "--json")
    assert json.loads(out)["results"][1]["p"] is None


def test_equal_methods_are_a_missing_value_not_a_p(two, tmp_path):
    a, _, _ = two
    again = shutil.copy(a, tmp_path / "again.csv")
    found = evalkit.compare(a, again)
    assert {r.difference for r in found.results} == {0.0}
    assert all(r.p is None and r.p_holm is None and not r.winner for r in found.results)
    assert all("all 12 differences are zero" in r.missing["p"] for r in found.results)
    code, out, _ = run("compare", a, again)
    assert code == 3
    assert "nan" not in out
    assert "differences are zero" in out


def test_nothing_in_common_gives_no_numbers(tmp_path):
    a = write_scores(tmp_path / "a.csv", ["EN[tang]"], [["1", 1], ["2", 2]])
    b = write_scores(tmp_path / "b.csv", ["EN[tang]"], [["3", 1], ["4", 2]])
    (result,) = evalkit.compare(a, b).results
    assert (result.n, result.mean_a, result.p) == (0, None, None)
    assert set(result.missing.values()) == {"no image has a value of both"}
    assert run("compare", a, b)[0] == 3


def test_conventions_are_never_compared(tmp_path):
    a = write_scores(tmp_path / "a.csv", ["SSIM[tang]"], [["1", 1], ["2", 2]])
    b = write_scores(tmp_path / "b.csv", ["SSIM[smfnet]"], [["1", 1], ["2", 2]])
    plain = write_scores(tmp_path / "plain.csv", ["SSIM"], [["1", 2], ["2", 4]])
    code, _, err = run("compare", a, b)
    assert code == 2
    assert "only a has SSIM[tang]; only b has SSIM[smfnet]" in err
    code, _, err = run("compare", a, plain)
    assert code == 2
    assert "--convention" in err
    code, out, _ = run("compare", a, plain, "--convention", "tang", "--json")
    assert code == 0
    assert json.loads(out)["results"][0]["difference"] == -1.5
    assert run("compare", a, plain, "--convention", "tangg")[0] == 2


def test_evaluate_writes_what_compare_reads(tmp_path):
    assert run("data", "sample", tmp_path, "--count", 3, "--size", "160x120")[0] == 0
    sources = ["--infrared", tmp_path / "samples/ir", "--visible", tmp_path / "samples/vi"]
    for name in ("average", "maximum"):
        fuse = ["fuse", name, "--data-root", tmp_path, "--dataset", "samples", "--gray", "--out", tmp_path / "f"]
        assert run(*fuse)[0] == 0
        folder = tmp_path / "f" / name / "samples"
        more = ["--metrics", "EN,SSIM[textbook]", "--convention", "smfnet", "--out", tmp_path / f"{name}.csv"]
        assert run("evaluate", folder, *sources, *more)[0] == 0
    found = evalkit.compare(tmp_path / "average.csv", tmp_path / "maximum.csv")
    assert [(r.metric, r.n) for r in found.results] == [("EN[smfnet]", 3), ("SSIM[textbook]", 3)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pair,EN\n1,2\n", "image"), ("", "image"), ("image,EN[tang]\n1,x\n", "line 2: 'x'"),
        ("image,EN[tang]\n1,2\n1,3\n", "line 3: the image '1'"), ("image,EN[tang]\n1\n", "line 2: 1 cells"),
        ("image,EN[tang],EN[tang]\n1,2,3\n", "two columns"), ("image,ENN[tang]\n1,2\n", "'EN'"),
        ("image,EN[tang],missing\n1,,{\n", "damaged"),
    ],
)  # fmt: skip
def test_damaged_files_are_named(tmp_path, text, message):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(EvalkitError):
        read_scores(tmp_path / "s.csv")
    (tmp_path / "other.csv").write_text(text)
    code, _, err = run("compare", tmp_path / "s.csv", tmp_path / "other.csv")
    assert code == 2
    assert message in err
    assert run("compare", tmp_path / "none.csv", tmp_path / "s.csv")[0] == 2


# --- runs, and the marks in their tables


@pytest.fixture(scope="module")
def real_run(tmp_path_factory):
    root = make_tno(tmp_path_factory.mktemp("run"), 5)  # too few for any p below 0.05: 2 / 2^5
    use = {"datasets": ["TNO"], "methods": ["maximum", "laplacian"], "workers": 1}
    evalkit.reproduce("smfnet-table1", root, out=root / "out", **use)
    return root / "out"


def test_compare_within_a_run(real_run):
    code, out, _ = run("compare", "laplacian", "maximum", "--run", real_run, "--metrics", "EN,SF", "--json")
    assert code == 0
    frames = [read_scores(real_run / f"scores/TNO/{m}.csv") for m in ("laplacian", "maximum")]
    d = frames[0] - frames[1]
    for result in json.loads(out)["results"]:
        assert result["p"] == stats.wilcoxon(d[result["metric"]]).pvalue
    table = read_table(real_run)
    assert json.loads(out)["results"][0]["mean_a"] == table.cell("TNO", "laplacian", "EN").value
    code, out, _ = run("compare", "laplacian", "maximum", "--run", real_run)
    assert code == 0
    assert "A = laplacian" in out
    with pytest.raises(UnknownNameError, match="laplacian"):
        evalkit.compare("laplacan", "maximum", real_run)
    with pytest.raises(UnknownNameError, match="TNO"):
        evalkit.compare("laplacian", "maximum", real_run, datasets=["TN0"])
    with pytest.raises(UnknownNameError, match="EN"):
        evalkit.compare("laplacian", "maximum", real_run, metrics=["ENN"])
    files = [real_run / f"scores/TNO/{m}.csv" for m in ("laplacian", "maximum")]
    assert evalkit.compare(*files).results[0].metric == "EN[smfnet]"  # the run's table says the convention


def small_run(out, scores, better="higher", metric="EN"):
    """A run's table and score files, of method -> values per image."""
    column = Column(metric, better, "smfnet")
    cells = [
        Cell("TNO", m, metric, float(np.mean(v)) if None not in v else None, None, len(v), "unpublished", "")
        for m, v in scores.items()
    ]
    Table("smfnet-table1", "t", "s", "smfnet", "c", [column], pairs={"TNO": 9}, cells=cells).write(out)
    (out / "scores" / "TNO").mkdir(parents=True)
    for method, values in scores.items():
        rows = [[i, "k", "" if v is None else v, "" if v is not None else f'{{"{metric}": "damaged"}}']
                for i, v in enumerate(values)]  # fmt: skip
        write_scores(out / "scores" / "TNO" / f"{method}.csv", ["key", metric, "missing"], rows)
    return out


BEST = [5.0, 6.1, 7.3, 5.5, 6.6, 7.7, 8.1, 5.2, 6.3]


def test_marks_stand_where_the_best_is_not_significantly_better(tmp_path):
    near = [b + e for b, e in zip(BEST, [0.1, -0.2, 0.05, -0.3, 0.12, -0.04, 0.2, -0.5, 0.01], strict=True)]
    far = [b - 1 - i / 50 for i, b in enumerate(BEST)]
    missing_cell = [*BEST[:-1], None]
    out = small_run(tmp_path / "run", {"best": BEST, "near": near, "far": far, "same": BEST, "missing": missing_cell})
    found = significance_marks(out)
    assert found.marks == {("TNO", "near", "EN"): "†", ("TNO", "same", "EN"): "†"}
    assert "Wilcoxon" in found.note
    assert significance_marks(out, "permutation").marks == found.marks
    marked = with_marks(read_table(out), found)
    assert [cell.sign for cell in marked.cells] == ["", "†", "", "†", ""]


def test_holm_counts_in_the_marks(tmp_path):
    """p = 2 / 2^6 = 0.031 is significant for one rival, and not for two."""
    one = [b - 1 - i / 9 for i, b in enumerate(BEST[:6])]
    assert wilcoxon(np.subtract(BEST[:6], one)) == 2 / 2**6
    alone = small_run(tmp_path / "one", {"best": BEST[:6], "one": one})
    assert significance_marks(alone).marks == {}
    two = small_run(tmp_path / "two", {"best": BEST[:6], "one": one, "two": [v - 1 for v in one]})
    assert set(significance_marks(two).marks.values()) == {"†"}
    assert len(significance_marks(two).marks) == 2


def test_lower_is_better_and_one_image_gives_no_test(tmp_path):
    near = [b + e for b, e in zip(BEST, [0.1, -0.2, 0.05, 0.3, 0.12, -0.04, 0.2, -0.5, 0.01], strict=True)]
    far = [b + 2 + i / 50 for i, b in enumerate(BEST)]
    out = small_run(tmp_path / "a", {"best": BEST, "near": near, "far": far}, "lower", "MSE")
    assert significance_marks(out).marks == {("TNO", "near", "MSE"): "†"}
    found = significance_marks(small_run(tmp_path / "b", {"best": [3.0], "far": [2.0]}))
    assert found.marks == {("TNO", "far", "EN"): "‡"}
    assert "‡: no test was possible" in found.note


def test_ranks_against_the_mean_name_no_winner(tmp_path):
    """B is better on eighteen images by a little, A on two by much: the means say A, the signed ranks B."""
    b = [7 + i / 10 for i in range(20)]
    a = [v - 0.01 * (i + 1) for i, v in enumerate(b[:18])] + [b[18] + 50, b[19] + 60]
    assert wilcoxon(np.subtract(a, b)) < 0.05
    out = small_run(tmp_path / "run", {"a": a, "b": b})
    (result,) = evalkit.compare("a", "b", out).results
    assert result.p_holm < 0.05
    assert result.difference > 0 > result.rank_biserial
    assert result.winner == ""
    assert significance_marks(out).marks == {("TNO", "b", "EN"): "†"}


def test_marks_reach_every_printed_format(real_run):
    marks = significance_marks(real_run).marks
    assert marks
    code, tex, _ = run("table", real_run, "--format", "latex", "--significance", "wilcoxon")
    assert code == 0
    assert tex.count(r"\textsuperscript{\dag{}}") == len(marks)
    assert "not significantly better" in tex
    for form in ("markdown", "html"):
        code, text, _ = run("table", real_run, "--format", form, "--significance", "permutation")
        assert code == 0
        assert text.count("†") == len(significance_marks(real_run, "permutation").marks) + 1
    assert "†" not in run("table", real_run, "--format", "latex")[1]
    assert run("table", real_run, "--format", "csv", "--significance", "wilcoxon")[0] == 2


def test_a_stopped_run_and_a_run_without_scores_are_named(tmp_path):
    out = small_run(tmp_path / "run", {"a": BEST, "b": BEST[::-1]})
    (out / "scores/TNO/a.csv.partial").write_text("image")
    with pytest.raises(DataError, match="not finished"):
        significance_marks(out)
    for file in (out / "scores/TNO").iterdir():
        file.unlink()
    with pytest.raises(DataError, match="no scores per image"):
        significance_marks(out)
    with pytest.raises(DataError, match="no scores per image"):
        evalkit.compare("a", "b", out)
    assert run("compare", "a", "b", "--run", tmp_path / "none")[0] == 2
