"""What evalkit imports, because pyproject.toml names it as an entry point: every registration of the package."""

from pathlib import Path

import evalkit
from evalkit_harbour import metric
from evalkit_harbour.hotspot import build
from evalkit_harbour.tinyfuse import network

HERE = Path(__file__).parent

evalkit.register_convention(
    "harbour", "our harbour's night watch", "harbour-bench", {"EN": "EN[textbook]", "SSIM": "SSIM[tang]"}
)
evalkit.metric(
    "HC", convention="harbour", better="higher", range="-1 .. 1", unit="1", source="this example", title="Hot contrast"
)(metric.hot_contrast)
evalkit.register_method(HERE / "hotspot.yaml", build)
evalkit.register_method(HERE / "tinyfuse.yaml", network=network)  # its weights lie beside the card
evalkit.register_dataset(HERE / "harbour.yaml")
evalkit.register_protocol(HERE / "harbour-bench.yaml")  # its published values lie beside it
evalkit.register_segmenter("Harbour-FCN", HERE / "harbour_fcn.py")
