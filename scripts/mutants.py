"""Whether the quick tests notice a wrong formula: each mutant is one change of the code, and some test must fail.

    python scripts/mutants.py                   # all, on a clone of this repository without the folder ../shared
    python scripts/mutants.py --only splits     # those of an area, or whose name contains a word
    python scripts/mutants.py --work FOLDER     # keep clone and results there; run again, it goes on where it stopped
    python scripts/mutants.py --list            # the table of docs/testing.md

A mutant is found by its text, wherever below evalkit/ it lies; a text that is not there exactly once is an error. It
counts as caught only if a test fails: not if the code cannot be imported, nor if a test file cannot be collected.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class TextError(Exception):
    """The text of a mutant is not in the code exactly once."""


@dataclass(frozen=True)
class Mutant:
    """One change of the code.

    Attributes:
        area, name: what is broken.
        text: what is replaced; unique below evalkit/.
        by: what stands there instead.
        tests: names of test files without test_ and .py.
    """

    area: str
    name: str
    text: str
    by: str
    tests: str


def of(area: str, tests: str, *changes: tuple[str, str, str]) -> list[Mutant]:
    """Mutants of one area that the same tests must catch: (name, text, replacement)."""
    return [Mutant(area, name, text, by, tests) for name, text, by in changes]


MUTANTS = [
    *of("metrics", "convention_values",
        ("entropy in nats", "entropy_of(histogram(image)) / math.log(2)", "entropy_of(histogram(image))"),
        ("MI[tang] without its merged levels", "rows = np.vstack([joint[:254], joint[254:].sum(0)])", "rows = joint"),
        ("SSIM[tsjnet] with range 1", "_mean(ssim, matlab_gaussian, 255)", "_mean(ssim, matlab_gaussian, 1)"),
        ("NMI halved", "return 2 * mutual_information(fused, source) / total",
         "return mutual_information(fused, source) / total"),
        ("cross entropy the other way round", "(p_source * np.log2(p_source / p_fused))",
         "(p_fused * np.log2(p_fused / p_source))"),
        ("SD of a sample", "math.sqrt(_scaled_covariance(image, image)) / image.pixels.size",
         "math.sqrt(_scaled_covariance(image, image)) / (image.pixels.size - 1)"),
        ("SCD of sums", "_scaled_covariance(fused, source) - _between_sources(subtracted, source)",
         "_scaled_covariance(fused, source) + _between_sources(subtracted, source)"),
        ("PSNR with 20 log", "return 10 * math.log10(peak**2 / mse)", "return 20 * math.log10(peak**2 / mse)"),
        ("AG[tang] over all pixels", "gradient_sum(image) / math.sqrt(2) / ((rows - 1) * (columns - 1))",
         "gradient_sum(image) / math.sqrt(2) / (rows * columns)"),
        ("SF over all pixels", "np.dot(dx, dx) / dx.size + np.dot(dy, dy) / dy.size",
         "np.dot(dx, dx) / x.size + np.dot(dy, dy) / x.size"),
        ("Qabf of equal edges always 1", "1.0 if equal_is_one else g_f", "1.0"),
        ("edge orientation mirrored at sx = 0", "np.copyto(orientation, np.pi / 2, where=sx == 0)",
         "np.copyto(orientation, 0, where=sx == 0)"),
        ("VIF with another noise", "NOISE = 2.0", "NOISE = 0.4"),
        ("Nabf[smfnet] against both sources", "artifacts.nabf(pair, artifacts.SMFNET, False)",
         "artifacts.nabf(pair, artifacts.SMFNET, True)"),
        ("CV[textbook] stretched", "chen_varshney(pair, False)", "chen_varshney(pair, True)"),
        ("PSNR[cddfuse] with peak 255", "(_psnr(_fused_maximum, _mse),", "(_psnr(_255, _mse),"),
        ("MS-SSIM[smfnet] of the visible image", "lambda pair: ms_ssim_smfnet(pair.fused, pair.infrared)",
         "lambda pair: ms_ssim_smfnet(pair.fused, pair.visible)"),
        ("VIF[tsjnet] with the sources as references", "_mean_of_references(wavelet_vif)", "_mean(wavelet_vif)"),
        ("VIF-wavelet[li] on 0..255", "_mean(wavelet_vif, 255)", "_mean(wavelet_vif)"),
        ("wavelet VIF with windows over the border", "margin = math.ceil((_side(band) // 2) / BLOCK)", "margin = 1"),
        ("MEF-SSIM: agreement of contrasts with their offset", "(norms[0] + norms[1] + EPSILON)",
         "(norms[0] + norms[1] + 2 * CONTRAST_OFFSET + EPSILON)"),
        ("FMI-edge without the mean's factor", "STRONG_EDGE = 4", "STRONG_EDGE = 3"),
        ("MS-SSIM[metric_python] halved as Wang does", 'ms_ssim, 1, "zeros first"', "ms_ssim, 1"),
        ("Nabf[metric_python] with weak edges", "EdgeModel(weak_weight=0)", "EdgeModel()"),
    ),
    *of("metrics", "artifacts", ("FMI[tang]: flat windows of two levels differ", "if constants_agree:", "if False:")),
    *of("metrics", "segmentation",
        ("IoU over true and predicted", '("IoU", true + predicted - right,', '("IoU", true + predicted,'),
        ("confusion matrix transposed",
         "pairs = truth.astype(np.int64).ravel() * classes + prediction.ravel().astype(np.int64)",
         "pairs = prediction.astype(np.int64).ravel() * classes + truth.ravel().astype(np.int64)"),
        ("ignored by the prediction", "counted = truth != ignore", "counted = prediction != ignore"),
        ("an absent class counts as 0", "right / np.maximum(pixels, 1), np.nan)",
         "right / np.maximum(pixels, 1), 0.0)"),
    ),
    *of("metrics", "detection",
        ("IoU above one half only", "if row[best] >= 0.5:", "if row[best] > 0.6:"),
        ("a detection of every copy", "overlap[:, best] = -1", "pass"),
        ("precision without interpolation", "np.maximum.accumulate((true / (detected + np.spacing(1)))[::-1])[::-1]",
         "true / (detected + np.spacing(1))"),
    ),
    *of("metrics", "saliency",
        ("F with beta 1", "BETA2 = 0.3", "BETA2 = 1.0"),
        ("S of unequal shares", "ALPHA = 0.5", "ALPHA = 0.7"),
        ("adaptive threshold at the mean", "threshold = min(2 * counted.stretched.mean(), 1)",
         "threshold = min(counted.stretched.mean(), 1)"),
        ("E over N", "return total / (size - 1)", "return total / size"),
        ("an object from 128 on", "truth = g > OBJECT", "truth = g >= OBJECT"),
    ),
    *of("splits", "downstream",
        ("the seed has no say", 'f"{seed}/{group[0]}"', 'f"0/{group[0]}"'),
        ("frames are not kept together", 'size = block if kind == "sequence" else 1', "size = 1"),
        ("strata are not divided each", '(strata or {}).get(stem, "")', '""'),
        ("long groups count as one", "lacking[place] -= len(group)", "lacking[place] -= 1"),
        ("shares of a ratio are equal", "count * share / sum(shares)", "count / len(shares)"),
    ),
    *of("keys", "keys",
        ("scores without the infrared image's hash", "REVISION, names, hashes[pair.infrared], hashes[pair.visible],",
         "REVISION, names, hashes[pair.visible],"),
        ("scores without the visible image's hash", "hashes[pair.visible], hashes[row.fused[pair.stem]]",
         "hashes[row.fused[pair.stem]]"),
        ("scores without the fused image's hash", ", hashes[row.fused[pair.stem]]\n", "\n"),
        ("scores without the metrics' names", "REVISION, names, hashes[pair.infrared]",
         "REVISION, hashes[pair.infrared]"),
        ("fused images without the infrared image's hash",
         "digest(row.fuser.identity, hashes[pair.infrared], hashes[pair.visible])",
         "digest(row.fuser.identity, hashes[pair.visible])"),
        ("fused images without the visible image's hash",
         "made_from = digest(row.fuser.identity, hashes[pair.infrared], hashes[pair.visible])",
         "made_from = digest(row.fuser.identity, hashes[pair.infrared])"),
        ("a data set's hash without the visible images", "(p.stem, hashes[p.infrared], hashes[p.visible])",
         "(p.stem, hashes[p.infrared])"),
        ("a map's scores without its mask", "*MEASURES.values(), mask_hash, map_hash", "*MEASURES.values(), map_hash"),
        ("rows are taken whatever their key", "if keys.get(image) != key:", "if image not in keys:"),
    ),
    *of("keys", "keys",
        ("a row's digest without its header", "[list(header), list(cells)]", "[list(cells)]"),
        ("a record's hash without its scores", 'self.model_dump(exclude={"record_hash"})',
         'self.model_dump(exclude={"record_hash", "scores"})'),
    ),
    *of("agreement", "table_cells",
        ("equal within a whole unit", "0.5 * 10.0 ** -decimals_of(printed)", "1.0 * 10.0 ** -decimals_of(printed)"),
        ("close within one percent", "CLOSE = 1e-3", "CLOSE = 1e-2"),
        ("published minus measured", "return self.value - float(self.published)",
         "return float(self.published) - self.value"),
        ("decimals of an exponent added", 'or "") - int(match[2] or 0))', 'or "") + int(match[2] or 0))'),
        ("best is the highest, always", 'ranked = sorted(set(values.values()), reverse=better == "higher")',
         "ranked = sorted(set(values.values()), reverse=True)"),
        ("near within five percent", "NEAR = 0.005", "NEAR = 0.05"),
    ),
    *of("ranking", "rank",
        ("ties share the best rank", 'method="average")', 'method="min")'),
        ("ranks the wrong way round", 'ascending=better[metric] == "lower"', 'ascending=better[metric] == "higher"'),
        ("Borda counts the method itself", "beaten = ranks.count() - ranks", "beaten = ranks.count() + 1 - ranks"),
        ("a method alone is the first", "ranks.loc[alone, metric] = math.nan", "pass"),
        ("infinite values are ranked", "values = values.where(np.isfinite(values))", "values = values.copy()"),
        ("overall ranks of some data sets", "/ size if len(r) == size else None", "/ len(r) if r else None"),
        ("overall ranks across conventions", "ranking.convention for ranking in rankings", "0 for _ in rankings"),
    ),
    *of("significance", "significance",
        ("Bonferroni instead of Holm", "(len(p_values) - done) * p_values[i]", "len(p_values) * p_values[i]"),
        ("Holm without running maximum", "worst = max(worst, min(1.0,", "worst = max(0.0, min(1.0,"),
        ("rank-biserial without ranks", "np.sum(np.sign(d) * ranks) / np.sum(ranks)", "np.mean(np.sign(d))"),
        ("d_z with the population's deviation", "np.mean(d) / np.std(d, ddof=1)", "np.mean(d) / np.std(d)"),
        ("critical difference of k - 1", "(k * (k + 1) / (6 * n)) ** 0.5", "(k * (k - 1) / (6 * n)) ** 0.5"),
        ("Nemenyi's q without its root", "np.inf)) / 2**0.5", "np.inf))"),
        ("mean ranks the wrong way round", '-values if better == "higher" else values', "values"),
        ("the winner whatever is better", '(result.difference > 0) == (result.better == "higher")',
         "result.difference > 0"),
        ("no correction of the winner", "result.p_holm is None or result.p_holm >= alpha",
         "result.p is None or result.p >= alpha"),
    ),
    *of("significance", "downstream",
        ("bootstrap p one-sided", "min(1.0, 2 * side)", "min(1.0, side)"),
        ("bootstrap p may be 0", ">= 0)) + 1) / (len(differences) + 1)", ">= 0))) / len(differences)"),
        ("an interval of 90 %", "[0.025, 0.975]", "[0.05, 0.95]"),
    ),
    *of("labels", "labels pairs",
        ("ids spread over 0..255", "stored // np.uint8(255 // (2**bits - 1)) if bits < 8 else stored", "stored"),
        ("a true mask of level 128 counts as empty", "if not 0 < high <= OBJECT", "if not 0 < high < OBJECT"),
        ("boxes are not cut off", "return (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0", "return x, y, w, h"),
        ("VOC boxes by their corner", "box = (x0 + x1) / 2 / width", "box = x0 / width"),
        ("boxes far outside pass", "BORDER = 0.01", "BORDER = 0.5"),
    ),
    *of("tables", "keys table_cells",
        ("a mean over missing values", "if not values or any(value is None for value in values):", "if not values:"),
        ("a mean is a maximum", "math.fsum(s[metric] for s in measured.values()) / len(measured)",
         "max(s[metric] for s in measured.values())"),
        ("rows twice in a file of numbers", "seen[row.key] = lines.line_num", "pass"),
    ),
    *of("published comparison", "audit",
        ("a printed number within a whole unit", "half = Fraction(row.printed), ulp(row) / 2",
         "half = Fraction(row.printed), ulp(row)"),
        ("PSNR of the peak, not its square", "return float(psnr.printed) - 10 * log10(peak**2",
         "return float(psnr.printed) - 10 * log10(peak"),
        ("a mark allows one better value", 'allowed = 0 if row.mark == "best" else 1', "allowed = 1"),
        ("a mean is a sum", "total(intervals) * Fraction(1, len(intervals))", "total(intervals)"),
        ("a difference of intervals keeps its ends", "Interval(self.low - other.high, self.high - other.low)",
         "Interval(self.low - other.low, self.high - other.high)"),
        ("gain of what is lower is better, unsigned", 'sign = -1 if better_of(mine.metric) == "lower" else 1',
         "sign = 1"),
    ),
]  # fmt: skip


def place(mutant: Mutant, root: Path) -> Path:
    """The file below root/evalkit that holds the mutant's text. Raises TextError unless it is there exactly once."""
    counts = {path: path.read_text(encoding="utf-8").count(mutant.text) for path in (root / "evalkit").rglob("*.py")}
    files = [path for path, count in counts.items() if count]
    if sum(counts.values()) != 1:
        where = ", ".join(str(path.relative_to(root)) for path in files) or "nowhere"
        raise TextError(
            f"mutant {mutant.name!r}: {mutant.text!r} occurs {sum(counts.values())} times ({where}), expected once. "
            "Give scripts/mutants.py a text that is there once, of the same formula."
        )
    return files[0]


def table() -> str:
    """The mutants as a Markdown table."""
    rows = [f"| {m.area} | {m.name} | {' '.join(f'test_{test}' for test in m.tests.split())} |" for m in MUTANTS]
    return "\n".join(["| area | mutant | tests |", "| --- | --- | --- |", *rows]) + "\n"


def run_tests(clone: Path, tests: str) -> tuple[int, str]:
    """pytest's exit code and output, the quick tests of these files."""
    files = [f"tests/test_{name}.py" for name in tests.split()]
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-q", "-x", "-m", "not slow", "--no-header", "-rf",
               "-p", "no:cacheprovider", *files]  # fmt: skip
    # no byte code: two versions of a file of one size within a second would be taken for one
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = os.environ | threads | {"PYTHONPATH": str(clone), "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)
    return result.returncode, result.stdout + result.stderr


def judge(clone: Path, mutant: Mutant) -> str:
    """ "caught by <test>", "SURVIVED", or "BROKEN: ..." where no test could run."""
    path = place(mutant, clone)
    before = path.read_bytes()
    path.write_text(before.decode().replace(mutant.text, mutant.by), encoding="utf-8")
    try:
        code, output = run_tests(clone, mutant.tests)
    finally:
        path.write_bytes(before)
    failed = re.search(r"^FAILED (tests/\S+)", output, re.MULTILINE)
    if code == 1 and failed:
        return f"caught by {failed[1].partition('[')[0]}"
    return "SURVIVED" if code == 0 else f"BROKEN: pytest ended with {code}: {' '.join(output.split()[-25:])}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", default="", help="a part of an area or a name")
    parser.add_argument("--work", type=Path, help="folder of clone and results; a temporary one if not given")
    parser.add_argument("--list", action="store_true", help="print the table of docs/testing.md")
    arguments = parser.parse_args()
    if arguments.list:
        print(table(), end="")
        return 0
    work = arguments.work or Path(tempfile.mkdtemp(prefix="mutants-"))
    clone, results_file = work / "repository" / "evalkit", work / "results.json"
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    if not clone.is_dir():
        clone.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone)], check=True)
    subprocess.run(["git", "fetch", "--quiet", str(ROOT), head.strip()], cwd=clone, check=True)
    subprocess.run(["git", "checkout", "--quiet", "--force", "--detach", head.strip()], cwd=clone, check=True)
    assert not (clone.parent / "shared").exists(), "the clone must not see the folder ../shared"
    mutants = [m for m in MUTANTS if arguments.only in m.area or arguments.only in m.name]
    for mutant in mutants:
        place(mutant, clone)
    results = json.loads(results_file.read_text()) if results_file.is_file() else {}
    for tests in dict.fromkeys(m.tests for m in mutants if key(m, head) not in results):
        code, output = run_tests(clone, tests)
        if code != 0:
            print(f"the tests fail without any mutant ({tests}):\n{output[-2000:]}")
            return 2
    for number, mutant in enumerate(mutants, 1):
        if key(mutant, head) not in results:
            start = time.monotonic()
            results[key(mutant, head)] = f"{judge(clone, mutant)} ({time.monotonic() - start:.0f} s)"
            results_file.write_text(json.dumps(results, indent=1))
        print(f"{number:3}/{len(mutants)}  {mutant.area}: {mutant.name}: {results[key(mutant, head)]}", flush=True)
    caught = sum(results[key(m, head)].startswith("caught") for m in mutants)
    print(f"{caught} of {len(mutants)} mutants caught at commit {head[:12]}")
    return 0 if caught == len(mutants) else 1


def key(mutant: Mutant, head: str) -> str:
    """What a result is stored under: this mutant and tests at this commit."""
    return f"{head[:12]} {mutant.text} -> {mutant.by} | {mutant.tests}"


if __name__ == "__main__":
    sys.exit(main())
