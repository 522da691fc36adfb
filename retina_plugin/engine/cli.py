"""The command line of ``train_net.py``: from arguments to a trained and evaluated model."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser, default_setup, launch
from detectron2.evaluation import verify_results
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from torch.multiprocessing import ProcessRaisedException

from ..checks.config_checks import check_config
from ..checks.data_checks import DataSummary, check_datasets
from ..data.datasets import fill_num_classes, register_config_datasets
from ..errors import SetupError
from ..modeling import CLASSIFICATION_LOSS_REGISTRY
from .checkpoint import RetinaCheckpointer, check_weights
from .config_file import config_difference, load_base_config, load_config
from .evaluation import results_table
from .run_record import RunRecord, keep_previous
from .trainer import RetinaTrainer

__all__ = ["argument_parser", "main", "prepare", "run"]

logger = logging.getLogger("retina_plugin")

EXAMPLES = """
Examples:
  train the paper's detector        train_net.py --config-file configs/retina_R101_FPN.yaml --num-gpus 8
  score a checkpoint                train_net.py --config-file configs/retina_R101_FPN.yaml --eval-only \\
                                        MODEL.WEIGHTS output/model_final.pth
  go on after an interruption       the same command with --resume
  train on your own COCO-format set train_net.py --config-file configs/retina_R50_FPN.yaml \\
                                        DATASETS.TRAIN_JSON train.json DATASETS.TRAIN_IMAGES images \\
                                        DATASETS.VAL_JSON val.json DATASETS.VAL_IMAGES images \\
                                        MODEL.RETINANET.NUM_CLASSES 0
"""

# Exit statuses: what the user can mend, and a training that diverged.
EXIT_SETUP = 2
EXIT_DIVERGED = 3
EXIT_INTERRUPTED = 130  # of the shell, for Ctrl-C


def argument_parser() -> argparse.ArgumentParser:
    """Detectron2's arguments with our examples."""
    return default_argument_parser(epilog=EXAMPLES)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``train_net.py``; the return value is the exit status: 0, 2 (a mistake to mend) or 3 (diverged)."""
    args = argument_parser().parse_args(argv)
    try:
        check_processes(args)
        launch(
            run,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
        )
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_SETUP
    except FloatingPointError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_DIVERGED
    except ProcessRaisedException as error:  # a SetupError of one of several processes arrives as text
        mark = f"{SetupError.__module__}.{SetupError.__name__}: "
        if mark not in str(error):
            raise
        print(f"error: {str(error).rsplit(mark, 1)[1].strip()}", file=sys.stderr)
        return EXIT_SETUP
    except KeyboardInterrupt:
        print("stopped; go on with --resume from the last checkpoint", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def check_processes(args: argparse.Namespace) -> None:
    if args.num_gpus > 1 and torch.cuda.device_count() < args.num_gpus:
        raise SetupError(
            f"--num-gpus {args.num_gpus}: this machine shows {torch.cuda.device_count()} GPUs. "
            "Give that number, or 1 to train on one device."
        )


def run(args: argparse.Namespace) -> dict:
    """Train and evaluate, or only evaluate, in this process (one of ``--num-gpus``).

    Returns:
        the metrics of the evaluation, by task; {} without a test set.
    """
    cfg, data = prepare(args)
    return evaluate(cfg, args, data) if args.eval_only else train(cfg, args, data)


def prepare(args: argparse.Namespace) -> tuple[CfgNode, DataSummary]:
    """The frozen config of a run and the counts of its data, everything checked that can be before long work.

    Raises:
        SetupError: in the config, the data sets or the weights.
    """
    setup_logger(name="retina_plugin", distributed_rank=comm.get_rank())
    cfg = load_config(args.config_file, args.opts)
    register_config_datasets(cfg)
    pick_device(cfg)
    fill_num_classes(cfg)
    warnings = check_config(cfg, known_losses=[name for name, _ in CLASSIFICATION_LOSS_REGISTRY])
    output_dir = Path(cfg.OUTPUT_DIR)
    if not args.eval_only and not args.resume and (output_dir / "last_checkpoint").exists():
        raise SetupError(
            f"OUTPUT_DIR {cfg.OUTPUT_DIR} holds a run already. Add --resume to go on with it, "
            "or give another OUTPUT_DIR."
        )
    check_weights(cfg, resume=args.resume)
    data = check_datasets(cfg, train=not args.eval_only)
    cfg.freeze()
    if comm.is_main_process():
        output_dir.mkdir(parents=True, exist_ok=True)
        keep_previous(output_dir / "config.yaml")
        keep_previous(output_dir / "config_diff.yaml")
    default_setup(cfg, args)
    logger.handlers.clear()  # the second call below would double every line
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="retina_plugin")
    for warning in warnings:
        logger.warning("%s", warning)
    if comm.is_main_process():
        write_config_difference(cfg, args.config_file, output_dir / "config_diff.yaml")
    return cfg, data


def write_config_difference(cfg: CfgNode, config_file: str, path: Path) -> None:
    """What the run's config changes in what ``config_file`` inherits, a line a key."""
    changed = config_difference(cfg, load_base_config(config_file))
    lines = [f"{key}: {json.dumps(value)}  # was {json.dumps(base)}" for key, (base, value) in changed.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def pick_device(cfg: CfgNode) -> None:
    """Take CUDA, MPS or the CPU where the config's device is not there, and say so."""
    wanted = cfg.MODEL.DEVICE
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if not there.get(wanted.split(":")[0], True):
        cfg.MODEL.DEVICE = next(device for device, available in there.items() if available)
        logger.warning("MODEL.DEVICE %s is not there: running on %s", wanted, cfg.MODEL.DEVICE)
    if cfg.SOLVER.AMP.ENABLED and not cfg.MODEL.DEVICE.startswith("cuda"):
        cfg.SOLVER.AMP.ENABLED = False
        logger.warning(
            "SOLVER.AMP.ENABLED needs CUDA (Detectron2's AMPTrainer): running on %s without", cfg.MODEL.DEVICE
        )


def train(cfg: CfgNode, args: argparse.Namespace, data: DataSummary) -> dict:
    """Train, evaluate and leave ``OUTPUT_DIR/run_record.json``, whatever the outcome."""
    trainer = RetinaTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    record = None
    if comm.is_main_process():
        record = RunRecord(
            Path(cfg.OUTPUT_DIR, "run_record.json"), cfg, args.config_file, resumed=trainer.start_iter > 0
        )
        record.update(data=asdict(data), start_iteration=trainer.start_iter)
    if trainer.start_iter >= trainer.max_iter:
        logger.info("nothing to train: iteration %d of %d is done", trainer.start_iter, trainer.max_iter)
    status, reason = "failed", None
    try:
        trainer.train()
        status = "finished"
    except FloatingPointError as error:
        status, reason = "diverged", str(error)
        raise
    except KeyboardInterrupt:
        status, reason = "interrupted", "Ctrl-C"
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise
    finally:
        if record:
            record.finish(
                status,
                reason=reason,
                iterations=getattr(trainer, "iter", trainer.start_iter),
                images_per_batch=cfg.SOLVER.IMS_PER_BATCH,
                losses=trainer.last_losses,
                results=trainer.last_results,
            )
    return trainer.last_results or {}


def evaluate(cfg: CfgNode, args: argparse.Namespace, data: DataSummary) -> dict:
    """Score a checkpoint (``--eval-only``): print the table and store it in ``OUTPUT_DIR/eval_record.json``.

    Raises:
        SetupError: no weights are named, or they lack part of the model (unless TEST.ALLOW_PARTIAL_WEIGHTS).
    """
    model = RetinaTrainer.build_model(cfg)
    checkpointer = RetinaCheckpointer(model, cfg.OUTPUT_DIR, skip_mismatched=cfg.MODEL.SKIP_MISMATCHED_WEIGHTS)
    checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
    report = checkpointer.report
    if not cfg.TEST.ALLOW_PARTIAL_WEIGHTS and (report is None or report.missing):
        raise SetupError(
            f"--eval-only would score random weights: {report or 'MODEL.WEIGHTS is empty'}.\n"
            "Give MODEL.WEIGHTS a trained checkpoint, or --resume for the last one of OUTPUT_DIR "
            "(TEST.ALLOW_PARTIAL_WEIGHTS True scores it all the same)."
        )
    record = None
    if comm.is_main_process():
        record = RunRecord(Path(cfg.OUTPUT_DIR, "eval_record.json"), cfg, args.config_file, resumed=False)
        record.update(data=asdict(data), weights=report and report.path, weights_loaded=str(report))
    results = RetinaTrainer.test(cfg, model)
    if record:
        record.finish("finished", results=results)
        per_set = {cfg.DATASETS.TEST[0]: results} if len(cfg.DATASETS.TEST) == 1 else results
        for name, metrics in per_set.items():
            logger.info("results on %s\n%s", name, results_table(metrics))
        verify_results(cfg, results)
    return results
