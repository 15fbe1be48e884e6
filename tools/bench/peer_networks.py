#!/usr/bin/env python3
"""The two published networks in NumPy, written from the papers' scripts and independent of Ranvier.

usage: peer_networks.py [--seeds 20] [--polychronous-seeds 0] [--seconds 2]
Prints, as JSON, the mean and the standard error over seeds of the rates of the excitatory and inhibitory neurons and of
the shares of power of the population rate in 5-15 and 30-60 Hz (1 s, 1 ms bins, mean taken off); of the 2006 network the
rates in the last second and the mean excitatory weight.
"""
import argparse
import json
import numpy as np


def cortical(seed, steps=1000):
    """net.m of Izhikevich 2003: noise new each ms, all to all, reset first, two half steps of v, then u."""
    rng = np.random.default_rng(seed)
    ne, ni = 800, 200
    re, ri = rng.random(ne), rng.random(ni)
    a = np.r_[np.full(ne, 0.02), 0.02 + 0.08 * ri]
    b = np.r_[np.full(ne, 0.2), 0.25 - 0.05 * ri]
    c = np.r_[-65 + 15 * re**2, np.full(ni, -65.0)]
    d = np.r_[8 - 6 * re**2, np.full(ni, 2.0)]
    weight = np.c_[0.5 * rng.random((ne + ni, ne)), -rng.random((ne + ni, ni))]
    v = np.full(ne + ni, -65.0)
    u = b * v
    counts = np.zeros((steps, 2))
    for t in range(steps):
        current = np.r_[5 * rng.standard_normal(ne), 2 * rng.standard_normal(ni)]
        fired = np.flatnonzero(v >= 30)
        counts[t] = (fired < ne).sum(), (fired >= ne).sum()
        v[fired] = c[fired]
        u[fired] += d[fired]
        current += weight[:, fired].sum(axis=1)
        for _ in range(2):
            v += 0.5 * (0.04 * v**2 + 5 * v + 140 - u + current)
        u += a * (b * v - u)
    rate = counts.sum(axis=1)
    power = np.abs(np.fft.rfft(rate - rate.mean()))**2
    f = np.fft.rfftfreq(steps, 1e-3)
    share = lambda low, high: power[(f >= low) & (f <= high)].sum() / power[1:].sum()
    return [counts[:, 0].sum() / ne / steps * 1e3, counts[:, 1].sum() / ni / steps * 1e3, share(5, 15), share(30, 60)]


def polychronous(seed, seconds):
    """spnet of Izhikevich 2006: delays of 1 to 20 ms, STDP applied once a second."""
    rng = np.random.default_rng(seed)
    ne, ni, m, longest = 800, 200, 100, 20
    n = ne + ni
    a = np.r_[np.full(ne, 0.02), np.full(ni, 0.1)]
    d = np.r_[np.full(ne, 8.0), np.full(ni, 2.0)]
    post = np.zeros((n, m), int)
    for i in range(n):
        post[i] = rng.choice(np.delete(np.arange(n), i), m, False) if i < ne else rng.choice(ne, m, False)
    delay = np.ones((n, m), int)
    delay[:ne] = rng.integers(1, longest + 1, (ne, m))
    s = np.full((n, m), 6.0)
    s[ne:] = -5
    sd = np.zeros((ne, m))
    order = np.argsort(post[:ne].ravel(), kind="stable")
    bounds = np.searchsorted(post[:ne].ravel()[order], np.arange(n + 1))
    before = np.zeros((longest + 1, n))  # the trace of sources, k ms ago
    after = np.zeros(n)
    v, u = np.full(n, -65.0), 0.2 * np.full(n, -65.0)
    arriving = [[] for _ in range(longest + 1)]
    rates = []
    for second in range(seconds):
        counts = np.zeros(2)
        for t in range(1000):
            current = np.zeros(n)
            current[rng.integers(n)] = 20
            fired = np.flatnonzero(v >= 30)
            v[fired] = -65
            u[fired] += d[fired]
            counts += (fired < ne).sum(), (fired >= ne).sum()
            before[0, fired] = 0.1
            after[fired] = 0.12
            for j in fired:
                into = order[bounds[j]:bounds[j + 1]]
                sd.ravel()[into] += before[delay[:ne].ravel()[into], into // m]
            for i in fired:
                for k in range(1, longest + 1 if i < ne else 2):
                    synapses = np.flatnonzero(delay[i] == k)
                    if len(synapses):
                        arriving[k - 1].append((i, synapses))
            for i, synapses in arriving.pop(0):
                np.add.at(current, post[i, synapses], s[i, synapses])
                if i < ne:
                    sd[i, synapses] -= after[post[i, synapses]]
            arriving.append([])
            for _ in range(2):
                v += 0.5 * (0.04 * v**2 + 5 * v + 140 - u + current)
            u += a * (0.2 * v - u)
            before = np.roll(before, 1, axis=0)
            before[0] = 0.95 * before[1]
            after *= 0.95
        s[:ne] = np.clip(s[:ne] + 0.01 + sd, 0, 10)
        sd *= 0.9
        rates.append([counts[0] / ne, counts[1] / ni, s[:ne].mean()])
    return rates[-1]


def over(values):
    values = np.array(values)
    return {"mean": values.mean(0).round(4).tolist(), "se": (values.std(0, ddof=1) / np.sqrt(len(values))).round(4).tolist()}


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--seeds", type=int, default=20)
parser.add_argument("--polychronous-seeds", type=int, default=0)
parser.add_argument("--seconds", type=int, default=2)
o = parser.parse_args()
result = {}
if o.seeds:
    result["cortical1000"] = over([cortical(s) for s in range(o.seeds)])
if o.polychronous_seeds:
    result["polychronous2006"] = over([polychronous(s, o.seconds) for s in range(o.polychronous_seeds)])
print(json.dumps(result))
