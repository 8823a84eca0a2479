"""The same digits everywhere: scenes, gray, fusion and metrics, whatever the vector units and versions of libraries.

    python scripts/same_digits.py [--data-root DATA] [--python OTHER/bin/python ...] [--scenes 8] [--quick]

Draws the sample scenes, turns them and 12 real pairs (four each of TNO, RoadScene and MSRS, where DATA has them) to
gray in every way, fuses them with every classical method, measures every metric in every convention and prints the
sample table; in this Python as it is, without IPP, without OpenCV's and NumPy's vector units, without evalkit's
compiled loops, and in every other Python that is named, such as those of virtual environments with other versions of
NumPy and OpenCV. Pixels have to be equal byte for byte, metrics to 1e-9, the printed table character for character.
Ends with "equal", or says what differs and exits with 1.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
TOLERANCE = 1e-9
SLOW = ("NSST-PAPCNN",)  # fuses a part of the images here
REAL = {"TNO": 4, "RoadScene": 4, "MSRS": 4}
# every feature that a wheel dispatches on, by the names of OpenCV, of NumPy 2.4 and of NumPy before it; unknown names
# are passed over
OPENCV_OFF = "SSE4.1,SSE4.2,POPCNT,AVX,FP16,AVX2,FMA3,AVX512-SKX,AVX512-ICL,NEON_DOTPROD,NEON_FP16"
NUMPY_NEW = "X86_V3 X86_V4 AVX512_ICL AVX512_SPR"
NUMPY_OLD = (
    "SSE3 SSSE3 SSE41 POPCNT SSE42 AVX F16C FMA3 AVX2 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL"
)


def environments(pythons: list[str]) -> dict[str, tuple[str, dict[str, str]]]:
    """Name -> the Python and the variables to run it with."""
    import numpy as np

    numpy_off = NUMPY_NEW if tuple(map(int, np.__version__.split(".")[:2])) >= (2, 4) else NUMPY_OLD
    ipp, opencv = {"OPENCV_IPP": "disabled"}, {"OPENCV_CPU_DISABLE": OPENCV_OFF}
    numpy = {"NPY_DISABLE_CPU_FEATURES": numpy_off}
    cases = {"without IPP": ipp, "OpenCV without vector units": ipp | opencv, "NumPy without vector units": numpy}
    return {
        "as it is": (sys.executable, {}),
        **{name: (sys.executable, variables) for name, variables in cases.items()},
        "without compiled loops": (sys.executable, {"EVALKIT_KERNELS": "off"}),
        "nothing of these": (sys.executable, ipp | opencv | numpy | {"EVALKIT_KERNELS": "off"}),
        **{python: (python, {}) for python in pythons},
    }


def results(data_root: Path | None, scenes: int, quick: bool) -> dict[str, Any]:
    """What this process computes: hashes of pixels, values of metrics, the printed table, by name."""
    import hashlib

    import cv2
    import numpy as np

    from evalkit.data.card import load_card
    from evalkit.data.gray import GRAYS
    from evalkit.data.images import read_image, to_gray
    from evalkit.data.pairs import find_pairs
    from evalkit.data.samples.samples import make_scene
    from evalkit.methods.classical import FUSERS
    from evalkit.metrics.evaluate import evaluate
    from evalkit.metrics.registry import full_names_of

    def hashed(*arrays: Any) -> str:
        digest = hashlib.sha256()
        for array in arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    pixels: dict[str, str] = {}
    values: dict[str, float | None] = {}
    pairs = {}
    for index in range(scenes):
        scene = make_scene(index)
        for part in ("infrared", "visible", "classes", "salient"):
            pixels[f"scene {scene.name} {part}"] = hashed(getattr(scene, part))
        pixels[f"scene {scene.name} boxes"] = repr(scene.boxes)
        pairs[f"samples {scene.name}"] = scene.infrared, scene.visible
    for dataset, count in REAL.items() if data_root is not None else ():
        found = find_pairs(load_card(dataset), data_root).pairs
        for pair in found[:: max(1, len(found) // count)][:count]:
            images = read_image(pair.infrared), read_image(pair.visible)
            pairs[f"{dataset} {pair.stem}"] = images
            pixels[f"decoded {dataset} {pair.stem}"] = hashed(*images)
    colours = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    metrics = [name for name in full_names_of(None) if not quick or not name.startswith("FMI")]
    for name, (infrared, visible) in {"colours": (colours, colours), **pairs}.items():
        for gray in GRAYS:
            pixels[f"gray {name} {gray}"] = hashed(to_gray(visible, gray), to_gray(infrared, gray))
    for name, (infrared, visible) in pairs.items():
        for method, fuse in FUSERS.items():
            part = np.s_[:128, :160] if method in SLOW else np.s_[:]
            infrared_part, visible_part = infrared[part], visible[part]
            fused = fuse(to_gray(infrared_part), to_gray(visible_part))
            pixels[f"fused {name} {method}"] = hashed(fused)
            if method in ("laplacian", "GFF") or not quick:
                few = metrics if method == "laplacian" else [m for m in metrics if not m.startswith("FMI")]
                for metric, value in evaluate(fused, infrared_part, visible_part, few).items():
                    values[f"{name} {method} {metric}"] = None if math.isnan(value) else value
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from triples import SIZES, triple  # with flat parts, where rounding errors are all there is

    for name in SIZES:
        for metric, value in evaluate(*triple(name), metrics).items():
            values[f"{name} {metric}"] = None if math.isnan(value) else value
    versions = f"NumPy {np.__version__}, OpenCV {cv2.__version__}"
    return {"versions": versions, "pixels": pixels, "values": values, "table": sample_table()}


def sample_table() -> str:
    """What `evalkit reproduce smfnet-table1 --sample` prints of the table."""
    from evalkit.commands.console import print_table
    from evalkit.protocols.run import reproduce

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as printed:
        print_table(reproduce("smfnet-table1", sample=True, out=folder, workers=1))
    return printed.getvalue()


def differences(first: dict[str, Any], other: dict[str, Any]) -> tuple[list[str], float]:
    """What differs, in words, and the largest relative difference of a metric."""
    found = [f"{name} differs" for name, text in first["pixels"].items() if other["pixels"].get(name) != text]
    worst = 0.0
    for name, value in first["values"].items():
        again = other["values"][name]
        if value is None or again is None:
            if value is not again:
                found.append(f"{name}: {value!r} and {again!r}")
            continue
        apart = abs(value - again) / max(1.0, abs(value))
        worst = max(worst, apart)
        if apart > TOLERANCE:
            found.append(f"{name}: {value!r} and {again!r}")
    return found + ["the sample table differs"] * (first["table"] != other["table"]), worst


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--python", action="append", default=[], help="another one; can be repeated")
    parser.add_argument("--scenes", type=int, default=8)
    parser.add_argument("--quick", action="store_true", help="fewer metrics")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        options.child.write_text(json.dumps(results(options.data_root, options.scenes, options.quick)))
        return 0
    more = ["--scenes", str(options.scenes), *(["--quick"] if options.quick else [])]
    if options.data_root is not None:
        more += ["--data-root", str(options.data_root)]
    first: dict[str, Any] = {}
    failed = False
    for name, (python, variables) in environments(options.python).items():
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "results.json"
            surroundings = os.environ | variables | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
            command = [python, __file__, "--child", str(out), *more]
            subprocess.run(command, env=surroundings, check=True, stderr=subprocess.DEVNULL)
            measured = json.loads(out.read_text())
        first = first or measured
        apart, worst = differences(first, measured)
        failed |= bool(apart)
        counts = f"{len(measured['pixels'])} hashes, {len(measured['values'])} values"
        print(f"{name} ({measured['versions']}): {counts}, {len(apart)} differ, metrics at most {worst:.1e} apart")
        for line in apart[:20]:
            print(f"  {line}")
    print("different" if failed else "equal")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
