"""The authors' way of scoring in PyTorch, as a contender of the benchmark (bench/PROTOCOL.md).

A few images at a time: the encoder once, the decoder once with all visible patches, then once for every visible patch with that
patch's token hidden, as key and as query, in every block. Under autocast the matrix products are float16 or bfloat16,
the residual stream stays float32. Written for this benchmark; needs torch and nothing else.
"""

import contextlib
import json
import math
import struct
import time

import torch
import torch.nn.functional as F

from serve import serve


def read_safetensors(path):
    with open(path, "rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(length))
        body = bytearray(file.read())
    config = json.loads(header.pop("__metadata__")["config"])
    tensors = {}
    for name, entry in header.items():
        if entry["dtype"] != "F32":
            raise ValueError(f"{name} is {entry['dtype']}, not F32.")
        begin, end = entry["data_offsets"]
        flat = torch.frombuffer(body, dtype=torch.float32, count=(end - begin) // 4, offset=begin)
        tensors[name] = flat.clone().view(entry["shape"])
    return tensors, config


def positions(rows, columns, dim):
    """MAE's fixed table [1, 1 + rows * columns, dim]: sin and cos of the column, then of the row; zeros for CLS."""
    omega = 1 / 10000 ** (torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    row, column = torch.meshgrid(
        torch.arange(rows, dtype=torch.float64), torch.arange(columns, dtype=torch.float64), indexing="ij"
    )
    parts = []
    for place in (column, row):
        angle = place.reshape(-1, 1) * omega
        parts += [angle.sin(), angle.cos()]
    table = torch.cat(parts, 1)
    return torch.cat([torch.zeros(1, dim, dtype=torch.float64), table]).float().unsqueeze(0)


class Teacher:
    def __init__(self, path):
        self.w, config = read_safetensors(path)
        self.patch = config["patch_size"]
        self.eps = config["layer_norm_eps"]
        self.encoder, self.decoder = config["encoder"], config["decoder"]
        grid = (config["image_height"] // self.patch, config["image_width"] // self.patch)
        self.w.setdefault("pos_embed", positions(*grid, self.encoder["dim"]))
        self.w.setdefault("decoder_pos_embed", positions(*grid, self.decoder["dim"]))
        # Autocast keeps the converted copy of a weight only where the weight asks for gradients.
        for tensor in self.w.values():
            tensor.requires_grad_(True)

    def linear(self, x, name):
        return F.linear(x, self.w[name + ".weight"].flatten(1), self.w[name + ".bias"])

    def norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self.w[name + ".weight"], self.w[name + ".bias"], self.eps)

    def block(self, x, name, heads, hidden):
        count, tokens, dim = x.shape
        qkv = self.linear(self.norm(x, name + ".norm1"), name + ".attn.qkv")
        q, k, v = qkv.view(count, tokens, 3, heads, dim // heads).permute(2, 0, 3, 1, 4)
        logits = q @ k.transpose(-2, -1) / math.sqrt(dim // heads)
        if hidden is not None:
            logits = logits.masked_fill(hidden.view(count, 1, 1, tokens), -math.inf)
        p = logits.softmax(-1)
        if hidden is not None:
            p = p.masked_fill(hidden.view(count, 1, tokens, 1), 0)
        x = x + self.linear((p @ v).transpose(1, 2).reshape(count, tokens, dim), name + ".attn.proj")
        h = F.gelu(self.linear(self.norm(x, name + ".norm2"), name + ".mlp.fc1"))
        return x + self.linear(h, name + ".mlp.fc2")

    def tokens(self, images, visible):
        """Decoder input [n, L + 1, E] of images [n, 3, H, W], visible [n, V]."""
        p = self.patch
        n, _, height, width = images.shape
        cut = images.view(n, 3, height // p, p, width // p, p).permute(0, 2, 4, 1, 3, 5)
        x = self.linear(cut.reshape(n, -1, 3 * p * p), "patch_embed.proj")
        table = self.w["pos_embed"]
        x = (x + table[:, 1:])[torch.arange(n).unsqueeze(1), visible]
        x = torch.cat([(self.w["cls_token"] + table[:, :1]).expand(n, -1, -1), x], 1)
        for i in range(self.encoder["depth"]):
            x = self.block(x, f"blocks.{i}", self.encoder["heads"], None)
        x = self.linear(self.norm(x, "norm"), "decoder_embed")
        patches = (height // p) * (width // p)
        full = self.w["mask_token"].to(x.dtype).expand(n, patches, -1).clone()
        full[torch.arange(n).unsqueeze(1), visible] = x[:, 1:]
        return torch.cat([x[:, :1], full], 1) + self.w["decoder_pos_embed"]

    def decode(self, x, removed):
        hidden = None
        if removed is not None:
            hidden = torch.zeros(x.shape[:2], dtype=torch.bool)
            hidden[torch.arange(len(removed)), removed + 1] = True
        for i in range(self.decoder["depth"]):
            x = self.block(x, f"decoder_blocks.{i}", self.decoder["heads"], hidden)
        return self.linear(self.norm(x, "decoder_norm"), "decoder_pred")[:, 1:]

    @torch.no_grad()
    def scores(self, images, visible, variants):
        """[n][variants]."""
        n = len(images)
        x = self.tokens(images, visible)
        masked = torch.ones(n, x.shape[1] - 1, dtype=torch.bool)
        masked[torch.arange(n).unsqueeze(1), visible] = False
        anchor = self.decode(x, None)[masked].view(n, -1)
        columns = []
        for slot in range(variants):
            changed = self.decode(x, visible[:, slot])[masked].view(n, -1)
            columns.append((anchor - changed).abs().mean(1, dtype=torch.float32))
        return torch.stack(columns, 1).tolist()


class Session:
    def hello(self, request):
        torch.set_num_threads(request["threads"])
        return {"name": "pytorch", "versions": {"torch": torch.__version__}, "features": []}

    def load(self, request):
        self.teacher = Teacher(request["mae"])
        shape = request["images"]["shape"]
        with open(request["images"]["path"], "rb") as file:
            self.images = torch.frombuffer(bytearray(file.read()), dtype=torch.float32).view(shape)
        self.visible = torch.tensor(request["visible"])
        return {}

    def scores(self, request):
        dtype = {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}[request["precision"]]
        start = time.perf_counter()
        scope = torch.autocast("cpu", dtype=dtype) if dtype else contextlib.nullcontext()
        count, batch = request["images"], request.get("batch", 1)
        scores = []
        with scope:
            for first in range(0, count, batch):
                part = slice(first, min(count, first + batch))
                scores += self.teacher.scores(self.images[part], self.visible[part], request["variants"])
        return {"ms": 1e3 * (time.perf_counter() - start), "scores": scores}


serve(Session())
