"""The benchmark's arithmetic and its command line; no test asks how fast anything is."""

import json
import math
from pathlib import Path

import pytest
import torch

from benchmarks import (
    detectors,
    evaluation_case,
    inference_case,
    labelling_case,
    loss_case,
    postprocess_case,
    training_step_case,
)
from benchmarks.cli import main
from benchmarks.growth import growth_exponent
from benchmarks.measurement import Settings, compare
from benchmarks.memory import peak_bytes
from benchmarks.report import write_report
from benchmarks.timing import Spread, paired_ratio, spread, time_in_turn


def test_spread_is_median_and_quartiles():
    assert spread([4.0, 1.0, 2.0, 3.0, 5.0]) == Spread(3.0, 2.0, 4.0)
    assert spread([7.0]) == Spread(7.0, 7.0, 7.0)
    with pytest.raises(ValueError, match="at least one sample"):
        spread([])


def test_report_says_how_fast_every_row_is(tmp_path):
    path = Path(__file__).parents[1] / "results" / "benchmark" / "inference.json"
    record = json.loads(path.read_text())
    first = record["measurements"][0]
    first["speedup"] = {"Detectron2": {"median": 1.5}, "retina_plugin, winograd": {"median": 0.5}}  # their time / ours
    (tmp_path / "inference.json").write_text(json.dumps({**record, "measurements": [first]}))
    page, *_ = write_report(tmp_path, tmp_path / "docs")
    rows = [line.split(" | ")[1:] for line in page.read_text().splitlines() if "] |" in line]
    assert {row[0]: row[-1].rstrip(" |") for row in rows} == {
        "retina_plugin": "1.50", "Detectron2": "1.00", "retina_plugin, winograd": "3.00", "torchvision": "",
    }  # fmt: skip
    assert "times as fast as Detectron2 |" in page.read_text()


def test_paired_ratio_pairs_the_rounds():
    # Both slow down 10-fold in the second round; of the medians' ratio that would leave 2 alone by chance.
    assert paired_ratio([2.0, 20.0, 2.0], [1.0, 10.0, 1.0]) == Spread(2.0, 2.0, 2.0)


def test_time_in_turn_takes_the_variants_in_turn(monkeypatch):
    monkeypatch.setattr("benchmarks.timing.MIN_SAMPLE_SECONDS", 0.0)
    order = []
    samples = time_in_turn({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3, warmup=1)
    # A warm-up and the call that says how many make a sample, of each; then the rounds.
    assert "".join(order) == "aabb" + "ab" * 3
    assert {name: len(times) for name, times in samples.items()} == {"a": 3, "b": 3}


def test_time_in_turn_repeats_short_work_within_a_sample(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr("benchmarks.timing.device_time", lambda: next(clock) * 0.002)
    calls = []
    samples = time_in_turn({"a": lambda: calls.append(1)}, rounds=1, warmup=0)
    # A call seems to take 2 ms, so five make the 10 ms of a sample; then five together seem to take 2 ms.
    assert (len(calls), samples["a"]) == (6, [pytest.approx(0.0004)])


def test_peak_bytes_counts_what_is_alive_together():
    def work():
        a = torch.empty(1000)
        b = a + a
        del a
        return b + b

    assert peak_bytes(work) == 8000


def test_compare_divides_the_peer_by_ours(monkeypatch):
    times = {"ours": [1.0, 2.0], "peer": [3.0, 8.0]}
    monkeypatch.setattr("benchmarks.measurement.time_in_turn", lambda variants, **_: times)
    measured = compare(
        "case", "what", {"ours": lambda: None, "peer": lambda: torch.empty(4)}, ours="ours", memory=True,
        settings=Settings("cpu", True, 2), parameters={"n": 1},
    )  # fmt: skip
    assert measured.speedup == {"peer": {"median": 3.5, "q1": 3.25, "q3": 3.75}}
    assert measured.peak_bytes == {"ours": 0, "peer": 16}
    assert measured.parameters["n"] == 1


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_growth_exponent_is_the_power(power):
    sizes = [1, 10, 100, 1000]
    assert growth_exponent(sizes, [3 * size**power for size in sizes]) == pytest.approx(power)


def test_growth_exponent_looks_past_a_fixed_cost():
    sizes = [1, 10, 1000, 10_000]
    assert growth_exponent(sizes, [100 + size for size in sizes]) == pytest.approx(1, abs=0.05)
    with pytest.raises(ValueError, match="two sizes"):
        growth_exponent([1], [1])


def test_cli_writes_a_record(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loss_case, "ANCHORS", 800)
    monkeypatch.setattr(loss_case, "copy_bandwidth", lambda device: 1e9)
    assert main(["loss", "--quick", "--rounds", "1", "--output", str(tmp_path / "new")]) == 0
    record = json.loads((tmp_path / "new" / "loss.json").read_text())
    measured = record["measurements"][0]
    assert [other["parameters"]["gamma"] for other in record["measurements"]] == [2.0, 0.0, 0.5]
    assert record["rounds"] == 1 and record["versions"]["torch"] == torch.__version__
    assert measured["parameters"]["anchors"] == 100
    assert set(measured["seconds"]) == {"retina_plugin", "fvcore jit (Detectron2)", "torchvision"}
    # Rounding of fp32 sums of logs below 10.
    assert max(max(other["equality"].values()) for other in record["measurements"]) < 1e-5
    assert measured["limits"] == {"read logits, write gradient": pytest.approx(2 * 100 * 80 * 4 / 1e9)}
    assert "ours is" in capsys.readouterr().out


def test_labelling_case_finds_no_difference(tmp_path, monkeypatch):
    monkeypatch.setattr(labelling_case, "IMAGES", ((64, 64),))
    monkeypatch.setattr(labelling_case, "SIDES", (8, 32))
    assert main(["labelling", "--quick", "--rounds", "1", "--output", str(tmp_path)]) == 0
    (measured,) = json.loads((tmp_path / "labelling.json").read_text())["measurements"]
    assert measured["parameters"]["anchors"] == 9 * (64 + 16 + 4 + 1 + 1)
    assert measured["equality"] == {"matched boxes that differ": 0, "labels that differ": 0}


def test_evaluation_case_finds_no_difference(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation_case, "QUICK_IMAGES", 5)
    monkeypatch.setattr(evaluation_case, "CLASSES", 3)
    assert main(["evaluation", "--quick", "--output", str(tmp_path)]) == 0
    (measured,) = json.loads((tmp_path / "evaluation.json").read_text())["measurements"]
    assert measured["parameters"]["images"] == 5 and measured["parameters"]["detections"] == 500
    assert measured["figures"]["scored by"].startswith("hotcoco ") and measured["figures"]["AP"] > 1
    assert len(measured["equality"]) == 4 and max(measured["equality"].values()) <= 1e-6


def test_evaluation_case_sees_a_difference():
    assert evaluation_case._largest([1.0, 2.5, math.nan], [1.0, 2.0, math.nan]) == 0.5
    assert evaluation_case._largest([1.0, math.nan], [1.0, 2.0]) == math.inf


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nonsense"], "unknown case 'nonsense': known are loss, labelling, training_step"),
        (["loss", "--rounds", "0"], "--rounds must be >= 1, got 0."),
        (["loss", "--threads", "0"], "--threads must be >= 1, got 0."),
    ],
)
def test_cli_refuses(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_detectors_of_the_benchmark_are_equal_and_find_something():
    ours, theirs = (model.eval() for model in detectors.build_pair(18, "cpu"))
    image = detectors.random_image(128, 128)  # in units of the largest stride: no anchor in the padding
    with torch.no_grad():
        found, expected = (model([image])[0]["instances"] for model in (ours, theirs))
    assert 0 < len(found) == len(expected)
    # Convolutions in channels-last order add up in another order where the processor has AVX-512: 1e-6 of a logit.
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", [inference_case, postprocess_case, training_step_case])
def test_quick_case_measures_equal_work(monkeypatch, case):
    monkeypatch.setattr(case, "QUICK_SIZE", 64 if case is training_step_case else (64, 96))
    if case is inference_case:
        monkeypatch.setattr(case, "convolution_rate", lambda device: 1e9)
    (measured,) = case.measure(Settings("cpu", quick=True, rounds=1))
    assert set(measured.seconds) >= {"retina_plugin", "Detectron2"}
    assert max(measured.equality.values()) < 1e-3 * max(1, measured.figures.get("loss", 0))


def write_record(folder, **changes):
    def measured(boxes, sweep, ours, theirs):
        return {
            "parameters": {"boxes": boxes, "sweep": sweep, "threads": 2, "device": "cpu"},
            "seconds": {name: {"median": s, "q1": s, "q3": s} for name, s in (("ours", ours), ("peer", theirs))},
            "speedup": {"peer": {"median": theirs / ours, "q1": 1, "q3": 1}},
            "peak_bytes": {"ours": 2**20, "peer": 2**20 * boxes},
            "equality": {"labels": 0.0}, "limits": {"copying": 0.0005}, "figures": {},
        }  # fmt: skip

    record = {
        "case": "labelling", "command": "python -m x", "git": None, "rounds": 9, "hardware": {"cpu": "a processor"},
        "versions": {"torch": "2", "torchvision": "0", "detectron2": "0.6"},
        "measurements": [measured(1, "", 0.001, 0.004)] + [measured(n, "boxes", 0.001, 0.001 * n) for n in (10, 100)],
        **changes,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labelling.json").write_text(json.dumps(record))


def test_report_says_what_the_records_say(tmp_path, capsys):
    write_record(tmp_path / "in")
    (tmp_path / "in" / "discussion.md").write_text("## What it means\n")
    assert main(["report", "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "performance.md").read_text()
    assert "| boxes 1 | ours | 1.0 [1.0, 1.0] | 1.0 | 4.00 |" in page
    assert "|  | peer | 4.0 [4.0, 4.0] | 1.0 | 1.00 |" in page
    assert "*limit: copying* | 0.5 |" in page and "Largest differences: labels 0." in page
    assert "- ours: time grows as boxes^0.00, memory grows as boxes^0.00" in page
    assert "- peer: time grows as boxes^1.00, memory grows as boxes^1.00" in page
    assert page.endswith("## What it means\n")
    assert (tmp_path / "out" / "images" / "growth_labelling_boxes.png").exists()


def test_report_refuses_what_is_no_record(tmp_path, capsys):
    assert main(["report", "--input", str(tmp_path)]) == 2
    assert "has no records: run `python -m benchmarks all" in capsys.readouterr().err
    write_record(tmp_path)
    half = (tmp_path / "labelling.json").read_text()[:40]
    (tmp_path / "labelling.json").write_text(half)
    assert main(["report", "--input", str(tmp_path)]) == 2
    assert "labelling.json is no complete record of a benchmark" in capsys.readouterr().err
