#!/usr/bin/python3
"""End to end: every subcommand but train does what it says and prints the JSON fields of the program's contract."""
import json
import signal
import struct
import unittest
from pathlib import Path

from common import CLASSES, DEVICE, RECORD, TINY_RUN, Case, png, write_batches, write_image_folder

COMMANDS = [["info"], ["train"], ["eval"], ["predict"], ["data", "info"], ["data", "fetch"], ["data", "import"],
            ["data", "sample"], ["bench", "ops"], ["bench", "plan"], ["bench", "train"], ["simulate"], ["simulate", "compare"],
            ["simulate", "stability"], ["simulate", "patterns"], ["coupling", "show"], ["bench", "coupling"],
            ["study", "coupling"]]

NETWORKS = [["train"], ["eval"], ["predict"], ["bench", "ops"], ["bench", "plan"], ["bench", "train"], ["study", "coupling"]]


class Help(Case):
    def test_every_command(self):
        self.assertIn("train", self.ok("--help").out)
        self.assertRegex(self.ok("--version").out, r"^\d+\.\d+")
        for command in COMMANDS:
            result = self.ok(*command, "--help")
            self.assertEqual(result.err, "", command)
            for flag in ("--json", "--seed", "--device", "--threads"):
                self.assertIn(flag, result.out, command)
            for flag in ("--precision", "--variant"):  # of the commands that run networks
                if command in NETWORKS:
                    self.assertIn(flag, result.out, command)

    def test_bad_usage(self):
        for arguments, word in (([], "subcommand"), (["data"], "subcommand"), (["frobnicate"], "frobnicate"),
                                (["info", "--frobnicate"], "--frobnicate"), (["predict"], "required"),
                                (["info", "--threads", "two"], "--threads"), (["info", "--threads", "-1"], "threads"),
                                (["info", "--seed", "x"], "--seed"), (["info", "--device", "tpu"], "tpu"),
                                (["bench", "ops", "--batch", "0"], "--batch"),
                                (["bench", "train", "--steps", "-1"], "--steps: '-1' is no number above 0"),
                                (["bench", "train", "--batch", "5", "--images", "4"], "--images 4"),
                                (["train", "--profile-steps", "-1"], "--profile-steps: '-1' is no number from 0 up"),
                                (["bench", "ops", "--budget-s", "inf"], "--budget-s: 'inf'"),
                                (["bench", "plan", "--model", "vgg"], "vgg"),
                                (["data", "sample"], "required")):
            self.refused(*arguments, saying=word)


class Info(Case):
    def test_fields(self):
        value = self.json("info")
        self.assertLessEqual({"version", "device", "backends", "variants"}, set(value))
        self.assertIn("cpu", value["device"])
        self.assertTrue(value["backends"]["cpu"])
        self.assertIn("cpu:reference", value["variants"]["conv2d"])
        self.assertGreater(len(value["variants"]), 40)
        text = self.ok("info").out
        self.assertIn("oneDNN", text)
        self.assertIn("conv2d", text)

    def test_output_that_cannot_be_written(self):
        for arguments in (["info", "--json"], ["info"]):
            with open("/dev/full", "wb") as full:
                self.refused(*arguments, saying="standard output", stdout=full)


class Data(Case):
    def check_summary(self, value, train, test, classes):
        self.assertLessEqual({"images", "classes", "mean", "std"}, set(value))
        self.assertEqual(value["images"], {"train": train, "test": test})
        self.assertEqual([c["name"] for c in value["classes"]], classes)
        self.assertEqual(sum(c["train"] for c in value["classes"]), train)
        self.assertEqual((len(value["mean"]), len(value["std"])), (3, 3))

    def test_info_of_batches(self):
        data = write_batches(self.folder / "data")
        value = self.json("data", "info", "--data", data)
        self.check_summary(value, 160, 40, CLASSES)
        pixels = [0, 0, 0]
        for i in range(1, 6):
            raw = (data / f"data_batch_{i}.bin").read_bytes()
            for r in range(0, len(raw), RECORD):
                for c in range(3):
                    pixels[c] += sum(raw[r + 1 + 1024 * c:r + 1 + 1024 * (c + 1)])
        for c in range(3):
            self.assertAlmostEqual(value["mean"][c], pixels[c] / (160 * 1024 * 255), places=6)
        self.assertEqual(self.json("data", "info", env={"RANVIER_DATA": str(data)})["mean"], value["mean"])
        self.assertIn("red", self.ok("data", "info", "--data", data).out)

    def test_generated_when_there_is_nothing(self):
        result = self.ok("data", "info", "--json")
        value = json.loads(result.out)
        self.assertEqual(len(value["classes"]), 10)
        self.assertIn("generated", result.err)
        self.assertIn("fetching is off", result.err)

    def test_import_and_sample(self):
        folder = write_image_folder(self.folder / "pictures")
        value = self.json("data", "import", folder, "--out", "binary")
        self.check_summary(value, 12, 4, ["green", "red"])
        binary = self.json("data", "info", "--data", "binary")
        self.assertEqual((binary["mean"], binary["std"]), (value["mean"], value["std"]))
        self.assertEqual(binary["mean"], self.json("data", "info", "--data", folder)["mean"])
        self.assertEqual((self.folder / "binary/test_batch.bin").stat().st_size, 4 * RECORD)
        sample = self.json("data", "sample", "one.png", "--data", "binary", "--index", 3)
        self.assertEqual(sample["class"], "red")
        raw = (self.folder / "one.png").read_bytes()
        self.assertEqual(struct.unpack(">II", raw[16:24]), (32, 32))
        self.refused("data", "sample", "one.png", "--data", "binary", "--index", 4, saying=["--index 4", "0 to 3"])

    def test_import_into_the_cache_is_found(self):
        folder = write_image_folder(self.folder / "pictures")
        self.json("data", "import", folder)
        found = self.json("data", "info")
        self.assertEqual(found["images"], {"train": 12, "test": 4})

    def test_fetch_from(self):
        data = write_batches(self.folder / "cifar-10-batches-bin")
        value = self.json("data", "fetch", "--from", data)
        self.check_summary(value, 160, 40, CLASSES)
        self.refused("data", "fetch", "--from", "nowhere.tar.gz", saying="nowhere.tar.gz")
        (self.folder / "short.tar.gz").write_bytes(b"\x1f\x8b" + b"0" * 1000)
        self.refused("data", "fetch", "--from", "short.tar.gz", saying=["short.tar.gz", "170052171"])
        self.refused("data", "fetch", "--from", "http://127.0.0.1:1/cifar.tar.gz", saying="127.0.0.1:1")


class Trained(Case):
    def test_eval_and_predict(self):
        data = write_batches(self.folder / "data")
        trained = self.json("train", *TINY_RUN, "--data", data, "--out", "run")
        checkpoint = "run/checkpoint.safetensors"
        value = self.json("eval", "--checkpoint", checkpoint, "--data", data)
        self.assertEqual(value["test_accuracy"], trained["test_accuracy"])
        self.assertEqual(value["test_accuracy_tta"], trained["test_accuracy_tta"])
        self.assertEqual(sum(map(sum, value["confusion"])), 40)
        hits = sum(value["confusion"][c][c] for c in range(4))
        self.assertAlmostEqual(hits / 40, value["test_accuracy"])
        self.assertEqual(self.json("eval", "--checkpoint", checkpoint, "--data", data, "--split", "train")["images"], 160)
        self.assertNotIn("test_accuracy_tta", self.json("eval", "--checkpoint", checkpoint, "--data", data, "--no-tta"))
        self.predictions(checkpoint, data)
        other = write_image_folder(self.folder / "others")
        self.refused("eval", "--checkpoint", checkpoint, "--data", other, saying=["classes", "green red"])

    def predictions(self, checkpoint, data):
        pictures = []
        for size in ((32, 32), (1, 1), (640, 3), (301, 200)):
            name = f"{size[0]}x{size[1]}.png"
            (self.folder / name).write_bytes(png(*size, lambda x, y: (200, 100, 100)))
            pictures.append(name)
        value = self.json("predict", *pictures, "--checkpoint", checkpoint, "--top", 4)["predictions"]
        self.assertEqual([p["file"] for p in value], pictures)
        for prediction in value:
            probabilities = [c["probability"] for c in prediction["classes"]]
            self.assertEqual({c["name"] for c in prediction["classes"]}, set(CLASSES))
            self.assertEqual(probabilities, sorted(probabilities, reverse=True))
            self.assertAlmostEqual(sum(probabilities), 1, places=5)
        # one colour is one colour at every size, alone or among others
        for other in value[1:]:
            self.assertEqual(other["classes"], value[0]["classes"])
        alone = self.json("predict", pictures[2], "--checkpoint", checkpoint, "--top", 4)["predictions"]
        self.assertEqual(alone[0]["classes"], value[2]["classes"])
        self.assertIn("%", self.ok("predict", pictures[0], "--checkpoint", checkpoint).out)
        (self.folder / "text.png").write_text("no picture")
        self.refused("predict", pictures[0], "text.png", "--checkpoint", checkpoint, saying="text.png")
        self.refused("predict", "absent.png", "--checkpoint", checkpoint, saying="absent.png")
        self.refused("predict", pictures[0], "--checkpoint", checkpoint, "--top", 0, saying="--top 0")

    def test_a_picture_predicts_as_eval_does(self):
        data = write_batches(self.folder / "data", train=32, test=4)
        self.json("train", *TINY_RUN, "--data", data, "--out", "run")
        confusion = self.json("eval", "--checkpoint", "run/checkpoint.safetensors", "--data", data)["confusion"]
        for i in range(4):  # test image i is of class i
            self.json("data", "sample", f"{i}.png", "--data", data, "--index", i)
        value = self.json("predict", *(f"{i}.png" for i in range(4)), "--checkpoint", "run/checkpoint.safetensors")
        for i, prediction in enumerate(value["predictions"]):
            self.assertEqual(confusion[i][CLASSES.index(prediction["classes"][0]["name"])], 1)


class Bench(Case):
    FIELDS = {"name", "variant", "shape", "ms", "gflops", "gbs", "share_of_peak"}

    def test_ops(self):
        value = self.json("bench", "ops", "--model", "tiny", "--batch", 2, "--seconds", 0.001)
        for row in value["rows"]:
            self.assertLessEqual(self.FIELDS, set(row))
            self.assertGreater(row["ms"], 0)
        convolutions = {row["variant"] for row in value["rows"] if row["name"] == "conv2d"}
        self.assertLessEqual({"native", "reference"}, convolutions)
        self.assertEqual(value["not_measured"], [])
        for kept in (Path(__file__).resolve().parents[2] / "tools/bench/results").glob("gpu-*.json"):
            for row in json.loads(kept.read_text())["bench_ops"]["rows"]:  # one reader for all
                self.assertEqual(set(row), set(value["rows"][0]), kept.name)

    def test_ops_interrupted_keep_their_rows(self):
        process = self.start_program("bench", "ops", "--model", "tiny", "--batch", 2, "--seconds", 0.5, "--json")
        for line in process.stderr:
            if b"*" in line or b"native" in line:  # the first row is there
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
        self.assertEqual(process.returncode, 130, err)
        value = json.loads(out)
        self.assertTrue(value["rows"], err)
        self.assertTrue(value["not_measured"], err)
        self.assertIn(b"not measured, as interrupted", err)

    def test_plan(self):
        value = self.json("bench", "plan", "--repeats", 1)
        self.assertEqual(value["model"], "resnet18")
        self.assertGreater(value["rows"][0]["ms"], 0)

    def test_train(self):
        value = self.json("bench", "train", "--model", "tiny", "--batch", 8, "--steps", 2)
        self.assertEqual((value["fed_by"], value["captured"], value["images"]), ("host", False, 1000))
        self.assertGreater(value["images_per_second"], 0)
        self.assertGreater(value["ms_node_by_node"], 0)
        for row in value["rows"]:
            self.assertLessEqual(self.FIELDS, set(row))


class BenchOnADevice(Case):
    """`bench train` on a GPU, or in a build whose device is emulated: the step that `ranvier train` runs there."""

    def test_train(self):
        self.need_device()
        value = self.json("bench", "train", "--device", "cuda", "--model", "tiny", "--batch", 2, "--steps", 3, "--images", 10,
                          env=DEVICE)  # five batches: the timed steps and those that are profiled cross epochs
        self.assertEqual((value["fed_by"], value["captured"], value["images"]), ("device", True, 10))
        self.assertGreater(value["ms_per_step"], 0)
        self.assertGreater(value["ms_node_by_node"], 0)
        self.assertEqual({row["variant"] for row in value["rows"]} & {"cpu", "reference"}, set())
        for op in ("batch_window", "ring_write"):  # order and losses lie on the device
            self.assertTrue([row for row in value["rows"] if op in row["name"].split()], op)


if __name__ == "__main__":
    unittest.main()
