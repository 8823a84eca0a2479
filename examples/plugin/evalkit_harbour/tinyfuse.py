"""A network on evalkit's layers: evalkit loads its weights strictly, batches the pairs and chooses the device."""


def network():
    """The network as a method. PyTorch is imported here, so that listing it needs none."""
    from torch import Tensor, nn

    from evalkit.methods.checkpoints import as_state
    from evalkit.methods.network import NetworkMethod, rounded, unit_gray_pair

    class TinyFuse(nn.Module):
        """Two gray images (N, 1, H, W) in [0, 1] -> fused (N, 1, H, W) in [0, 1]."""

        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(
                nn.Conv2d(2, 8, 3, padding=1, padding_mode="replicate"), nn.ReLU(), nn.Conv2d(8, 1, 1), nn.Sigmoid()
            )

        def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
            from torch import cat

            return self.layers(cat((infrared, visible), dim=1))

    def finish(output, infrared, visible):
        return rounded(output[0].numpy() * 255)

    return NetworkMethod(TinyFuse, unit_gray_pair, finish, ("tinyfuse.safetensors",), as_state)
