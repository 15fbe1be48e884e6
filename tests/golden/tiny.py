#!/usr/bin/python3
"""Golden run of `tiny`: its first 10 training steps at batch 16 in f64, numpy only, written to tiny.json.

Pictures, labels and initial draws are the formulas of reference.py; step t trains on pictures 16 t .. 16 t + 15, with
no augmentation.

    block b   conv 3x3 pad 1 without bias -> batch norm -> relu -> max-pool 2; widths 32, 64, 128
    head      flatten (4, 4, 128) in the order (y, x, channel) -> linear 2048 -> 10 with bias
    norm      weight from 1 and bias from 0, both trained; eps 1e-5; running <- 0.9 running + 0.1 batch
    initial   convolutions U(+-1/sqrt(9 C_in)), head.weight and head.bias U(+-1/sqrt 2048)

Loss: mean cross-entropy. SGD with Nesterov momentum .9 at rate .0125 (the .1 of batch 128, scaled linearly; .1 itself
lets the loss jump to 51 and amplifies rounding), decay 5e-4 on every parameter:
g += decay p;  buf = .9 buf + g;  p -= rate (g + .9 buf).

    tiny.py              write tiny.json beside this file
    tiny.py --check      check the backward pass against central differences at step 0, write nothing
    tiny.py --torch      compare the losses and running statistics in tiny.json with PyTorch in f64
"""
import argparse
import json
import math
import os

import numpy as np

import reference as ref

BATCH, STEPS, RATE, MOMENTUM, DECAY = 16, 10, 0.0125, 0.9, 5e-4
WIDTHS = {"block1": (3, 32), "block2": (32, 64), "block3": (64, 128)}
FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tiny.json")


def initial_parameters():
    parameters = {}
    for block, (c, k) in WIDTHS.items():
        name = f"{block}.conv.weight"
        parameters[name] = ref.uniform_parameter(name, (k, 3, 3, c), 1 / math.sqrt(9 * c))
        parameters[f"{block}.norm.weight"], parameters[f"{block}.norm.bias"] = np.ones(k), np.zeros(k)
    for name, shape in (("head.weight", (10, 2048)), ("head.bias", (10,))):
        parameters[name] = ref.uniform_parameter(name, shape, 1 / math.sqrt(2048))
    return parameters


def new_norms():
    return {block: ref.BatchNorm(k, 1e-5, 0.1) for block, (_, k) in WIDTHS.items()}


def forward(p, norms, x, train=True):
    """Logits (N, 10), and per block what its backward needs."""
    tape = []
    for block in WIDTHS:
        x, conv = ref.conv2d(x, p[block + ".conv.weight"], 1)
        normed, norm = norms[block].train(x) if train else (norms[block].eval(x), None)
        x = normed * p[block + ".norm.weight"] + p[block + ".norm.bias"]
        positive = x > 0
        x, pool = ref.max_pool(x * positive, 2)
        tape.append((block, conv, normed, norm, positive, pool))
    flat = x.reshape(len(x), -1)
    return flat @ p["head.weight"].T + p["head.bias"], (tape, flat, x.shape)


def backward(p, saved, dy):
    tape, flat, shape = saved
    gradients = {"head.weight": dy.T @ flat, "head.bias": dy.sum(0)}
    dy = (dy @ p["head.weight"]).reshape(shape)
    for block, conv, normed, norm, positive, pool in reversed(tape):
        dy = ref.max_pool_backward(dy, pool) * positive
        gradients[block + ".norm.weight"] = (dy * normed).sum((0, 1, 2))
        gradients[block + ".norm.bias"] = dy.sum((0, 1, 2))
        dy = ref.BatchNorm.backward(dy * p[block + ".norm.weight"], norm)
        dy, gradients[block + ".conv.weight"] = ref.conv2d_backward(dy, conv, block != "block1")
    return gradients


def batches():
    """Normalised pictures (10, 16, 32, 32, 3) and labels (10, 16), and the u8 pictures."""
    images, n = ref.pictures(), BATCH * STEPS
    x = ref.normalise(images[:n]).reshape(STEPS, BATCH, 32, 32, 3)
    return x, ref.labels()[:n].reshape(STEPS, BATCH), images


def generate():
    x, y, images = batches()
    p, norms = initial_parameters(), new_norms()
    buffers = {name: np.zeros_like(v) for name, v in p.items()}
    golden = {"batch": BATCH, "steps": STEPS, "seed": ref.SEED, **ref.common_facts(images, ref.labels())}
    golden["initial"] = {name: ref.summary(v) for name, v in p.items()}
    golden["trainable_parameters"] = sum(v.size for v in p.values())
    golden["loss"] = []
    for step in range(STEPS):
        logits, saved = forward(p, norms, x[step])
        loss, dy = ref.cross_entropy(logits, y[step], 0)
        golden["loss"].append(float(loss.mean()))
        print(f"step {step:2d}  loss {loss.mean():.12f}", flush=True)
        gradients = backward(p, saved, dy / BATCH)
        if step == 0:
            golden["gradients_step0"] = {name: ref.summary(g) for name, g in gradients.items()}
        if step in (0, STEPS - 1):
            golden[f"logits_step{step}"] = logits[:4].tolist()
        for name, g in gradients.items():
            g = g + DECAY * p[name]
            buffers[name] = MOMENTUM * buffers[name] + g
            p[name] -= RATE * (g + MOMENTUM * buffers[name])
        if step in (0, STEPS - 1):
            golden[f"parameters_after_step{step}"] = {name: ref.summary(v) for name, v in p.items()}
    golden["running_mean"] = {block + ".norm": norm.running_mean.tolist() for block, norm in norms.items()}
    golden["running_var"] = {block + ".norm": norm.running_var.tolist() for block, norm in norms.items()}
    golden["eval_logits"] = forward(p, norms, x[0, :4], False)[0].tolist()
    ref.write_json(FILE, golden)


def check():
    ref.check_random_bits()
    x, y, _ = batches()
    p = initial_parameters()
    logits, saved = forward(p, new_norms(), x[0])
    gradients = backward(p, saved, ref.cross_entropy(logits, y[0], 0)[1] / BATCH)

    def loss():
        return ref.cross_entropy(forward(p, new_norms(), x[0])[0], y[0], 0)[0].mean()

    worst = ref.check_gradients(loss, p, gradients, 6)
    print(f"worst error {worst:.2e}")
    assert worst <= 1e-6


def compare_with_torch():
    import torch
    from torch import nn

    class InOrder(nn.Module):  # (N, C, H, W) -> (N, H * W * C)
        def forward(self, x):
            return x.permute(0, 2, 3, 1).flatten(1)

    layers = []
    for c, k in WIDTHS.values():
        layers += [nn.Conv2d(c, k, 3, padding=1, bias=False), nn.BatchNorm2d(k), nn.ReLU(), nn.MaxPool2d(2)]
    net = nn.Sequential(*layers, InOrder(), nn.Linear(2048, 10)).double()
    for tensor, v in zip(net.parameters(), initial_parameters().values()):
        tensor.data.copy_(torch.tensor(np.moveaxis(v, 3, 1).copy() if v.ndim == 4 else v))
    sgd = torch.optim.SGD(net.parameters(), lr=RATE, momentum=MOMENTUM, nesterov=True, weight_decay=DECAY)
    with open(FILE) as file:
        golden = json.load(file)
    x, y, _ = batches()
    worst = 0.0
    for step in range(STEPS):
        loss = nn.functional.cross_entropy(net(torch.tensor(x[step]).permute(0, 3, 1, 2)), torch.tensor(y[step]))
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        error = abs(loss.item() / golden["loss"][step] - 1)
        worst = max(worst, error)
        print(f"step {step:2d}  torch {loss.item():.12f}  relative difference {error:.2e}", flush=True)
    for block, norm in zip(WIDTHS, [layer for layer in net if isinstance(layer, nn.BatchNorm2d)]):
        for key in ("running_mean", "running_var"):
            difference = np.abs(getattr(norm, key).numpy() - golden[key][block + ".norm"]).max()
            worst = max(worst, difference)
            print(f"{block}.norm.{key}  difference {difference:.2e}")
    print(f"worst difference {worst:.2e}")
    assert worst <= 1e-10


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--torch", action="store_true")
    options = parser.parse_args()
    if options.check:
        check()
    elif options.torch:
        compare_with_torch()
    else:
        generate()


main()
