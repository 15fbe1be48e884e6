#!/usr/bin/env python3
"""The 2006 network over seeds: rates by the second, its rhythm, and the distribution of weights after a while.

usage: study_polychronous.py [--ranvier build/ranvier] [--seeds 4] [--seconds 20] [--peer]
Prints for each seed and their means: rates of both populations in the first and in the last second, the frequency of
most power below 10 Hz in the first two seconds, the mean excitatory weight and the shares of weights at 0 and at 10.
--peer runs peer_networks.py's NumPy port for as many seeds and seconds beside it (minutes a seed).
Izhikevich (2006) has 2 to 4 Hz at first; group counts are no measure (Pauli et al. 2018).
"""
import argparse
import cmath
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path


def peak(rate):
    """Frequency (Hz) of most power between 1 and 10 Hz of a rate in 1 ms bins."""
    mean, n = sum(rate) / len(rate), len(rate)
    power = {}
    for k in range(1, int(10 * n / 1000) + 1):
        if 1000 * k / n >= 1:
            power[1000 * k / n] = abs(sum((r - mean) * cmath.exp(-2j * cmath.pi * k * t / n) for t, r in enumerate(rate)))
    return max(power, key=power.get)


def one(program, seed, seconds, folder):
    subprocess.run([program, "simulate", "--preset", "polychronous2006", "--seed", str(seed), "--duration-ms",
                    str(1000 * seconds), "--out", folder, "--formats", "csv"], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    with open(Path(folder, "rates.csv")) as file:
        rows = [(float(r["rate_hz:exc"]), float(r["rate_hz:inh"])) for r in csv.DictReader(file)]
    second = lambda k, column: sum(r[column] for r in rows[1000 * k:1000 * (k + 1)]) / 1000
    weights = json.loads(Path(folder, "summary.json").read_text())["weights"]
    count = sum(w["synapses"] for w in weights)
    over = lambda key: sum(w[key] * w["synapses"] for w in weights) / count
    return [second(0, 0), second(0, 1), second(seconds - 1, 0), second(seconds - 1, 1), peak([r[0] for r in rows[:2000]]),
            over("mean"), over("share_at_low"), over("share_at_high")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranvier", default="build/ranvier")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--peer", action="store_true")
    o = parser.parse_args()
    heads = ["E 1st s", "I 1st s", "E last", "I last", "peak Hz", "weight", "at 0", "at 10"]
    print(f"{'seed':>5}" + "".join(f"{h:>10}" for h in heads))
    rows = []
    with tempfile.TemporaryDirectory(prefix="ranvier-polychronous-") as top:
        for seed in range(o.seeds):
            rows.append(one(o.ranvier, seed, o.seconds, str(Path(top, str(seed)))))
            print(f"{seed:>5}" + "".join(f"{x:>10.3f}" for x in rows[-1]), flush=True)
    print(f"{'mean':>5}" + "".join(f"{sum(c) / len(rows):>10.3f}" for c in zip(*rows)))
    if o.peer:
        out = subprocess.run([sys.executable, str(Path(__file__).with_name("peer_networks.py")), "--seeds", "0",
                              "--polychronous-seeds", str(o.seeds), "--seconds", str(o.seconds)], check=True,
                             stdout=subprocess.PIPE).stdout
        mean = json.loads(out)["polychronous2006"]["mean"]
        print(f"NumPy, last second: E {mean[0]:.3f} Hz, I {mean[1]:.3f} Hz, mean weight {mean[2]:.3f}")


if __name__ == "__main__":
    main()
