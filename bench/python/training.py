"""Masked-autoencoder pre-training in PyTorch with bfloat16 autocast, as a contender of the benchmark (bench/PROTOCOL.md).

The model, mask ratio, loss and optimizer of `ltrp pretrain`, written with torch.nn as one would.
"""

import time

import torch
import torch.nn.functional as F
from torch import nn

from serve import serve

PATCH, GRID, MASK_RATIO = 16, 14, 0.75


class Block(nn.Module):
    def __init__(self, dim, heads, mlp):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.fc1, self.fc2 = nn.Linear(dim, mlp), nn.Linear(mlp, dim)

    def forward(self, x):
        n, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, d))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


def stack(c):
    blocks = [Block(c["dim"], c["heads"], c["mlpDim"]) for _ in range(c["depth"])]
    return nn.Sequential(*blocks, nn.LayerNorm(c["dim"], eps=1e-6))


class Autoencoder(nn.Module):
    def __init__(self, encoder, decoder):
        super().__init__()
        d, e, tokens, values = encoder["dim"], decoder["dim"], GRID * GRID, 3 * PATCH * PATCH
        self.embed = nn.Linear(values, d)
        self.cls, self.mask = nn.Parameter(torch.zeros(1, 1, d)), nn.Parameter(torch.zeros(1, 1, e))
        self.register_buffer("positions", torch.randn(1, tokens + 1, d))
        self.register_buffer("decoder_positions", torch.randn(1, tokens + 1, e))
        self.encoder, self.between, self.decoder = stack(encoder), nn.Linear(d, e), stack(decoder)
        self.predict = nn.Linear(e, values)

    def forward(self, images):
        n = len(images)
        cut = images.view(n, 3, GRID, PATCH, GRID, PATCH).permute(0, 2, 4, 3, 5, 1).reshape(n, GRID * GRID, -1)
        order = torch.rand(n, GRID * GRID).argsort(1)
        kept = int(GRID * GRID * (1 - MASK_RATIO))
        visible, masked = order[:, :kept], order[:, kept:]
        rows = torch.arange(n).unsqueeze(1)
        x = self.embed(cut[rows, visible]) + self.positions[0, 1:][visible]
        x = torch.cat([(self.cls + self.positions[:, :1]).expand(n, -1, -1), x], 1)
        x = self.between(self.encoder(x))
        full = self.mask.to(x.dtype).expand(n, GRID * GRID, -1).clone()
        full[rows, visible] = x[:, 1:]
        x = self.decoder(torch.cat([x[:, :1], full], 1) + self.decoder_positions)
        predicted = self.predict(x[:, 1:][rows, masked])
        return (predicted.float() - cut[rows, masked]).square().mean()


class Session:
    def hello(self, request):
        torch.set_num_threads(request["threads"])
        return {"name": "pytorch", "versions": {"torch": torch.__version__}, "features": []}

    def training(self, request):
        torch.manual_seed(0)
        self.batch, self.micro = request["batch"], request["microBatch"]
        self.model = Autoencoder(request["encoder"], request["decoder"])
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05, fused=True
        )
        self.images = torch.randn(self.batch, 3, GRID * PATCH, GRID * PATCH)
        return {}

    def steps(self, request):
        milliseconds, losses = [], []
        for _ in range(request["steps"]):
            start, loss_of_step = time.perf_counter(), 0
            self.optimizer.zero_grad()
            for part in self.images.split(self.micro):
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    loss = self.model(part) * (len(part) / self.batch)
                loss.backward()
                loss_of_step += loss.item()
            self.optimizer.step()
            milliseconds.append(1e3 * (time.perf_counter() - start))
            losses.append(loss_of_step)
        return {"ms": milliseconds, "losses": losses}


serve(Session())
