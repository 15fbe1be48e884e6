#!/usr/bin/python3
"""PyTorch on the CPU: milliseconds of a training step of the guided network, 1-128x4-2 tanh on 2,000 points with the
neuron's residuals and Adam, by double backward and with tangents carried by hand. Says so where there is no PyTorch."""
import argparse
import json
import sys
import time

try:
    import torch
except ImportError:
    sys.exit("PyTorch is not installed: no comparison")

WIDTH, LAYERS, POINTS, T = 128, 4, 2000, 5.0


def network(dtype):
    widths = [1] + [WIDTH] * LAYERS + [2]
    parts = []
    for i, (low, high) in enumerate(zip(widths, widths[1:])):
        parts.append(torch.nn.Linear(low, high, dtype=dtype))
        if i + 2 < len(widths):
            parts.append(torch.nn.Tanh())
    return torch.nn.Sequential(*parts)


def misfit(y, dy):
    """v' = 0.04 v^2 + 5 v + 140 - u + 10, u' = 0.02 (0.2 v - u); t = (x + 1) T / 2."""
    v, u, dv, du = 100 * y[:, 0], 20 * y[:, 1], 200 / T * dy[:, 0], 40 / T * dy[:, 1]
    f, g = dv - (0.04 * v * v + 5 * v + 140 - u + 10), du - 0.02 * (0.2 * v - u)
    return ((f / 100) ** 2).mean() + ((g / 20) ** 2).mean()


def double_backward(net, x):
    y = net(x)
    dy = [torch.autograd.grad(y[:, k], x, torch.ones_like(y[:, k]), create_graph=True)[0] for k in range(2)]
    return y, torch.cat(dy, 1)


def hand_tangents(net, x):
    h, d = x, None
    for part in net:
        if isinstance(part, torch.nn.Linear):
            d = part.weight.t().expand(len(x), -1) if d is None else d @ part.weight.t()
            h = part(h)
        else:
            h = torch.tanh(h)
            d = (1 - h * h) * d
    return h, d


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for dtype in (torch.float32, torch.float64):
        for derivative in (double_backward, hand_tangents):
            torch.manual_seed(0)
            net = network(dtype)
            x = torch.linspace(-1, 1, POINTS, dtype=dtype).reshape(-1, 1).requires_grad_(derivative is double_backward)
            adam, walls, cpus = torch.optim.Adam(net.parameters(), lr=1e-3), [], []
            for _ in range(options.steps):
                wall, cpu = time.perf_counter(), time.process_time()
                adam.zero_grad(set_to_none=True)
                misfit(*derivative(net, x)).backward()
                adam.step()
                walls.append(1e3 * (time.perf_counter() - wall))
                cpus.append(1e3 * (time.process_time() - cpu))
            walls.sort()
            name = f"PyTorch {torch.__version__} {str(dtype)[6:]} {derivative.__name__}"
            best, median, cpu = walls[0], walls[len(walls) // 2], sum(cpus) / len(cpus)
            if options.json:
                print(json.dumps({"name": name, "best_ms": best, "ms": median, "cpu_ms": cpu}), flush=True)
            else:
                print(f"{name}: best {best:.2f} ms, median {median:.2f} ms, {cpu:.2f} ms of processor time", flush=True)


if __name__ == "__main__":
    main()
