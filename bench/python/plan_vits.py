"""The models of `npm run bench:plan`: ViT-B/16 and the vision tower of CLIP ViT-B/16 with random weights, as people export them.

    python3 plan_vits.py FOLDER [--tiny]

Needs torch, transformers, onnx and onnxscript. Times do not depend on the weights. --tiny: as small as can be, to try the command.
"""
import argparse
import os
import sys

import torch

# transformers imports torchvision, whose operators are not there beside a CPU build of torch. None of them is used.
try:
    import torchvision  # noqa: F401
except ImportError:
    pass
except RuntimeError:
    for name in [name for name in sys.modules if name.startswith("torchvision")]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, ViTConfig, ViTModel  # noqa: E402


class Outputs(torch.nn.Module):
    def __init__(self, model, names):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, pixel_values):
        out = self.model(pixel_values=pixel_values)
        return tuple(getattr(out, name) for name in self.names)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    os.makedirs(arguments.folder, exist_ok=True)
    size = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=2) if arguments.tiny else dict(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    vit = lambda side: ViTModel(ViTConfig(image_size=side, **size))  # noqa: E731
    clip = lambda side: CLIPVisionModelWithProjection(  # noqa: E731
        CLIPVisionConfig(image_size=side, patch_size=16, projection_dim=512, **size))
    cases = [
        ("ViT-B-16", vit, ("last_hidden_state", "pooler_output")),
        ("CLIP-ViT-B-16", clip, ("image_embeds",)),
    ]
    for model, make, names in cases:
        for side in (224, 384):
            path = os.path.join(arguments.folder, f"{model}-{side}.onnx")
            if os.path.exists(path):
                continue
            torch.manual_seed(0)
            with torch.no_grad():
                torch.onnx.export(
                    Outputs(make(side).eval(), names), (torch.randn(1, 3, side, side),), path, dynamo=False, opset_version=17,
                    input_names=["pixel_values"], output_names=list(names), dynamic_axes={"pixel_values": {0: "batch"}})
            print(path, flush=True)


if __name__ == "__main__":
    main()
