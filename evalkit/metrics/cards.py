"""The metric cards: one entry per column name."""

from __future__ import annotations

from evalkit.metrics.registry import MetricCard

_CARDS = [
    MetricCard(
        "EN", "Entropy", "higher", "0 .. 8", "bit",
        "Shannon entropy of the fused image's 256-bin gray-level histogram.",
        "Roberts et al. 2008, doi:10.1117/1.2945910",
    ),
    MetricCard(
        "SD", "Standard deviation", "higher", "0 .. 127.5", "gray level",
        "Population standard deviation of the fused image's gray levels.",
        "Rao 1997, doi:10.1088/0957-0233/8/4/002",
    ),
    MetricCard(
        "SF", "Spatial frequency", "higher", "0 .. 361", "gray level",
        "sqrt(mean dx^2 + mean dy^2) of the fused image's forward differences.",
        "Eskicioglu and Fisher 1995, doi:10.1109/26.477498",
    ),
    MetricCard(
        "AG", "Average gradient", "higher", "0 .. 361", "gray level",
        "Mean gradient magnitude of the fused image.",
        "Cui et al. 2015, doi:10.1016/j.optcom.2014.12.032",
    ),
    MetricCard(
        "MI", "Mutual information", "higher", ">= 0", "nat or bit",
        "I(F; A) + I(F; B) from the 256 x 256 joint histograms of the fused image and each source.",
        "Qu, Zhang and Yan 2002, doi:10.1049/el:20020212",
    ),
    MetricCard(
        "SCD", "Sum of the correlations of differences", "higher", "-2 .. 2", "1",
        "r(F - B, A) + r(F - A, B), r the Pearson correlation.",
        "Aslantas and Bendes 2015, doi:10.1016/j.aeue.2015.09.004",
    ),
    MetricCard(
        "CC", "Correlation coefficient", "higher", "-1 .. 1", "1",
        "Mean of r(F, A) and r(F, B), r the Pearson correlation.",
        "Deshmukh and Bhosale 2010, International Journal of Image Processing 4(5)",
    ),
    MetricCard(
        "MSE", "Mean squared error", "lower", "0 .. 65025", "gray level^2",
        "Mean over the two sources of the mean squared difference to the fused image.",
        "Jagalingam and Hegde 2015, doi:10.1016/j.aqpro.2015.02.019",
    ),
    MetricCard(
        "PSNR", "Peak signal-to-noise ratio", "higher", "any", "dB",
        "10 log10(peak^2 / MSE), of each image; never from a mean MSE.",
        "Jagalingam and Hegde 2015, doi:10.1016/j.aqpro.2015.02.019",
    ),
    MetricCard(
        "VIF", "Visual information fidelity", "higher", ">= 0", "1",
        "Pixel-domain VIF (VIFP) of the fused image against each source, four scales, noise variance 2.",
        "Sheikh and Bovik 2006, doi:10.1109/TIP.2005.859378",
    ),
    MetricCard(
        "Qabf", "Edge-based fusion quality", "higher", "0 .. 1", "1",
        "Edge strength and orientation that the fused image keeps of both sources, weighted by their edge strength.",
        "Xydeas and Petrovic 2000, doi:10.1049/el:20000267",
    ),
    MetricCard(
        "SSIM", "Structural similarity", "higher", "-1 .. 1, or twice that", "1",
        "SSIM of the fused image and each source.",
        "Wang et al. 2004, doi:10.1109/TIP.2003.819861",
    ),
]  # fmt: skip

CARDS = {card.name: card for card in _CARDS}
