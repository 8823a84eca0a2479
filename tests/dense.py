"""Straightforward versions of the nine common metrics in the convention `smfnet`, for tests and benchmarks.

Written from the definitions without regard to speed: two-dimensional windows, no sharing, no memo.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.signal import convolve2d

Gray = NDArray[np.uint8]
Array = NDArray[np.float64]


def en(f: Gray, a: Gray, b: Gray) -> float:
    p = np.unique(f, return_counts=True)[1] / f.size
    return float(-(p * np.log2(p)).sum())


def sd(f: Gray, a: Gray, b: Gray) -> float:
    return float(f.astype(float).std())


def sf(f: Gray, a: Gray, b: Gray) -> float:
    x = f.astype(float)
    return math.sqrt((np.diff(x, axis=1) ** 2).mean() + (np.diff(x, axis=0) ** 2).mean())


def ag(f: Gray, a: Gray, b: Gray) -> float:
    gy, gx = np.gradient(f.astype(float))
    return float(np.hypot(gx, gy).mean())


def mi(f: Gray, a: Gray, b: Gray) -> float:
    total = 0.0
    for s in (a, b):
        joint = np.histogram2d(f.ravel(), s.ravel(), bins=256, range=[[-0.5, 255.5]] * 2)[0] / f.size
        product = np.outer(joint.sum(1), joint.sum(0))
        filled = joint > 0
        total += float((joint[filled] * np.log(joint[filled] / product[filled])).sum())
    return total


def scd(f: Gray, a: Gray, b: Gray) -> float:
    x, y, z = (i.astype(float).ravel() for i in (f, a, b))
    return float(np.corrcoef(x - z, y)[0, 1] + np.corrcoef(x - y, z)[0, 1])


def vif(f: Gray, a: Gray, b: Gray) -> float:
    return _vifp(a.astype(float), f.astype(float)) + _vifp(b.astype(float), f.astype(float))


def _vifp(r: Array, d: Array) -> float:
    numerator = denominator = 0.0
    for scale in range(1, 5):
        n = 2 ** (5 - scale) + 1
        i = np.arange(n) - n // 2
        window = np.exp(-(i[:, None] ** 2 + i**2) / (2 * (n / 5) ** 2))
        window /= window.sum()
        if scale > 1:
            r, d = (convolve2d(x, window, mode="valid")[::2, ::2] for x in (r, d))
        mean_r, mean_d = convolve2d(r, window, mode="valid"), convolve2d(d, window, mode="valid")
        var_r = np.maximum(convolve2d(r * r, window, mode="valid") - mean_r**2, 0)
        var_d = np.maximum(convolve2d(d * d, window, mode="valid") - mean_d**2, 0)
        covariance = convolve2d(r * d, window, mode="valid") - mean_r * mean_d
        gain = covariance / (var_r + 1e-10)
        noise = var_d - gain * covariance
        flat_r, flat_d = var_r < 1e-10, var_d < 1e-10
        gain[flat_r], noise[flat_r], var_r[flat_r] = 0, var_d[flat_r], 0
        gain[flat_d] = noise[flat_d] = 0
        noise[gain < 0] = var_d[gain < 0]
        gain = np.maximum(gain, 0)
        noise = np.maximum(noise, 1e-10)
        numerator += np.log10(1 + gain**2 * var_r / (noise + 2)).sum()
        denominator += np.log10(1 + var_r / 2).sum()
    return float(numerator / denominator)


_SOBEL = np.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])


def qabf(f: Gray, a: Gray, b: Gray) -> float:
    (g_f, a_f), (g_a, a_a), (g_b, a_b) = (_edges(x.astype(float)) for x in (f, a, b))
    kept = (_preserved(g_f, a_f, g_a, a_a) * g_a + _preserved(g_f, a_f, g_b, a_b) * g_b).sum()
    return float(kept / (g_a + g_b).sum())


def _edges(x: Array) -> tuple[Array, Array]:
    sx = convolve2d(x, _SOBEL, mode="same")
    sy = convolve2d(x, -_SOBEL.T, mode="same")
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.hypot(sx, sy), np.where(sx == 0, np.pi / 2, np.arctan(sy / sx))


def _preserved(g_f: Array, a_f: Array, g_s: Array, a_s: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(g_s > g_f, g_f / g_s, np.where(g_s == g_f, g_f, g_s / g_f))
    angle = 1 - np.abs(a_s - a_f) / (np.pi / 2)
    return 0.9994 / (1 + np.exp(-15 * (ratio - 0.5))) * 0.9879 / (1 + np.exp(-22 * (angle - 0.8)))


def ssim(f: Gray, a: Gray, b: Gray) -> float:
    window = np.full((7, 7), 1 / 49)
    c1, c2 = 2.55**2, 7.65**2
    x = f.astype(float)
    total = 0.0
    for s in (a, b):
        y = s.astype(float)
        mx, my = convolve2d(x, window, mode="valid"), convolve2d(y, window, mode="valid")
        vx = (convolve2d(x * x, window, mode="valid") - mx**2) * 49 / 48
        vy = (convolve2d(y * y, window, mode="valid") - my**2) * 49 / 48
        covariance = (convolve2d(x * y, window, mode="valid") - mx * my) * 49 / 48
        total += float(((2 * mx * my + c1) * (2 * covariance + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean())
    return total


DENSE: dict[str, Callable[[Gray, Gray, Gray], float]] = {
    "EN": en,
    "SD": sd,
    "SF": sf,
    "AG": ag,
    "MI": mi,
    "SCD": scd,
    "VIF": vif,
    "Qabf": qabf,
    "SSIM": ssim,
}
