"""Vision transformers with random weights as ONNX files, and what PyTorch computes with some of their patches.

    python3 make_vits.py FOLDER [--only PART_OF_NAME ...] [--list]

Each case becomes FOLDER/NAME/: model.onnx (and its data), case.json, and the tensors that it names as raw little-endian
files. The reference of kept patches is the PyTorch model itself, its tokens taken after positions were added. For int8 it is
hand.onnx, a graph that PyTorch exported with that selection inside, quantised in the same way.

Needs torch, transformers, timm, onnx, onnxscript and onnxruntime. Weights are far larger than usual initial ones: with those,
a wrong patch changes the results by less than 1e-5.
"""
import argparse
import contextlib
import json
import os
import sys
import warnings

import numpy as np
import torch

# timm imports torchvision, whose operators are not there beside a CPU build of torch. None of them is used.
try:
    import torchvision  # noqa: F401
except RuntimeError:
    for name in [name for name in sys.modules if name.startswith("torchvision")]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm  # noqa: E402
import transformers  # noqa: E402

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity_error()

WIDTH, HEADS, DEPTH, MLP = 64, 4, 2, 128
COMMON = dict(
    hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS, intermediate_size=MLP, image_size=224, patch_size=16
)
IMAGES, KEPT = 2, 50


def large_weights(model, seed):
    """Weights that make every patch matter: variance-preserving matrices, positions and biases of the same order as them."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        fan_in = parameter[0].numel() if parameter.dim() > 1 else 1
        noise = torch.randn(parameter.shape, generator=generator)
        with torch.no_grad():
            if parameter.dim() > 1 and not any(part in name for part in ("pos", "token", "probe", "rel")):
                parameter.copy_(noise * 1.2 / fan_in**0.5)
            elif name.endswith("weight") or "gamma" in name or "lambda" in name:
                parameter.copy_((1 + 0.2 * noise) if parameter.dim() == 1 else 0.7 * noise)
            else:
                parameter.copy_(0.7 * noise)
    return model.eval()


class Wrapped(torch.nn.Module):
    """A model whose outputs are a tuple of tensors with names."""

    def __init__(self, model, run, outputs):
        super().__init__()
        self.model, self.run_model, self.outputs = model, run, outputs

    def forward(self, pixel_values):
        return self.run_model(self.model, pixel_values)


def take(tokens, ids, prefix):
    """Tokens of the kept patches, behind the `prefix` others; any dtype, any batch."""
    index = (ids + prefix).unsqueeze(-1).expand(-1, -1, tokens.shape[-1])
    return torch.cat([tokens[:, :prefix], tokens.gather(1, index)], 1)


@contextlib.contextmanager
def keeping(module, ids, prefix):
    """Inside, `module` returns the tokens of the kept patches only."""
    original = module.forward

    def kept(*args, **kwargs):
        return take(original(*args, **kwargs), ids, prefix)

    module.forward = kept
    try:
        yield
    finally:
        module.forward = original


def hugging_face(kind, size=224, patch=16, outputs=("last_hidden_state", "pooler_output"), **more):
    """(model, its run, outputs, the module whose forward yields the tokens, tokens before the patches)."""
    settings = {**COMMON, "image_size": size, "patch_size": patch, **more}
    if kind == "deit-distilled":
        config = transformers.DeiTConfig(**settings, attn_implementation=more.get("attention"))
        model = transformers.DeiTForImageClassificationWithTeacher(config)
        return model, lambda m, x: (m(pixel_values=x).logits,), ("logits",), model.deit.embeddings, 2
    if kind == "clip-two-towers":
        text = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, vocab_size=99)
        config = transformers.CLIPConfig(
            text_config=text, vision_config=settings, projection_dim=24)
        model = transformers.CLIPModel(config)
        return model, None, ("logits_per_image", "image_embeds", "text_embeds"), model.vision_model.embeddings, 1
    make, configure, prefix = {
        "vit": (transformers.ViTModel, transformers.ViTConfig, 1),
        "vit-classifier": (transformers.ViTForImageClassification, transformers.ViTConfig, 1),
        "deit": (transformers.DeiTModel, transformers.DeiTConfig, 2),
        "clip": (transformers.CLIPVisionModelWithProjection, transformers.CLIPVisionConfig, 1),
        "siglip": (transformers.SiglipVisionModel, transformers.SiglipVisionConfig, 0),
        "dinov2": (transformers.Dinov2Model, transformers.Dinov2Config, 1),
        "dinov2-registers": (transformers.Dinov2WithRegistersModel, transformers.Dinov2WithRegistersConfig, 5),
        "beit": (transformers.BeitModel, transformers.BeitConfig, 1),
        "dinov3": (transformers.DINOv3ViTModel, transformers.DINOv3ViTConfig, 5),
    }[kind]
    if kind.startswith("dinov2"):
        settings.pop("intermediate_size")
        settings["mlp_ratio"] = 2
    if kind == "dinov2-registers":
        settings["num_register_tokens"] = 4
    if kind == "dinov3":
        settings["num_register_tokens"] = 4
    if kind == "clip":
        outputs = ("image_embeds", "last_hidden_state")
    if kind == "vit-classifier":
        outputs = ("logits",)
    if kind == "beit":
        settings.update(use_relative_position_bias=True, use_absolute_position_embeddings=False)
    model = make(configure(**settings))

    def run(m, x):
        out = m(pixel_values=x)
        return tuple(getattr(out, name) for name in outputs)

    core = {"vit": lambda: model.embeddings, "vit-classifier": lambda: model.vit.embeddings}.get(kind)
    if core is None:
        holder = getattr(model, "vision_model", model)
        core = lambda: holder.embeddings  # noqa: E731
    return model, run, outputs, core(), prefix


def from_timm(**more):
    from timm.models.vision_transformer import VisionTransformer

    settings = dict(img_size=224, patch_size=16, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, mlp_ratio=2, num_classes=10)
    model = VisionTransformer(**{**settings, **more})
    # This module sees the tokens once positions are added.
    return model, lambda m, x: (m(x),), ("logits",), model.patch_drop, model.num_prefix_tokens


def from_eva(**more):
    from timm.models.eva import Eva

    model = Eva(img_size=224, patch_size=16, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, mlp_ratio=2, num_classes=10, **more)
    return model, lambda m, x: (m(x),), ("logits",), None, 1


class Unfolded(torch.nn.Module):
    """The patch projection as a matrix product on patches cut out by hand."""

    def __init__(self, convolution):
        super().__init__()
        self.projection = torch.nn.Linear(3 * 16 * 16, convolution.out_channels)
        self.num_patches, self.grid_size, self.patch_size = 196, (14, 14), (16, 16)

    def forward(self, x):
        b = x.shape[0]
        x = x.reshape(b, 3, 14, 16, 14, 16).permute(0, 2, 4, 3, 5, 1).reshape(b, 196, 768)
        return self.projection(x)


def unfolded(**more):
    model, run, outputs, tokens, prefix = from_timm(**more)
    model.patch_embed = Unfolded(model.patch_embed.proj)
    return model, run, outputs, tokens, prefix


def masked_autoencoder(noise):
    config = transformers.ViTMAEConfig(**COMMON, mask_ratio=0.75, decoder_hidden_size=32)
    model = transformers.ViTMAEModel(config)
    return model, noise, ("last_hidden_state", "mask", "ids_restore"), None, 1


# name: (how the model is made, sort, side of the picture)
FAMILIES = {
    "vit": lambda: hugging_face("vit"),
    "vit-eager": lambda: hugging_face("vit", attn_implementation="eager"),
    "vit-classifier": lambda: hugging_face("vit-classifier"),
    "deit": lambda: hugging_face("deit"),
    "deit-distilled": lambda: hugging_face("deit-distilled"),
    "clip": lambda: hugging_face("clip", patch=32),
    "siglip": lambda: hugging_face("siglip"),
    "dinov2": lambda: hugging_face("dinov2", patch=14),
    "dinov2-registers": lambda: hugging_face("dinov2-registers", patch=14),
    "dinov3": lambda: hugging_face("dinov3", outputs=("last_hidden_state", "pooler_output")),
    "beit": lambda: hugging_face("beit"),
    "timm": lambda: from_timm(),
    "timm-mean": lambda: from_timm(global_pool="avg", class_token=False, fc_norm=True),
    "timm-mean-cls": lambda: from_timm(global_pool="avg"),
    "timm-registers": lambda: from_timm(reg_tokens=4, no_embed_class=True),
    "timm-clip": lambda: from_timm(pre_norm=True),
    "timm-map": lambda: from_timm(global_pool="map", class_token=False),
    "timm-none": lambda: from_timm(pos_embed="none"),
    "timm-max": lambda: from_timm(global_pool="max"),
    "timm-qknorm": lambda: from_timm(qk_norm=True, init_values=0.5),
    "timm-unfused": lambda: from_timm(),
    "timm-unfolded": lambda: unfolded(),
    "timm-eva": lambda: from_eva(use_rot_pos_emb=True),
}
EXPORTERS = ("legacy", "dynamo")


def masked_image():
    model = transformers.ViTForMaskedImageModeling(transformers.ViTConfig(**COMMON, encoder_stride=16))
    return model, lambda m, x: (m(pixel_values=x).reconstruction,), ("reconstruction",), None, 1


def swin():
    model = transformers.SwinModel(transformers.SwinConfig(embed_dim=32, depths=[1, 1], num_heads=[2, 2]))
    return model, lambda m, x: (m(pixel_values=x).pooler_output,), ("pooler_output",), None, 0


def pyramid():
    config = transformers.SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], hidden_sizes=[16, 32], num_attention_heads=[1, 2], sr_ratios=[4, 2], strides=[4, 2],
        patch_sizes=[7, 3], mlp_ratios=[2, 2])
    model = transformers.SegformerModel(config)
    return model, lambda m, x: (m(pixel_values=x).last_hidden_state,), ("last_hidden_state",), None, 0


# These need their patches as a grid.
REFUSED = {"vit-masked-image": masked_image, "swin": swin, "segformer": pyramid}


def ids_of(patches, kept, seed=7):
    generator = np.random.default_rng(seed)
    return np.stack([generator.permutation(patches)[:kept] for _ in range(IMAGES)]).astype(np.int64)


def save(folder, name, array):
    array = np.ascontiguousarray(array.detach().numpy() if isinstance(array, torch.Tensor) else array)
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    array.tofile(os.path.join(folder, name + ".bin"))
    return {"file": name + ".bin", "type": str(array.dtype), "shape": list(array.shape)}


def export(model, arguments, path, exporter, names, outputs, dynamic, opset=None):
    with torch.no_grad():
        if exporter == "legacy":
            axes = {name: dims for name, dims in dynamic.items()}
            torch.onnx.export(
                model, arguments, path, dynamo=False, input_names=names, output_names=list(outputs),
                opset_version=opset or 17, dynamic_axes=axes or None)
        else:
            shapes = tuple({axis: torch.export.Dim(label) for axis, label in dynamic.get(name, {}).items()} for name in names)
            torch.onnx.export(
                model, arguments, path, dynamo=True, input_names=names, output_names=list(outputs), opset_version=opset,
                dynamic_shapes=shapes if dynamic else None, external_data=True, verbose=False)


def quantise(source, target, **more):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    import onnx

    # The new exporter writes shapes that the quantiser's transposed weights contradict.
    model = onnx.load(source)
    del model.graph.value_info[:]
    onnx.save(model, source)
    quantize_dynamic(source, target, weight_type=QuantType.QUInt8, **more)


def optimise(path, fused):
    """A graph as onnxruntime saves it, or as its tool for transformers fuses it: with operators of its own."""
    import onnxruntime

    if fused:
        from onnxruntime.transformers import optimizer

        model = optimizer.optimize_model(path, model_type="vit", num_heads=HEADS, hidden_size=WIDTH)
        model.save_model_to_file(path)
    else:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = path + ".optimised"
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        os.replace(path + ".optimised", path)


class Kept(torch.nn.Module):
    """The model with the selection written by hand in PyTorch: exported, it is the reference of quantised graphs."""

    def __init__(self, model, run, tokens, prefix):
        super().__init__()
        self.model, self.run_model, self.prefix, self.tokens = model, run, prefix, tokens

    def forward(self, pixel_values, ids):
        with keeping(self.tokens, ids, self.prefix):
            return self.run_model(self.model, pixel_values)


@contextlib.contextmanager
def tables_kept(family, model, ids):
    """Inside, tables that join in the blocks hold the kept patches of one image; they have no axis of images."""
    undo = []

    def wrap(module, method, make):
        original = getattr(module, method)
        setattr(module, method, make(original))
        undo.append((module, method))

    def eva(original):
        def kept(*args):
            x, rope = original(*args)
            return take(x, ids, 1), rope[ids[0]]

        return kept

    def bias(original):
        index = torch.cat([torch.zeros(1, dtype=torch.int64), ids[0] + 1])
        return lambda *args, **more: original(*args, **more)[..., index[:, None], index[None, :]]

    def rope(original):
        return lambda *args: tuple(each[ids[0]] for each in original(*args))

    def tokens(prefix):
        return lambda original: lambda *args, **more: take(original(*args, **more), ids, prefix)

    if family == "timm-eva":
        wrap(model, "_pos_embed", eva)
    elif family == "beit":
        wrap(model.embeddings, "forward", tokens(1))
        for module in model.modules():
            if type(module).__name__ == "BeitRelativePositionBias":
                wrap(module, "forward", bias)
    else:
        wrap(model.embeddings, "forward", tokens(5))
        wrap(next(m for m in model.modules() if "Rope" in type(m).__name__), "forward", rope)
    try:
        yield
    finally:
        for module, method in undo:
            delattr(module, method)


def make_refused(folder, name, family, exporter, seed):
    model, run, outputs, _, _ = REFUSED[family]()
    large_weights(model, seed)
    pixels = torch.randn(IMAGES, 3, 224, 224)
    os.makedirs(folder, exist_ok=True)
    export(Wrapped(model, run, outputs), (pixels,), os.path.join(folder, "model.onnx"), exporter, ["pixel_values"], outputs,
           {"pixel_values": {0: "batch"}})
    with open(os.path.join(folder, "case.json"), "w") as file:
        json.dump({"name": name, "refused": True}, file)


def make(folder, name, family, exporter, variant, seed):
    model, run, outputs, tokens, prefix = FAMILIES[family]()
    large_weights(model, seed)
    side = 224
    if "half" in variant:
        model = model.half()
    rng = torch.Generator().manual_seed(3)
    pixels = torch.randn(IMAGES, 3, side, side, generator=rng)
    if "half" in variant:
        pixels = pixels.half()
    with torch.no_grad():
        full = run(model, pixels)
    patch = {"clip": 32, "dinov2": 14, "dinov2-registers": 14}.get(family, 16)
    patches = (side // patch) ** 2
    kept = min(KEPT, patches // 2)
    ids = ids_of(patches, kept)
    t_ids = torch.from_numpy(ids)
    with torch.no_grad():
        if family in ("timm-eva", "beit", "dinov3"):
            rows = []
            for image in range(IMAGES):
                with tables_kept(family, model, t_ids[image : image + 1]):
                    rows.append(run(model, pixels[image : image + 1]))
            reference = tuple(torch.cat(parts) for parts in zip(*rows))
        else:
            reference = Kept(model, run, tokens, prefix)(pixels, t_ids)
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "model.onnx")
    dynamic = {"pixel_values": {0: "batch"}}
    if "fixed" in variant:
        dynamic = {}
    if "sizes" in variant:
        dynamic = {"pixel_values": {0: "batch_size", 1: "num_channels", 2: "height", 3: "width"}}
        dynamic.update({name: {0: "batch_size"} for name in outputs})
    opset = int(variant[5:]) if variant.startswith("opset") else None
    if family == "timm-unfused":
        import timm.layers
        for block in model.blocks:
            block.attn.fused_attn = False
    export(Wrapped(model, run, outputs), (pixels,), path, exporter, ["pixel_values"], outputs, dynamic, opset)
    if variant in ("optimised", "fused"):
        optimise(path, variant == "fused")
    if "int8" in variant:
        float_path = os.path.join(folder, "float.onnx")
        import onnx
        onnx.save(onnx.load(path), float_path)
        for extra in (path, path + ".data"):
            if os.path.exists(extra):
                os.remove(extra)
        quantise(float_path, path)
        hand = os.path.join(folder, "hand.onnx")
        export(Kept(model, run, tokens, prefix), (pixels, t_ids), hand, exporter, ["pixel_values", "ids"], outputs,
               {"pixel_values": {0: "batch"}, "ids": {0: "batch", 1: "kept"}})
        onnx.save(onnx.load(hand), float_path)
        quantise(float_path, hand)
        os.remove(float_path)
        if os.path.exists(hand + ".data"):
            os.remove(hand + ".data")
    case = {"name": name, "patches": patches, "prefix": prefix, "half": "half" in variant, "int8": "int8" in variant,
            "outputs": list(outputs), "pixels": save(folder, "pixels", pixels), "ids": save(folder, "ids", ids),
            "full": [save(folder, f"full-{i}", each) for i, each in enumerate(full)],
            "reference": [save(folder, f"kept-{i}", each) for i, each in enumerate(reference)]}
    with open(os.path.join(folder, "case.json"), "w") as file:
        json.dump(case, file, indent=1)


def make_autoencoder(folder, name, exporter, variant, seed):
    model, noise_is_input, outputs, _, _ = masked_autoencoder("input" in variant)
    large_weights(model, seed)
    pixels = torch.randn(IMAGES, 3, 224, 224, generator=torch.Generator().manual_seed(3))
    ids = ids_of(196, 49)
    noise = torch.full((IMAGES, 196), 2.0)
    noise.scatter_(1, torch.from_numpy(ids), torch.arange(49).float().div(49).expand(IMAGES, -1).contiguous())
    with torch.no_grad():
        out = model(pixel_values=pixels, noise=noise)
    reference = [getattr(out, each) for each in outputs]

    class Run(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, pixel_values, noise=None):
            out = self.model(pixel_values=pixel_values, noise=noise)
            return tuple(getattr(out, each) for each in outputs)

    os.makedirs(folder, exist_ok=True)
    arguments = (pixels, noise) if noise_is_input else (pixels,)
    names = ["pixel_values", "noise"] if noise_is_input else ["pixel_values"]
    export(Run(), arguments, os.path.join(folder, "model.onnx"), exporter, names, outputs,
           {each: {0: "batch"} for each in names})
    case = {"name": name, "patches": 196, "prefix": 1, "half": False, "int8": False, "outputs": list(outputs), "draws": True,
            "pixels": save(folder, "pixels", pixels), "ids": save(folder, "ids", ids), "full": [],
            "reference": [save(folder, f"kept-{i}", each) for i, each in enumerate(reference)]}
    with open(os.path.join(folder, "case.json"), "w") as file:
        json.dump(case, file, indent=1)


def make_two_towers(folder, name, exporter, seed):
    model, _, outputs, tokens, prefix = hugging_face("clip-two-towers", patch=32)
    large_weights(model, seed)
    pixels = torch.randn(IMAGES, 3, 224, 224, generator=torch.Generator().manual_seed(3))
    words = torch.tensor([[5, 6, 7, 98], [9, 8, 7, 98], [1, 2, 3, 98]])
    ids = ids_of(49, 20)

    class Run(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, input_ids, pixel_values):
            out = self.model(input_ids=input_ids, pixel_values=pixel_values)
            return tuple(getattr(out, each) for each in outputs)

    with torch.no_grad():
        full = Run()(words, pixels)
        with keeping(tokens, torch.from_numpy(ids), prefix):
            reference = Run()(words, pixels)
    os.makedirs(folder, exist_ok=True)
    export(Run(), (words, pixels), os.path.join(folder, "model.onnx"), exporter, ["input_ids", "pixel_values"], outputs,
           {"input_ids": {0: "texts"}, "pixel_values": {0: "images"}})
    case = {"name": name, "patches": 49, "prefix": prefix, "half": False, "int8": False, "outputs": list(outputs),
            "pixels": save(folder, "pixels", pixels), "ids": save(folder, "ids", ids),
            "others": {"input_ids": save(folder, "words", words)},
            "full": [save(folder, f"full-{i}", each) for i, each in enumerate(full)],
            "reference": [save(folder, f"kept-{i}", each) for i, each in enumerate(reference)]}
    with open(os.path.join(folder, "case.json"), "w") as file:
        json.dump(case, file, indent=1)


def cases():
    for family in FAMILIES:
        for exporter in EXPORTERS:
            yield f"{family}.{exporter}", family, exporter, ""
    for family in ("vit", "clip", "dinov2", "timm"):
        for exporter in EXPORTERS:
            yield f"{family}.{exporter}.fixed", family, exporter, "fixed"
            yield f"{family}.{exporter}.half", family, exporter, "half"
    for family in ("vit", "deit", "clip", "siglip", "dinov2", "dinov2-registers", "timm"):
        for exporter in EXPORTERS:
            yield f"{family}.{exporter}.int8", family, exporter, "int8"
    for family in ("vit", "deit", "clip", "siglip", "dinov2", "dinov2-registers"):
        yield f"{family}.legacy.sizes", family, "legacy", "sizes"
    for opset in ("opset12", "opset14"):
        yield f"timm-unfused.legacy.{opset}", "timm-unfused", "legacy", opset
    for family in ("vit", "timm"):
        yield f"{family}.dynamo.opset23", family, "dynamo", "opset23"
        for variant in ("optimised", "fused"):
            for exporter in EXPORTERS:
                yield f"{family}.{exporter}.{variant}", family, exporter, variant
    for family in REFUSED:
        for exporter in EXPORTERS:
            yield f"{family}.{exporter}", family, exporter, ""
    for exporter in EXPORTERS:
        yield f"vitmae.{exporter}", "vitmae", exporter, ""
        yield f"vitmae.{exporter}.input", "vitmae", exporter, "input"
        yield f"clip-two-towers.{exporter}", "clip-two-towers", exporter, ""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    wanted = [each for each in cases() if not arguments.only or any(each[0] == o or (o.endswith("*") and each[0].startswith(o[:-1])) for o in arguments.only)]
    if arguments.list:
        print("\n".join(each[0] for each in wanted))
        return
    torch.manual_seed(0)
    torch.set_num_threads(1)
    for number, (name, family, exporter, variant) in enumerate(wanted):
        folder = os.path.join(arguments.folder, name)
        if os.path.exists(os.path.join(folder, "case.json")) or os.path.exists(os.path.join(folder, "failed.txt")):
            continue
        try:
            if family == "vitmae":
                make_autoencoder(folder, name, exporter, variant, 11)
            elif family in REFUSED:
                make_refused(folder, name, family, exporter, 11)
            elif family == "clip-two-towers":
                make_two_towers(folder, name, exporter, 11)
            else:
                make(folder, name, family, exporter, variant, 11)
            print(f"{name}: made", flush=True)
        except Exception as error:  # An exporter that cannot is a result, too.
            os.makedirs(folder, exist_ok=True)
            reason = f"{type(error).__name__}: {error}"
            with open(os.path.join(folder, "failed.txt"), "w") as file:
                file.write(reason + "\n")
            print(f"{name}: not made: {reason.splitlines()[0][:200]}", flush=True)


if __name__ == "__main__":
    main()
