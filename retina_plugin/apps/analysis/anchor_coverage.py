"""``anchors``: measures how well the anchors of configs cover the boxes of a data set, and fits better anchors."""

import argparse
import time
from pathlib import Path

from ...data.register import fill_num_classes
from ...errors import SetupError, printable
from ...files import write_whole
from ...prepare import prepare
from ..report.files import make_output_folder
from ..report.plots import save_figure
from .anchor_layout import build_detector
from .anchor_picture import anchors_figure, pick_images, read_picture
from .anchor_proposal import Proposal, propose
from .coverage_numbers import box_groups, measure_coverage
from .coverage_picture import coverage_figure
from .coverage_report import coverage_table, list_unreached, write_coverage
from .ground_truth import load_ground_truth, resize_boxes

__all__ = ["run"]

PICTURE_COLUMNS = 3  # configs shown in anchors_on_images; more would exceed 2000 px


def run(args: argparse.Namespace) -> None:
    """Measure and fit, print the tables and write the files; see ``docs/analysis.md``.

    Raises:
        SetupError: a mistake in an argument, a config, the data set, or an image to draw.
    """
    start = time.perf_counter()
    if args.max_anchors is not None and args.max_anchors < 1:
        raise SetupError(f"--max-anchors must be >= 1, got {args.max_anchors}: it counts the anchors at one point.")
    if args.images < 0:
        raise SetupError(f"--images must be >= 0, got {args.images}: 0 draws none.")
    if not 0 <= args.margin < 1:
        raise SetupError(f"--margin must be in [0, 1), got {args.margin}: it is a difference of IoU or shares.")
    cfgs = [prepare(config_file, args.opts, use="look").cfg for config_file in args.config_file]
    layouts = [build_detector(cfg, config_file)[1] for cfg, config_file in zip(cfgs, args.config_file, strict=True)]
    truth = load_ground_truth(cfgs[0])
    for cfg in cfgs:
        cfg.DATASETS.TRAIN = cfgs[0].DATASETS.TRAIN
        fill_num_classes(cfg)
    folder = make_output_folder(args.output)
    frames = [resize_boxes(truth, cfg) for cfg in cfgs]
    # Configs are named by the stem of their file, by the path if stems repeat, and numbered if paths repeat.
    stems = [Path(config_file).stem for config_file in args.config_file]
    short = stems if len(set(stems)) == len(stems) else args.config_file
    names = [name if short.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(short)]
    coverages = [
        measure_coverage(name, cfg, layout, truth.images, frame)
        for name, cfg, layout, frame in zip(names, cfgs, layouts, frames, strict=True)
    ]
    images = pick_images(truth, coverages[0].unreached, args.images) if args.images else []
    pictures = [read_picture(truth, image) for image in images]
    proposal: Proposal | None = None
    if not args.no_fit:
        proposal = propose(
            coverages[0],
            cfgs[0],
            frames[0][0],
            truth.images,
            by_coverage=args.objective == "coverage",
            max_anchors=args.max_anchors or layouts[0].per_point,
            margin=args.margin,
            seed=args.seed,
        )
    if proposal and proposal.fit:
        coverages.append(measure_coverage("fitted", cfgs[0], proposal.fit.layout(layouts[0]), truth.images, frames[0]))
        frames.append(frames[0])
    groups = box_groups(truth.boxes)
    write_coverage(folder, truth, coverages, groups, proposal)
    if proposal:
        write_whole(folder / "fitted.yaml", proposal.yaml)
    figure = coverage_figure(coverages, truth.boxes, f"{truth.content.name}: {len(truth.boxes)} boxes")
    save_figure(figure, folder / "coverage", dpi=110)
    if images:
        # Show the first configs and the last one, which has the fitted anchors.
        number = len(coverages)
        shown = range(number) if number <= PICTURE_COLUMNS else [*range(PICTURE_COLUMNS - 1), number - 1]
        figure = anchors_figure(truth, images, pictures, [coverages[i] for i in shown], [frames[i] for i in shown])
        save_figure(figure, folder / "anchors_on_images", kinds=["png"], dpi=100)
    print(f"{truth.content.name} ({truth.content.source}): {len(truth.boxes)} boxes in {len(truth.sizes)} images\n")
    print(printable(coverage_table(coverages, groups)))
    if unreached := list_unreached(truth, coverages[0]):
        print(f"\n{unreached}")
    if proposal:
        print(f"\n{proposal.yaml.strip()}")
    print(f"\n{folder}: written in {time.perf_counter() - start:.1f} s")
