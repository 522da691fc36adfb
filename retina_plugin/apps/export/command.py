"""Exports a checkpoint for ``retina export``, after its arguments are checked."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.data.detection_utils import build_augmentation, read_image

from ...data.images import IMAGE_SUFFIXES
from ...errors import SetupError
from ...files import write_whole
from ...training.trained_model import TrainedModel, build_described, describe_model
from .detector import ExportableDetector
from .metadata import build_metadata, metadata_as_text, sidecar_path
from .torch_formats import to_safetensors, to_torch_export, to_torchscript

__all__ = ["export"]

RUN_SCRIPT = Path(__file__).with_name("run_onnx.py")


def export(args: argparse.Namespace) -> None:
    """Write the exported file with its side files, and print their names.

    Raises:
        SetupError: a mistake in the config, the weights or the images of ``--calibration``.
    """
    trained = load_model(args.config_file, args.weights, args.opts)
    cfg, model = trained.cfg, trained.model
    detector = ExportableDetector(model).eval()
    if args.classes:
        class_names = [name.strip() for name in args.classes.split(",")]
        num_classes = cfg.MODEL.RETINANET.NUM_CLASSES
        if len(class_names) != num_classes:
            raise SetupError(
                f"--classes names {len(class_names)} classes, the model has {num_classes}: give all in order."
            )
    else:
        class_names = list(trained.class_names)
    metadata = build_metadata(cfg, detector, class_names, weights=args.weights)
    dtype = getattr(torch, args.input_type)
    if args.format == "onnx":
        written = _write_onnx(args, cfg, detector, metadata, dtype)
    elif args.format == "safetensors":
        write_whole(args.output, to_safetensors(model, metadata_as_text(metadata)))
        written = [args.output]
    else:
        to_bytes = {"torchscript": to_torchscript, "torch-export": to_torch_export}[args.format]
        write_whole(args.output, to_bytes(detector, dtype=dtype))
        written = [args.output, sidecar_path(args.output)]
        write_whole(written[1], json.dumps(metadata, indent=1) + "\n")
    for path in written:
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    if args.format == "onnx":
        print(f"Next: python {written[1]} {written[0]} PHOTO")


def load_model(config_file: str, weights: str, opts: list[str]) -> TrainedModel:
    """Open a trained model on the CPU, for an export.

    Args:
        config_file: "" for the description in the checkpoint.

    Raises:
        SetupError: a mistake in the config; or the checkpoint is missing, invalid or lacks part of the model.
    """
    cfg, content = describe_model(weights, config_file or None, ["MODEL.DEVICE", "cpu", *opts])
    if cfg.MODEL.META_ARCHITECTURE not in ("RetinaNet", "FocalRetinaNet"):
        raise SetupError(
            f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE} cannot be exported: "
            "it must be RetinaNet or FocalRetinaNet."
        )
    # The other values of MODEL.PRECISION work only in PyTorch, Winograd's layers only on a CPU.
    return build_described(cfg, content, ["MODEL.PRECISION", "fp32"])


def read_images(folder: Path, cfg: CfgNode, *, dtype: torch.dtype, max_images: int) -> Iterator[np.ndarray]:
    """Yield up to ``max_images`` images of a folder, (1, 3, H, W), resized as for evaluation, evenly chosen by name.

    Raises:
        SetupError: the folder has no images, or one cannot be read.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise SetupError(f"{folder} holds no images ({', '.join(IMAGE_SUFFIXES)}).")
    resize = T.AugmentationList(build_augmentation(cfg, is_train=False))
    for path in paths[:: -(-len(paths) // max_images)]:
        try:
            image = read_image(str(path), format=cfg.INPUT.FORMAT)
        except (OSError, ValueError) as error:
            raise SetupError(f"{path} cannot be read as an image ({error}). Take it out of the folder.") from error
        inputs = T.AugInput(image)
        resize(inputs)
        tensor = torch.as_tensor(inputs.image.transpose(2, 0, 1).copy())
        yield tensor[None].to(dtype).numpy()


def _write_onnx(
    args: argparse.Namespace, cfg: CfgNode, detector: ExportableDetector, metadata: dict, dtype: torch.dtype
) -> list[Path]:
    from .onnx_format import to_onnx  # here: onnx may be missing

    precision = "fp16" if args.half else "int8" if args.int8 else "fp32"
    model = to_onnx(detector, metadata_as_text({**metadata, "precision": precision}), dtype=dtype)
    if args.half:
        from .onnx_precision import to_half

        model = to_half(model)
    elif args.int8:
        from .onnx_precision import to_int8

        model = to_int8(model, read_images(args.calibration, cfg, dtype=dtype, max_images=args.max_images))
    write_whole(args.output, model.SerializeToString())
    script = args.output.with_name(f"run_{args.output.stem}.py")
    write_whole(script, RUN_SCRIPT.read_text(encoding="utf-8"))
    return [args.output, script]
