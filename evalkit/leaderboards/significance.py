"""Is the difference more than chance? Paired tests over images, effect sizes, Friedman's test with Nemenyi's groups.

The tests take the images as independent. Frames of one video are not, so p is too small for data sets cut from videos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import scipy  # loads scipy.stats, which takes most of a second, when it is asked for
from numpy.typing import ArrayLike, NDArray

from evalkit.errors import EvalkitError

if TYPE_CHECKING:
    import pandas as pd

Test = Literal["wilcoxon", "permutation"]
RESAMPLES = 9_999
EXACT = 16  # up to so many images the permutation test goes through all 2^n sign patterns
_BATCH = 4_000_000  # numbers held at once while resampling


class NoTestError(EvalkitError):
    """These numbers allow no test, interval or effect size; the message says why."""


def wilcoxon(differences: ArrayLike) -> float:
    """Two-sided p of Wilcoxon's signed-rank test; zero differences are dropped, as Wilcoxon did.

    Exact for small samples without ties, else the normal approximation (scipy's `method="auto"`).
    Source: Wilcoxon 1945, doi:10.2307/3001968.

    Raises:
        NoTestError: fewer than two differences, or all of them zero.
    """
    return float(scipy.stats.wilcoxon(_testable(differences)).pvalue)


def permutation(differences: ArrayLike, resamples: int = RESAMPLES, seed: int = 0) -> float:
    """Two-sided p of the sign-flip test of a zero mean: exact up to 16 images, else from `resamples` random patterns.

    Source: Fisher 1935, The Design of Experiments, section 21.

    Args:
        differences: (n,), a finite number per image.
        resamples: random sign patterns.
        seed: of these.

    Raises:
        NoTestError: fewer than two differences, or all of them zero.
    """
    d = _testable(differences)
    result = scipy.stats.permutation_test(
        (d,),
        lambda x, axis: np.mean(x, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**d.size if d.size <= EXACT else resamples,
        batch=max(1, _BATCH // d.size),
        random_state=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def bootstrap_interval(
    differences: ArrayLike, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Bias-corrected and accelerated (BCa) bootstrap interval of the mean difference.

    Source: Efron 1987, doi:10.1080/01621459.1987.10478410.

    Args:
        differences: (n,), a finite number per image.
        confidence: how often such an interval holds the mean, 0 .. 1.
        resamples: bootstrap samples.
        seed: of these.

    Raises:
        NoTestError: fewer than two differences, or all of them equal.
    """
    d = _spread(differences)
    low, high = scipy.stats.bootstrap(
        (d,),
        np.mean,
        confidence_level=confidence,
        n_resamples=resamples,
        method="BCa",
        batch=max(1, _BATCH // d.size),
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return float(low), float(high)


def rank_biserial(differences: ArrayLike) -> float:
    """Matched-pairs rank-biserial correlation, -1 .. 1: (R+ - R-) / (R+ + R-) of Wilcoxon's signed ranks.

    Source: Kerby 2014, doi:10.2466/11.IT.3.1.

    Raises:
        NoTestError: fewer than two differences, or all of them zero.
    """
    d = _testable(differences)
    d = d[d != 0]
    ranks = scipy.stats.rankdata(np.abs(d))
    return float(np.sum(np.sign(d) * ranks) / np.sum(ranks))


def cohen_dz(differences: ArrayLike) -> float:
    """Cohen's d_z: mean of the differences over their standard deviation (n - 1).

    Source: Cohen 1988, Statistical Power Analysis, section 2.3.5; Lakens 2013, doi:10.3389/fpsyg.2013.00863.

    Raises:
        NoTestError: fewer than two differences, or all of them equal.
    """
    d = _spread(differences)
    return float(np.mean(d) / np.std(d, ddof=1))


def paired_p(differences: ArrayLike, test: Test = "wilcoxon", resamples: int = RESAMPLES, seed: int = 0) -> float:
    """Two-sided p of the test of that name.

    Args:
        differences: (n,), a finite number per image.
        test: "wilcoxon" (signed rank) or "permutation" (sign flip).
        resamples, seed: of the permutation test.

    Raises:
        NoTestError: fewer than two differences, or all of them zero.
    """
    if test == "wilcoxon":
        return wilcoxon(differences)
    if test == "permutation":
        return permutation(differences, resamples, seed)
    raise EvalkitError(f"unknown test {test!r}. Known: wilcoxon, permutation.")


def p_text(p: float) -> str:
    """Two digits; a p that is too small for a number is not a zero."""
    return f"{p:.2g}" if p else "<1e-300"


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values of one family of tests, in the order given.

    Source: Holm 1979, Scandinavian Journal of Statistics 6(2), 65-70.

    Example:
        >>> holm([0.01, 0.04, 0.02])
        [0.03, 0.04, 0.04]
    """
    adjusted = [0.0] * len(p_values)
    worst = 0.0
    for done, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        worst = max(worst, min(1.0, (len(p_values) - done) * p_values[i]))
        adjusted[i] = worst
    return adjusted


@dataclass(frozen=True)
class CriticalDifference:
    """Friedman's test and Nemenyi's critical difference, as a critical-difference diagram shows them.

    Attributes:
        ranks: method -> mean rank over the blocks (1 is best), best first.
        cd: mean ranks further apart than this differ significantly.
        p: of Friedman's test, corrected for ties.
        groups: methods that do not differ significantly, best first; each as large as possible, two at least.
        n: blocks (images or data sets).
        statistic: Friedman's chi-square, with one degree of freedom less than methods.
        alpha: level of both tests.
    """

    ranks: dict[str, float]
    cd: float
    p: float
    groups: list[list[str]]
    n: int
    statistic: float
    alpha: float


def critical_difference(
    scores: pd.DataFrame, better: Literal["higher", "lower"] = "higher", alpha: float = 0.05
) -> CriticalDifference:
    """Friedman's test over blocks, and Nemenyi's critical difference between mean ranks.

    Where Friedman's test finds nothing at `alpha`, all methods are one group, for no pair may be tested then.
    Source: Demsar 2006, Journal of Machine Learning Research 7, 1-30, section 3.2.2.

    Args:
        scores: a row per block (image or data set), a column per method; no NaN.
        better: which way is better.
        alpha: level of both tests, 0 .. 1.

    Raises:
        NoTestError: fewer than three methods or two blocks, a missing value, or no method differs from another.
    """
    n, k = scores.shape
    values = scores.to_numpy(dtype=float)
    if k < 3:
        raise NoTestError(f"{_count(k, 'method')}: Friedman's test needs three. Two are compared by `evalkit compare`")
    if n < 2:
        raise NoTestError(f"{_count(n, 'block')} with a value of every method: Friedman's test needs two")
    if not np.isfinite(values).all():
        block, method = np.argwhere(~np.isfinite(values))[0]
        raise NoTestError(f"{scores.columns[method]} has no value for {scores.index[block]}: leave one of them out")
    if not np.ptp(values, axis=1).any():
        raise NoTestError("all methods have equal values: nothing to rank")
    mean = scipy.stats.rankdata(-values if better == "higher" else values, axis=1).mean(axis=0)
    ranks = dict(sorted(zip(map(str, scores.columns), map(float, mean), strict=True), key=lambda item: item[1]))
    statistic, p = map(float, scipy.stats.friedmanchisquare(*values.T))
    q = float(scipy.stats.studentized_range.ppf(1 - alpha, k, np.inf)) / 2**0.5
    cd = q * (k * (k + 1) / (6 * n)) ** 0.5
    groups = _groups(ranks, cd) if p < alpha else [list(ranks)]
    return CriticalDifference(ranks, cd, p, groups, n, statistic, alpha)


def _groups(ranks: dict[str, float], cd: float) -> list[list[str]]:
    """Runs of methods whose ranks are closer than the critical difference, none within another."""
    methods = list(ranks)
    groups: list[list[str]] = []
    end = 0
    for start, first in enumerate(methods):
        stop = max(i for i, method in enumerate(methods) if ranks[method] - ranks[first] < cd) + 1
        if stop > end and stop - start > 1:
            groups.append(methods[start:stop])
            end = stop
    return groups


def _checked(differences: ArrayLike) -> NDArray[np.float64]:
    d = np.asarray(differences, dtype=float)
    if d.ndim != 1 or not np.isfinite(d).all():
        raise NoTestError(
            "the differences are not a list of finite numbers: leave out the pairs that have a missing value"
        )
    if d.size < 2:
        raise NoTestError(f"{_count(d.size, 'pair')}: at least two are needed")
    return d


def _testable(differences: ArrayLike) -> NDArray[np.float64]:
    d = _checked(differences)
    if not d.any():
        raise NoTestError(f"all {d.size} differences are zero: nothing to test")
    return d


def _spread(differences: ArrayLike) -> NDArray[np.float64]:
    d = _testable(differences)
    if np.ptp(d) == 0:
        raise NoTestError(f"all {d.size} differences are equal: they have no spread")
    return d


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
