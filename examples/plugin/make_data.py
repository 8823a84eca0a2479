"""Draw the four pairs in data/Harbour: `python examples/plugin/make_data.py`."""

from pathlib import Path

from evalkit.data.images import write_png
from evalkit.data.samples.samples import make_scene

if __name__ == "__main__":
    for i in range(4):
        scene = make_scene(i, seed=14, width=128, height=96)
        folder = Path(__file__).parent / "data" / "Harbour"
        write_png(folder / "thermal" / f"{i + 1:02d}_ir.png", scene.infrared)
        write_png(folder / "rgb" / f"{i + 1:02d}.png", scene.visible)
