#!/usr/bin/python3
"""PyTorch on the CPU training `tiny` or `speednet`: images per second, one JSON line per batch size.

A timed step does all a training step does: gather a batch of u8 pictures by a random permutation, mirror half of them,
normalise, forward, loss, backward and SGD with Nesterov momentum; f32, channels_last. The pictures are random bytes:
speed does not depend on them. cpu_over_wall is process time over wall time: below the number of threads, something else
ran. """
import argparse
import json
import sys
import time

import torch
from torch.nn import functional

import torch_models

IMAGES = 10000


def measure(model, batch, seconds, warmup):
    """Steps for about `seconds` after `warmup` untimed ones; a dictionary of the result."""
    torch.manual_seed(0)
    net = torch_models.build(model)
    mean, std = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.2470, 0.2435, 0.2616])
    batches = torch_models.Batches(torch.randint(0, 256, (IMAGES, 32, 32, 3), dtype=torch.uint8), mean, std)
    label = torch.randint(0, 10, (IMAGES,))
    trained = [p for p in net.parameters() if p.requires_grad]
    # Rates so low that random labels do no harm: the arithmetic is the same at any rate.
    sgd = torch.optim.SGD(trained, lr=1e-3, momentum=0.9, nesterov=True, weight_decay=5e-4)
    smoothing = 0.2 if model == "speednet" else 0.0
    order, at = torch.randperm(IMAGES), 0

    def step():
        nonlocal order, at
        if at + batch > IMAGES:
            order, at = torch.randperm(IMAGES), 0
        index = order[at : at + batch]
        at += batch
        x = batches(index, torch.rand(batch) < 0.5)
        loss = functional.cross_entropy(net(x), label[index], label_smoothing=smoothing)
        sgd.zero_grad(set_to_none=True)
        loss.backward()
        sgd.step()

    for _ in range(warmup):
        step()
    steps, wall, cpu = 0, time.perf_counter(), time.process_time()
    while steps < 3 or time.perf_counter() - wall < seconds:
        step()
        steps += 1
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {
        "model": model,
        "batch": batch,
        "images_per_second": round(steps * batch / wall, 1),
        "cpu_over_wall": round(cpu / wall, 3),
        "steps": steps,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["tiny", "speednet"], default="tiny")
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--seconds", type=float, default=5, help="timed seconds per batch size")
    parser.add_argument("--warmup", type=int, default=3, help="untimed steps before")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"PyTorch {torch.__version__}, {options.threads} threads", file=sys.stderr)
    for batch in options.batch:
        print(json.dumps(measure(options.model, batch, options.seconds, options.warmup)), flush=True)


main()
