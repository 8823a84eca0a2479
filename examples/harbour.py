"""A plug-in in one file, the twin of examples/plugin: `evalkit --plugin examples/harbour.py list plugins`.

It adds the metric, the convention, the classical method, the data set and a benchmark; a network with weights, a
segmenter and published values are files of their own, which a package keeps together.
"""

import numpy as np

import evalkit

evalkit.register_convention("harbour", "our harbour's night watch", "harbour-bench", {"EN": "EN[textbook]"})


@evalkit.metric("HC", convention="harbour", better="higher", range="-1 .. 1", unit="1", source="this example")
def hot_contrast(pair):
    """Mean of the fused image where the infrared image is hottest (the top 5 %), minus its mean elsewhere, over 255."""
    hot = pair.infrared.x >= np.percentile(pair.infrared.x, 95)
    if hot.all():
        raise evalkit.UndefinedError("the infrared image is equally hot everywhere")
    return float(pair.fused.x[hot].mean() - pair.fused.x[~hot].mean()) / 255


def hotspot(infrared, visible):
    """Two gray images (H, W) uint8 -> the fused one, (H, W) uint8."""
    weight = infrared / 255
    return np.rint(weight * infrared + (1 - weight) * visible).astype(np.uint8)


card = {"name": "hotspot", "kind": "classical", "title": "Weighted mean, weighted by heat"}
evalkit.register_method(card, lambda checkpoint: hotspot)
evalkit.register_dataset(
    {
        "name": "Harbour",
        "title": "Four generated scenes that stand for a harbour at night",
        "folders": ["Harbour"],
        "modalities": {"infrared": "drawn heat", "visible": "drawn light"},
        "colour": "infrared gray, visible RGB",
        "pairs": 4,
        "layouts": [{"name": "official", "infrared": {"folder": "thermal", "suffix": "_ir"}, "visible": "rgb"}],
        "licence": "Apache-2.0",
        "source": "examples/plugin/make_data.py",
    }
)
evalkit.register_protocol(
    {
        "name": "harbour-bench",
        "title": "Harbour at night",
        "convention": "harbour",
        "metrics": ["EN", "HC"],
        "datasets": {"Harbour": {"pairs": 4}},
        "methods": ["average", "laplacian", "hotspot"],
    }
)
