"""``retina predict``: runs the detector on images, videos and cameras, and writes and reports the results."""

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ... import __version__
from ...errors import SetupError
from ...files import write_whole
from .image_input import as_bgr
from .predictor import Detections, RetinaPredictor
from .result_files import ResultFiles
from .sources import Source, find_sources

__all__ = ["predict_sources"]

JPEG_QUALITY = 90  # keeps text and thin lines sharp
SHOWN = 20  # failed files printed at most; predictions.json lists all


@dataclass
class Progress:
    """Counts the images done and keeps the reason for each source that failed."""

    bar: tqdm
    num_images: int = 0
    failures: dict[str, str] = field(default_factory=dict)  # path of a source -> reason

    def fail(self, source: Source, error: Exception) -> None:
        self.failures[source.path] = str(error)


def predict_sources(args: argparse.Namespace) -> dict[str, str]:
    """Predict on all of ``args.inputs``, write the results and print the paths of the files.

    Returns:
        The files that could not be read, each with the reason.

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
        if source.kind == "camera":
            _open(source).release()
    predictor = RetinaPredictor(
        args.config_file, args.weights, device=args.device, score_threshold=args.score, opts=args.opts
    )
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
            if progress.num_images or progress.failures:
                not_read = [{"file": name, "reason": reason} for name, reason in progress.failures.items()]
                info = {
                    "description": f"retina_plugin {__version__}, retina predict",
                    "weights": str(args.weights),
                    "score_threshold": args.score,
                    "not_read": not_read,
                }
                _report(results.write(info), results, progress, seconds)
    return progress.failures


def _open(source: Source) -> Any:
    from .video import open_video  # here: images without drawing need no OpenCV

    return open_video(source)


def _chunks(items: Iterable, size: int) -> Iterator[list]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _predict_images(
    sources: list[Source],
    predictor: RetinaPredictor,
    results: ResultFiles,
    progress: Progress,
    args: argparse.Namespace,
) -> None:
    for chunk in _chunks(sources, args.batch):
        read: list[tuple[Source, np.ndarray]] = []
        for source in chunk:
            try:
                read.append((source, as_bgr(source.path)))
            except SetupError as error:
                progress.fail(source, error)
        found = predictor.batch([image for _, image in read])
        for (source, image), detections in zip(read, found, strict=True):
            if not args.no_draw:
                import cv2

                path = args.output / "drawn" / source.drawn_name
                suffix = path.suffix.lower()
                parameters = [] if suffix == ".png" else [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
                _, encoded = cv2.imencode(suffix, _draw(image, detections), parameters)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, encoded.tobytes())
            results.add(source.name, detections)
        progress.num_images += len(read)
        progress.bar.update(len(chunk))


def _predict_video(
    source: Source, predictor: RetinaPredictor, results: ResultFiles, progress: Progress, args: argparse.Namespace
) -> None:
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
    try:
        with VideoWriter(args.output / "drawn" / source.drawn_name, rate) as writer:
            # A camera's frames are processed one by one, as they come.
            batch = 1 if source.kind == "camera" else args.batch
            for frames in _chunks(read_frames(capture, args.frames), batch):
                for frame, detections in zip(frames, predictor.batch(frames), strict=True):
                    if not args.no_draw:
                        writer.write(_draw(frame, detections))
                    results.add(source.name, detections, frame=done)
                    done += 1
                    progress.num_images += 1
                    progress.bar.update()
    except KeyboardInterrupt:
        if source.kind != "camera":  # Ctrl-C is the usual way to stop a camera
            raise
    finally:
        capture.release()
    # The header's number of frames may be wrong by a second's worth; a damaged file ends much earlier.
    if done == 0 or (expected is not None and done < expected - rate):
        progress.fail(source, SetupError(f"Video {source.path}: only {done} of {expected or '?'} frames can be read."))


def _draw(image: np.ndarray, detections: Detections) -> np.ndarray:
    from .drawing import draw_detections

    return draw_detections(image, detections)


def _report(paths: list[Path], results: ResultFiles, progress: Progress, seconds: float) -> None:
    speed = progress.num_images / max(seconds, 1e-9)
    print(f"{progress.num_images} images, {results.num_objects} objects, {speed:.1f} images/s with reading and writing")
    for path in paths:
        print(path)
    drawn = results.folder / "drawn"
    if drawn.is_dir():
        print(drawn)
    if progress.failures:
        print(f"{len(progress.failures)} could not be read:", file=sys.stderr)
        for reason in list(progress.failures.values())[:SHOWN]:
            print(f"  {reason}", file=sys.stderr)
        if len(progress.failures) > SHOWN:
            print(f"  ... and {len(progress.failures) - SHOWN} more, in {paths[0]}", file=sys.stderr)
