"""Fusion by filtering and by optimisation: guided filter fusion (GFF), gradient transfer fusion (GTF)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from evalkit.data.images import Gray
from evalkit.methods.rules import Array, to_8bit

BASE_SIDE = 31  # pixels, of the mean filter that splits base and detail
SALIENCY_SIDE, SALIENCY_SIGMA = 11, 5.0
BASE_RADIUS, BASE_EPS = 45, 0.3  # the guided filter of the base weights
DETAIL_RADIUS, DETAIL_EPS = 7, 1e-6

LAMBDA = 4.0  # weight of the total variation
TAU = 0.005  # primal step; U moves by at most this much an iteration, and |div|^2 <= 8 gives the dual step
GAP = 0.02  # stop where the duality gap is this fraction of the objective,
MOST_ITERATIONS = 1000  # or here
CHECK_EVERY = 50


def gff(infrared: Gray, visible: Gray) -> Gray:
    """Guided filter fusion, GFF (Li, Kang and Hu 2013, doi:10.1109/TIP.2013.2244222).

    Base and detail of each source by a 31x31 mean filter; at every pixel the source of larger saliency (smoothed
    magnitude of the Laplacian) has the weight 1; the weights are smoothed by a guided filter with the source as guide,
    widely for the base, narrowly for the detail, and made to sum to 1. Images in [0, 1].
    """
    a, b = infrared / 255.0, visible / 255.0
    # eight decimals of a gray level: what is equal but for rounding, which differs between processors, is a tie
    lead = np.round(saliency(infrared.astype(np.float64)) - saliency(visible.astype(np.float64)), 8)
    winner = np.where(lead > 0, 1.0, np.where(lead < 0, 0.0, 0.5))
    base_a, base_b = (cv2.blur(image, (BASE_SIDE, BASE_SIDE), borderType=cv2.BORDER_REPLICATE) for image in (a, b))
    base_weight = _weight_of_first(a, b, winner, BASE_RADIUS, BASE_EPS)
    detail_weight = _weight_of_first(a, b, winner, DETAIL_RADIUS, DETAIL_EPS)
    base = base_b + base_weight * (base_a - base_b)
    detail_a, detail_b = a - base_a, b - base_b
    return to_8bit(255 * (base + detail_b + detail_weight * (detail_a - detail_b)))


def saliency(image: Array) -> Array:
    """Gaussian mean of the magnitude of the 3x3 Laplacian, (H, W), in the image's units."""
    edges = np.abs(cv2.Laplacian(image, -1, borderType=cv2.BORDER_REPLICATE))
    size = (SALIENCY_SIDE, SALIENCY_SIDE)
    return cv2.GaussianBlur(edges, size, SALIENCY_SIGMA, borderType=cv2.BORDER_REPLICATE)


def _weight_of_first(a: Array, b: Array, winner: Array, radius: int, eps: float) -> Array:
    """The smoothed weight of `a`; that of `b` is one minus it."""
    weight_a = np.clip(guided_filter(a, winner, radius, eps), 0, 1)
    weight_b = np.clip(guided_filter(b, 1 - winner, radius, eps), 0, 1)
    total = weight_a + weight_b
    return np.divide(weight_a, total, out=np.full_like(total, 0.5), where=total > 0)


def guided_filter(guide: Array, image: Array, radius: int, eps: float) -> Array:
    """Guided filter (He, Sun and Tang 2013, doi:10.1109/TPAMI.2012.213); windows end at the border.

    Args:
        guide, image: (H, W) float64.
        radius: of a window, in pixels; its sides are 2 radius + 1.
        eps: what counts as a small variance of the guide, in its squared units.
    """
    size = (2 * radius + 1, 2 * radius + 1)

    def total(values: Array) -> Array:
        return cv2.boxFilter(values, -1, size, normalize=False, borderType=cv2.BORDER_CONSTANT)

    count = total(np.ones_like(image))
    mean_guide, mean_image = total(guide) / count, total(image) / count
    covariance = total(guide * image) / count - mean_guide * mean_image
    variance = np.maximum(total(guide * guide) / count - mean_guide**2, 0)
    slope = covariance / (variance + eps)
    offset = mean_image - slope * mean_guide
    return total(slope) / count * guide + total(offset) / count


def gtf(infrared: Gray, visible: Gray) -> Gray:
    """Gradient transfer fusion, GTF (Ma, Chen, Li and Huang 2016, doi:10.1016/j.inffus.2016.02.001).

    The fused image stays near the infrared image in intensity and near the visible image in its gradients:
    X = V + argmin_U ||U - (I - V)||_1 + 4 TV(U), images in [0, 1], isotropic total variation.
    """
    difference = (infrared.astype(np.float32) - visible) / 255
    return to_8bit(255 * tv_l1(difference) + visible)


def tv_l1(d: NDArray[np.floating]) -> NDArray[np.floating]:
    """argmin_U ||U - d||_1 + 4 TV(U), by the primal-dual algorithm of Chambolle and Pock (2011).

    doi:10.1007/s10851-010-0251-1. It starts at U = d and stops where the duality gap is at most 2 % of the objective
    (looked at every 50 iterations) or after 1000 iterations. The dual value belongs to the dual variable scaled to
    feasibility, which is the loose end of the gap: the objective itself then is some 0.1 % above its minimum.

    Returns:
        U, of the shape and dtype of `d`.
    """
    tau, sigma = d.dtype.type(TAU), d.dtype.type(1 / (8 * TAU))
    u, extrapolated = d.copy(), d.copy()
    px, py, gx, gy = (np.zeros_like(d) for _ in range(4))
    work, more = np.empty_like(d), np.empty_like(d)
    for iteration in range(MOST_ITERATIONS):  # in place throughout: the arrays' traffic is the whole cost
        if iteration % CHECK_EVERY == 0 and _gap(u, d, px, py) <= GAP:
            break
        _gradient(extrapolated, gx, gy)
        px += np.multiply(gx, sigma, out=work)
        py += np.multiply(gy, sigma, out=work)
        _project(px, py, work, more)
        _divergence(px, py, work)
        work *= tau
        work += u
        # soft threshold around d: a step of at most tau towards it
        np.subtract(d, work, out=extrapolated)
        np.clip(extrapolated, -tau, tau, out=extrapolated)
        work += extrapolated
        np.subtract(work, u, out=extrapolated)
        extrapolated += work
        u, work = work, u
    return u


def tv_l1_objective(u: NDArray[np.floating], d: NDArray[np.floating]) -> float:
    """||u - d||_1 + 4 TV(u), forward differences, zero across the border."""
    gx, gy = np.zeros_like(u), np.zeros_like(u)
    _gradient(u, gx, gy)
    return float(np.abs(u - d).sum(dtype=np.float64) + LAMBDA * np.hypot(gx, gy).sum(dtype=np.float64))


def _gap(u: NDArray, d: NDArray, px: NDArray, py: NDArray) -> float:
    """Duality gap relative to the objective; the dual needs |div p| <= 1, to which p is scaled."""
    primal = tv_l1_objective(u, d)
    divergence = np.empty_like(d)
    _divergence(px, py, divergence)
    dual = -float((divergence * d).sum(dtype=np.float64)) / max(1.0, float(np.abs(divergence).max()))
    return (primal - dual) / primal if primal > 0 else 0.0


def _gradient(u: NDArray, gx: NDArray, gy: NDArray) -> None:
    np.subtract(u[:, 1:], u[:, :-1], out=gx[:, :-1])
    np.subtract(u[1:], u[:-1], out=gy[:-1])


def _divergence(px: NDArray, py: NDArray, out: NDArray) -> None:
    """The negative adjoint of `_gradient`; the last column of px and the last row of py are zero."""
    np.add(px, py, out=out)
    out[:, 1:] -= px[:, :-1]
    out[1:] -= py[:-1]


def _project(px: NDArray, py: NDArray, work: NDArray, more: NDArray) -> None:
    """Onto |p| <= 4 at every pixel; not by OpenCV, whose magnitude in float32 differs between processors."""
    np.multiply(px, px, out=work)
    work += np.multiply(py, py, out=more)
    np.sqrt(work, out=work)
    work /= LAMBDA
    np.maximum(work, 1, out=work)
    px /= work
    py /= work
