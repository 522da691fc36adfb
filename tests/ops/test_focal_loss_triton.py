"""The Triton kernel of the losses, run on the CPU by Triton's interpreter, beside the plain path in fp64."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from retina_plugin import FocalLoss
from retina_plugin.ops import dense_loss

# In its own process: Triton looks at TRITON_INTERPRET when it is imported.
CODE = """
import itertools, json, sys
import torch
from retina_plugin import CrossEntropyLoss, FocalLoss, FocalLossStar

class Plain(FocalLoss):  # a value of its own, which the kernel cannot compute
    def value(self, x_t):
        return super().value(x_t)

def step(loss, logits, labels, divisor, factor):
    logits = logits.detach().requires_grad_()
    value = loss(logits, labels, divisor)
    return value.detach(), torch.autograd.grad(factor * value, logits)[0]

torch.manual_seed(0)
losses = {f"FL {g}": FocalLoss(gamma=g, alpha=a) for g, a in ((0.3, 0.25), (1.0, None), (2.0, 0.25))}
losses |= {"CE": CrossEntropyLoss(alpha=0.0), "FL*": FocalLossStar(gamma=2.0, beta=1.0, alpha=0.25)}
losses |= {"Plain": Plain(gamma=2.0, alpha=0.25)}
large = torch.tensor([20.0, -20, 104, -104, 1e4, -1e4, 65504, -65504])
inputs = {"random": (5 * torch.randn(3, 61, 7), torch.randint(-1, 8, (3, 61)))}
inputs["extreme"] = large.repeat(3, 1), torch.tensor([8, 3, -1])
inputs["one class"] = torch.randn(9, 1), torch.randint(-1, 2, (9,), dtype=torch.int8)
inputs["strided"] = torch.randn(5, 40).t(), torch.randint(-1, 6, (80,))[::2]
inputs["all ignored"] = torch.full((4, 3), float("nan")), torch.full((4,), -1)
inputs["no anchors"] = torch.randn(0, 3), torch.zeros(0, dtype=torch.long)
rows = []
for (name, loss), (case, (logits, labels)) in itertools.product(losses.items(), inputs.items()):
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        held, divisor = logits.to(dtype), torch.tensor(7.0)
        for factor in (1, 3) if dtype == torch.float32 else (3,):
            value, gradient = step(loss, held, labels, divisor, factor)
            want, wanted = step(loss, held.double(), labels, divisor, factor)  # fp64 does not go to the kernel
            assert value.dtype == torch.float32 and gradient.dtype == dtype and gradient.isfinite().all(), (name, case)
            error = (gradient.double() - wanted).abs().max().item() if gradient.numel() else 0.0
            rows.append([name, case, str(dtype), value.item(), want.item(), error])
infinite = []
del losses["Plain"]
for name, loss in losses.items():
    value, gradient = step(loss, torch.tensor([[float("inf"), float("-inf")]] * 3), torch.tensor([2, 0, -1]), None, 1)
    infinite.append([name, value.item(), gradient.tolist()])
print(json.dumps({"rows": rows, "infinite": infinite, "kernel": "retina_plugin.ops.dense_loss_triton" in sys.modules}))
"""
# A gradient of up to 1.13 / 7, times 3. bf16: 3 * 2^-10 + 2^-9, as the interpreter cuts bits off where a GPU rounds.
GRADIENT_TOLERANCE = {"torch.float32": 5e-7, "torch.float16": 3e-4, "torch.bfloat16": 5e-3}


@pytest.fixture(scope="module")
def interpreted():
    pytest.importorskip("triton")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    run = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[2]
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_kernel_equals_the_plain_path_in_double_precision(interpreted):
    assert interpreted["kernel"] and len(interpreted["rows"]) == 6 * 6 * 4
    for name, case, dtype, value, expected, error in interpreted["rows"]:
        assert value == pytest.approx(expected, rel=2e-6, abs=1e-30), (name, case, dtype)
        assert error < GRADIENT_TOLERANCE[dtype], (name, case, dtype, error)


def test_kernel_has_finite_gradients_at_infinite_logits(interpreted):
    # Anchor 0 is background: +inf is as wrong as can be, -inf right. Anchor 1 is of class 0, anchor 2 ignored.
    for name, value, gradient in interpreted["infinite"]:
        assert value == float("inf") or name == "CE", name  # CE here is with alpha = 0
        assert 0 < gradient[0][0] <= 1 and gradient[0][1] == 0 and gradient[2] == [0, 0], name


def test_without_triton_the_plain_path_is_taken(monkeypatch):
    logits, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, 3, -1])
    expected = FocalLoss(gamma=2.0, alpha=0.25)(logits, labels)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert not dense_loss._runs_triton(logits.double())
    monkeypatch.setattr(dense_loss.importlib.util, "find_spec", lambda name: None)
    assert not dense_loss._runs_triton(logits)
    assert_close(FocalLoss(gamma=2.0, alpha=0.25)(logits, labels), expected, rtol=0, atol=0)
