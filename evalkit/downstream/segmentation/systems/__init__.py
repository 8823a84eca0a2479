"""The networks that evalkit has code for, one module a system with `SYSTEMS`: name -> SegmentationSystem."""
