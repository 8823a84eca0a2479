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
        "EI", "Edge intensity", "higher", "0 .. 1140", "gray level",
        "Mean Sobel magnitude of the fused image.",
        "Rajalingam and Priya 2018, Int. J. of Engineering Science Invention",
    ),
    MetricCard(
        "MI", "Mutual information", "higher", ">= 0", "nat or bit",
        "I(F; A) + I(F; B) from the 256 x 256 joint histograms of the fused image and each source.",
        "Qu, Zhang and Yan 2002, doi:10.1049/el:20020212",
    ),
    MetricCard(
        "NMI", "Normalised mutual information", "higher", "0 .. 2", "1",
        "Mutual information of fused image and each source over their entropies.",
        "Hossny, Nahavandi and Creighton 2008, doi:10.1049/el:20081754",
    ),
    MetricCard(
        "CE", "Cross entropy", "lower", "mostly >= 0", "bit",
        "Kullback-Leibler divergence of each source's histogram from the fused image's.",
        "Bulanon, Burks and Alchanatis 2009, doi:10.1016/j.biosystemseng.2008.12.009",
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
        "RMSE", "Root mean squared error", "lower", "0 .. 255", "gray level",
        "Root of the mean squared difference of fused image and sources.",
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
        "VIFF", "Visual information fidelity for fusion", "higher", "0 .. about 1", "1",
        "Visual information that the fused image keeps of the locally stronger source, over scales.",
        "Han, Cai, Cao and Xu 2013, doi:10.1016/j.inffus.2011.08.002",
    ),
    MetricCard(
        "Qabf", "Edge-based fusion quality", "higher", "0 .. 1", "1",
        "Edge strength and orientation that the fused image keeps of both sources, weighted by their edge strength.",
        "Xydeas and Petrovic 2000, doi:10.1049/el:20000267",
    ),
    MetricCard(
        "Nabf", "Fusion artifacts", "lower", "0 .. 1", "1",
        "Edge information of the fused image that comes from neither source.",
        "Shreyamsha Kumar 2013, doi:10.1007/s11760-012-0361-x",
    ),
    MetricCard(
        "Labf", "Fusion loss", "lower", "0 .. 1", "1",
        "Edge information of the sources that the fused image lost.",
        "Petrovic and Xydeas 2005, doi:10.1109/ICCV.2005.175",
    ),
    MetricCard(
        "SSIM", "Structural similarity", "higher", "-1 .. 1; a sum: -2 .. 2", "1",
        "SSIM of the fused image and each source.",
        "Wang et al. 2004, doi:10.1109/TIP.2003.819861",
    ),
    MetricCard(
        "MS-SSIM", "Multi-scale structural similarity", "higher", "0 .. 1", "1",
        "Product over five scales of contrast-structure, and luminance at the last.",
        "Wang, Simoncelli and Bovik 2003, doi:10.1109/ACSSC.2003.1292216",
    ),
    MetricCard(
        "FMI", "Feature mutual information", "higher", "0 .. 1", "1",
        "Normalised mutual information of the features in local windows of fused image and sources.",
        "Haghighat, Aghagolzadeh and Seyedarabi 2011, doi:10.1016/j.compeleceng.2011.07.012",
    ),
    MetricCard(
        "CV", "Chen-Varshney", "lower", ">= 0", "1",
        "Saliency-weighted mean of the contrast-sensitivity-filtered difference to each source in 16 x 16 regions.",
        "Chen and Varshney 2007, doi:10.1016/j.inffus.2005.10.001",
    ),
    MetricCard(
        "CB", "Chen-Blum", "higher", "0 .. 1", "1",
        "Contrast that the fused image keeps of the sources, as a model of human vision sees it.",
        "Chen and Blum 2009, doi:10.1016/j.imavis.2007.12.002",
    ),
    MetricCard(
        "MAE", "Mean absolute error", "lower", "0 .. 1", "1",
        "Mean absolute difference of the stretched map and the mask.",
        "Perazzi et al. 2012, doi:10.1109/CVPR.2012.6247743", "saliency",
    ),
    MetricCard(
        "S", "Structure measure", "higher", "0 .. 1", "1",
        "Half object-aware, half region-aware structural similarity of map and mask.",
        "Fan et al. 2017, doi:10.1109/ICCV.2017.487", "saliency",
    ),
    MetricCard(
        "F_adaptive", "F-measure, adaptive threshold", "higher", "0 .. 1", "1",
        "F with beta^2 = 0.3 at the threshold min(2 mean, 1).",
        "Achanta et al. 2009, doi:10.1109/CVPR.2009.5206596", "saliency",
    ),
    MetricCard(
        "F_mean", "F-measure, mean over thresholds", "higher", "0 .. 1", "1",
        "Mean over 256 thresholds of F with beta^2 = 0.3.",
        "Achanta et al. 2009, doi:10.1109/CVPR.2009.5206596", "saliency",
    ),
    MetricCard(
        "F_max", "F-measure, best threshold", "higher", "0 .. 1", "1",
        "Largest F with beta^2 = 0.3 over 256 thresholds, of the curve averaged over the images.",
        "Achanta et al. 2009, doi:10.1109/CVPR.2009.5206596", "saliency",
    ),
    MetricCard(
        "F_weighted", "Weighted F-measure", "higher", "0 .. 1", "1",
        "F with beta^2 = 1 of errors weighted by where they are.",
        "Margolin et al. 2014, doi:10.1109/CVPR.2014.39", "saliency",
    ),
    MetricCard(
        "E_adaptive", "Enhanced alignment, adaptive threshold", "higher", "0 .. 1.001 (N / (N - 1) of N pixels)", "1",
        "Enhanced-alignment measure at the threshold min(2 mean, 1).",
        "Fan et al. 2018, doi:10.24963/ijcai.2018/97", "saliency",
    ),
    MetricCard(
        "E_mean", "Enhanced alignment, mean over thresholds", "higher", "0 .. 1.001 (N / (N - 1) of N pixels)", "1",
        "Mean over 256 thresholds of the enhanced-alignment measure.",
        "Fan et al. 2018, doi:10.24963/ijcai.2018/97", "saliency",
    ),
    MetricCard(
        "E_max", "Enhanced alignment, best threshold", "higher", "0 .. 1.001 (N / (N - 1) of N pixels)", "1",
        "Largest enhanced-alignment measure over 256 thresholds, of the averaged curve.",
        "Fan et al. 2018, doi:10.24963/ijcai.2018/97", "saliency",
    ),
    MetricCard(
        "IoU", "Intersection over union", "higher", "0 .. 1", "1",
        "Per class, from the confusion matrix of the whole test set.",
        "Long, Shelhamer and Darrell 2015, doi:10.1109/CVPR.2015.7298965", "segmentation",
    ),
    MetricCard(
        "Acc", "Class accuracy", "higher", "0 .. 1", "1",
        "Per class: its pixels found, of the whole test set.",
        "Long, Shelhamer and Darrell 2015, doi:10.1109/CVPR.2015.7298965", "segmentation",
    ),
    MetricCard(
        "mIoU", "Mean intersection over union", "higher", "0 .. 1", "1",
        "Mean of the classes' IoU.",
        "Long, Shelhamer and Darrell 2015, doi:10.1109/CVPR.2015.7298965", "segmentation",
    ),
    MetricCard(
        "mAcc", "Mean class accuracy", "higher", "0 .. 1", "1",
        "Mean of the classes' accuracies.",
        "Long, Shelhamer and Darrell 2015, doi:10.1109/CVPR.2015.7298965", "segmentation",
    ),
    MetricCard(
        "aAcc", "Pixel accuracy", "higher", "0 .. 1", "1",
        "Pixels of the right class.",
        "Long, Shelhamer and Darrell 2015, doi:10.1109/CVPR.2015.7298965", "segmentation",
    ),
    MetricCard(
        "AP50", "Average precision at IoU 0.5", "higher", "0 .. 1", "1",
        "Per class, over the whole test set.",
        "Lin et al. 2014, doi:10.1007/978-3-319-10602-1_48", "detection",
    ),
    MetricCard(
        "AP50:95", "Average precision, IoU 0.5 to 0.95", "higher", "0 .. 1", "1",
        "Per class, mean over ten IoU thresholds.",
        "Lin et al. 2014, doi:10.1007/978-3-319-10602-1_48", "detection",
    ),
    MetricCard(
        "mAP50", "Mean average precision at IoU 0.5", "higher", "0 .. 1", "1",
        "Mean of the classes' AP50.",
        "Lin et al. 2014, doi:10.1007/978-3-319-10602-1_48", "detection",
    ),
    MetricCard(
        "mAP50:95", "Mean average precision, IoU 0.5 to 0.95", "higher", "0 .. 1", "1",
        "Mean of the classes' AP50:95.",
        "Lin et al. 2014, doi:10.1007/978-3-319-10602-1_48", "detection",
    ),
]  # fmt: skip

CARDS = {card.name: card for card in _CARDS}
