"""The paper preset's network on a CUDA GPU: training step and scoring, in clips a second and as a share of the card's bf16 rate."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from earmark.params import LossParams
from earmark.training.losses import DetectorLoss
from scoring import BINS, FRAMES, SAMPLES, xlsr_size
from timing import row, seconds

SIZE = 8192  # of the matrices that measure the card


def available() -> bool:
    """Whether torch sees a GPU."""
    return torch.cuda.is_available()


def rows() -> list[dict[str, Any]]:
    """None without a GPU. Training at batch 14 and 64, scoring at 64; peer at 14: the same step in eager float32."""
    if not available():
        return []
    rate, network = matrix_rate(), xlsr_size().cuda()
    loss = DetectorLoss(LossParams(), 512, (0.1, 0.9)).cuda()
    optimizer = torch.optim.Adam([*network.parameters(), *loss.parameters()], 1e-6, fused=True)
    found = []
    for batch in (14, 64):
        ours = seconds(step(network, loss, optimizer, batch, torch.bfloat16))
        share = flops(step(network, loss, optimizer, batch, torch.bfloat16)) / ours / rate
        name = f"training step, batch {batch}, bf16: {batch / ours:.0f} clips/s, {share:.0%} of {rate / 1e12:.0f} TFLOP/s"
        peer = seconds(step(network, loss, optimizer, batch, torch.float32)) if batch == 14 else float("nan")
        found.append(row(name + "; peer: eager float32", ours, peer, least=1.5 if batch == 14 else None))
    network.eval()
    waveform, cqt, _ = batch_of(64)
    ours = seconds(synchronised(lambda: infer(network, waveform, cqt)))
    return [*found, row(f"scoring, batch 64, bf16: {64 / ours:.0f} clips/s", ours, float("nan"))]


def step(network, loss, optimizer, batch: int, dtype: torch.dtype) -> Callable[[], None]:
    waveform, cqt, labels = batch_of(batch)

    def run() -> None:
        with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
            detection = network(waveform, cqt)
        loss(detection.embedding, detection.logits, labels)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    run()
    return synchronised(run)


def batch_of(batch: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator("cuda").manual_seed(0)
    waveform = torch.randn(batch, SAMPLES, device="cuda", generator=generator)
    return waveform, torch.randn(batch, 2, BINS, FRAMES, device="cuda", generator=generator), torch.arange(batch, device="cuda") % 2


@torch.no_grad()
def infer(network, waveform: torch.Tensor, cqt: torch.Tensor) -> None:
    with torch.autocast("cuda", torch.bfloat16):
        network(waveform, cqt)


def matrix_rate() -> float:
    """Floating-point operations a second of a large bf16 matrix product on random data."""
    left, right = (torch.randn(SIZE, SIZE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    torch.matmul(left, right)
    return 2 * SIZE**3 / seconds(synchronised(lambda: torch.matmul(left, right)), repeats=20)


def flops(action: Callable[[], None]) -> int:
    with FlopCounterMode(display=False) as counter:
        action()
    return counter.get_total_flops()


def synchronised(action: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        action()
        torch.cuda.synchronize()

    return run
