"""Train TinyFuse for a few seconds to give the brighter source: `python examples/plugin/make_checkpoint.py`."""

from pathlib import Path

import torch
from evalkit_harbour.tinyfuse import network
from safetensors.torch import save_file

from evalkit.data.samples.samples import make_scene
from evalkit.methods.network import unit_gray_pair

if __name__ == "__main__":
    torch.manual_seed(0)
    scenes = [make_scene(i, seed=15, width=128, height=96) for i in range(8)]
    pairs = [unit_gray_pair(scene.infrared, scene.visible) for scene in scenes]
    infrared, visible = (torch.stack(images) for images in zip(*pairs, strict=True))
    model = network().build()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(1000):
        optimiser.zero_grad()
        loss = (model(infrared, visible) - torch.maximum(infrared, visible)).square().mean()
        loss.backward()
        optimiser.step()
    save_file(model.state_dict(), Path(__file__).parent / "evalkit_harbour" / "tinyfuse.safetensors")
    print(f"mean squared error {loss.item():.6f}")
