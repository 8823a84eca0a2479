# A configuration of mmsegmentation: Fast-SCNN (Poudel et al. 2019), whose 1.4 M parameters suit small sets.
norm = {"type": "BN", "requires_grad": True}
model = {
    "type": "EncoderDecoder",
    "data_preprocessor": {
        "type": "SegDataPreProcessor",
        "mean": [123.675, 116.28, 103.53],
        "std": [58.395, 57.12, 57.375],
        "bgr_to_rgb": True,
        "pad_val": 0,
        "seg_pad_val": 255,
    },
    "backbone": {"type": "FastSCNN", "out_indices": (0, 1, 2), "norm_cfg": norm},
    "decode_head": {
        "type": "DepthwiseSeparableFCNHead",
        "in_channels": 128,
        "channels": 128,
        "concat_input": False,
        "num_classes": 19,
        "in_index": -1,
        "norm_cfg": norm,
        "align_corners": False,
        "loss_decode": {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0},
    },
    "train_cfg": {},
    "test_cfg": {"mode": "whole"},
}
