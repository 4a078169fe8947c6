"""What float32 products made of three bfloat16 products would cost in accuracy, in PyTorch and float64.

    python3 bench/python/split_products.py MODEL.safetensors ...

Each operand is split into a bfloat16 and the bfloat16 of what that leaves; the product of the two small parts is left out. Prints the
relative error of leave-one-out scores against float64: with such products nowhere, in the encoder alone, and everywhere.
"""

import sys

import torch

from authors_loop import Teacher, read_safetensors

VISIBLE, VARIANTS, IMAGES = 19, 4, 1


def split(x):
    high = x.bfloat16().float()
    return high, (x - high).bfloat16().float()


class SplitTeacher(Teacher):
    """Linears whose name begins with one of `exact` stay as they are."""

    exact = ("",)

    def linear(self, x, name):
        if name.startswith(self.exact):
            return super().linear(x, name)
        (x_high, x_low), (w_high, w_low) = split(x), split(self.w[name + ".weight"].flatten(1))
        return x_high @ w_high.T + (x_high @ w_low.T + x_low @ w_high.T) + self.w[name + ".bias"]

    @torch.no_grad()
    def scores_with(self, images, visible, exact):
        """Scores [n, VARIANTS], computed in the type of weights and images and returned in float64."""
        self.exact = exact
        x = self.tokens(images, visible)
        masked = torch.ones(len(images), x.shape[1] - 1, dtype=torch.bool)
        masked[torch.arange(len(images)).unsqueeze(1), visible] = False
        anchor = self.decode(x, None)[masked].view(len(images), -1)
        moved = [
            (anchor - self.decode(x, visible[:, slot])[masked].view(len(images), -1)).abs().mean(1)
            for slot in range(VARIANTS)
        ]
        return torch.stack(moved, 1).double()


for path in sys.argv[1:]:
    teacher = SplitTeacher(path)
    config = read_safetensors(path)[1]
    generator = torch.Generator().manual_seed(0)
    height, width = config["image_height"], config["image_width"]
    coarse = torch.randn(IMAGES, 3, 14, 14, generator=generator)
    images = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    patches = (height // teacher.patch) * (width // teacher.patch)
    drawn = [torch.randperm(patches, generator=generator)[:VISIBLE].sort().values for _ in range(IMAGES)]
    visible = torch.stack(drawn)
    modes = {"nowhere": ("",), "in the encoder": ("decoder_blocks", "decoder_pred"), "everywhere": ("nothing",)}
    found = {name: teacher.scores_with(images, visible, exact) for name, exact in modes.items()}
    teacher.w = {name: tensor.double() for name, tensor in teacher.w.items()}
    truth = teacher.scores_with(images.double(), visible, ("",))
    for name, scores in found.items():
        error = (scores - truth).abs() / truth
        print(f"{path}: {name}: mean relative error {error.mean():.1e}, largest {error.max():.1e}")
