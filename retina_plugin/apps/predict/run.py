"""``retina predict``: runs the detector on images, videos and cameras, and writes and reports the results."""

import argparse
import math
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from tqdm import tqdm

from ... import __version__
from ...errors import SetupError, first_line, one_line
from ...files import write_whole
from .image_input import read_pages
from .predictor import Detections, RetinaPredictor
from .result_files import ResultFiles
from .sources import Source, find_sources

__all__ = ["predict_sources"]

SHOWN = 20  # failed files printed at most; predictions.json lists all
MOST_VALUES = 3 * 2**25  # 100 MB: colour values of the images in memory at once; it lowers --batch for large ones


@dataclass
class Picture:
    """An image, or a page or frame, on its way to the detector."""

    source: Source
    number: int | None  # of the page or frame, from 0; None for an image file with one
    pixels: np.ndarray  # (H, W, 3) uint8 BGR
    prepared: dict[str, Any]  # input of ``RetinaPredictor.detect``


@dataclass
class Progress:
    """Counts the images done and keeps the reason for each source that failed."""

    bar: tqdm
    num_images: int = 0
    not_read: list[dict[str, str]] = field(default_factory=list)  # "file" and "reason"
    not_drawn: list[dict[str, str]] = field(default_factory=list)  # their detections are written

    @property
    def all_done(self) -> bool:
        return not self.not_read and not self.not_drawn

    def fail(self, source: Source, error: Exception) -> None:
        path = str(source) if source.kind == "stream" else source.path  # without the password
        self.not_read.append({"file": path, "reason": one_line(error)})

    def fail_to_draw(self, source: Source, error: Exception) -> None:
        self.not_drawn.append({"file": source.name, "reason": one_line(first_line(error))})


def predict_sources(args: argparse.Namespace) -> bool:
    """Predict on all of ``args.inputs``, write the results and print the paths of the files.

    Returns:
        True if each file could be read and drawn.

    Raises:
        SetupError: a mistake in the arguments, the config or the weights; nothing is written then.
        KeyboardInterrupt: raised after the results so far have been written.
    """
    for name in ("batch", "frames"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise SetupError(f"--{name} must be at least 1, got {getattr(args, name)}.")
    sources = find_sources(args.inputs, recursive=args.recursive, leave_out=args.output / "drawn")
    videos = [source for source in sources if source.kind != "image"]
    if videos or not args.no_draw:
        try:
            import cv2  # noqa: F401
        except ImportError as error:  # also when a system library of OpenCV is missing
            raise SetupError(
                f"Drawing and videos need OpenCV: pip install opencv-python-headless ({error}), or give --no-draw."
            ) from error
    for source in videos:
        if source.is_live:
            _open(source).release()
    predictor = RetinaPredictor(
        args.config_file, args.weights, device=args.device, score_threshold=args.score, opts=args.opts
    )
    predictor.note_best_score()
    results = ResultFiles(args.output, predictor.class_names, overwrite=args.overwrite)
    images = [source for source in sources if source.kind == "image"]
    start = time.perf_counter()
    # disable=None: tqdm shows the bar only on a terminal
    with tqdm(total=len(images), unit="image", disable=None, file=sys.stderr) as bar:
        progress = Progress(bar)
        try:
            _predict_images(images, predictor, results, progress, args)
            for source in videos:
                _predict_video(source, predictor, results, progress, args)
        finally:
            bar.close()
            seconds = time.perf_counter() - start
            if progress.num_images or not progress.all_done:
                info = {
                    "description": f"retina_plugin {__version__}, retina predict",
                    "weights": str(args.weights),
                    "score_threshold": args.score,
                    "not_read": progress.not_read,
                    "not_drawn": progress.not_drawn,
                }
                _report(results.write(info), results, progress, seconds)
                if not results.num_objects and progress.num_images:
                    print(_describe_no_object(args.score, predictor.best_score))
                found = shlex.quote(str(args.output / "predictions.json"))
                scored = f"with boxes of your own: retina evaluate --predictions {found} --ground-truth BOXES.json"
                drawn = args.output / "drawn"
                print(f"Next: look at {drawn}; {scored}" if drawn.is_dir() else f"Next, {scored}")
    return progress.all_done


def _open(source: Source) -> Any:
    from .video import open_video  # here: images without drawing need no OpenCV

    return open_video(source)


def _predict_images(
    sources: list[Source],
    predictor: RetinaPredictor,
    results: ResultFiles,
    progress: Progress,
    args: argparse.Namespace,
) -> None:
    for batch in _batches(_read_images(sources, predictor, progress, args.frames), args.batch):
        for picture, detections in _detect(batch, predictor, progress):
            if not args.no_draw:
                name = picture.source.drawn_name
                if picture.number is not None:
                    name = f"{picture.source.name}/{picture.number}{PurePath(name).suffix}"
                from .drawing import encode_drawing

                try:
                    content = encode_drawing(picture.pixels, detections, PurePath(name).suffix.lower())
                except SetupError as error:
                    progress.fail_to_draw(picture.source, error)
                else:
                    path = args.output / "drawn" / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_whole(path, content)
            results.add(picture.source.name, detections, frame=picture.number)
            progress.num_images += 1


def _read_images(
    sources: list[Source], predictor: RetinaPredictor, progress: Progress, limit: int | None
) -> Iterator[Picture]:
    for source in sources:
        for number, pixels in read_pages(source.path, limit):
            if isinstance(pixels, SetupError):
                progress.fail(source, pixels)
                continue
            try:
                prepared = predictor.prepare(pixels, f"Image {source}")
            except SetupError as error:
                progress.fail(source, error)
                continue
            yield Picture(source, number, pixels, prepared)
        progress.bar.update()


def _batches(pictures: Iterator[Picture], size: int) -> Iterator[list[Picture]]:
    """Yield at most ``size`` pictures at once, fewer where they are large."""
    batch: list[Picture] = []
    for picture in pictures:
        batch.append(picture)
        if len(batch) == size or sum(each.pixels.size for each in batch) > MOST_VALUES:
            yield batch
            batch = []
    if batch:
        yield batch


def _detect(
    batch: Sequence[Picture], predictor: RetinaPredictor, progress: Progress
) -> Iterator[tuple[Picture, Detections]]:
    """Detect in a batch; if that fails, in each picture alone, so that one that is too large for memory is named."""
    try:
        yield from zip(batch, predictor.detect([picture.prepared for picture in batch]), strict=True)
    except (MemoryError, RuntimeError) as error:  # PyTorch's own for memory on the CPU is a RuntimeError
        if len(batch) > 1:
            for picture in batch:
                yield from _detect([picture], predictor, progress)
            return
        height, width = batch[0].pixels.shape[:2]
        reason = f"{batch[0].source}: nothing can be detected in {width}x{height} pixels ({first_line(error)})."
        progress.fail(batch[0].source, SetupError(reason))


def _predict_video(
    source: Source, predictor: RetinaPredictor, results: ResultFiles, progress: Progress, args: argparse.Namespace
) -> None:
    from .drawing import draw_detections
    from .video import VideoWriter, count_frames, frame_rate, read_frames

    try:
        capture = _open(source)
    except SetupError as error:
        progress.fail(source, error)
        return
    total, rate, done = count_frames(capture), frame_rate(capture), 0
    expected = min(filter(None, (total, args.frames)), default=None)
    progress.bar.unit = "frame"
    progress.bar.reset(total=expected)
    draws = not args.no_draw
    try:
        with VideoWriter(args.output / "drawn" / source.drawn_name, rate) as writer:
            # The frames of a camera or stream are processed one by one, as they come.
            batch_size = 1 if source.is_live else args.batch
            frames = enumerate(read_frames(capture, args.frames))
            pictures = (
                Picture(source, number, frame, predictor.prepare(frame, f"Video {source}: a frame"))
                for number, frame in frames
            )
            for batch in _batches(pictures, batch_size):
                for picture, detections in _detect(batch, predictor, progress):
                    if draws:
                        try:
                            writer.write(draw_detections(picture.pixels, detections))
                        except SetupError as error:
                            progress.fail_to_draw(source, error)
                            draws = False
                    results.add(source.name, detections, frame=picture.number)
                    progress.num_images += 1
                    progress.bar.update()
                done = batch[-1].number + 1
    except SetupError as error:  # the size of its frames: the same for each
        progress.fail(source, error)
        return
    except KeyboardInterrupt:
        if not source.is_live:  # Ctrl-C is the usual way to stop a camera
            raise
    finally:
        capture.release()
    # The header's number of frames may be wrong by a second's worth; a damaged file ends much earlier.
    if done == 0 or (expected is not None and done < expected - rate):
        name = f"{source.kind.capitalize()} {source}"
        progress.fail(source, SetupError(f"{name}: only {done} of {expected or '?'} frames can be read."))


def _report(paths: list[Path], results: ResultFiles, progress: Progress, seconds: float) -> None:
    speed = progress.num_images / max(seconds, 1e-9)
    print(f"{progress.num_images} images, {results.num_objects} objects, {speed:.1f} images/s with reading and writing")
    for path in paths:
        print(path)
    drawn = results.folder / "drawn"
    if drawn.is_dir():
        print(drawn)
    for what, failures in (
        ("read", progress.not_read),
        ("drawn, but their detections are written", progress.not_drawn),
    ):
        if failures:
            print(f"{len(failures)} could not be {what}:", file=sys.stderr)
            for failure in failures[:SHOWN]:
                print(f"  {failure['reason']}", file=sys.stderr)
            if len(failures) > SHOWN:
                print(f"  ... and {len(failures) - SHOWN} more, in {paths[0]}", file=sys.stderr)


def _describe_no_object(threshold: float, best: float | None) -> str:
    """Name a --score that finds something: ``best``, the highest score, cut to one digit."""
    if best is None or not 0 < best < threshold:
        return f"No object has a score of {threshold:g} or more: try a lower --score."
    digits = -math.floor(math.log10(best))
    lower = f"{math.floor(best * 10**digits) / 10**digits:.{digits}f}"
    return f"No object has a score of {threshold:g} or more; the highest score is {best:.2g}: try --score {lower}."
