#!/usr/bin/python3
"""End to end: `ranvier simulate` runs one neuron, compares solvers, sweeps steps, draws patterns, and refuses nonsense."""
import json
import shutil
import signal
import time
import unittest

from common import Case, array

EXACT = [200.022471, 347.809558, 495.664077, 643.518582, 791.373087, 939.227592]  # resets of RS 2007, 70 pA from 100 ms
SOLVERS = ["euler", "izhikevich", "backward-euler", "midpoint", "rk4", "ab2", "exponential", "linear-implicit",
           "linear-implicit-adaptive", "reference"]


class Single(Case):
    def test_contract(self):
        value = self.json("simulate", "--preset", "rs2007")
        self.assertLessEqual({"solver", "mode", "neurons", "steps", "spikes", "spike_times_ms", "v_mv", "u", "mean_rate_hz",
                              "seconds", "neuron_steps_per_second"}, set(value))
        self.assertEqual((value["solver"], value["mode"], value["neurons"]), ("rk4", "accurate", 1))
        self.assertEqual((value["steps"], value["spikes"]), (10000, 6))
        self.assertAlmostEqual(value["mean_rate_hz"], 6)
        for got, want in zip(value["spike_times_ms"], EXACT, strict=True):
            self.assertAlmostEqual(got, want, delta=1e-5)
        self.assertAlmostEqual(value["v_mv"], -53.681785447, delta=1e-5)

    def test_every_solver_and_mode_says_itself(self):
        for solver in SOLVERS:
            value = self.json("simulate", "--preset", "rs2007", "--solver", solver)
            self.assertEqual((value["solver"], value["mode"], value["spikes"]), (solver, "accurate", 6))
            text = self.ok("simulate", "--preset", "rs2007", "--solver", solver).out
            self.assertIn("mode accurate", text)
            self.assertIn(f"solver {solver}", text)
        for mode in ("published", "published:2003", "published:2004"):
            value = self.json("simulate", "--preset", "rs2003", "--mode", mode, "--dt-ms", 0.5)
            self.assertEqual(value["mode"], mode)
            self.assertIn(f"mode {mode}", self.ok("simulate", "--preset", "rs2003", "--mode", mode).out)
            self.assertEqual(value["solver"], "rk4" if mode == "published" else None)
        exact = self.json("simulate", "--preset", "rs2007", "--solver", "reference")
        for got, want in zip(exact["spike_times_ms"], EXACT, strict=True):
            self.assertAlmostEqual(got, want, delta=1e-6)

    def test_textbook_euler(self):
        for duration, v, u in ((250, -54.4819, 6.2834), (500, -50.6154, 59.0910), (750, -49.5530, -12.4763),
                               (1000, -53.6973, 1.5649)):
            value = self.json("simulate", "--preset", "rs2007", "--solver", "euler", "--mode", "published", "--dt-ms", 1,
                              "--current", "step:70@100", "--duration-ms", duration)
            self.assertAlmostEqual(value["v_mv"], v, delta=5e-5)
            self.assertAlmostEqual(value["u"], u, delta=5e-5)

    def test_options_reach_the_neuron(self):
        base = self.json("simulate", "--preset", "rs2003")
        self.assertEqual(base["spikes"], 23)
        self.assertAlmostEqual(base["spike_times_ms"][0], 3.127055, delta=1e-4)
        self.assertEqual(self.json("simulate", "--form", "2003")["spike_times_ms"], base["spike_times_ms"])
        typed = self.json("simulate", "--form", "2003", "--params", "a=0.02,b=0.2,c=-65,d=8", "--current", "10")
        self.assertEqual(typed["spike_times_ms"], base["spike_times_ms"])
        self.assertEqual(self.json("simulate", "--preset", "rs2003", "--params", "c=-50,d=2", "--solver",
                                   "reference")["spikes"], 87)
        self.assertEqual(self.json("simulate", "--preset", "rs2003", "--current", "-5")["spikes"], 0)
        late = self.json("simulate", "--preset", "rs2007", "--current", "step:70@101", "--solver", "reference")
        for got, want in zip(late["spike_times_ms"], EXACT, strict=True):
            self.assertAlmostEqual(got, want + 1, delta=1e-6)
        narrow = self.json("simulate", "--preset", "rs2003", "--precision", "f32")
        self.assertEqual((narrow["precision"], narrow["spikes"]), ("f32", 23))
        zero = self.json("simulate", "--preset", "rs2007", "--spike-event", "0mV", "--solver", "reference")
        self.assertEqual(zero["spikes"], 6)
        for crossing, peak in zip(zero["spike_times_ms"], EXACT, strict=True):
            self.assertAlmostEqual(peak - crossing, 1.15, delta=0.02)

    def test_noise_is_the_seeds(self):
        run = ["simulate", "--preset", "rs2007", "--current", "60;noise:sd=30"]
        first = self.json(*run, "--seed", 1)["spike_times_ms"]
        self.assertEqual(self.json(*run, "--seed", 1, "--threads", 2)["spike_times_ms"], first)
        self.assertNotEqual(self.json(*run, "--seed", 2)["spike_times_ms"], first)

    def test_current_from_a_file(self):
        (self.folder / "current.csv").write_text("t_ms,current\n100,70\n")
        value = self.json("simulate", "--preset", "rs2007", "--current", "current.csv", "--solver", "reference")
        self.assertAlmostEqual(value["spike_times_ms"][-1], EXACT[-1], delta=1e-6)

    def test_files(self):
        value = self.json("simulate", "--preset", "rs2007", "--out", "run")
        run = self.folder / "run"
        shape, flat = array(run / "trace.npy")
        rows = list(zip(*[iter(flat)] * 3))
        self.assertEqual(shape, (len(rows), 3))
        self.assertEqual(len(rows), 10001)
        self.assertEqual(rows[0], (0.0, -60.0, 0.0))
        self.assertEqual(rows[-1], (1000.0, value["v_mv"], value["u"]))
        lines = (run / "trace.csv").read_text().splitlines()
        self.assertEqual(lines[0], "t_ms,v_mv,u")
        self.assertEqual([tuple(map(float, line.split(","))) for line in lines[1:]], rows)
        spikes = (run / "spikes.csv").read_text().splitlines()
        self.assertEqual(spikes[0], "neuron,time_ms")
        self.assertEqual([float(line.split(",")[1]) for line in spikes[1:]], value["spike_times_ms"])
        self.assertEqual((run / "spikes.h5").read_bytes()[:4], b"\x89HDF")
        summary = json.loads((run / "summary.json").read_text())
        self.assertEqual(summary["mode"], "accurate")
        self.assertEqual(summary["spike_times_ms"], value["spike_times_ms"])
        if shutil.which("gnuplot"):
            for name in ("trace", "phase"):
                self.assertEqual((run / f"{name}.png").read_bytes()[:8], b"\x89PNG\r\n\x1a\n")
                self.assertIn("mode accurate", (run / f"{name}.svg").read_text())
        self.json("simulate", "--preset", "rs2003", "--mode", "published:2004", "--out", "printed")
        if shutil.which("gnuplot"):
            drawing = (self.folder / "printed/trace.svg").read_text()
            self.assertIn("mode published:2004", drawing)
            self.assertNotIn("rk4", drawing)
        self.refused("simulate", "--preset", "rs2007", "--out", "run", saying=["run", "summary.json"])

    def test_interrupted(self):
        process = self.start_program("simulate", "--preset", "rs2007", "--duration-ms", 1e9, "--json")
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 130, err)
        self.assertIn("interrupted at t =", err.decode())
        self.assertIn("--n 1", err.decode())
        value = json.loads(out)
        self.assertTrue(value["interrupted"])
        self.assertGreater(value["spikes"], 100)
        self.assertLess(value["duration_ms"], 1e9)


class Compare(Case):
    def test_rows(self):
        value = self.json("simulate", "compare", "--preset", "rs2007", "--out", "out")
        rows = {(row["solver"], row["dt_ms"]): row for row in value["rows"]}
        self.assertEqual({solver for solver, _ in rows}, set(SOLVERS))
        self.assertLessEqual(rows["rk4", 0.1]["v_rmse_mv"], 1e-5)
        self.assertLessEqual(rows["reference", 0.1]["v_rmse_mv"], 1e-9)
        for row in value["rows"]:
            self.assertEqual((row["mode"], row["spikes"], row["matched"]), ("accurate", 6, 6), row)
            for key in ("v_rmse_mv", "v_mae_mv", "v_max_mv", "v_rmse_over_range", "v_dtw_mv", "u_rmse", "u_max",
                        "spike_error_mean_ms", "spike_error_max_ms", "isi_mean_ms", "steps", "rejections", "evaluations",
                        "seconds"):
                self.assertGreaterEqual(row[key], 0, (row["solver"], key))
            self.assertLessEqual(row["v_mae_mv"], row["v_rmse_mv"])
            self.assertLessEqual(row["v_rmse_mv"], row["v_max_mv"])
        for solver, order in (("euler", 1), ("midpoint", 2), ("rk4", 4)):
            ratio = rows[solver, 0.1]["spike_error_max_ms"] / rows[solver, 0.01]["spike_error_max_ms"]
            self.assertGreater(ratio, 10**(order - 0.15))
        for name in ("compare", "error"):
            self.assertTrue((self.folder / f"out/{name}.gnuplot").exists())
            if shutil.which("gnuplot"):
                self.assertEqual((self.folder / f"out/{name}.png").read_bytes()[:4], b"\x89PNG")
        self.assertEqual(json.loads((self.folder / "out/compare.json").read_text())["rows"][0]["solver"], "euler")

    def test_published_and_table(self):
        value = self.json("simulate", "compare", "--preset", "rs2007", "--mode", "published", "--solvers", "rk4,euler",
                          "--steps", "0.1,10")
        rows = {(row["solver"], row["dt_ms"]): row for row in value["rows"]}
        self.assertGreater(rows["rk4", 0.1]["v_rmse_mv"], 1)
        self.assertIn("left the range of numbers", rows["rk4", 10]["failure"])
        text = self.ok("simulate", "compare", "--solvers", "rk4", "--steps", "0.1").out
        self.assertIn("mode accurate", text)
        self.assertRegex(text, r"rk4 +0\.1 \| +7\.5e-06")

    def test_stability(self):
        value = self.json("simulate", "stability", "--preset", "rs2007", "--out", "out")
        rows = {(row["solver"], row["dt_ms"]): row for row in value["rows"]}
        self.assertEqual(sorted({dt for _, dt in rows})[::9], [0.01, 10])
        self.assertEqual(rows["backward-euler", 0.1]["shorter_pieces"], 0)
        self.assertGreater(rows["backward-euler", 1]["shorter_pieces"], 0)
        self.assertEqual(rows["backward-euler", 1]["spikes"], 6)
        lines = (self.folder / "out/stability.csv").read_text().splitlines()
        self.assertEqual(len(lines), 1 + len(value["rows"]))
        self.assertEqual({line.count(",") for line in lines}, {10})
        grid = self.json("simulate", "stability", "--mode", "published")
        self.assertIn("failure", {(row["solver"], row["dt_ms"]): row for row in grid["rows"]}["rk4", 10])


class Patterns(Case):
    FIGURE = [5, 1, 28, 6, 6, 6, 10, 14, 1, 1, 1, 1, 1, 7, 1, 5, 1, 1, 3, 12]
    EXACT = [5, 1, 29, 8, 7, 6, 10, 18, 1, 1, 1, 1, 1, 14, 1, 7, 8, 1, 4]

    def test_counts(self):
        for extra in ([], ["--solver", "rk4", "--out", "out"]):
            rows = self.json("simulate", "patterns", *extra)["rows"]
            self.assertEqual([row["published:2004"]["spikes"] for row in rows], self.FIGURE)
            self.assertEqual([row["accurate"]["spikes"] for row in rows[:19]], self.EXACT)
            self.assertEqual([row["accurate"]["runaway"] for row in rows], 19 * [False] + [True])
            self.assertAlmostEqual(rows[19]["accurate"]["spike_times_ms"][199], 145, delta=0.5)
        if shutil.which("gnuplot"):
            self.assertEqual((self.folder / "out/patterns.png").read_bytes()[:4], b"\x89PNG")
            drawing = (self.folder / "out/patterns.svg").read_text()
            self.assertIn("published:2004", drawing)
            self.assertIn("12 / runaway", drawing)

    def test_table(self):
        text = self.ok("simulate", "patterns").out
        self.assertRegex(text, r"C tonic bursting +\| +28 +25\.00 +204\.50 +\| +29 +24\.49 +187\.91")
        self.assertRegex(text, r"T inhibition-induced bursting.*runaway: 200 spikes by 145\.\d ms")

    def test_t_is_an_error_of_simulate(self):
        self.refused("simulate", "--preset", "pattern:t", "--dt-ms", 0.05, saying=["pattern:t", "runs away", "8 spikes"])
        self.assertEqual(self.json("simulate", "--preset", "pattern:t", "--mode", "published:2004")["spikes"], 12)


class BadNeuron(Case):
    def test_refused_by_name(self):
        for arguments, words in (
                (["--dt-ms", 0], ["dt = 0"]), (["--dt-ms", -1], ["dt = -1"]), (["--dt-ms", "nan"], ["nan"]),
                (["--duration-ms", 0], ["duration = 0"]), (["--duration-ms", "inf"], ["inf"]),
                (["--duration-ms", 1e15], ["1e12 steps"]), (["--dt-ms", "x"], ["--dt-ms"]),
                (["--params", "C=0"], ["C = 0"]), (["--params", "k=-1"], ["k", "-1"]), (["--params", "k=0"], ["k", "0"]),
                (["--params", "a=nan"], ["a", "nan"]), (["--params", "v_peak=-50"], ["v_peak = -50", "c = -50"]),
                (["--params", "frobnicate=1"], ["frobnicate"]), (["--params", "a"], ["KEY=VALUE"]),
                (["--params", "v0=100"], ["v0 = 100"]), (["--params", "q2=1"], ["q2", "2007"]),
                (["--preset", "xx2007"], ["xx2007", "rs2007"]), (["--preset", "rs2003", "--form", "2007"], ["--form 2007"]),
                (["--form", "1952"], ["1952"]), (["--solver", "rk5"], ["rk5", "midpoint"]),
                (["--mode", "exact"], ["exact", "published:2004"]), (["--precision", "f16"], ["f16"]),
                (["--spike-event", "5mV"], ["5mV"]), (["--current", "step:70"], ["step:70", "@TIME"]),
                (["--current", "pulse:9@12..10"], ["pulse:9@12..10"]), (["--current", "absent.csv"], ["absent.csv"]),
                (["--current", ""], ["current"]), (["--current", "noise:sd=x"], ["'x'"]),
                (["--mode", "published:2004"], ["2003", "C = 100"]),
                (["--solver", "reference", "--precision", "f32"], ["f64"]),
                (["--solver", "reference", "--mode", "published"], ["reference", "published"]),
                (["--rtol", 0, "--atol", 0, "--solver", "linear-implicit-adaptive"], ["tolerance"]),
                (["--rtol", -1, "--solver", "linear-implicit-adaptive"], ["--rtol -1"]), (["--seed", -1], ["--seed"]),
                (["--params", "v_peak=1e308"], ["v_peak = 1e+308"]),
                (["--mode", "published", "--dt-ms", 10], ["rs2007", "left the range"]),
                (["--device", "tpu"], ["tpu"]), (["--frobnicate"], ["--frobnicate"]),
                (["--out", "x", "--dt-ms", 1e-6], ["trace", "GB"])):
            with self.subTest(arguments):
                self.refused("simulate", *arguments, saying=words)
        self.refused("simulate", "compare", "--steps", "0.1,0", saying=["--steps", "0"])
        self.refused("simulate", "compare", "--steps", "0.1,x", saying=["--steps", "'x'"])
        self.refused("simulate", "compare", "--mode", "published:2003", saying=["published:2003"])
        self.refused("simulate", "stability", "--steps", "", saying="--steps")
        self.refused("simulate", "patterns", "--dt-ms", -1, saying="--dt-ms -1")
        self.refused("simulate", "patterns", "--precision", "f32", saying="--precision")
        self.refused("simulate", "frobnicate", saying="frobnicate")

    def test_places(self):
        (self.folder / "file").write_text("in the way")
        self.refused("simulate", "--out", "file", saying="file")
        self.refused("simulate", "patterns", "--out", "file/out", saying="file/out")


if __name__ == "__main__":
    unittest.main()
