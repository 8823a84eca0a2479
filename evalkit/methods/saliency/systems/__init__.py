"""Salient-object systems, one file each.

The module of a network has its `NETWORK`, a `NetworkMethod` whose `finish` gives the map; that of a classical system a
function `saliency_map` of (infrared, visible) as stored that gives it. A map is uint8 (H, W), of the pair's size.
"""
