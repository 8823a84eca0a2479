"""A metric is a function of a pair."""

import numpy as np

import evalkit

SHARE = 95  # per cent of the pixels that are not hot


def hot_contrast(pair) -> float:
    """Mean of the fused image where the infrared image is hottest (the top 5 %), minus its mean elsewhere, over 255."""
    hot = pair.infrared.x >= np.percentile(pair.infrared.x, SHARE)
    if hot.all():
        raise evalkit.UndefinedError("the infrared image is equally hot everywhere")
    return float(pair.fused.x[hot].mean() - pair.fused.x[~hot].mean()) / 255
