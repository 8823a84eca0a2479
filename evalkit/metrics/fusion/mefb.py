"""The convention `mefb`: the numbers of the MEFB benchmark, which shares most of its code with VIFB.

Zhang 2021, "Benchmarking and comparing multi-exposure image fusion algorithms", Information Fusion 74:111-131.

What VIFB has is taken from there, the slips included. The sources come in the order visible, infrared, which matters
to QC alone. Colour is measured channel by channel as in VIFB; where both sources are stored gray, only the first
channel of a colour fused image counts.
"""

from __future__ import annotations

from collections.abc import Callable

from evalkit.metrics.fusion.exposure import mef_ms_ssim
from evalkit.metrics.fusion.feature_information import fmi_edge
from evalkit.metrics.fusion.joint_information import (
    nonlinear_correlation_liu,
    normalised_mutual_information_liu,
    tsallis_sum_liu,
)
from evalkit.metrics.fusion.local_similarity import (
    LIU_EDGES,
    cvejic_similarity_liu,
    piella_edge_quality,
    yang_similarity_liu,
)
from evalkit.metrics.fusion.phase_congruency import phase_congruency_quality
from evalkit.metrics.fusion.vifb import VIFB, channel_mean, plane
from evalkit.metrics.fusion.viff import viff
from evalkit.metrics.image import Pair

Metric = Callable[[Pair], float]


def _first_channel(function: Metric) -> Metric:
    """The metric with the first channel of the fused image where both sources are stored gray."""

    def of_first(pair: Pair) -> float:
        gray_sources = all(source.array.ndim == 2 for source in pair.sources)
        if gray_sources and pair.fused.array.ndim == 3:
            pair = Pair(plane(pair.fused, 0), *pair.sources)
        return function(pair)

    return of_first


def _visible_first(function: Metric) -> Metric:
    """The metric as mean over the channels, with the sources in each other's place."""
    return channel_mean(lambda pair: function(Pair(pair.fused, pair.visible, pair.infrared)))


_TABLE: dict[str, tuple[Metric, str]] = {
    **{name: VIFB[name] for name in ("CE", "EN", "SF", "AG", "EI", "Qabf", "CB", "CV", "PSNR")},
    "NMI": (channel_mean(normalised_mutual_information_liu), "Z. Liu's QMI, mean over the channels"),
    "QNCIE": (channel_mean(nonlinear_correlation_liu), "Z. Liu's, mean over the channels"),
    "QTE185": (channel_mean(tsallis_sum_liu), "published as TE: Z. Liu's, mean over the channels"),
    "VIFF": (channel_mean(viff), "published as VIF: Han's VIFF, mean over the channels"),
    "FMI-edge": (channel_mean(fmi_edge), "published as FMI: of Sobel edge maps, mean over the channels"),
    "MEF-MS-SSIM": (mef_ms_ssim, "published as MEF-SSIM: three scales, of the gray images"),
    "QP": (channel_mean(lambda pair: phase_congruency_quality(pair, False)), "Z. Liu's, mean over the channels"),
    "QC": (
        _visible_first(lambda pair: cvejic_similarity_liu(pair, left_out=True)),
        "Z. Liu's with the visible image first; windows that are 0/0 are left out; mean over the channels",
    ),
    "QY": (
        channel_mean(lambda pair: yang_similarity_liu(pair, left_out=True)),
        "Z. Liu's; windows that are 0/0 are left out; mean over the channels",
    ),
    "QW": (
        channel_mean(lambda pair: piella_edge_quality(pair, LIU_EDGES)),
        "Z. Liu's, of Prewitt's gradient magnitudes alone: the second factor of QE; mean over the channels",
    ),
}
MEFB = {name: (_first_channel(function), choice) for name, (function, choice) in _TABLE.items()}
