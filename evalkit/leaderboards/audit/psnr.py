"""PSNR against MSE: which peak explains both columns, and which rows none does.

For one image PSNR = 10 log10(peak^2 / MSE). Means over images: the logarithm is concave, so the mean of the PSNRs is at
least the PSNR of the mean MSE (Jensen); by how much depends on how unequal the images are. A row below that bound is
impossible, a row a little above it is what is to be expected.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import log10
from statistics import median

from evalkit.leaderboards.audit.finding import Finding, Sure, cut, grid, names
from evalkit.protocols.table.published import PublishedRow

PEAKS = (1, 255)
SPREAD = 6.0  # dB of Jensen gap up to which images of one set explain it
Pairs = dict[tuple[str, str], tuple[PublishedRow, PublishedRow]]  # (block, method) -> PSNR, MSE


def check(rows: list[PublishedRow]) -> Iterator[Finding]:
    """Which peak explains a table's PSNR and MSE columns, and the rows that it does not explain."""
    pairs: Pairs = {
        (block, method): (cells["PSNR"], cells["MSE"])
        for block, lines in grid(rows).items()
        for method, cells in lines.items()
        if {"PSNR", "MSE"} <= set(cells) and float(cells["MSE"].printed) > 0
    }
    if len(pairs) < 2:
        return
    peak = min(PEAKS, key=lambda peak: median(abs(gap(*pair, peak)) for pair in pairs.values()))
    yield _peak(rows[0].protocol, pairs, peak)
    for (block, method), pair in pairs.items():
        low, high = gap_bounds(*pair, peak)
        if high < 0 or low > SPREAD:
            sure: Sure = "certain" if high < 0 else "possible"
            bound = 10 * log10(peak**2 / float(pair[1].printed))
            why = (
                "a mean of PSNRs below the PSNR of the mean MSE is impossible on the same images"
                if high < 0
                else "far more than images of one set usually differ"
            )
            yield Finding(
                "psnr row", sure, rows[0].protocol, block, method, "PSNR", pair[0].printed,
                f"at least {bound:.3f} from MSE {pair[1].printed} with peak {peak}",
                f"gap {gap(*pair, peak):+.2f} dB ({low:+.2f} .. {high:+.2f} with rounding): {why}",
            )  # fmt: skip


def gap(psnr: PublishedRow, mse: PublishedRow, peak: int) -> float:
    """Printed PSNR minus the PSNR of the printed MSE, in dB.

    Args:
        psnr: cell of a mean PSNR, in dB.
        mse: cell of a mean MSE above 0, of the same method and images.
        peak: greatest gray level, 1 or 255.
    """
    return float(psnr.printed) - 10 * log10(peak**2 / float(mse.printed))


def gap_bounds(psnr: PublishedRow, mse: PublishedRow, peak: int) -> tuple[float, float]:
    """The least and greatest gap of the numbers behind the printed digits.

    Args:
        psnr: cell of a mean PSNR, in dB.
        mse: cell of a mean MSE, of the same method and images.
        peak: greatest gray level, 1 or 255.
    """
    p, m = cut(psnr), cut(mse)
    low = float(p.low) - 10 * log10(peak**2 / float(m.low)) if m.low > 0 else float("-inf")
    return low, float(p.high) - 10 * log10(peak**2 / float(m.high))


def _peak(protocol: str, pairs: Pairs, peak: int) -> Finding:
    gaps = {key: gap(*pair, peak) for key, pair in pairs.items()}
    fits = [key for key, pair in pairs.items() if _fits(*gap_bounds(*pair, peak))]
    greatest = max(float(mse.printed) for _, mse in pairs.values())
    unit_mse = greatest <= 1
    share = len(fits) / len(pairs)
    text = f"peak {peak} explains {len(fits)} of {len(pairs)} pairs of PSNR and MSE (gap {min(gaps.values()):+.2f} .. "
    text += f"{max(gaps.values()):+.2f} dB, median {median(gaps.values()):+.2f}; 0 or a little more is expected). "
    others = [other for other in PEAKS if other != peak]
    text += "; ".join(f"peak {o}: median {median(gap(*pair, o) for pair in pairs.values()):+.1f} dB" for o in others)
    if peak == 255 and unit_mse:
        text += ". MSE of images in [0, 1] with the peak of images in [0, 255]: every PSNR is 48.13 dB too high"
    elif peak == 1 and not unit_mse:
        text += ". MSE of gray levels with peak 1"
    else:
        text += f". Peak and MSE are of the same range, [0, {peak}]"
    sure: Sure = "likely" if share >= 0.5 else "possible"
    example = names((f"{psnr.printed} dB at {mse.printed}" for psnr, mse in pairs.values()), 2)
    return Finding("psnr peak", sure, protocol, "", "", "PSNR", example, f"peak {peak}", text)


def _fits(low: float, high: float) -> bool:
    return high >= 0 and low <= SPREAD
