"""What a machine sees in a fused image: detectors, segmenters and saliency networks, trained per fusion method."""
