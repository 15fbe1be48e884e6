#!/usr/bin/python3
"""Test accuracy of PyTorch training `tiny` on an image folder, the yardstick for ours: per seed and mean, as JSON.

Recipe: 3 epochs of batch 128, the last partial batch dropped; pictures normalised with the training set's own mean and
standard deviation, mirrored at random and not otherwise augmented; SGD with Nesterov momentum .9, decay 5e-4 on every
parameter, rate up to .1 over the first 20 % of the steps and down to 0 over the rest; f32, PyTorch's default weights.
--data is a folder train/<class>/*.jpg|png and test/<class>/*.jpg|png of 32 x 32 pictures, classes in alphabetical
order. """
import argparse
import json
import os
import sys
import time

import numpy as np
import torch
from PIL import Image
from torch import nn

import torch_models


def load(folder):
    """u8 pictures (N, 32, 32, 3) and labels of <class>/*.jpg|png."""
    images, labels = [], []
    classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    for label, name in enumerate(classes):
        path = os.path.join(folder, name)
        for file in sorted(os.listdir(path)):
            if file.endswith((".jpg", ".jpeg", ".png")):
                images.append(np.asarray(Image.open(os.path.join(path, file)).convert("RGB")))
                labels.append(label)
    return torch.from_numpy(np.stack(images)), torch.tensor(labels)


def moments(images):
    """Mean and standard deviation of each channel in [0, 1], exactly, from counts of the 256 values."""
    counts = torch.stack([torch.bincount(images[..., c].flatten(), minlength=256) for c in range(3)]).double()
    value, share = torch.arange(256) / 255.0, counts / counts.sum(1, keepdim=True)
    mean = (share * value).sum(1)
    return mean.float(), ((share * value**2).sum(1) - mean**2).sqrt().float()


def rate(step, steps, peak):
    rise = 0.2 * steps
    return peak * (step / rise if step < rise else (steps - step) / (steps - rise))


def train(train_set, test_set, seed, options):
    """Share of the test set that a net trained with this seed gets right, and the seconds of training."""
    torch.manual_seed(seed)
    images, labels = train_set
    batches = torch_models.Batches(images, *moments(images))
    net = torch_models.build("tiny")
    sgd = torch.optim.SGD(net.parameters(), lr=options.rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
    per_epoch = len(images) // options.batch
    step, steps, begin = 0, per_epoch * options.epochs, time.perf_counter()
    for _ in range(options.epochs):
        order = torch.randperm(len(images))
        for i in range(per_epoch):
            index = order[i * options.batch : (i + 1) * options.batch]
            sgd.param_groups[0]["lr"] = rate(step, steps, options.rate)
            x = batches(index, torch.rand(options.batch) < 0.5)
            loss = nn.functional.cross_entropy(net(x), labels[index])
            sgd.zero_grad(set_to_none=True)
            loss.backward()
            sgd.step()
            step += 1
    seconds = time.perf_counter() - begin
    net.eval()
    batches.images, truth = test_set
    with torch.no_grad():
        parts = torch.arange(len(truth)).split(500)
        right = sum((net(batches(part, None)).argmax(1) == truth[part]).sum().item() for part in parts)
    return right / len(truth), seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    train_set, test_set = load(os.path.join(options.data, "train")), load(os.path.join(options.data, "test"))
    print(f"PyTorch {torch.__version__}, {len(train_set[0])} + {len(test_set[0])} pictures", file=sys.stderr)
    results = []
    for seed in options.seeds:
        accuracy, seconds = train(train_set, test_set, seed, options)
        print(f"seed {seed}: {100 * accuracy:.2f} % after {seconds:.0f} s", file=sys.stderr, flush=True)
        results.append({"seed": seed, "test_accuracy": round(accuracy, 4), "seconds": round(seconds, 1)})
    mean = sum(r["test_accuracy"] for r in results) / len(results)
    print(
        json.dumps(
            {
                "model": "tiny",
                "epochs": options.epochs,
                "batch": options.batch,
                "seeds": results,
                "mean_test_accuracy": round(mean, 4),
                "torch": torch.__version__,
            }
        )
    )


main()
