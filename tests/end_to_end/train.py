#!/usr/bin/python3
"""End to end: training writes its run folder, obeys file and flags, and repeats itself bit for bit."""
import json
import math
import os
import shutil
import unittest
import xml.etree.ElementTree

from common import TINY_RUN, Case, metrics, tensors, write_batches, write_image_folder


class RunFolder(Case):
    def test_contents_and_json(self):
        data = write_batches(self.folder / "data")
        result = self.json("train", *TINY_RUN, "--data", data, "--out", "run", "--dump-graph")
        fields = ("model parameters epochs seconds images_per_second cpu_over_wall train_loss test_accuracy "
                  "test_accuracy_tta checkpoint").split()
        self.assertLessEqual(set(fields), set(result))
        self.assertEqual((result["model"], result["epochs"]), ("tiny", 2))
        # 3 convolutions, 3 norms, and a head of 2048 x 4 for the four classes
        self.assertEqual(result["parameters"], 27 * 32 + 9 * 32 * 64 + 9 * 64 * 128 + 2 * (32 + 64 + 128) + 2048 * 4 + 4)
        self.assertGreater(result["test_accuracy"], 0.5)  # colours are easy
        self.assertTrue(0 <= result["test_accuracy_tta"] <= 1)
        self.assertTrue(0 < result["train_loss"] < math.log(4))
        self.assertGreater(result["images_per_second"], 0)
        run = self.folder / "run"
        self.assertEqual((self.folder / result["checkpoint"]).resolve(), (run / "checkpoint.safetensors").resolve())
        found, metadata = tensors(run / "checkpoint.safetensors")
        self.assertEqual(found["block1.conv.weight"][:2], ("F32", (32, 3, 3, 3)))
        self.assertEqual(found["head.weight"][:2], ("F32", (4, 2048)))
        self.assertEqual((metadata["model"], metadata["step"]), ("tiny", "20"))
        lines = metrics(run)
        self.assertEqual([line["epoch"] for line in lines if "test_accuracy" in line], [1, 2])
        self.assertEqual([line["step"] for line in lines], list(range(1, 21)))
        self.assertEqual(lines[-1]["test_accuracy"], result["test_accuracy"])
        config = (run / "config.toml").read_text()
        for line in ('model = ', 'epochs = 2', 'batch = 16', 'seed = 0'):
            self.assertIn(line, config)
        self.check_graph(run)
        self.check_curves(run)
        self.assertEqual(list(run.glob("*.part*")), [])

    def test_trace_of_a_step(self):
        data = write_batches(self.folder / "data")
        self.json("train", *TINY_RUN, "--data", data, "--out", "run", "--trace", "step.json")
        events = json.loads((self.folder / "step.json").read_text())["traceEvents"]
        self.assertTrue(any(event["name"].startswith("block2.conv conv2d ") for event in events))
        for before, after in zip(events, events[1:]):  # one after the other, each with a duration and a variant
            self.assertLessEqual(before["ts"] + before["dur"], after["ts"] + 1e-6)
        for event in events:
            self.assertGreaterEqual(event["dur"], 0)
            self.assertTrue(event["args"]["variant"])
        self.refused("train", *TINY_RUN, "--data", data, "--out", "other", "--epochs", 1, "--batch", 80, "--trace", "t.json",
                     saying=["--trace t.json", "steps"])

    def check_graph(self, run):
        dot = (run / "graph.dot").read_text()
        self.assertTrue(dot.startswith("digraph") and dot.rstrip().endswith("}"), dot[:80])
        self.assertIn("->", dot)
        text = (run / "graph.txt").read_text()
        self.assertIn("conv2d", text)
        self.assertIn("block2.conv", text)
        if shutil.which("dot"):
            self.assertEqual(os.spawnlp(os.P_WAIT, "dot", "dot", "-Tplain", "-o/dev/null", str(run / "graph.dot")), 0)

    def check_curves(self, run):
        if not shutil.which("gnuplot"):
            self.skipTest("no gnuplot: the curves are not checked")
        for name in ("loss", "accuracy"):
            picture = (run / f"{name}.png").read_bytes()
            self.assertEqual(picture[:8], b"\x89PNG\r\n\x1a\n")
            drawing = xml.etree.ElementTree.parse(run / f"{name}.svg").getroot()
            self.assertTrue(drawing.tag.endswith("svg"))
            self.assertGreater(len(list(drawing.iter("{http://www.w3.org/2000/svg}path"))), 5)

    def test_numbered_folder_and_names_with_quotes(self):
        data = write_batches(self.folder / "it's \"data\" \\ 100 %", train=32, test=8)
        for number in (1, 2):
            result = self.json("train", "--epochs", 1, "--batch", 16, "--data", data)
            self.assertEqual(result["checkpoint"], f"runs/tiny-{number}/checkpoint.safetensors")
        name = "a 'quoted' \"run\""
        self.json("train", "--epochs", 1, "--batch", 16, "--data", data, "--out", name)
        self.json("train", f"{name}/config.toml", "--out", "again")
        if shutil.which("gnuplot"):
            self.assertTrue((self.folder / name / "loss.svg").exists())

    def test_image_folder(self):
        folder = write_image_folder(self.folder / "pictures", train=20, size=(40, 24))
        result = self.json("train", "--epochs", 1, "--batch", 8, "--data", folder, "--out", "run")
        self.assertEqual(json.loads(tensors(self.folder / "run/checkpoint.safetensors")[1]["classes"]), ["green", "red"])
        self.assertEqual(result["epochs"], 1)


class Config(Case):
    def test_flags_override_the_file(self):
        data = write_batches(self.folder / "data", train=64)
        (self.folder / "run.toml").write_text(
            f'model = "tiny"\ndata = "{data}"\nepochs = 9\nbatch = 32\nseed = 5\nlr = 0.02\nflip = true\n')
        self.json("train", "run.toml", "--epochs", 1, "--seed", 6, "--lr", "1e-2", "--flip", "false", "--out", "run",
                  "--threads", 1)
        config = (self.folder / "run/config.toml").read_text().splitlines()
        for line in ("epochs = 1", "batch = 32", "seed = 6", "lr = 0.01", "flip = false", "threads = 1"):
            self.assertIn(line, config)

    def test_limit(self):
        data = write_batches(self.folder / "data")
        result = self.json("train", *TINY_RUN, "--data", data, "--limit", 50, "--out", "run")
        self.assertEqual(metrics(self.folder / "run")[-1]["step"], 2 * (50 // 16))
        self.assertEqual(result["epochs"], 2)

    def test_optimizer_tables(self):
        data = write_batches(self.folder / "data", train=64)
        (self.folder / "run.toml").write_text(f'''data = "{data}"
epochs = 1
batch = 16
ema_decay = 0.9
clip_norm = 1.0
accumulate = 2
[[optimizer]]
pattern = "conv"
method = "muon"
lr = 0.05
[[optimizer]]
pattern = "norm"
frozen = true
[[optimizer]]
pattern = ""
method = "adamw"
lr = 0.001
schedule = "cosine"
''')
        self.json("train", "run.toml", "--out", "a")
        found, metadata = tensors(self.folder / "a/checkpoint.safetensors")
        self.assertEqual(metadata["weights"], "ema")
        norm = found["block1.norm.weight"][2]
        self.assertEqual(norm, b"\0\0\x80\x3f" * 32)  # frozen at 1
        self.json("train", "a/config.toml", "--out", "b")  # the resolved file keeps the tables
        self.same_tensors(found, self.folder / "b/checkpoint.safetensors")
        self.json("eval", "--checkpoint", "a/checkpoint.safetensors", "--data", data)

    def test_weights_of_another_run(self):
        data = write_batches(self.folder / "data", train=64)
        self.json("train", *TINY_RUN, "--data", data, "--out", "a")
        result = self.ok("train", *TINY_RUN, "--data", data, "--out", "b", "--weights", "a/checkpoint.safetensors")
        self.assertIn("weights: ", result.out)
        self.assertNotIn("left at their start", result.out)


class Repeatable(Case):
    def test_resolved_config_and_threads(self):
        data = write_batches(self.folder / "data")
        for model, extra in (("tiny", ["--batch", 16]), ("speednet", ["--batch", 40, "--limit", 80])):
            first, second, third = (f"{model}-{i}" for i in range(3))
            a = self.json("train", "--model", model, "--data", data, *extra, "--epochs", 2, "--seed", 3, "--cutout", 4,
                          "--translate", 2, "--out", first)
            b = self.json("train", f"{first}/config.toml", "--out", second)
            self.json("train", f"{first}/config.toml", "--out", third, "--threads", 1)
            want = tensors(self.folder / first / "checkpoint.safetensors")[0]
            for other in (second, third):
                self.same_tensors(want, self.folder / other / "checkpoint.safetensors")
            self.assertEqual(a["train_loss"], b["train_loss"])
            self.assertEqual(a["test_accuracy"], b["test_accuracy"])

    def test_seeds_differ(self):
        data = write_batches(self.folder / "data", train=32)
        for seed in (1, 2):
            self.json("train", *TINY_RUN, "--data", data, "--seed", seed, "--out", f"run{seed}")
        one, two = (tensors(self.folder / f"run{seed}/checkpoint.safetensors")[0] for seed in (1, 2))
        self.assertNotEqual(one["head.weight"], two["head.weight"])


if __name__ == "__main__":
    unittest.main()
