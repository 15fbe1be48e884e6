#!/usr/bin/env python3
"""Ranvier beside Brian2's C++ standalone (Stimberg, Brette, Goodman 2019): uncoupled neurons and networks, in turn.

usage: peer_brian2.py [--ranvier build/ranvier] [--rounds 7] [--only uncoupled cortical sparse]
Needs Brian2 (pip install brian2 "numpy<2"). Builds each model once, then runs Brian2's program and Ranvier's one after the other,
`rounds` times, and prints the medians of their loop times (no building, no reading or writing), their ratio, and how many
cores each process kept busy. Brian2 runs on one thread: its OpenMP is slower on few cores.
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODELS = {"uncoupled": "100,000 neurons, midpoint, f64, h = 0.5 ms, 1 s biological",
          "cortical": "cortical1000, 1 s biological, f64",
          "sparse": "10,000 neurons x 1,000 synapses, 1 s biological, f64"}


def build(model, folder):
    """Writes and compiles the model; runs in a process of its own, because Brian2 holds one model a process."""
    import numpy as np
    from brian2 import NeuronGroup, SpikeMonitor, Synapses, defaultclock, device, ms, prefs, run, seed, set_device
    set_device("cpp_standalone", build_on_run=False)
    prefs.devices.cpp_standalone.openmp_threads = 0
    prefs.codegen.cpp.extra_compile_args_gcc = ["-w", "-O3", "-ffast-math", "-march=native", "-std=c++17"]
    seed(1)
    rng = np.random.default_rng(1)
    parameters = "a : 1 (constant)\nb : 1 (constant)\nc : 1 (constant)\nd : 1 (constant)\n"
    if model == "uncoupled":
        n, defaultclock.dt = 100000, 0.5 * ms
        cells = NeuronGroup(n, "dv/dt = (0.04*v**2 + 5*v + 140 - u + I)/ms : 1\ndu/dt = a*(b*v - u)/ms : 1\n"
                            "I : 1 (constant)\n" + parameters, threshold="v >= 30", reset="v = c; u += d", method="rk2")
        cells.a, cells.b, cells.c, cells.d = 0.02, 0.2, -65, 8
        cells.I = 10 + 10 * rng.random(n)
        cells.v, cells.u = -65, -13
        monitor = SpikeMonitor(cells, record=False)  # noqa: F841  (it counts)
    else:
        defaultclock.dt = 1 * ms
        n = 1000 if model == "cortical" else 10000
        f = "0.04*v**2 + 5*v + 140 - u + I + noise"
        cells = NeuronGroup(n, "v : 1\nu : 1\nI : 1\nnoise : 1\nsigma : 1 (constant)\n" + parameters,
                            threshold="v >= 30", reset="v = c; u += d")
        cells.run_regularly(f"noise = sigma*randn()\nv += 0.5*({f})\nv += 0.5*({f})\nu += a*(b*v - u)\nI = 0", dt=1 * ms,
                            when="groups")
        synapses = Synapses(cells, cells, "w : 1", on_pre="I_post += w")
        if model == "cortical":
            e, i = rng.random(800), rng.random(200)
            cells.a, cells.b = np.r_[np.full(800, 0.02), 0.02 + 0.08 * i], np.r_[np.full(800, 0.2), 0.25 - 0.05 * i]
            cells.c, cells.d = np.r_[-65 + 15 * e**2, np.full(200, -65)], np.r_[8 - 6 * e**2, np.full(200, 2)]
            cells.sigma = np.r_[np.full(800, 5), np.full(200, 2)]
            synapses.connect(True)
            weight = np.concatenate([0.5 * rng.random((n, 800)), -rng.random((n, 200))], 1)  # [target, source]
            synapses.w = weight.T.flatten()
        else:
            cells.a, cells.b, cells.c, cells.d, cells.sigma = 0.02, 0.2, -65, 8, 6.5
            targets = np.concatenate([rng.choice(n, 1000, False) for _ in range(n)])
            synapses.connect(i=np.repeat(np.arange(n), 1000), j=targets)
            synapses.w = "0.1*rand() - 0.05"
            synapses.delay = "(1 + int(5*rand()))*ms"
        cells.v, cells.u = -65, cells.b[:] * -65 if model == "cortical" else -13
        monitor = SpikeMonitor(cells)  # noqa: F841
    run(1000 * ms)
    device.build(directory=folder, compile=False, run=False)
    # Its loop is timed by processor time, which a busy machine does not lengthen; Ranvier's by a clock on the wall.
    source = Path(folder, "network.cpp")
    text = source.read_text()
    if text.count("std::clock()") < 2:
        raise SystemExit("peer_brian2.py: this version of Brian2 times its loop in another way")
    wall = ("#include <time.h>\nstatic std::clock_t wall_clock() { timespec t; clock_gettime(CLOCK_MONOTONIC, &t); "
            "return CLOCKS_PER_SEC * (t.tv_sec + 1e-9 * t.tv_nsec); }\n")
    source.write_text("#include <ctime>\n" + wall + text.replace("std::clock()", "wall_clock()"))
    subprocess.run(["make", "-j2"], cwd=folder, check=True)


def timed(command, **options):
    """Output of a program, and the cores that it kept busy."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                         env=os.environ | {"OMP_WAIT_POLICY": "passive"}, **options).stdout
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return out, (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / wall


def brian2(folder):
    _, cores = timed(["./main"], cwd=folder)
    return float(next(Path(folder, "results").glob("last_run_info*.txt")).read_text().split()[0]), cores


def ranvier(model, program):
    if model == "uncoupled":
        out, cores = timed([program, "bench", "neurons", "--only", "midpoint, reset", "--seconds", "0.5", "--json"])
        return 100000 * 2000 / json.loads(out)["rows"][0]["neuron_steps_per_second"], cores
    # A step of 1000 neurons takes 4 us: waking a second thread takes longer.
    threads = ["--threads", "1"] if model == "cortical" else []
    out, cores = timed([program, "bench", "networks", "--only", model, "--repeats", "3", "--json", *threads])
    return json.loads(out)["rows"][0]["seconds"], cores


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranvier", default="build/ranvier")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--build", nargs=2, help=argparse.SUPPRESS)
    o = parser.parse_args()
    if o.build:
        return build(*o.build)
    with tempfile.TemporaryDirectory(prefix="ranvier-brian2-") as top:
        for model in o.only:
            subprocess.run([sys.executable, __file__, "--build", model, str(Path(top, model))], check=True,
                           stdout=subprocess.DEVNULL)
        times = {model: ([], []) for model in o.only}
        for _ in range(o.rounds):
            for model in o.only:
                times[model][0].append(brian2(Path(top, model)))
                times[model][1].append(ranvier(model, o.ranvier))
    print(f"{'':<52} {'Brian2':>10} {'cores':>6} {'Ranvier':>10} {'cores':>6} {'ratio':>7}  load {os.getloadavg()[0]:.1f}")
    rows = {}
    for model, sides in times.items():
        seconds = [statistics.median(t for t, _ in side) for side in sides]
        cores = [statistics.median(c for _, c in side) for side in sides]
        print(f"{MODELS[model]:<52} {seconds[0]:>8.4f} s {cores[0]:>6.2f} {seconds[1]:>8.4f} s {cores[1]:>6.2f} "
              f"{seconds[0] / seconds[1]:>6.1f}x")
        rows[model] = {"brian2_seconds": seconds[0], "ranvier_seconds": seconds[1], "ratio": seconds[0] / seconds[1]}
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
