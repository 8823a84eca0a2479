"""The conventions: which variant of each metric stands behind a table's columns. Read it as a table.

`tests/test_conventions.py` holds each of them against the values of the public evaluators; docs/conventions.md has the
evidence that a convention made a table.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2

from evalkit.metrics import detection, packages, saliency, segmentation
from evalkit.metrics.card import add_card, card_of
from evalkit.metrics.fusion import artifacts
from evalkit.metrics.fusion.exposure import mef_ms_ssim, mef_ssim
from evalkit.metrics.fusion.feature_information import fmi_dct, fmi_edge, fmi_pixel, fmi_wavelet
from evalkit.metrics.fusion.gradient import (
    average_gradient,
    average_gradient_magnitude,
    average_gradient_over_inner_size,
    edge_intensity,
    edge_transfer,
    gradient_quality_liu,
    spatial_frequency,
    spatial_frequency_error,
)
from evalkit.metrics.fusion.haar import multiscale_quality
from evalkit.metrics.fusion.information import (
    correlation,
    cross_entropy,
    entropy,
    entropy_with_offset,
    mean_squared_error,
    mutual_information,
    mutual_information_of_merged_levels,
    normalised_mutual_information,
    psnr,
    root_mean_squared_error,
    squared_sum_deviation,
    standard_deviation,
    sum_of_correlations_of_differences,
)
from evalkit.metrics.fusion.ivif_zoo import ZOO, entropy_balance
from evalkit.metrics.fusion.joint_information import (
    nonlinear_correlation,
    nonlinear_correlation_liu,
    normalised_mutual_information_liu,
    tsallis_ratio_liu,
    tsallis_sum_liu,
)
from evalkit.metrics.fusion.local_similarity import (
    LIU_11,
    LIU_EDGES,
    cvejic_similarity,
    cvejic_similarity_liu,
    piella_edge_dependent_quality,
    piella_quality,
    piella_weighted_quality,
    yang_similarity,
    yang_similarity_liu,
)
from evalkit.metrics.fusion.mefb import MEFB
from evalkit.metrics.fusion.multiscale import ms_ssim, ms_ssim_smfnet
from evalkit.metrics.fusion.perceptual import chen_blum, chen_varshney
from evalkit.metrics.fusion.phase_congruency import phase_congruency_quality
from evalkit.metrics.fusion.similarity import gaussian, matlab_gaussian, ssim, uniform
from evalkit.metrics.fusion.vif import vifp
from evalkit.metrics.fusion.vif_wavelet import wavelet_vif
from evalkit.metrics.fusion.vifb import VIFB
from evalkit.metrics.fusion.viff import viff
from evalkit.metrics.image import Image, Pair
from evalkit.metrics.noreference import files as model_files
from evalkit.metrics.noreference.brisque import brisque
from evalkit.metrics.noreference.niqe import niqe
from evalkit.metrics.noreference.piqe import piqe
from evalkit.metrics.registry import add_convention

Metric = Callable[[Pair], float]
Table = dict[str, tuple[Metric, str]]


def _sum(function: Callable[..., float], *args: object) -> Metric:
    return lambda pair: sum(function(pair.fused, source, *args) for source in pair.sources)


def _mean(function: Callable[..., float], *args: object) -> Metric:
    return lambda pair: sum(function(pair.fused, source, *args) for source in pair.sources) / 2


def _mean_of_references(function: Callable[..., float], *args: object) -> Metric:
    """The fused image is the reference, as if a source were its distorted version."""
    return lambda pair: sum(function(source, pair.fused, *args) for source in pair.sources) / 2


def _fused(function: Callable[[Image], float]) -> Metric:
    return lambda pair: function(pair.fused)


def _scaled(function: Metric, factor: float) -> Metric:
    return lambda pair: factor * function(pair)


def _psnr(peak: Callable[[Pair], float], mse: Metric) -> Metric:
    return lambda pair: psnr(peak(pair), mse(pair))


def _255(pair: Pair) -> float:
    return 255


def _fused_maximum(pair: Pair) -> float:
    return float(pair.fused.pixels.max())


_BITS = 1 / math.log(2)  # bits per nat
_mse = _mean(mean_squared_error)
_unit_mse = _scaled(_mse, 1 / 255**2)


def _qabf_zero_padded(pair: Pair) -> float:
    return edge_transfer(pair, cv2.BORDER_CONSTANT, equal_is_one=False)


_QABF_TOOLBOX = (_qabf_zero_padded, "Sobel padded with zeros; equal edge strengths count as the strength itself")
_MATLAB_SSIM = (
    _mean(ssim, matlab_gaussian, 255),
    "mean over the sources, 11 x 11 Gaussian, border replicated, L = 255",
)

TEXTBOOK: Table = {
    "EN": (_fused(entropy), "bits, 256 bins"),
    "SD": (_fused(standard_deviation), "population, 8-bit gray"),
    "SF": (_fused(spatial_frequency), "row and column differences, 8-bit gray"),
    "AG": (_fused(average_gradient), "central differences, mean sqrt((gx^2 + gy^2) / 2)"),
    "EI": (_fused(edge_intensity), "mean Sobel magnitude, border replicated"),
    "MI": (_scaled(_sum(mutual_information), _BITS), "sum over the sources, bits"),
    "NMI": (_sum(normalised_mutual_information), "sum over the sources of 2 I(F; S) / (H(F) + H(S))"),
    "CE": (_mean(cross_entropy), "KL divergence of source from fused in bits, empty levels skipped, mean of sources"),
    "SCD": (sum_of_correlations_of_differences, "sum over the sources"),
    "CC": (_mean(correlation), "mean over the sources"),
    "MSE": (_mse, "mean over the sources, 0..255"),
    "RMSE": (root_mean_squared_error, "root of the mean MSE of the image's two sources, 0..255"),
    "PSNR": (_psnr(_255, _mse), "peak 255, mean MSE of the image's two sources"),
    "VIF": (_mean(vifp), "mean over the sources"),
    "VIFF": (viff, "Han 2013, sigma_n^2 = 0.005 * 255^2, weights 1, 0, 0.15, 1 over 2.15"),
    "Qabf": (edge_transfer, "Sobel with replicated border; equal edge strengths count as 1"),
    "Nabf": (artifacts.nabf, "Sobel / 8, T_d = 2, artifacts over both sources"),
    "Labf": (artifacts.labf, "the same family: what is lost of both sources"),
    "SSIM": (_mean(ssim, gaussian, 255), "mean over the sources, 11 x 11 Gaussian, L = 255"),
    "MS-SSIM": (_mean(ms_ssim), "mean over the sources, five scales, 11 x 11 Gaussian, L = 255"),
    "VIF-wavelet": (
        _mean(wavelet_vif),
        "mean over the sources, four levels and two orientations of a steerable pyramid, noise variance 0.4 on 0..255",
    ),
    "MEF-SSIM": (mef_ssim, "11 x 11 windows, both sources at once, L = 255"),
    "MEF-MS-SSIM": (mef_ms_ssim, "three scales, 11 x 11 windows, both sources at once, L = 255"),
    "FMI": (fmi_pixel, "pixel values as features, 3 x 3 windows, mean over the sources"),
    "CV": (lambda pair: chen_varshney(pair, False), "gray levels as they are, 16 x 16 regions"),
    "CB": (chen_blum, "each image stretched to 0..255"),
    "QS": (piella_quality, "universal image quality index, 8 x 8 windows"),
    "QW": (piella_weighted_quality, "universal image quality index, 8 x 8 windows"),
    "QE": (piella_edge_dependent_quality, "QW times QW of Prewitt's gradient magnitudes, alpha = 1"),
    "QC": (cvejic_similarity, "universal image quality index, 8 x 8 windows"),
    "QY": (yang_similarity, "SSIM in 7 x 7 uniform windows, L = 255, sources alike from 0.75"),
    "QNCIE": (nonlinear_correlation, "256 gray levels, logarithm to the base 256"),
    "QP": (phase_congruency_quality, "Kovesi's phase congruency, 1e-4 added to the amplitude of each orientation, too"),
    "QM": (multiscale_quality, "two levels of the Haar wavelet, mean over the detail bands"),
    "QSF": (spatial_frequency_error, "four directions, squares along diagonals times sqrt(1/2)"),
}

CDDFUSE: Table = {
    "EN": (_fused(entropy), "bits, 256 bins"),
    "SD": (_fused(standard_deviation), "population, 8-bit gray"),
    "SF": (_fused(spatial_frequency), "row and column differences, 8-bit gray"),
    "AG": (_fused(average_gradient), "central differences, mean sqrt((gx^2 + gy^2) / 2)"),
    "MI": (_sum(mutual_information), "sum over the sources, nats"),
    "SCD": (sum_of_correlations_of_differences, "sum over the sources"),
    "CC": (_mean(correlation), "mean over the sources"),
    "MSE": (_mse, "mean over the sources, 0..255"),
    "PSNR": (_psnr(_fused_maximum, _mse), "peak = the fused image's maximum, mean MSE of the image's two sources"),
    "VIF": (_sum(vifp), "sum over the sources"),
    "Qabf": _QABF_TOOLBOX,
    "SSIM": (_sum(ssim, uniform, 2), "sum over the sources, 7 x 7 uniform window, L = 2 on 0..255 values"),
}

SMFNET: Table = CDDFUSE | {
    "AG": (_fused(average_gradient_magnitude), "central differences, mean sqrt(gx^2 + gy^2): no division by sqrt(2)"),
    "Nabf": (
        lambda pair: artifacts.nabf(pair, artifacts.SMFNET, False),
        "unscaled Sobel, border mirrored, direction over the full circle, artifacts against the infrared image only",
    ),
    "SSIM": (_sum(ssim, uniform, 255), "sum over the sources, 7 x 7 uniform window, L = 255"),
    "MS-SSIM": (
        lambda pair: ms_ssim_smfnet(pair.fused, pair.infrared),
        "infrared image only, border mirrored, scales halved bilinearly",
    ),
}

TANG: Table = {
    "EN": (_fused(entropy), "bits, 256 bins"),
    "SD": (_fused(standard_deviation), "population, 8-bit gray"),
    "SF": (_fused(spatial_frequency), "row and column differences, 8-bit gray"),
    "AG": (_fused(average_gradient_over_inner_size), "sum sqrt((gx^2 + gy^2) / 2) / ((M - 1)(N - 1))"),
    "MI": (
        _scaled(_sum(mutual_information_of_merged_levels), _BITS),
        "sum over the sources, bits; levels 254 and 255 are one in the joint histogram, two in the entropies",
    ),
    "SCD": (sum_of_correlations_of_differences, "sum over the sources"),
    "CC": (_mean(correlation), "mean over the sources"),
    "MSE": (_unit_mse, "mean over the sources, images in 0..1"),
    "PSNR": (_psnr(_255, _unit_mse), "peak 255 though the MSE is of images in 0..1: 48.13 dB too much"),
    "VIF": (_sum(vifp), "sum over the sources"),
    "Qabf": _QABF_TOOLBOX,
    "Nabf": (artifacts.nabf_of_infrared, "arguments slipped: the infrared image is taken for the fused one"),
    "SSIM": (
        _mean(ssim, matlab_gaussian, 1),
        "mean over the sources, 11 x 11 Gaussian, border replicated, L = 1 on 0..255 values",
    ),
    "MEF-MS-SSIM": (mef_ms_ssim, "called MS_SSIM there; three scales, both sources at once, L = 255"),
    "FMI-edge": (fmi_edge, "called FMI_pixel there, but the feature is not handed over and edges are the default"),
    "FMI-dct": (fmi_dct, "cosine transform of the whole image, 3 x 3 windows, mean over the sources"),
    "FMI-w": (fmi_wavelet, "one level of the discrete Meyer wavelet, 3 x 3 windows, mean over the sources"),
}

METRIC_PYTHON: Table = {name: TANG[name] for name in CDDFUSE} | {
    "EN": (_fused(entropy_with_offset), "bits, 256 bins, log2(p + 1e-7): up to 4e-5 too small"),
    "MI": (_scaled(_sum(mutual_information), _BITS), "sum over the sources, bits"),
    "Nabf": (lambda pair: artifacts.nabf(pair, artifacts.TANG_PYTHON), "Sobel / 8, edges weaker than 2 do not count"),
    "SSIM": (
        _mean(ssim, gaussian, 1),
        "mean over the sources, 11 x 11 Gaussian inside the image, L = 1 on 0..255 values (scaled by 255 twice)",
    ),
    "MS-SSIM": (
        _mean(ms_ssim, 1, "zeros first"),
        "mean over the sources, odd sides halved with zeros, L = 1 on 0..255 values (scaled by 255 twice)",
    ),
}

LI: Table = {
    "EN": (_fused(entropy), "bits, 256 bins"),
    "MI": (
        _scaled(_fused(entropy), 2),
        "twice the fused image's entropy: the joint histogram is of one level only, whatever the sources",
    ),
    "SD": (_fused(squared_sum_deviation), "sqrt(sum (F - mean)^2) in 0..1, not divided by M N: grows with the image"),
    "SCD": (sum_of_correlations_of_differences, "sum over the sources"),
    "Nabf": (
        lambda pair: artifacts.nabf(pair, artifacts.UNIT_RANGE),
        "images in 0..1, where no edge reaches T_d = 2: all pixels weigh the same",
    ),
    "SSIM": _MATLAB_SSIM,
    "VIF-wavelet": (
        _mean(wavelet_vif, 255),
        "mean over the sources, images in 0..1, where noise of 0.4 hides nearly all",
    ),
    "FMI-dct": TANG["FMI-dct"],
    "FMI-w": TANG["FMI-w"],
    "MEF-MS-SSIM": TANG["MEF-MS-SSIM"],
}

TSJNET: Table = {
    "CC": (_mean(correlation), "mean over the sources"),
    "MSE": (_mse, "mean over the sources, 0..255"),
    "PSNR": (_psnr(_255, _mse), "peak 255, mean MSE of the image's two sources"),
    "SSIM": _MATLAB_SSIM,
    "VIF": (
        _mean_of_references(wavelet_vif),
        "probable, not proved: wavelet VIF with the fused image as reference, mean over the sources",
    ),
    "CV": (chen_varshney, "each image stretched to 0..255, 16 x 16 regions (Z. Liu's toolbox)"),
}

LIU: Table = {
    "QMI": (normalised_mutual_information_liu, "sum over the sources, each image stretched to 0..255"),
    "QTE": (tsallis_ratio_liu, "q = 0.43137; the two marginals stand in each other's place"),
    "QTE185": (tsallis_sum_liu, "q = 1.85; the two marginals stand in each other's place: many times the right value"),
    "QNCIE": (nonlinear_correlation_liu, "each image stretched to 0..255, logarithm to the base 256"),
    "QG": (gradient_quality_liu, "Qabf with sigmoids of its own, averaged over the pixels instead of over the weights"),
    "QM": (lambda pair: multiscale_quality(pair, 1), "sum over the three detail bands, not their mean: 0..3"),
    "QSF": (spatial_frequency_error, "four directions, squares along diagonals times sqrt(1/2)"),
    "QP": (lambda pair: phase_congruency_quality(pair, False), "moments 0/0 where an orientation has no response"),
    "QS": (lambda pair: piella_quality(pair, LIU_11), "SSIM with L = 255 for the quality index, 11 x 11 Gaussian"),
    "QW": (lambda pair: piella_weighted_quality(pair, LIU_EDGES), "SSIM with L = 255, 11 x 11 Gaussian"),
    "QC": (
        cvejic_similarity_liu,
        "7 x 7 Gaussian, constants 2e-16; a window of opposite covariances counts 0 or 1 by the order of the sources; "
        "rounding noise decides in windows of one level; 0/0 in one window is no value",
    ),
    "QY": (
        yang_similarity_liu,
        "7 x 7 Gaussian, constants 2e-16: rounding noise over itself in windows of one level, up to 1e5 each; "
        "0/0 in one window is no value",
    ),
    "CV": (chen_varshney, "each image stretched to 0..255, 16 x 16 regions"),
    "CB": (chen_blum, "each image stretched to 0..255"),
}

MATLAB: Table = {
    "PIQE": (
        _fused(piqe),
        "stretched to its largest level; the middle of a block is columns 8 and 9, its surround lacks columns 8 and 10",
    ),
}

_FLAT = "in flat areas, where the release has rounding noise, zeros"
LIVE: Table = {
    "NIQE": (model_files.NIQE, f"model of a file, blocks of 96 x 96 at two scales; {_FLAT}"),
    "BRISQUE": (model_files.BRISQUE, f"regression and ranges of files, features not rounded to texts; {_FLAT}"),
}


FORMULAS = (
    entropy, standard_deviation, spatial_frequency, average_gradient, edge_intensity, mutual_information,
    normalised_mutual_information, cross_entropy, sum_of_correlations_of_differences, correlation, mean_squared_error,
    root_mean_squared_error, psnr, vifp, viff, edge_transfer, artifacts.nabf, artifacts.labf, ssim, ms_ssim, fmi_pixel,
    fmi_edge, fmi_dct, fmi_wavelet, wavelet_vif, mef_ssim, mef_ms_ssim,
    chen_varshney, chen_blum, piella_quality, piella_weighted_quality, piella_edge_dependent_quality, cvejic_similarity,
    yang_similarity, nonlinear_correlation, phase_congruency_quality, multiscale_quality, spatial_frequency_error,
    gradient_quality_liu, normalised_mutual_information_liu, tsallis_ratio_liu, tsallis_sum_liu, entropy_balance,
    piqe, niqe, brisque,
)  # fmt: skip


def register_shipped() -> None:
    """Register the cards and conventions that evalkit has."""
    for card in (*map(card_of, FORMULAS), *packages.CARDS, *saliency.CARDS, *segmentation.CARDS, *detection.CARDS):
        add_card(card)
    add_convention("textbook", "each metric as its primary source defines it", "new work", TEXTBOOK)
    add_convention(
        "cddfuse", "the Python evaluator of CDDFuse's repository", "CDDFuse's tables; SMFNet Table VI", CDDFUSE
    )
    add_convention("smfnet", "the evaluator behind SMFNet's tables", "SMFNet Tables I and IV", SMFNET)
    add_convention(
        "tang",
        "L. Tang's MATLAB toolbox Evaluation-for-Image-Fusion",
        "SMR-Net Table 1; S4Fusion Tables 1-3; PSFusion Table 3 and figures",
        TANG,
    )
    add_convention(
        "metric_python",
        "L. Tang's toolbox in Python (Metric_Python); its copies in PyTorch sum SSIM and MS-SSIM over the sources",
        "evaluations with FusionImageEvalution",
        METRIC_PYTHON,
        "pil",
    )
    add_convention(
        "li", "H. Li's MATLAB toolbox, its slips included", "the papers of the RFN-Nest and NestFuse line", LI
    )
    add_convention("tsjnet", "the measures behind TSJNet's tables (its VIF: probably)", "TSJNet Tables 1 and 3", TSJNET)
    add_convention("vifb", "the VIFB benchmark's MATLAB code, its slips included", "VIFB's published values", VIFB)
    add_convention("liu", "Z. Liu's MATLAB toolbox imageFusionMetrics", "Q columns of many papers; TSJNet's CV", LIU)
    add_convention("zoo", "IVIF_ZOO's evaluator in PyTorch, its slips included", "IVIF_ZOO's survey", ZOO, "pil")
    add_convention(
        "mefb", "the MEFB benchmark's MATLAB code, its slips included", "MEFB's published values", MEFB, "matlab"
    )
    add_convention(
        "matlab", "MATLAB's piqe, as pypiqe ports it", "no-reference columns of many papers", MATLAB, "matlab"
    )
    add_convention(
        "live",
        "the releases of the laboratory that made NIQE and BRISQUE (LIVE); models from files: --models",
        "no-reference columns of many papers",
        LIVE,
        "matlab",
    )
    for name, functions in packages.conventions().items():
        table: Table = {metric: (function, function.choice) for metric, function in functions.items()}
        add_convention(name, f"{name.replace('-', ' ', 1)}, installed here", "papers that used it", table)
