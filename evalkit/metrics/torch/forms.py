"""Which metrics have a form for tensors, in which convention: `evalkit.metrics.conventions` for batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from torch import Tensor

from evalkit.metrics.card import Definition
from evalkit.metrics.fusion.artifacts import SMFNET as SMFNET_EDGES
from evalkit.metrics.torch import artifacts, gradient, information, perceptual, similarity, vif
from evalkit.metrics.torch.batch import Batch, BatchPair, Values
from evalkit.metrics.torch.feature_information import mean_window_fmi

Form = Callable[[BatchPair], Values]
Table = dict[str, Form]


def _sources(function: Callable[..., Values], weight: float, *args: object) -> Form:
    """The weighted sum over the sources."""

    def form(pair: BatchPair) -> Values:
        first, second = (function(pair.fused, source, *args) for source in pair.sources)
        return (first + second) * weight

    return form


def _fused(function: Callable[[Batch], Values]) -> Form:
    return lambda pair: function(pair.fused)


def _psnr(peak: Callable[[BatchPair], Tensor | float], mse: Form) -> Form:
    return lambda pair: information.psnr(peak(pair), mse(pair))


def _255(pair: BatchPair) -> float:
    return 255


def _fused_maximum(pair: BatchPair) -> Tensor:
    return pair.fused.pixels.flatten(1).amax(1)


_BITS = 1 / math.log(2)  # bits per nat
_mse = _sources(information.mean_squared_error, 1 / 2)
_unit_mse = _sources(information.mean_squared_error, 1 / 2 / 255**2)

TEXTBOOK: Table = {
    "EN": _fused(information.entropy),
    "SD": _fused(information.standard_deviation),
    "SF": _fused(gradient.spatial_frequency),
    "AG": _fused(gradient.average_gradient),
    "EI": _fused(gradient.edge_intensity),
    "MI": _sources(information.mutual_information, _BITS),
    "NMI": _sources(information.normalised_mutual_information, 1),
    "CE": _sources(information.cross_entropy, 1 / 2),
    "SCD": information.sum_of_correlations_of_differences,
    "CC": _sources(information.correlation, 1 / 2),
    "MSE": _mse,
    "RMSE": information.root_mean_squared_error,
    "PSNR": _psnr(_255, _mse),
    "VIF": _sources(vif.vifp, 1 / 2),
    "VIFF": vif.viff,
    "Qabf": gradient.edge_transfer,
    "Nabf": artifacts.nabf,
    "Labf": artifacts.labf,
    "SSIM": _sources(similarity.ssim, 1 / 2, similarity.gaussian, 255),
    "MS-SSIM": _sources(similarity.ms_ssim, 1 / 2),
    "FMI": _sources(mean_window_fmi, 1 / 2),
    "CV": partial(perceptual.chen_varshney, stretch=False),
    "CB": perceptual.chen_blum,
}

CDDFUSE: Table = {
    **{name: TEXTBOOK[name] for name in ("EN", "SD", "SF", "AG", "SCD", "CC", "MSE")},
    "MI": _sources(information.mutual_information, 1),
    "PSNR": _psnr(_fused_maximum, _mse),
    "VIF": _sources(vif.vifp, 1),
    "Qabf": partial(gradient.edge_transfer, border="constant", equal_is_one=False),
    "SSIM": _sources(similarity.ssim, 1, similarity.uniform, 2),
}

SMFNET: Table = CDDFUSE | {
    "AG": _fused(gradient.average_gradient_magnitude),
    "Nabf": partial(artifacts.nabf, model=SMFNET_EDGES, over_both=False),
    "SSIM": _sources(similarity.ssim, 1, similarity.uniform, 255),
    "MS-SSIM": lambda pair: similarity.ms_ssim_smfnet(pair.fused, pair.infrared),
}

TANG: Table = {
    **{name: CDDFUSE[name] for name in ("EN", "SD", "SF", "SCD", "CC", "VIF", "Qabf")},
    "AG": _fused(gradient.average_gradient_over_inner_size),
    "MI": _sources(information.mutual_information_of_merged_levels, _BITS),
    "MSE": _unit_mse,
    "PSNR": _psnr(_255, _unit_mse),
    "Nabf": artifacts.nabf_of_infrared,
    "SSIM": _sources(similarity.ssim, 1 / 2, similarity.matlab_gaussian, 1),
}

TSJNET: Table = {
    **{name: TEXTBOOK[name] for name in ("CC", "MSE", "PSNR")},
    "SSIM": _sources(similarity.ssim, 1 / 2, similarity.matlab_gaussian, 255),
    "CV": perceptual.chen_varshney,
}

FORMS = {"textbook": TEXTBOOK, "cddfuse": CDDFUSE, "smfnet": SMFNET, "tang": TANG, "tsjnet": TSJNET}


def form_of(definition: Definition) -> Form | None:
    """The form for tensors of a metric in a convention; None where there is none."""
    return FORMS.get(definition.convention, {}).get(definition.metric)
