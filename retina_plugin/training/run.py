"""Run a training or an evaluation from its arguments, in one of its processes."""

import argparse
import json
import logging
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.evaluation import verify_results
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from ..config.load import config_difference, load_base_config, load_config, with_values
from ..config.shipped import find_config
from ..data.class_names import config_class_names
from ..data.register import keep_converted
from ..errors import SetupError
from ..evaluation.augmented_inference import with_augmentation
from ..evaluation.evaluator import InferenceTimer, build_evaluator
from ..files import write_whole
from ..findings import raise_first_error
from ..modeling import build_inference_model
from ..prepare import prepare
from ..run_record import RunRecord, check_output_dir, keep_previous
from ..weights.checkpointer import build_checkpointer, loading_rules
from ..weights.files import ResumePoint
from .folder_lock import FolderLock
from .resume import check_resume
from .terminal import (
    describe_training,
    escape_control_characters,
    hide_cuda_home,
    remove_former_handlers,
    terminal_essentials,
)  # fmt: skip
from .trainer import RetinaTrainer
from .trial import find_trial_faults

__all__ = ["RunArguments", "evaluate", "run", "set_up"]

logger = logging.getLogger("retina_plugin")

# Folder of the files of an evaluation of its own: only the training writes the files that describe the run.
EVALUATION_FOLDER = "inference_eval_only"


@dataclass(frozen=True)
class RunArguments:
    """The arguments of ``train_net.py`` that a run reads, for callers without a command line."""

    config_file: str = ""
    config: CfgNode | None = None  # in place of a file and opts
    opts: Sequence[str] = ()
    resume: bool = False
    eval_only: bool = False
    verbose: bool | None = None  # None: a command without --verbose
    command: str = ""  # for the run record


def run(args: RunArguments | argparse.Namespace) -> dict:
    """Train and evaluate, or only evaluate, in this process (one of ``--num-gpus``).

    Returns:
        the metrics of the evaluation, by task; {} without a test set.
    """
    with FolderLock() as lock:
        cfg, facts, resume = set_up(args, lock)
        return (evaluate if args.eval_only else train)(cfg, resume, facts)


def set_up(
    args: RunArguments | argparse.Namespace, lock: FolderLock | None = None
) -> tuple[CfgNode, dict, ResumePoint | bool]:
    """Prepare a run and its output folder, which is written once everything is checked.

    A training locks its folder by ``lock``; an evaluation may run beside a training.

    Returns:
        the frozen config, facts for the run record, and the checkpoint to resume from.

    Raises:
        SetupError: a mistake in the config, the data sets or the weights.
    """
    remove_former_handlers()
    setup_logger(name="retina_plugin", distributed_rank=comm.get_rank())
    escape_control_characters("retina_plugin")
    given = getattr(args, "config", None)
    config_file = find_config(args.config_file) if args.config_file or given is None else ""
    cfg = load_config(config_file if given is None else given, args.opts)
    output_dir = Path(cfg.OUTPUT_DIR)
    check_output_dir(output_dir)
    locks = lock and not args.eval_only and comm.is_main_process()
    if locks and output_dir.is_dir():
        lock.hold(output_dir)
    if not args.eval_only and not args.resume and (output_dir / "last_checkpoint").exists():
        raise SetupError(
            f"OUTPUT_DIR {cfg.OUTPUT_DIR} holds a run already. Add --resume to go on with it, "
            "or give another OUTPUT_DIR."
        )
    prepared = prepare(
        cfg,
        use="run",
        split="test" if args.eval_only else "both",
        resume=args.resume,
    )
    cfg, data, warnings = prepared.cfg, prepared.data and asdict(prepared.data), prepared.warnings
    raise_first_error(find_trial_faults(cfg, only_evaluation=args.eval_only))
    if prepared.resumed and not args.eval_only and comm.is_main_process():
        cfg, more = check_resume(cfg, prepared.resumed)
        warnings += more
    changed = config_difference(cfg, load_base_config(config_file))
    folder = output_dir / EVALUATION_FOLDER if args.eval_only else output_dir
    if locks:  # and only now makes the folder
        lock.hold(output_dir)
    if comm.is_main_process():
        write_config_difference(changed, folder, fresh=not args.resume and not args.eval_only)
        if not args.eval_only:
            keep_converted(output_dir / "datasets")
        if chosen := getattr(args, "chosen", ""):
            write_whole(folder / "chosen.yaml", chosen)
    hide_cuda_home()
    with terminal_essentials(verbose=args.verbose):
        # Detectron2 opens the file of its arguments, to log it, and writes config.yaml into the folder.
        arguments = argparse.Namespace(**{**vars(args), "config_file": config_file})
        default_setup(with_values(cfg, {"OUTPUT_DIR": str(folder)}), arguments)
    logger.handlers[:] = logging.getLogger("detectron2").handlers  # from here on into its log file too
    escape_control_characters("detectron2", "fvcore", "retina_plugin")
    for warning in warnings:
        logger.warning("%s", warning)
    if data and not args.eval_only:
        logger.info("%s", describe_training(cfg, data))
    if args.verbose is False:
        logger.info("%s has the environment, config and model too; --verbose shows them here", folder / "log.txt")
    facts = {
        "command": args.command,
        "config_file": config_file,
        "difference_from_base": {key: value for key, (_, value) in changed.items()},
        "data": data,
    }
    return cfg, facts, prepared.resumed or args.resume


def write_config_difference(changed: dict[str, tuple], output_dir: Path, *, fresh: bool) -> None:
    """Write ``config_diff.yaml``, a line per key, and rename the files of an earlier run that have this run's names."""
    output_dir.mkdir(parents=True, exist_ok=True)
    for name in ("config.yaml", "config_diff.yaml", *(["metrics.json"] if fresh else [])):
        keep_previous(output_dir / name)
    lines = [f"{key}: {json.dumps(value)}  # was {json.dumps(base)}\n" for key, (base, value) in changed.items()]
    (output_dir / "config_diff.yaml").write_text("".join(lines), encoding="utf-8")


def record_path(cfg: CfgNode, name: str) -> Path | None:
    return Path(cfg.OUTPUT_DIR, name) if comm.is_main_process() else None


def train(cfg: CfgNode, resume: ResumePoint | bool, facts: dict) -> dict:
    """Train, evaluate and leave ``OUTPUT_DIR/run_record.json``, also after an error."""
    with RunRecord(record_path(cfg, "run_record.json"), cfg, **facts) as record:
        trainer = RetinaTrainer(cfg)
        trainer.resume_or_load(resume=resume)
        record.earlier_seconds = trainer.earlier_seconds
        if trainer.start_iter >= trainer.max_iter:
            logger.info("nothing to train: iteration %d of %d is done", trainer.start_iter, trainer.max_iter)
        try:
            with InferenceTimer(trainer.evaluated_model) as timer:
                trainer.train()
        finally:
            record.update(
                start_iteration=trainer.start_iter,
                iterations=getattr(trainer, "iter", trainer.start_iter),
                images_per_batch=trainer.cfg.SOLVER.IMS_PER_BATCH,
                losses=trainer.last_losses,
                results=trainer.last_results,
                evaluator=trainer.scored_by,
                inference_ms_per_image=timer.ms_per_image,
                **({"stopped_early": trainer.stopped_early} if trainer.stopped_early else {}),
                **({"skipped_steps": trainer.num_skipped} if trainer.num_skipped else {}),
            )
    say_next(cfg)
    return trainer.last_results or {}


def say_next(cfg: CfgNode) -> None:
    """Log the commands that use the results of the run."""
    run = shlex.quote(cfg.OUTPUT_DIR)
    judge = f"retina evaluate {run} for a page about its errors, " if cfg.DATASETS.TEST else ""
    logger.info("next: %sretina predict %s PHOTOS for detections", judge, run)


def evaluate(cfg: CfgNode, resume: ResumePoint | bool, facts: dict) -> dict:
    """Score a checkpoint (``--eval-only``) and write the result to ``OUTPUT_DIR/eval_record.json``.

    Raises:
        SetupError: no checkpoint is given, or it lacks part of the model (unless MODEL.LOAD is partial).
    """
    with RunRecord(record_path(cfg, "eval_record.json"), cfg, **facts) as record:
        model = RetinaTrainer.build_model(cfg)
        checkpointer = build_checkpointer(cfg, model, cfg.OUTPUT_DIR, classes=config_class_names(cfg))
        checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
        report = checkpointer.report
        if "partial" not in loading_rules(cfg) and (report is None or report.missing):
            raise SetupError(
                f"--eval-only would score random weights: {report or 'MODEL.WEIGHTS is empty'}.\n"
                "Give MODEL.WEIGHTS a trained checkpoint, or --resume for the last one of OUTPUT_DIR "
                "(MODEL.LOAD partial scores it all the same)."
            )
        record.update(weights=report and report.path, weights_loaded=str(report))
        weights = report.path if report else ""
        # Keep the results of the training's own evaluation.
        folder = Path(cfg.OUTPUT_DIR, EVALUATION_FOLDER)
        evaluators = [build_evaluator(cfg, name, str(folder / name), weights=weights) for name in cfg.DATASETS.TEST]
        model = build_inference_model(model, inplace=True)
        if cfg.TEST.AUG.ENABLED:
            model, cfg = with_augmentation(cfg, model), original_sizes(cfg)
        with InferenceTimer(model) as timer:
            results = RetinaTrainer.test(cfg, model, evaluators)
        record.update(results=results, evaluator=RetinaTrainer.scored_by, inference_ms_per_image=timer.ms_per_image)
    if comm.is_main_process():
        verify_results(cfg, results)
    return results


def original_sizes(cfg: CfgNode) -> CfgNode:
    """Return ``cfg`` without resizing of test images: the augmentation resizes them, and twice would blur them."""
    return with_values(cfg, {"INPUT.MIN_SIZE_TEST": 0})
