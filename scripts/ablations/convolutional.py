"""Two rankers that PyTorch trains alike: the small ViT, and a ResNet of equal cost. A reference, never a requirement of users.

    python3 convolutional.py FOLDER

`npm run ablations` writes into FOLDER what this reads: task.json; crops.i32 [crops, 7] (the picture's height and width; top,
left, height and width of the crop, 1 where it is mirrored); pixels.u8, the picture of each crop, one after the other; maps.f32
[crops, L]; order.i32 [steps, batch], the crops of each step; pictures.u8 [pictures, side, side, 3]. This writes logits.f32
[pictures, L] and figures.json. The formulas are those of docs/method.md. Needs torch and nothing else.
"""

import json
import math
import os
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def positions(cells, dim):
    """[cells * cells, dim]: sin and cos of the column, then of the row."""
    omega = 10000 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    angle = torch.arange(cells, dtype=torch.float64).unsqueeze(1) * omega
    line = torch.cat([angle.sin(), angle.cos()], 1)
    return torch.cat([line.repeat(cells, 1), line.repeat_interleave(cells, 0)], 1).float()


class Vit(nn.Module):
    """As ltrp has it with the head 'token', drawn from the same distributions."""

    def __init__(self, cells, patch, vit):
        super().__init__()
        dim = vit["dim"]
        self.embed = nn.Conv2d(3, dim, patch, patch)
        self.cls = nn.Parameter(torch.empty(1, 1, dim))
        self.register_buffer("positions", positions(cells, dim))
        block = nn.TransformerEncoderLayer(
            dim, vit["heads"], vit["mlpDim"], dropout=0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, vit["depth"], nn.LayerNorm(dim), enable_nested_tensor=False)
        self.head = nn.Linear(dim, 1)
        for name, weight in self.named_parameters():
            if weight.dim() > 1:
                nn.init.xavier_uniform_(weight.flatten(1))
            elif name.endswith("bias"):
                nn.init.zeros_(weight)
        nn.init.normal_(self.cls, std=0.02)

    def forward(self, images):
        x = self.embed(images).flatten(2).transpose(1, 2) + self.positions
        x = self.blocks(torch.cat([self.cls.expand(len(x), -1, -1), x], 1))
        return self.head(x[:, 1:]).squeeze(-1)


def convolution(inner, outer, size, stride):
    """Without a bias: a normalisation follows, which has one."""
    layer = nn.Conv2d(inner, outer, size, stride, size // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(layer, nn.BatchNorm2d(outer))


class Residual(nn.Module):
    def __init__(self, inner, outer, stride):
        super().__init__()
        self.body = nn.Sequential(convolution(inner, outer, 3, stride), nn.ReLU(), convolution(outer, outer, 3, 1))
        same = inner == outer and stride == 1
        self.shortcut = nn.Identity() if same else convolution(inner, outer, 1, stride)

    def forward(self, x):
        return F.relu(self.shortcut(x) + self.body(x))


class ResNet(nn.Module):
    """Cells of 16 pixels, one logit each.

    Basic blocks as those of ResNet-18, without its last stage, whose cells would be of 32 pixels. Half of its widths and a block
    more at the end cost 0.876 GFLOP at 224 px, the ViT 0.874.
    """

    stages = [(32, 2), (64, 2), (128, 3)]  # width, blocks

    def __init__(self):
        super().__init__()
        width = self.stages[0][0]
        layers = [convolution(3, width, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        for stage, (outer, blocks) in enumerate(self.stages):
            for block in range(blocks):
                layers.append(Residual(width, outer, 2 if stage > 0 and block == 0 else 1))
                width = outer
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 1, 1))

    def forward(self, images):
        return self.layers(images).flatten(1)


def smoothed_ranks(maps, sigma):
    """Ranks [n, L] in [0, 1], each averaged with its neighbours'."""
    if sigma == 0:
        return maps
    one, other = maps.unsqueeze(2), maps.unsqueeze(1)
    ranks = (one > other).sum(2) + ((one == other).sum(2) - 1) / 2
    cells = math.isqrt(maps.shape[1])
    places = torch.arange(cells)
    weights = torch.exp((places.unsqueeze(1) - places) ** 2 / (-2 * sigma**2))
    weights /= weights.sum(1, keepdim=True)
    grid = (ranks / (maps.shape[1] - 1)).view(-1, cells, cells)
    return (weights @ grid @ weights.T).flatten(1)


def list_mle(logits, target):
    s = logits.gather(1, target.argsort(dim=1, descending=True, stable=True))
    return (s.flip(1).logcumsumexp(1).flip(1) - s).sum(1).mean()


def learning_rate(task, done):
    warmup = task["warmup"]
    if done < warmup:
        return task["learningRate"] * (done + 1) / warmup
    share = (done - warmup) / max(1, task["steps"] - warmup)
    return task["learningRate"] * 0.5 * (1 + math.cos(math.pi * share))


def has_bfloat16():
    """Whether the processor multiplies it: without, it would take longer than float32."""
    found = getattr(torch.cpu, "get_capabilities", dict)()
    return any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


class Run:
    def __init__(self, folder):
        self.folder = folder
        with open(os.path.join(folder, "task.json")) as file:
            self.task = task = json.load(file)
        torch.manual_seed(task["seed"])
        side, cells = task["side"], task["side"] // task["patch"]
        self.patches = cells * cells
        size = task["pictures"] * side * side * 3
        self.pictures = self.array("pictures.u8", torch.uint8, size).view(-1, side, side, 3)
        vit = task["network"] == "ViT"
        self.model = Vit(cells, task["patch"], task["vit"]) if vit else ResNet()
        self.model.to(memory_format=torch.channels_last)

    def array(self, name, dtype, size):
        return torch.from_file(os.path.join(self.folder, name), shared=False, size=size, dtype=dtype)

    def crops(self):
        """[crops, side, side, 3] as ltrp makes them, by the same operator of LibTorch."""
        count, side = self.task["crops"], self.task["side"]
        places = self.array("crops.i32", torch.int32, 7 * count).view(count, 7).tolist()
        pixels = self.array("pixels.u8", torch.uint8, sum(3 * place[0] * place[1] for place in places))
        crops = torch.empty(count, side, side, 3, dtype=torch.uint8)
        first = 0
        for crop, (rows, columns, top, left, height, width, mirrored) in zip(crops, places):
            picture = pixels[first : first + 3 * rows * columns].view(rows, columns, 3)
            first += picture.numel()
            box = picture[top : top + height, left : left + width].permute(2, 0, 1).unsqueeze(0)
            box = box.contiguous(memory_format=torch.channels_last)
            resized = F.interpolate(box, (side, side), mode="bicubic", antialias=True)
            crop.copy_((resized.flip(3) if mirrored else resized)[0].permute(1, 2, 0))
        return crops

    def normalized(self, pixels):
        mean, std = (torch.tensor(self.task[name]).view(3, 1, 1) for name in ("mean", "std"))
        return (pixels.permute(0, 3, 1, 2) / 255 - mean) / std

    def groups(self):
        """Biases, norms and the CLS token do not decay."""
        decayed, others = [], []
        for name, weight in self.model.named_parameters():
            (decayed if weight.dim() > 1 and name != "cls" else others).append(weight)
        return [{"params": decayed, "weight_decay": self.task["weightDecay"]}, {"params": others, "weight_decay": 0}]

    def train(self):
        """Seconds of all steps."""
        task, model = self.task, self.model.train()
        steps, batch = task["steps"], task["batch"]
        crops = self.crops()
        maps = self.array("maps.f32", torch.float32, len(crops) * self.patches).view(len(crops), -1)
        order = self.array("order.i32", torch.int32, steps * batch).view(steps, batch).long()
        optimizer = torch.optim.AdamW(self.groups(), betas=(0.9, 0.95), fused=True)
        begin = shown = time.perf_counter()
        for step, chosen in enumerate(order):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(task, step)
            with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16()):
                logits = model(self.normalized(crops[chosen]))
            loss = list_mle(logits.float(), smoothed_ranks(maps[chosen], task["smoothing"]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if time.perf_counter() - shown > 30:
                shown = time.perf_counter()
                print(f"{task['network']}: step {step + 1} of {steps}, loss {loss:.1f}", file=sys.stderr, flush=True)
        return time.perf_counter() - begin

    def gigaflops(self):
        """Of a picture: a multiply-add as two."""
        # Neither a whole block in one operator, which is for no_grad alone, nor fused attention would be counted.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            self.model.eval()(self.normalized(self.pictures[:1]))
        return counter.get_total_flops() / 1e9

    @torch.no_grad()
    def rank(self):
        self.model.eval()
        parts = self.pictures.split(self.task["batch"])
        logits = torch.cat([self.model(self.normalized(part)) for part in parts])
        if not logits.isfinite().all():
            sys.exit("convolutional.py: the training diverged, some logits are not finite")
        path = os.path.join(self.folder, "logits.f32")
        open(path, "wb").close()  # one of more pictures may be there
        torch.from_file(path, shared=True, size=logits.numel(), dtype=torch.float32).copy_(logits.flatten())


def main():
    torch.backends.nnpack.set_flags(False)  # it would say of every small convolution that it is not there
    run = Run(sys.argv[1])
    figures = {"gigaflops": run.gigaflops(), "seconds": run.train()}
    figures["values"] = sum(tensor.numel() for tensor in run.model.state_dict().values())
    run.rank()
    with open(os.path.join(run.folder, "figures.json"), "w") as file:
        json.dump(figures, file)


if __name__ == "__main__":
    main()
