#!/usr/bin/python3
"""End to end: `ranvier pinn` solves, writes what it promises and says one clear line where it cannot."""
import json
import random
import struct
import unittest

from common import SANITIZED, Case

# exact dynamics: order-24 Taylor series with event location
RS2003_30MS = [3.127055304, 26.226024650]


class Solve(Case):
    def test_files_and_numbers(self):
        (self.folder / "exact.csv").write_text("spike_ms\n" + "\n".join(map(str, RS2003_30MS)) + "\n")
        result = self.json("pinn", "--neuron", "rs2003", "--current", "10", "--duration-ms", "30", "--out", "run",
                           "--reference", "exact.csv")
        self.assertEqual(result["spikes"], 2)
        for got, exact in zip(result["spike_times_ms"], RS2003_30MS):
            self.assertLess(abs(got - exact), 1e-4)
        self.assertLess(result["spike_error_ms"], 1e-4)
        self.assertLessEqual(result["residual_fresh_over_training"], 2)
        self.assertEqual(result["reached_ms"], 30)
        run = self.folder / "run"
        lines = (run / "solution.csv").read_text().splitlines()
        self.assertEqual(lines[0], "t_ms,v_mv,u,residual_v,residual_u")
        self.assertEqual(lines[1].split(",")[:3], ["0", "-65", "-13"])
        spikes = [float(line) for line in (run / "spikes.csv").read_text().splitlines()[1:]]
        self.assertEqual(spikes, result["spike_times_ms"])
        npy = (run / "solution.npy").read_bytes()
        self.assertEqual(npy[:8], b"\x93NUMPY\x01\x00")
        header = struct.unpack("<H", npy[8:10])[0]
        self.assertEqual((10 + header) % 64, 0)
        self.assertEqual(len(npy) - 10 - header, (len(lines) - 1) * 3 * 8)
        self.assertIn(f"'shape': ({len(lines) - 1},3,)", npy[10:10 + header].decode())
        model = (run / "model.safetensors").read_bytes()
        metadata = json.loads(model[8:8 + struct.unpack("<Q", model[:8])[0]])["__metadata__"]
        self.assertEqual(json.loads(metadata["architecture"])["widths"], [1, 16, 2])
        self.assertGreater(len((run / "loss.csv").read_text().splitlines()), 100)
        self.assertTrue((run / "voltage.png").exists() or "gnuplot" in (run / "plots.gnuplot").read_text())
        self.refused("pinn", "--out", "run", saying=["run holds a run already"])
        again = self.json("pinn", "eval", "--model", run / "model.safetensors", "--sample-ms", "5", "--out", "s.csv")
        self.assertEqual(again["spike_times_ms"], result["spike_times_ms"])
        self.assertEqual((self.folder / "s.csv").read_text().splitlines()[1], "0,-65,-13")
        self.refused("pinn", "eval", "--model", run / "model.safetensors", "--sample-ms", "1e-12", "--out", "e.csv",
                     saying=["--sample-ms 1e-12"], timeout=60)
        # another architecture, and a file cut short
        (self.folder / "other.safetensors").write_bytes(model.replace(b"[1,16,2]", b"[1,17,2]").replace(
            b"[1, 16, 2]", b"[1, 17, 2]"))
        self.refused("pinn", "eval", "--model", "other.safetensors", saying=["other.safetensors", "this architecture has"])
        (self.folder / "short.safetensors").write_bytes(model[:-100])
        self.refused("pinn", "eval", "--model", "short.safetensors", saying=["short.safetensors"])
        self.refused("pinn", "eval", "--model", "none.safetensors", saying=["none.safetensors"])

    def test_never_fires(self):
        result = self.run_program("pinn", "--neuron", "rs2007", "--current", "20", "--duration-ms", "30", "--out", "r")
        self.assertEqual(result.status, 0, result)
        self.assertIn("it never fires", result.out)

    def test_a_neuron_of_ones_own(self):
        (self.folder / "own.toml").write_text('preset = "rs2003"\ncurrent = "pulse:12@1..9"\nd = 6\nb = 0.25\n')
        own = self.json("pinn", "--neuron", "own.toml", "--duration-ms", "5", "--out", "own")
        flags = self.json("pinn", "--params", "b=0.25,d=6", "--neuron", "rs2003", "--current", "pulse:12@1..9",
                          "--duration-ms", "5", "--out", "flags")
        self.assertEqual(own["neuron"], "own")
        self.assertEqual(own["spikes"], 1)
        self.assertEqual(own["spike_times_ms"], flags["spike_times_ms"])
        self.assertLess(own["spike_error_ms"], 1e-4)
        # the same start as the integrators' flags have: u = b v
        exact = self.json("simulate", "--preset", "rs2003", "--params", "b=0.25,d=6", "--current", "pulse:12@1..9",
                          "--duration-ms", "5", "--solver", "reference")
        self.assertLess(abs(exact["spike_times_ms"][0] - own["spike_times_ms"][0]), 1e-4)

    @unittest.skipIf(SANITIZED, "skipped: minutes under a sanitizer, where tests/pinn_inverse.cpp trains the designs")
    def test_compare(self):
        result = self.json("pinn", "compare", "--neuron", "rs2003", "--duration-ms", "5", "--designs",
                           "windows,global,guided,integrators", "--effort", "0.0005")
        rows = {row["design"]: row for row in result["rows"]}
        self.assertEqual(list(rows), ["windows", "global", "guided", "Euler, 1 ms, on the grid", "RK4, 0.1 ms, on the grid",
                                      "RK4, 0.1 ms, located", "linear-implicit-adaptive"])
        self.assertEqual(rows["windows"]["spikes"], 1)
        self.assertLess(rows["RK4, 0.1 ms, located"]["spike_error_ms"], 1e-3)
        self.assertGreater(rows["Euler, 1 ms, on the grid"]["v_rmse_mv"], rows["windows"]["v_rmse_mv"])

    def test_a_design_writes_what_a_run_writes(self):
        result = self.json("pinn", "--neuron", "rs2003", "--duration-ms", "5", "--design", "guided", "--effort", "0.0005",
                           "--out", "g")
        self.assertEqual(result["design"], "guided")
        for name in ["solution.csv", "solution.npy", "spikes.csv", "loss.csv", "reference.csv", "error.csv", "summary.json"]:
            self.assertTrue((self.folder / "g" / name).exists(), name)
        self.refused("pinn", "eval", "--model", "g/model.safetensors", saying=["'ranvier.pinn.design' file"])

    def test_many(self):
        (self.folder / "sets.csv").write_text("d,v0\n8,-65\n6,-64\n")
        result = self.json("pinn", "many", "--neuron", "rs2003", "--sets", "sets.csv", "--duration-ms", "4", "--out", "m")
        self.assertEqual(result["neurons"], 2)
        self.assertEqual([row["spikes"] for row in result["rows"]], [1, 1])
        self.assertLess(abs(result["rows"][0]["spike_times_ms"][0] - RS2003_30MS[0]), 1e-4)
        self.assertTrue((self.folder / "m" / "model-2.safetensors").exists())
        self.assertEqual(len((self.folder / "m" / "spikes.csv").read_text().splitlines()), 3)
        self.assertEqual(json.loads((self.folder / "m" / "summary.json").read_text()), result)
        self.refused("pinn", "many", "--out", "m", saying=["m holds a run already"])

    def test_many_copies_with_the_flags_of_one(self):
        result = self.json("pinn", "many", "--neuron", "rs2003", "--count", "2", "--duration-ms", "2", "--a-mv", "30",
                           "--loss", "1e-9", "--window-ms", "1", "--hidden", "12", "--points", "64", "--iterations", "900")
        self.assertEqual([row["reached_ms"] for row in result["rows"]], [2, 2])
        self.assertEqual([row["seed"] for row in result["rows"]], [0, 1])
        # what fails is named, and what came before it kept
        result = self.run_program("pinn", "many", "--neuron", "rs2003", "--count", "4", "--duration-ms", "2", "--iterations",
                                  "3", "--out", "failed")
        self.assertEqual(result.status, 2)
        for word in ["4 of 4 neurons failed", "neuron 1 (rs2003)", "neuron 3 (rs2003)", "and 1 more"]:
            self.assertIn(word, result.err)
        self.assertTrue((self.folder / "failed" / "model-4.safetensors").exists())

    @unittest.skipIf(SANITIZED, "skipped: minutes under a sanitizer, where tests/pinn_inverse.cpp runs the search")
    def test_infer(self):
        self.ok("simulate", "--preset", "rs2007", "--solver", "reference", "--current", "step:100@20", "--duration-ms", "200",
                "--out", "truth")
        rows = [line.split(",") for line in (self.folder / "truth" / "trace.csv").read_text().splitlines()[1:]]
        draw = random.Random(1)
        (self.folder / "v.csv").write_text("t_ms,v_mv\n" + "".join(f"{t},{float(v) + draw.gauss(0, 1)}\n" for t, v, _ in rows))
        result = self.json("pinn", "infer", "--trace", "v.csv", "--current", "step:100@20", "--unknown", "c,d", "--params",
                           "c=-46,d=80")
        self.assertEqual(result["failure"], "")
        self.assertEqual(result["spikes"], 2)
        for estimate, (name, value) in zip(result["estimates"], [("c", -50), ("d", 100)], strict=True):
            self.assertEqual(estimate["name"], name)
            self.assertLess(abs(estimate["value"] - value), 3.3 * estimate["standard_error"])
            self.assertLess(estimate["standard_error"], 0.02 * abs(value))
        self.assertLess(abs(result["noise_mv"] - 1), 0.1)

    def test_pde(self):
        for problem, published in [("burgers", 1), ("allen-cahn", 3)]:
            result = self.json("pinn", "pde", "--problem", problem, "--points", "100", "--rounds", "2", "--iterations", "20")
            self.assertEqual(result["problem"], problem)
            self.assertLess(result["relative_l2"], 2)  # so short a training is no solution yet
            self.assertLess(result["loss"], 10)
            self.assertEqual(len(result["published_relative_l2"]), published)


class BadInput(Case):
    def test_one_line(self):
        for arguments, saying in [
            (["--neuron", "rs"], ["no neuron 'rs'", "rs2007"]),
            (["--neuron", "none.toml"], ["none.toml: cannot be read"]),
            (["many", "--neuron", "none.toml"], ["none.toml: cannot be read"]),
            (["--a-mv", "5"], ["a-mv"]),
            (["--params", "C=-1"], ["C = -1 must be positive"]),
            (["--params", "k=0"], ["k (q2) = 0"]),
            (["--params", "v_peak=-60"], ["v_peak = -60", "c = -50"]),
            (["--params", "z=1"], ["no parameter 'z'"]),
            (["--current", "step:1"], ["step:1"]),
            (["--duration-ms", "0"], ["--duration-ms 0"]),
            (["--duration-ms", "inf"], ["--duration-ms inf"]),
            (["many", "--duration-ms", "inf"], ["--duration-ms inf"]),
            (["--sample-ms", "0"], ["--sample-ms 0"]),
            (["--sample-ms", "inf"], ["--sample-ms inf"]),
            (["--sample-ms", "1e-9"], ["--sample-ms 1e-09", "1e+07 samples of 1000 ms"]),
            (["--loss", "nan"], ["loss of a window nan"]),
            (["--loss", "0"], ["loss of a window 0"]),
            (["--iterations", "0"], ["0 iterations"]),
            (["--budget-s", "nan"], ["budget nan s"]),
            (["--budget-s", "-1"], ["budget -1 s"]),
            (["many", "--loss", "-1"], ["loss of a window -1"]),
            (["--effort", "inf"], ["effort"]),
            (["--device", "cuda"], ["--device cuda", "`ranvier pinn` runs on the CPU alone", "`ranvier pinn many`"]),
            (["compare", "--device", "cuda"], ["`ranvier pinn compare` runs on the CPU alone"]),
            (["infer", "--trace", "none.csv", "--device", "cuda"], ["`ranvier pinn infer` runs on the CPU alone"]),
            (["pde", "--device", "cuda"], ["`ranvier pinn pde` runs on the CPU alone"]),
            (["eval", "--model", "none.safetensors", "--device", "cuda"], ["`ranvier pinn eval` runs on the CPU alone"]),
            (["many", "--sets", "."], [".: cannot be read"]),
            (["--reference", "none.csv"], ["none.csv"]),
            (["--design", "magic"], ["magic"]),
            (["--current", "nan"], ["nan"]),
            (["--held-out", "2"], ["held-out"]),
            (["--held-out", "0.1"], ["held-out", "windows is not fitted to data"]),
            (["many", "--count", "0"], ["--count", "not in range 1 to 1000000"]),
            (["infer", "--trace", "."], [".: cannot be read"]),
            (["infer", "--trace", "none.csv"], ["none.csv"]),
            (["infer", "--trace", "none.csv", "--unknown", "z"], ["none.csv"]),
            (["many", "--sets", "none.csv"], ["none.csv"]),
            (["many", "--params", "C=0"], ["C = 0 must be positive"]),
        ]:
            self.refused("pinn", *arguments, saying=saying)
        self.assertFalse((self.folder / "runs").exists())

    def test_neuron_files(self):
        for text, saying in [("", ["preset is missing"]), ('preset = "rs"', ["no neuron 'rs'"]),
                             ('preset = "rs2007"\nz = 1', ["unknown key 'z'"]), ("preset =", ["line 1"]),
                             ('preset = "rs2007"\nC = "x"', ["C is not a number"]),
                             ('preset = "rs2007"\nC = 0', ["C = 0 must be positive"]),
                             ('preset = "rs2007"\ncurrent = "step"', ["step"])]:
            (self.folder / "own.toml").write_text(text)
            self.refused("pinn", "--neuron", "own.toml", saying=saying)

    def test_parameter_sets(self):
        for text, saying in [("a,b\n1\n", ["sets.csv", "line 2 has 1 columns"]), ("a\n", ["no parameter sets"]),
                             ("z\n1\n", ["no parameter 'z'"]), ("a\nx\n", ["'x'"]),
                             ("a,d,a\n1,2,3\n", ["sets.csv: line 1 names 'a' twice"])]:
            (self.folder / "sets.csv").write_text(text)
            self.refused("pinn", "many", "--sets", "sets.csv", saying=saying)

    def test_traces(self):
        rows = [f"{i / 10},{-60}" for i in range(200)]
        rows[100] = "9.9,-60"
        (self.folder / "t.csv").write_text("t_ms,v_mv\n" + "\n".join(rows) + "\n")
        self.refused("pinn", "infer", "--trace", "t.csv", saying=["line 102", "does not follow 9.9 ms"])
        rows = [f"{i / 10 + (i >= 50)},{-60}" for i in range(200)]
        (self.folder / "t.csv").write_text("t_ms,v_mv\n" + "\n".join(rows) + "\n")
        self.refused("pinn", "infer", "--trace", "t.csv", saying=["t.csv", "gap of 1.1 ms after 4.9 ms"])
        for text, saying in [("a,b\n1,2\n", "t_ms"), ("", "is empty"), ("t_ms,v_mv\n", "no samples"),
                             ("t_ms,v_mv\n0,-60\n0.1,nan\n", "line 3: 'nan'")]:
            (self.folder / "t.csv").write_text(text)
            self.refused("pinn", "infer", "--trace", "t.csv", saying=["t.csv", saying])

    def test_a_place_that_cannot_be_written_is_said_before_the_work(self):
        (self.folder / "file").write_text("")
        for design in ("windows", "global"):
            result = self.run_program("pinn", "--design", design, "--out", "file/run")
            self.assertEqual(result.status, 2)
            self.assertIn("file/run: cannot be created", result.err)
            self.assertNotIn("no data, only the equations", result.err)  # the line with which the work begins
        self.refused("pinn", "many", "--out", "file/run", saying=["file/run: cannot be created"], timeout=30)

    def test_a_window_that_cannot_be_met_keeps_what_came_before(self):
        result = self.run_program("pinn", "--iterations", "60", "--duration-ms", "220", "--out", "run")
        self.assertEqual(result.status, 2)
        self.assertIn("cannot be met", result.err)
        self.assertTrue((self.folder / "run" / "model.safetensors").exists())
        # a run whose first window failed keeps that window's network
        result = self.run_program("pinn", "--neuron", "rs2003", "--iterations", "3", "--duration-ms", "5", "--out", "none")
        self.assertEqual(result.status, 2)
        result = self.ok("pinn", "eval", "--model", "none/model.safetensors")
        self.assertIn("the failed window's best network", result.out)


if __name__ == "__main__":
    unittest.main()
