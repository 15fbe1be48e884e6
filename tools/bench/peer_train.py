#!/usr/bin/python3
"""Training speed of `ranvier` beside PyTorch on this CPU, interleaved run by run; prints a Markdown table.

For each batch size the two programs take turns, `--repeats` times, so that a slow minute of the machine meets both. A
run whose process time is less than 1.9 times its wall time shared the two cores with something else: it is refused,
said so, and repeated a few times. A batch size with too few accepted runs is marked and takes no part. Each side stands
at its best batch, as the median of its accepted runs. Exits 1 if a side has no accepted batch size.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


def run(command):
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    if result.returncode != 0:
        sys.exit(f"peer_train: exit {result.returncode} of: {' '.join(command)}")
    return json.loads(result.stdout)


def commands(options, batch):
    return {
        "ranvier": [options.ranvier, "bench", "train", "--model", options.model, "--batch", str(batch)]
        + ["--threads", str(options.threads), "--json"],
        "torch": [os.path.join(HERE, "peer_torch.py"), "--model", options.model, "--batch", str(batch)]
        + ["--seconds", str(options.seconds), "--threads", str(options.threads)],
    }


def accepted_run(side, command, options):
    """One run with enough of the machine, or the last of the attempts, marked as refused."""
    for attempt in range(options.attempts):
        result = run(command)
        speed, share = result["images_per_second"], result["cpu_over_wall"]
        if share >= options.share:
            print(f"  {side:8s} {speed:9.1f} images/s  cpu/wall {share:.2f}", file=sys.stderr)
            return result, True
        print(
            f"  {side:8s} {speed:9.1f} images/s  cpu/wall {share:.2f}  REFUSED: below {options.share},"
            f" the machine was not quiet (attempt {attempt + 1} of {options.attempts})",
            file=sys.stderr,
        )
        if attempt + 1 < options.attempts:
            time.sleep(5 * (attempt + 1))
    return result, False


def measure(options):
    """{side: {batch: [(result, accepted)]}}"""
    runs = {"ranvier": {}, "torch": {}}
    for batch in options.batch:
        for repeat in range(options.repeats):
            print(f"batch {batch}, run {repeat + 1} of {options.repeats}", file=sys.stderr)
            for side, command in commands(options, batch).items():
                runs[side].setdefault(batch, []).append(accepted_run(side, command, options))
    return runs


def table(runs, options):
    """Prints the table and returns the medians at each side's best batch."""
    best = {}
    print("| side | batch | images/s (median) | range | cpu/wall (lowest) | runs accepted |")
    print("| --- | --- | --- | --- | --- | --- |")
    for side, batches in runs.items():
        for batch, results in batches.items():
            good = [r for r, accepted in results if accepted]
            kept = good or [r for r, _ in results]
            speeds = [r["images_per_second"] for r in kept]
            median = statistics.median(speeds)
            enough = 2 * len(good) > len(results)
            if enough and median > best.get(side, (0, 0))[0]:
                best[side] = (median, batch)
            share = min(r["cpu_over_wall"] for r in kept)
            mark = "" if enough else " **REFUSED: machine not quiet**"
            print(
                f"| {side} | {batch} | {median:.0f}{mark} | {min(speeds):.0f}..{max(speeds):.0f} | {share:.2f} |"
                f" {len(good)} of {len(results)} |"
            )
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["tiny", "speednet"], default="tiny")
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5, help="timed seconds of one PyTorch run")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--share", type=float, default=1.9, help="least process time over wall time")
    parser.add_argument("--attempts", type=int, default=4, help="tries for one accepted run")
    parser.add_argument("--ranvier", default=os.path.join(ROOT, "build", "ranvier"))
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    runs = measure(options)
    version = next(iter(runs["torch"].values()))[0][0]["torch"]
    print(f"`{options.model}`, f32, {options.threads} threads, PyTorch {version} on the CPU (channels_last):\n")
    best = table(runs, options)
    for side in runs:
        if side not in best:
            sys.exit(f"peer_train: no batch size of {side} had the machine to itself; no ratio")
    (ours, our_batch), (theirs, their_batch) = best["ranvier"], best["torch"]
    print(f"\nranvier at batch {our_batch}, PyTorch at batch {their_batch}: **{ours / theirs:.2f}x**")


main()
