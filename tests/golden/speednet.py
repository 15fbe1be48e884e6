#!/usr/bin/python3
"""Golden run of `speednet`: its first 20 training steps at batch 32 in f64, numpy only, written to speednet.json.

Pictures, labels and initial draws are the formulas of reference.py; step t trains on pictures 32 t .. 32 t + 31, with
no augmentation. The network, its initial weights, losses and optimizers are the airbench94_muon recipe (K. Jordan
2024):

    whiten   conv 2x2, 3 -> 24, no padding, bias; then GELU with the exact erf
    group g  conv1 3x3 pad 1 -> max-pool 2 (floor) -> norm1 -> GELU -> conv2 3x3 pad 1 -> norm2 -> GELU;
             widths 64, 256, 256
    head     max-pool 3 -> flatten -> linear 256 -> 10 without bias -> divided by 256
    norm     batch norm with weight 1 (not trained), bias from 0, eps 1e-12; running <- 0.6 running + 0.4 batch

    whiten.weight, frozen: eigenvectors v of the uncentred second moment of all 2x2x3 patches of all 640 normalised
    pictures, v / sqrt(lambda + 5e-4) by falling eigenvalue, then their negatives; of each v the component of largest
    magnitude (the first of equals) is positive. A patch is ordered (r, s, c), as the stored filter is.
    whiten.bias U(+-1/sqrt 12); convolutions U(+-1/sqrt(9 C_in)), their first C_in filters then replaced by the
    identity; head.weight U(+-1/16), divided by its own unbiased standard deviation. All rounded to f32.

Loss: cross-entropy with label smoothing 0.2, summed over the batch.

Rates for batch 32 (the recipe's are for 2000), factor 1 - t/20 at step t:
    SGD with Nesterov momentum .85: whiten.bias .053, norm biases .053, head .67, as in the recipe: the loss is a sum,
    so an unchanged rate already is the linear scaling by batch size. Decay is 2e-6 * 32 / rate, the recipe's formula.
    whiten.bias has factor 1 - t/8 instead and stops after step 7: no update from step 8 on.
    Muon with momentum .6: .24 * sqrt(32/2000), rounded to .03: its step does not depend on the gradient's size, so it
    takes the square-root scaling.
    Order of an SGD step:  g += decay p;  buf = m buf + g;  p -= rate (g + m buf).
    Order of a Muon step:  buf = m buf + g;  u = g + m buf;  w *= sqrt(K) / |w|;  w -= rate NS(u as K x 9 C_in).
    NS, three times after X = u / (|u| + 1e-7):  A = X X^T;  X = a X + (b A + c A^2) X  with (3.4445, -4.7750, 2.0315).

    speednet.py              write speednet.json beside this file (four minutes with the reference BLAS)
    speednet.py --check      check the backward pass against central differences at step 0, write nothing
    speednet.py --torch      compare the losses in speednet.json with PyTorch in f64
"""
import argparse
import json
import math
import os

import numpy as np

import reference as ref

BATCH, STEPS, BIAS_STEPS, SMOOTHING = 32, 20, 8, 0.2
WIDTHS = {"group1": (24, 64), "group2": (64, 256), "group3": (256, 256)}
SGD_MOMENTUM, MUON_MOMENTUM, MUON_RATE = 0.85, 0.6, 0.03
DECAY = 2e-6 * BATCH
RATES = {"whiten.bias": 0.053, "head.weight": 0.67}
NORM_RATE = 0.053
FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "speednet.json")


# --- initial weights -------------------------------------------------------------------------------------------------


def whitening(images):
    """Eigenvalues, falling, and the 12 filters v / sqrt(lambda + 5e-4) as rows, in the order (r, s, c)."""
    p = ref.patches(images, 2, 2, 0).reshape(len(images), -1, 12)
    moments = (p.transpose(0, 2, 1) @ p).sum(0) / (len(images) * p.shape[1])  # by picture first: less rounding
    values, vectors = np.linalg.eigh(moments)
    values, vectors = values[::-1], vectors.T[::-1]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(1)[:, None], 1)
    return values, vectors * np.sign(largest) / np.sqrt(values + 5e-4)[:, None]


def initial_parameters(filters):
    parameters = {
        "whiten.weight": ref.round_to_f32(np.concatenate([filters, -filters])).reshape(24, 2, 2, 3),
        "whiten.bias": ref.uniform_parameter("whiten.bias", (24,), 1 / math.sqrt(12)),
    }
    for group, (c, k) in WIDTHS.items():
        for conv, norm, c_in in (("conv1", "norm1", c), ("conv2", "norm2", k)):
            w = ref.uniform_parameter(f"{group}.{conv}.weight", (k, 3, 3, c_in), 1 / math.sqrt(9 * c_in))
            w[:c_in] = 0
            w[np.arange(c_in), 1, 1, np.arange(c_in)] = 1
            parameters[f"{group}.{conv}.weight"] = w
            parameters[f"{group}.{norm}.bias"] = np.zeros(k)
    head = ref.uniform_parameter("head.weight", (10, 256), 1 / 16)
    mean = math.fsum(head.flat) / head.size
    deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in head.flat) / (head.size - 1))
    parameters["head.weight"] = ref.round_to_f32(head / deviation)
    return parameters


def new_norms():
    return {f"{g}.norm{i}": ref.BatchNorm(k, 1e-12, 0.4) for g, (_, k) in WIDTHS.items() for i in (1, 2)}


# --- forward and backward --------------------------------------------------------------------------------------------


def forward(p, norms, images, train=True):
    """Logits (N, 10), and the tape: (kind, parameter, saved, output shape) per layer in order."""
    tape = []

    def layer(kind, name, result):
        y, saved = result
        tape.append((kind, name, saved, y.shape))
        return y

    def norm(x, name):
        y, saved = norms[name].train(x) if train else (norms[name].eval(x), None)
        return layer("norm", name + ".bias", (y + p[name + ".bias"], saved))

    x = layer("whiten", "whiten.weight", ref.conv2d(images, p["whiten.weight"], 0))
    x = layer("gelu", None, ref.gelu(x + p["whiten.bias"]))
    for group in WIDTHS:
        x = layer("conv", group + ".conv1.weight", ref.conv2d(x, p[group + ".conv1.weight"], 1))
        x = layer("pool", None, ref.max_pool(x, 2))
        x = layer("gelu", None, ref.gelu(norm(x, group + ".norm1")))
        x = layer("conv", group + ".conv2.weight", ref.conv2d(x, p[group + ".conv2.weight"], 1))
        x = layer("gelu", None, ref.gelu(norm(x, group + ".norm2")))
    x = layer("pool", None, ref.max_pool(x, 3))
    x = x.reshape(len(x), 256)
    return layer("head", "head.weight", (x @ p["head.weight"].T / 256, x)), tape


def backward(p, tape, dy):
    gradients = {}
    for kind, name, saved, _ in reversed(tape):
        if kind == "head":
            gradients[name] = dy.T @ saved / 256
            dy = (dy @ p[name] / 256).reshape(-1, 1, 1, 256)
        elif kind == "pool":
            dy = ref.max_pool_backward(dy, saved)
        elif kind == "gelu":
            dy = ref.gelu_backward(dy, saved)
        elif kind == "norm":
            gradients[name] = dy.sum((0, 1, 2))
            dy = ref.BatchNorm.backward(dy, saved)
        elif kind == "conv":
            dy, gradients[name] = ref.conv2d_backward(dy, saved)
        elif kind == "whiten":
            gradients["whiten.bias"] = dy.sum((0, 1, 2))
    return gradients


def predict(p, norms, images, views):
    """Evaluation logits from one view, or from six: picture and mirror, each also moved to two opposite corners."""

    def both(x):
        return 0.5 * (forward(p, norms, x, False)[0] + forward(p, norms, x[:, :, ::-1], False)[0])

    if views == 1:
        return forward(p, norms, images, False)[0]
    wide = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect")
    return 0.5 * both(images) + 0.25 * both(wide[:, :32, :32]) + 0.25 * both(wide[:, 2:, 2:])


# --- optimizers ------------------------------------------------------------------------------------------------------


def newton_schulz(u):
    x = u / (ref.norm(u) + 1e-7)
    for _ in range(3):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return x


def update(p, gradients, buffers, step):
    for name, g in gradients.items():
        factor = 1 - step / STEPS
        buffer = buffers.setdefault(name, np.zeros_like(g))
        if ".conv" in name:
            buffer[...] = MUON_MOMENTUM * buffer + g
            u = g + MUON_MOMENTUM * buffer
            w = p[name]
            w *= math.sqrt(len(w)) / ref.norm(w)
            w -= MUON_RATE * factor * newton_schulz(u.reshape(len(u), -1)).reshape(u.shape)
            continue
        if name == "whiten.bias":
            if step >= BIAS_STEPS:
                continue
            factor = 1 - step / BIAS_STEPS
        rate = RATES.get(name, NORM_RATE)
        g = g + DECAY / rate * p[name]
        buffer[...] = SGD_MOMENTUM * buffer + g
        p[name] -= rate * factor * (g + SGD_MOMENTUM * buffer)


# --- the run ---------------------------------------------------------------------------------------------------------


def batches():
    """All normalised pictures (20, 32, 32, 32, 3) and labels (20, 32), and the u8 pictures."""
    images = ref.pictures()
    return ref.normalise(images).reshape(STEPS, BATCH, 32, 32, 3), ref.labels().reshape(STEPS, BATCH), images


def generate():
    x, y, images = batches()
    values, filters = whitening(x.reshape(-1, 32, 32, 3))
    print("eigenvalues", values)
    print("relative gaps", values[:-1] / values[1:] - 1)
    assert (values[:-1] / values[1:] - 1 > 1e-3).all()
    p, norms, buffers = initial_parameters(filters), new_norms(), {}
    golden = {"batch": BATCH, "steps": STEPS, "seed": ref.SEED, **ref.common_facts(images, y.ravel())}
    golden["eigenvalues"], golden["filters"] = values.tolist(), filters.tolist()
    golden["initial"] = {name: ref.summary(v) for name, v in p.items()}
    golden["trainable_parameters"] = sum(v.size for name, v in p.items() if name != "whiten.weight")
    assert golden["trainable_parameters"] == 1971352
    golden["loss"] = []
    for step in range(STEPS):
        logits, tape = forward(p, norms, x[step])
        loss, dy = ref.cross_entropy(logits, y[step], SMOOTHING)
        golden["loss"].append(float(loss.mean()))
        print(f"step {step:2d}  loss {loss.mean():.12f}", flush=True)
        gradients = backward(p, tape, dy)
        if step == 0:
            golden["layers"] = [[kind, name, list(shape[1:])] for kind, name, _, shape in tape]
            golden["gradients_step0"] = {name: ref.summary(g) for name, g in gradients.items()}
        if step in (0, STEPS - 1):
            golden[f"logits_step{step}"] = logits[:4].tolist()
        update(p, gradients, buffers, step)
        if step in (0, STEPS - 1):
            golden[f"parameters_after_step{step}"] = {name: ref.summary(v) for name, v in p.items()}
    golden["running_mean"] = {name: ref.summary(n.running_mean) for name, n in norms.items()}
    golden["running_var"] = {name: ref.summary(n.running_var) for name, n in norms.items()}
    golden["eval_logits"] = predict(p, norms, x[0, :4], 1).tolist()
    golden["eval_logits_six_views"] = predict(p, norms, x[0, :4], 6).tolist()
    ref.write_json(FILE, golden)


def check():
    ref.check_random_bits()
    x, y, _ = batches()
    p = initial_parameters(whitening(x.reshape(-1, 32, 32, 3))[1])
    x, y = x[0, :8], y[0, :8]

    def loss():
        return ref.cross_entropy(forward(p, new_norms(), x)[0], y, SMOOTHING)[0].sum()

    logits, tape = forward(p, new_norms(), x)
    gradients = backward(p, tape, ref.cross_entropy(logits, y, SMOOTHING)[1])
    worst = ref.check_gradients(loss, p, gradients)
    print(f"worst error {worst:.2e}")
    assert worst <= 1e-6


def compare_with_torch():
    """The same 20 steps with torch's layers, gradients and SGD; only the initial weights and Muon come from here."""
    import torch
    from torch.nn import functional as f

    x, y, _ = batches()
    p = {
        name: torch.tensor(np.moveaxis(v, 3, 1).copy() if v.ndim == 4 else v)
        for name, v in initial_parameters(whitening(x.reshape(-1, 32, 32, 3))[1]).items()
    }
    names = [name for name in p if name != "whiten.weight"]
    muon = {name: torch.zeros_like(p[name]) for name in names if ".conv" in name}
    for name in names:
        p[name].requires_grad_()
    rate = {name: RATES.get(name, NORM_RATE) for name in names if name not in muon}
    sgd = torch.optim.SGD(
        [{"params": [p[name]], "lr": r, "weight_decay": DECAY / r} for name, r in rate.items()],
        lr=1,
        momentum=SGD_MOMENTUM,
        nesterov=True,
    )

    def net(z):
        def norm(z, name):
            return f.batch_norm(z, None, None, None, p[name + ".bias"], True, 0, 1e-12)

        z = f.gelu(f.conv2d(z, p["whiten.weight"], p["whiten.bias"]))
        for g in WIDTHS:
            z = f.gelu(norm(f.max_pool2d(f.conv2d(z, p[g + ".conv1.weight"], padding=1), 2), g + ".norm1"))
            z = f.gelu(norm(f.conv2d(z, p[g + ".conv2.weight"], padding=1), g + ".norm2"))
        return f.linear(f.max_pool2d(z, 3).flatten(1), p["head.weight"]) / 256

    with open(FILE) as file:
        golden = json.load(file)
    worst = 0.0
    for step in range(STEPS):
        z = torch.tensor(x[step]).permute(0, 3, 1, 2)
        loss = f.cross_entropy(net(z), torch.tensor(y[step]), label_smoothing=SMOOTHING, reduction="sum")
        error = abs(loss.item() / BATCH / golden["loss"][step] - 1)
        worst = max(worst, error)
        print(f"step {step:2d}  torch {loss.item() / BATCH:.12f}  relative difference {error:.2e}", flush=True)
        for name in names:
            p[name].grad = None
        loss.backward()
        if step >= BIAS_STEPS:
            p["whiten.bias"].grad = None
        for group, (name, r) in zip(sgd.param_groups, rate.items()):
            group["lr"] = r * (1 - step / (BIAS_STEPS if name == "whiten.bias" else STEPS))
        sgd.step()
        with torch.no_grad():
            for name, buffer in muon.items():
                buffer.mul_(MUON_MOMENTUM).add_(p[name].grad)
                u = (p[name].grad + MUON_MOMENTUM * buffer).flatten(1)
                p[name] *= math.sqrt(len(u)) / p[name].norm()
                direction = torch.tensor(newton_schulz(u.numpy())).view_as(p[name])
                p[name] -= MUON_RATE * (1 - step / STEPS) * direction
    print(f"worst relative difference {worst:.2e}")
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
