#!/usr/bin/python3
"""End to end: a run that is interrupted or killed and then resumed ends with the bits of the run never stopped."""
import random
import signal
import subprocess
import time
import unittest

from common import SANITIZED, TINY_RUN, Case, metrics, tensors, write_batches

EPOCHS = 6
RUN = ["--model", "tiny", "--epochs", EPOCHS, "--batch", 16, "--device", "cpu", "--translate", 2, "--threads", 1]


class Stopped(Case):
    def start(self, train, *extra):
        """The whole run, and a folder name and arguments for runs that will be stopped."""
        self.data = write_batches(self.folder / "data", train=train, test=8)
        begin = time.monotonic()
        self.whole = self.json("train", *RUN, *extra, "--data", self.data, "--out", "whole")
        self.seconds = time.monotonic() - begin
        self.want = tensors(self.folder / "whole/checkpoint.safetensors")[0]
        self.arguments = ["train", *RUN, *extra, "--data", self.data]

    def finish(self, run):
        value = self.json("train", "--resume", "--out", run)
        self.same_tensors(self.want, self.folder / run / "checkpoint.safetensors")
        self.assertEqual(value["test_accuracy"], self.whole["test_accuracy"])
        steps = [line["step"] for line in metrics(self.folder / run)]
        self.assertEqual(steps, sorted(set(steps)), "a step is reported once")
        self.assertEqual(steps[-1], metrics(self.folder / "whole")[-1]["step"])

    def wait_for_line(self, run, process):
        """Until the run has written its first metrics."""
        path = self.folder / run / "metrics.jsonl"
        while process.poll() is None and not (path.exists() and path.stat().st_size):
            time.sleep(0.005)

    def interrupt(self, number):
        status = None
        for attempt in range(5):
            run = f"run{attempt}"
            process = self.start_program(*self.arguments, "--out", run)
            self.wait_for_line(run, process)
            process.send_signal(number)
            out, err = process.communicate(timeout=300)
            status = process.returncode
            if status == 130:
                break
        self.assertEqual(status, 130, (out, err))
        self.assertIn(b"interrupted", out + err)
        self.assertIn(b"--resume", out + err)
        step = int(tensors(self.folder / run / "checkpoint.safetensors")[1]["step"])
        self.assertLess(step, metrics(self.folder / "whole")[-1]["step"])
        return run


class Interrupted(Stopped):
    def test_ctrl_c_and_resume(self):
        self.start(800)
        self.finish(self.interrupt(signal.SIGINT))

    def test_terminate_and_resume_with_average_and_accumulation(self):
        self.start(480, "--ema-decay", 0.99, "--accumulate", 4, "--clip-norm", 1)
        self.finish(self.interrupt(signal.SIGTERM))

    def test_twice(self):
        self.start(800)
        run = self.interrupt(signal.SIGINT)
        process = self.start_program("train", "--resume", "--out", run)
        time.sleep(self.seconds / 4)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=300)
        self.assertIn(process.returncode, (0, 130, -signal.SIGINT))
        self.finish(run)

    def test_before_the_first_step(self):
        data = write_batches(self.folder / "data")
        process = self.start_program("train", *TINY_RUN, "--data", data, "--out", "run", "--epochs", 1000)
        time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=300)
        self.assertIn(process.returncode, (130, -signal.SIGINT))


class Killed(Stopped):
    def test_at_random_moments(self):
        self.start(480, "--checkpoint-every", 1)
        draw = random.Random()
        kills = resumes = 0
        for attempt in range(3 if SANITIZED else 8):
            run = f"run{attempt}"
            process = self.start_program(*self.arguments, "--out", run, stdout=subprocess.DEVNULL,
                                         stderr=subprocess.DEVNULL)
            for _ in range(20):
                moment = draw.uniform(0, self.seconds)
                try:
                    process.wait(moment)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    kills += 1
                    self.check_whole(run)
                if process.returncode == 0:
                    break
                again = ["--resume", "--out", run] if self.saved(run) else [*self.arguments[1:], "--out", run]
                resumes += "--resume" in again
                process = self.start_program("train", *again, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            process.wait(300)
            self.assertEqual(process.returncode, 0, f"{run} after a kill at {moment:.3f} s")
            self.same_tensors(self.want, self.folder / run / "checkpoint.safetensors")
        self.assertGreater(kills, 0)
        print(f"{kills} kills, {resumes} resumes")

    def saved(self, run):
        return (self.folder / run / "checkpoint.safetensors").exists()

    def check_whole(self, run):
        if self.saved(run):
            found = tensors(self.folder / run / "checkpoint.safetensors")[0]
            for name, (_, shape, data) in self.want.items():
                self.assertEqual((len(found[name][2]), found[name][1]), (len(data), shape), name)


class Resume(Stopped):
    def test_finished_run(self):
        self.start(64)
        value = self.json("train", "--resume", "--out", "whole")
        self.assertEqual(value["test_accuracy"], self.whole["test_accuracy"])
        self.same_tensors(self.want, self.folder / "whole/checkpoint.safetensors")

    def test_refused(self):
        self.start(64)
        self.refused("train", "--resume", "--out", "nothing", "--data", self.data, saying="nothing")
        self.refused("train", "--resume", saying="--out")
        self.refused(*self.arguments, "--out", "whole", saying=["whole", "--resume", "--out"])
        self.refused("train", "--resume", "--out", "whole", "--batch", 8, saying=["batch", "16", "8"])
        self.refused("train", "--resume", "--out", "whole", "--seed", 1, saying=["seed", "0", "1"])
        self.refused("train", "--resume", "--out", "whole", "--limit", 32, saying=["images", "64", "32"])
        self.refused("train", "--resume", "--out", "whole", "--model", "speednet", saying=["tiny", "speednet"])
        self.refused("train", "--resume", "--out", "whole", "--ema-decay", 0.9, saying="ema")
        self.same_tensors(self.want, self.folder / "whole/checkpoint.safetensors")


if __name__ == "__main__":
    unittest.main()
