#!/usr/bin/env python3
"""PyTorch on the GPU training `tiny` or `speednet`: images per second and milliseconds a step, as one JSON object.

A step gathers a batch of u8 pictures that lie on the GPU, mirrors half of them, normalises, and does forward, loss,
backward and SGD with Nesterov momentum, under autocast to --precision (f32 without it; tf32 allows tensor cores for f32),
channels_last. With --compile, through torch.compile. Times are medians of --repeats runs of --steps steps, by CUDA
events after a warm-up. """
import argparse
import contextlib
import json
import statistics

import torch
from torch.nn import functional

import torch_models

IMAGES = 50000


class Batches(torch_models.Batches):
    """The same on the GPU."""

    def __init__(self, device):
        super().__init__(
            torch.randint(0, 256, (IMAGES, 32, 32, 3), dtype=torch.uint8),
            torch.tensor([0.4914, 0.4822, 0.4465]),
            torch.tensor([0.2470, 0.2435, 0.2616]),
        )
        self.images = self.images.to(device)
        self.scale, self.shift = self.scale.to(device), self.shift.to(device)


def measure(options):
    device = torch.device("cuda")
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = options.precision != "f32"
    torch.backends.cudnn.benchmark = True
    net = torch_models.build(options.model).to(device)
    trained = [p for p in net.parameters() if p.requires_grad]
    forward = torch.compile(net) if options.compile else net
    batches, labels = Batches(device), torch.randint(0, 10, (IMAGES,), device=device)
    sgd = torch.optim.SGD(trained, lr=1e-3, momentum=0.9, nesterov=True, weight_decay=5e-4, foreach=True)
    smoothing = 0.2 if options.model == "speednet" else 0.0
    half = {"bf16": torch.bfloat16, "f16": torch.float16}.get(options.precision)
    order, at = torch.randperm(IMAGES, device=device), 0

    def step():
        nonlocal order, at
        if at + options.batch > IMAGES:
            order, at = torch.randperm(IMAGES, device=device), 0
        index = order[at : at + options.batch]
        at += options.batch
        x = batches(index, torch.rand(options.batch, device=device) < 0.5)
        with torch.autocast("cuda", half) if half else contextlib.nullcontext():
            loss = functional.cross_entropy(forward(x), labels[index], label_smoothing=smoothing)
        sgd.zero_grad(set_to_none=True)
        loss.backward()
        sgd.step()

    for _ in range(10):
        step()
    times = []
    for _ in range(options.repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(options.steps):
            step()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / options.steps)
    ms = statistics.median(times)
    return {
        "model": options.model,
        "batch": options.batch,
        "precision": options.precision,
        "compiled": options.compile,
        "ms": round(ms, 4),
        "images_per_second": round(options.batch / ms * 1000),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["tiny", "speednet"], default="speednet")
    parser.add_argument("--batch", type=int, default=2000)
    parser.add_argument("--precision", choices=["f32", "tf32", "bf16", "f16"], default="bf16")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("PyTorch finds no CUDA device")
    print(json.dumps(measure(options)))


main()
