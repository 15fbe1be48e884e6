#!/usr/bin/env python3
"""The dense form of the coupling in PyTorch on the GPU and, where pykeops can be imported, KeOps: the peers of
`ranvier bench coupling --device cuda`, with the same sizes and row names, as one JSON object.

Channels: y = x + x A in one call (addmm) and y = x (1 + tanh(x A)), bf16. Units: the matrix K made anew from positions and
multiplied ("dense"), and a K that is kept ("kept"); f32 at batch 1, bf16 from batch 32 on (K is made in f32 and rounded);
squares of products and their gradients (the covariance penalty's) by dense matrices in f32.
Times are medians over --seconds by CUDA events after a warm-up. What does not fit or cannot be imported is said on
standard error and left out. """
import argparse
import json
import statistics
import sys
import time

LENGTH, DECAY, POWER, SOFTENING = 0.5, 1.0, 3.0, 0.05


def say(text):
    print(text, file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=16384)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=0.2)
    options = parser.parse_args()
    try:
        import torch
    except ImportError as problem:
        say(f"skipped: no PyTorch ({problem})")
        return 0
    if not torch.cuda.is_available():
        say("skipped: PyTorch finds no CUDA device")
        return 0
    print(json.dumps(Peers(torch, options).run()))
    return 0


class Peers:
    def __init__(self, torch, options):
        self.torch, self.options, self.rows = torch, options, []
        torch.manual_seed(0)
        torch.backends.cuda.matmul.allow_tf32 = False

    def median(self, body):
        event = lambda: self.torch.cuda.Event(enable_timing=True)
        for _ in range(3):
            body()
        self.torch.cuda.synchronize()
        times, start = [], time.perf_counter()
        while time.perf_counter() - start < self.options.seconds or len(times) < 3:
            begin, end = event(), event()
            begin.record()
            body()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end))
        return statistics.median(times)

    def note(self, name, variant, dtype, body, **figures):
        """figures: functions of the milliseconds."""
        try:
            ms = self.median(body)
        except self.torch.cuda.OutOfMemoryError:
            say(f"{name}, {variant}: does not fit into the GPU's memory")
            return
        row = {"name": name, "variant": variant, "dtype": dtype, "ms": round(ms, 5)}
        row.update({figure: round(value(ms), 5) for figure, value in figures.items()})
        self.rows.append(row)
        say(f"{name:<52} {variant:<14} {dtype:<5} {ms:10.4f} ms")

    def channels(self):
        torch, rows = self.torch, self.options.rows
        for n in (64, 128, 256):
            x = torch.randn(rows, n, device="cuda", dtype=torch.bfloat16)
            a = torch.randn(n, n, device="cuda", dtype=torch.bfloat16) * (0.1 / n**0.5)
            gbs = lambda ms: 2 * x.numel() * x.element_size() / ms / 1e6
            self.note(f"{n} channels, ephaptic", "torch addmm", "bf16", lambda: torch.addmm(x, x, a), **{"GB/s": gbs})
            self.note(f"{n} channels, epistatic", "torch", "bf16", lambda: x * (1 + torch.tanh(x @ a)), **{"GB/s": gbs})
            gate = torch.compile(lambda: x * (1 + torch.tanh(x @ a)))
            try:
                self.note(f"{n} channels, epistatic", "torch compiled", "bf16", gate, **{"GB/s": gbs})
            except Exception as problem:  # no compiler on this machine
                say(f"torch.compile does not work here: {type(problem).__name__}")

    def law(self, name):
        torch = self.torch

        def gaussian(squares):
            return torch.exp((squares + SOFTENING**2) * (-0.5 / LENGTH**2))

        def full(squares):
            d2 = squares + SOFTENING**2
            return (1 + d2 / LENGTH**2) ** (-POWER / 2) * torch.exp(-torch.sqrt(d2) / DECAY)

        return gaussian if name == "gaussian" else full

    def matrix(self, p, law):
        distance = self.torch.cdist(p, p, compute_mode="donot_use_mm_for_euclid_dist")
        return law(distance * distance).fill_diagonal_(0)

    def units(self):
        torch, n = self.torch, self.options.units
        pairs = n * (n - 1)
        for name in ("gaussian", "full law"):
            law = self.law(name)
            for axes, batch in ((2, 1), (3, 1), (2, 32), (2, 64), (2, 256), (2, 1024)):
                dtype = torch.float32 if batch == 1 else torch.bfloat16
                label = "f32" if batch == 1 else "bf16"
                p = torch.rand(n, axes, device="cuda") * 2 - 1
                x = torch.randn(batch, n, device="cuda", dtype=dtype)
                row = f"{n} units, batch {batch}, {name}, {axes} axes"
                per_pair = {"ps/pair": lambda ms: ms * 1e9 / pairs}
                self.note(row, "torch dense", label, lambda: x @ self.matrix(p, law).to(dtype), **per_pair)
                try:
                    kept = self.matrix(p, law).to(dtype)
                except torch.cuda.OutOfMemoryError:
                    say(f"{row}: K does not fit into the GPU's memory")
                    continue
                self.note(row, "torch kept K", label, lambda: x @ kept, **per_pair)
                del kept
                self.keops(row, name, p, x, per_pair)

    def squares(self):
        torch, n = self.torch, self.options.units
        pairs = n * (n - 1)
        law = self.law("full law")
        p, w, g = torch.rand(n, 2, device="cuda") * 2 - 1, torch.randn(n, device="cuda"), torch.randn(n, device="cuda")

        def weights():
            return (g[:, None] * w + w[:, None] * g) * self.matrix(p, law)

        def positions(x):
            distance = torch.cdist(p, p, compute_mode="donot_use_mm_for_euclid_dist")
            d2 = distance * distance + SOFTENING**2
            pull = weights() * (x.t() @ x).square() * (-POWER / (LENGTH**2 + d2) - 1 / (DECAY * d2.sqrt()))
            return pull.sum(1, keepdim=True) * p - pull @ p

        for batch in (64, 256):
            x = torch.randn(batch, n, device="cuda")
            for what, body in (
                    ("squares", lambda: (self.matrix(p, law) * (x.t() @ x).square()) @ w),
                    ("squares, gradient in x", lambda: 2 * (x @ (weights() * (x.t() @ x)))),
                    ("squares, gradient in positions", lambda: positions(x))):
                self.note(f"{n} units, batch {batch}, {what}", "torch dense", "f32", body,
                          **{"ps/pair": lambda ms: ms * 1e9 / pairs})

    def keops(self, row, name, p, x, figures):
        """KeOps' own reduction in f32, K never stored; its diagonal stays in, which costs nothing and changes nothing."""
        if name != "gaussian" or x.shape[0] > 64:
            return
        try:
            from pykeops.torch import LazyTensor
        except Exception as problem:
            if not getattr(self, "without_keops", False):
                say(f"skipped: no KeOps ({type(problem).__name__}: {problem})")
            self.without_keops = True
            return
        i, j = LazyTensor(p[:, None, :].contiguous()), LazyTensor(p[None, :, :].contiguous())
        k = (((i - j) ** 2).sum(-1) * (-0.5 / LENGTH**2)).exp()
        values = x.float().t().contiguous()
        self.note(row, "keops", "f32", lambda: k @ values, **figures)

    def run(self):
        if self.options.rows > 0:
            self.channels()
        if self.options.units > 0:
            self.units()
            self.squares()
        return {"torch": self.torch.__version__, "gpu": self.torch.cuda.get_device_name(), "rows": self.rows}


if __name__ == "__main__":
    sys.exit(main())
