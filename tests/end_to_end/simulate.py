#!/usr/bin/python3
"""End to end: `ranvier simulate` runs one neuron, compares solvers, sweeps steps, draws patterns, and refuses nonsense."""
import json
import shutil
import signal
import struct
import time
import unittest

from common import Case

EXACT = [200.022471, 347.809558, 495.664077, 643.518582, 791.373087, 939.227592]  # resets of RS 2007, 70 pA from 100 ms
SOLVERS = ["euler", "izhikevich", "backward-euler", "midpoint", "rk4", "ab2", "exponential", "linear-implicit",
           "linear-implicit-adaptive", "reference"]


def read_npy(path):
    """Rows of an (N, 3) f64 array in plain Python."""
    raw = path.read_bytes()
    assert raw[:8] == b"\x93NUMPY\x01\x00", raw[:8]
    (length,) = struct.unpack("<H", raw[8:10])
    assert (10 + length) % 64 == 0
    header = eval(raw[10:10 + length], {"__builtins__": {}})  # a literal dict by the format's definition
    assert header["descr"] == "<f8" and header["fortran_order"] is False, header
    rows = list(struct.iter_unpack("<3d", raw[10 + length:]))
    assert header["shape"] == (len(rows), 3), header
    return rows


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
        rows = read_npy(run / "trace.npy")
        self.assertEqual(len(rows), 10001)
        self.assertEqual(rows[0], (0.0, -60.0, 0.0))
        self.assertEqual(rows[-1], (1000.0, value["v_mv"], value["u"]))
        lines = (run / "trace.csv").read_text().splitlines()
        self.assertEqual(lines[0], "t_ms,v_mv,u")
        self.assertEqual([tuple(map(float, line.split(","))) for line in lines[1:]], rows)
        spikes = (run / "spikes.csv").read_text().splitlines()
        self.assertEqual(spikes[0], "neuron,time_ms")
        self.assertEqual([float(line.split(",")[1]) for line in spikes[1:]], value["spike_times_ms"])
        summary = json.loads((run / "summary.json").read_text())
        self.assertEqual(summary["mode"], "accurate")
        self.assertEqual(summary["spike_times_ms"], value["spike_times_ms"])
        if shutil.which("gnuplot"):
            for name in ("trace", "phase"):
                self.assertEqual((run / f"{name}.png").read_bytes()[:8], b"\x89PNG\r\n\x1a\n")
                self.assertIn("mode accurate", (run / f"{name}.svg").read_text())
        self.refused("simulate", "--preset", "rs2007", "--out", "run", saying=["run", "summary.json"])

    def test_interrupted(self):
        process = self.start_program("simulate", "--preset", "rs2007", "--duration-ms", 1e9, "--json")
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 130, err)
        self.assertIn("interrupted at t =", err.decode())
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
                (["--rtol", 0, "--atol", 0], ["tolerance"]), (["--rtol", -1], ["--rtol -1"]),
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


def table(path):
    """Heading and rows of a CSV of numbers."""
    lines = path.read_text().splitlines()
    return lines[0].split(","), [tuple(map(float, line.split(","))) for line in lines[1:]]


def array(path):
    """Shape and values of an NPY file in plain Python."""
    raw = path.read_bytes()
    assert raw[:8] == b"\x93NUMPY\x01\x00", raw[:8]
    (length,) = struct.unpack("<H", raw[8:10])
    assert (10 + length) % 64 == 0
    header = eval(raw[10:10 + length], {"__builtins__": {}})  # a literal dict by the format's definition
    kind = {"<f8": "d", "<i8": "q"}[header["descr"]]
    return header["shape"], [v for (v,) in struct.iter_unpack("<" + kind, raw[10 + length:])]


class Populations(Case):
    BASE = ("simulate", "--preset", "rs2003", "--seed", 3, "--current", "9;noise:sd=3")

    def test_contract_and_record(self):
        value = self.json(*self.BASE, "--n", 150, "--duration-ms", 200, "--out", "run", "--record", "2,148..149",
                          "--record-dt-ms", 0.5, "--record-means")
        self.assertLessEqual({"solver", "mode", "neurons", "steps", "spikes", "spike_times_ms", "v_mv", "u", "mean_rate_hz",
                              "seconds", "neuron_steps_per_second"}, set(value))
        run = self.folder / "run"
        self.assertEqual((value["neurons"], value["steps"]), (150, 2000))
        heading, spikes = table(run / "spikes.csv")
        self.assertEqual((heading, len(spikes)), (["neuron", "time_ms"], value["spikes"]))
        self.assertGreater(len(spikes), 300)
        self.assertEqual([t for i, t in spikes if i == 2], value["spike_times_ms"])
        heading, traces = table(run / "traces.csv")
        self.assertEqual(heading, ["t_ms", "v_mv:2", "u:2", "v_mv:148", "u:148", "v_mv:149", "u:149"])
        self.assertEqual([row[0] for row in traces], [0.5 * k for k in range(401)])
        self.assertEqual(traces[0][1:3], (-65, -13))
        shape, flat = array(run / "traces.npy")
        self.assertEqual((shape, flat), ((401, 7), [x for row in traces for x in row]))
        heading, rates = table(run / "rates.csv")
        self.assertEqual(heading, ["t_ms", "rate_hz", "v_mv", "u"])
        self.assertEqual(len(rates), 200)
        self.assertAlmostEqual(sum(row[1] for row in rates) / 1000 * 150, value["spikes"], delta=1e-6)
        shape, counts = array(run / "counts.npy")
        self.assertEqual((shape, sum(counts)), ((150,), value["spikes"]))
        self.assertEqual(counts[2], len(value["spike_times_ms"]))
        self.assertEqual([row[1] for row in table(run / "counts.csv")[1]], counts)
        # The same neuron alone under the same noise has these spikes.
        one = self.json("simulate", "--preset", "rs2003", "--current", "9", "--n", 1, "--duration-ms", 50)
        alone = self.json("simulate", "--preset", "rs2003", "--current", "9", "--duration-ms", 50)
        self.assertEqual(one["spike_times_ms"], alone["spike_times_ms"])
        self.assertEqual((one["v_mv"], one["u"]), (alone["v_mv"], alone["u"]))
        if shutil.which("gnuplot"):
            for name in ("raster", "traces"):
                self.assertEqual((run / f"{name}.png").read_bytes()[:8], b"\x89PNG\r\n\x1a\n")

    def test_hdf5_has_the_spikes(self):
        try:
            import h5py
        except ImportError:
            self.skipTest("skipped: no h5py")
        self.json(*self.BASE, "--n", 50, "--duration-ms", 100, "--out", "run", "--record-memory-mb", 0.001)
        rows = table(self.folder / "run/spikes.csv")[1]
        with h5py.File(self.folder / "run/spikes.h5") as file:
            group = file["spikes/rs2003"]
            self.assertEqual(list(zip(group["node_ids"][:].tolist(), group["timestamps"][:].tolist())), rows)

    def test_memory_is_bounded_and_changes_nothing(self):
        big = self.json(*self.BASE, "--n", 300, "--duration-ms", 100, "--out", "big", "--record", "0..9")
        small = self.json(*self.BASE, "--n", 300, "--duration-ms", 100, "--out", "small", "--record", "0..9",
                          "--record-memory-mb", 0.004)
        self.assertGreater(big["record_peak_memory_bytes"], 100000)
        self.assertLess(small["record_peak_memory_bytes"], 20000)
        for name in ("spikes.csv", "traces.csv", "traces.npy", "rates.csv", "rates.npy", "counts.npy"):
            self.assertEqual((self.folder / "big" / name).read_bytes(), (self.folder / "small" / name).read_bytes(), name)

    def test_a_full_disk_stops_cleanly(self):
        result = self.run_program(*self.BASE, "--n", 300, "--duration-ms", 1000, "--out", "run", "--record", "0..9",
                                  "--record-limit-mb", 0.5)
        self.assertEqual(result.status, 2, str(result))
        self.assertIn("it will not hold the whole run", result.out)
        self.assertIn("the record is full at t =", result.err)
        run = self.folder / "run"
        reached = json.loads((run / "summary.json").read_text())["duration_ms"]
        self.assertTrue(0 < reached < 1000, reached)
        traces = table(run / "traces.csv")[1]
        self.assertAlmostEqual(traces[-1][0], reached, delta=1e-9)
        self.assertLess(sum(f.stat().st_size for f in run.glob("*.csv")), 600000)
        whole = self.json(*self.BASE, "--n", 300, "--duration-ms", 1000)
        rest = self.json(*self.BASE, "--n", 300, "--duration-ms", 1000, "--resume", "run/population.state", "--out", "rest",
                         "--formats", "csv")
        self.assertEqual((rest["v_mv"], rest["spikes"]), (whole["v_mv"], whole["spikes"]))
        self.assertEqual(rest["recorded_from_ms"], reached)
        self.assertEqual(sorted(f.name for f in (self.folder / "rest").glob("*.*") if f.suffix in (".csv", ".npy", ".h5")),
                         ["counts.csv", "rates.csv", "spikes.csv"])

    def test_interrupted_goes_on_with_the_same_bits(self):
        arguments = (*self.BASE, "--n", 2000, "--dt-ms", 0.1, "--precision", "f32")
        process = self.start_program(*arguments, "--duration-ms", 1e6, "--out", "run", "--json")
        for _ in range(600):
            if list(self.folder.glob("run/spikes.csv*")):
                break
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 130, err)
        self.assertIn("--resume run/population.state", err.decode())
        first = json.loads(out)
        self.assertTrue(first["interrupted"])
        reached = first["duration_ms"]
        self.assertEqual(len(table(self.folder / "run/spikes.csv")[1]), first["spikes"])
        end = round(reached + 20, 1)
        rest = self.json(*arguments, "--duration-ms", end, "--resume", "run/population.state", "--out", "rest")
        whole = self.json(*arguments, "--duration-ms", end, "--out", "whole")
        self.assertEqual((rest["v_mv"], rest["u"], rest["spikes"]), (whole["v_mv"], whole["u"], whole["spikes"]))
        self.assertEqual((self.folder / "rest/population.state").read_bytes(),
                         (self.folder / "whole/population.state").read_bytes())
        both = table(self.folder / "run/spikes.csv")[1] + table(self.folder / "rest/spikes.csv")[1]
        self.assertEqual(both, table(self.folder / "whole/spikes.csv")[1])

    def test_currents_of_many(self):
        (self.folder / "each.csv").write_text("".join(f"{4 * i}\n" for i in range(5)))
        value = self.json("simulate", "--preset", "rs2003", "--n", 5, "--current", "each:each.csv", "--out", "run",
                          "--duration-ms", 500)
        counts = array(self.folder / "run/counts.npy")[1]
        for i in range(5):
            alone = self.json("simulate", "--preset", "rs2003", "--current", 4 * i, "--duration-ms", 500)
            self.assertEqual(counts[i], alone["spikes"])
        self.assertEqual(value["spikes"], sum(counts))
        (self.folder / "table.csv").write_text("0,10\n10,0\n")  # the other neuron after 100 ms
        self.json("simulate", "--preset", "rs2003", "--n", 2, "--current", "table:table.csv,dt=100", "--out", "two",
                  "--duration-ms", 200)
        rows = table(self.folder / "two/spikes.csv")[1]
        self.assertTrue(rows and all((t > 100) == (i == 0) for i, t in rows if not 100 < t < 110), rows)
        for current in ("ou:sd=4,tau=10,mean=6", "poisson:rate=800,weight=2", "5;sin:6@8", "5;sin:6@8,0.5", "4;noise:sd=6"):
            with self.subTest(current):
                once = self.json("simulate", "--preset", "rs2003", "--n", 20, "--current", current, "--duration-ms", 300)
                again = self.json("simulate", "--preset", "rs2003", "--n", 20, "--current", current, "--duration-ms", 300)
                self.assertGreater(once["spikes"], 20)
                self.assertEqual(once["spike_times_ms"], again["spike_times_ms"])

    def test_refused_by_name(self):
        for arguments, words in ((("--n", 0), ["--n 0"]), (("--n", 4000000000), ["larger than memory", "4000000000 x"]), (("--n", 3, "--record", "3", "--out", "x"), ["no neuron 3"]),
                                 (("--n", 3, "--record", "1,1", "--out", "x"), ["comes twice"]),
                                 (("--n", 3, "--record", "1"), ["no --out"]),
                                 (("--record", "1", "--out", "x"), ["--n 1"]),
                                 (("--n", 3, "--formats", "xls", "--out", "x"), ["xls"]),
                                 (("--n", 3, "--current", "ou:sd=1"), ["tau"]),
                                 (("--n", 3, "--current", "ou:sd=1,tau=3,x=1"), ["x=1"]),
                                 (("--current", "ou:sd=1,tau=3"), ["--n 1"]),
                                 (("--n", 3, "--current", "each:none.csv"), ["none.csv"]),
                                 (("--sweep", "a=1:2"), ["KEY=A:B:N"]), (("--sweep", "a=1:2:1"), ["2 to 1e6"]),
                                 (("--sweep", "speed=1:2:3"), ["speed"]), (("--sweep", "seed=0.5:2:3"), ["seed"]),
                                 (("--n", 3, "--resume", "none.state"), ["none.state"])):
            with self.subTest(arguments):
                self.refused("simulate", "--preset", "rs2003", *arguments, saying=words)


class Sweeps(Case):
    def test_current(self):
        value = self.json("simulate", "--preset", "rs2003", "--sweep", "current=0:20:11", "--out", "run")
        self.assertEqual([row["current"] for row in value["rows"]], [2 * i for i in range(11)])
        for i in (0, 3, 10):
            alone = self.json("simulate", "--preset", "rs2003", "--current", 2 * i)
            self.assertEqual(value["rows"][i]["spikes"], alone["spikes"])
        rates = [row["rate_hz"] for row in value["rows"]]
        self.assertEqual((rates[0], rates), (0, sorted(rates)))
        heading = (self.folder / "run/sweep.csv").read_text().splitlines()[0]
        self.assertEqual(heading, "current,neurons,spikes,rate_hz,rate_sd_hz,first_spike_ms,isi_mean_ms,isi_cv")
        if shutil.which("gnuplot"):
            self.assertEqual((self.folder / "run/sweep.png").read_bytes()[:8], b"\x89PNG\r\n\x1a\n")

    def test_parameters_steps_and_solvers(self):
        for key, low, high in (("d", 2, 8), ("b", 0.15, 0.25)):
            value = self.json("simulate", "--preset", "rs2003", "--current", 10, "--sweep", f"{key}={low}:{high}:3")
            for row in value["rows"]:
                alone = self.json("simulate", "--preset", "rs2003", "--current", 10, "--params", f"{key}={row[key]}")
                self.assertEqual(row["spikes"], alone["spikes"], row)
        value = self.json("simulate", "--preset", "rs2007", "--sweep", "k=0.5:0.9:3", "--solver", "reference")
        for row in value["rows"]:
            alone = self.json("simulate", "--preset", "rs2007", "--params", f"k={row['k']}", "--solver", "reference")
            self.assertEqual(row["spikes"], alone["spikes"], row)
        value = self.json("simulate", "--preset", "rs2003", "--n", 20, "--current", "6;noise:sd=4", "--sweep", "dt-ms=0.1:0.2:2")
        self.assertEqual([row["neurons"] for row in value["rows"]], [20, 20])
        self.assertTrue(all(row["spikes"] > 20 for row in value["rows"]), value)
        value = self.json("simulate", "--preset", "rs2003", "--n", 20, "--current", "6;noise:sd=4", "--sweep", "seed=0:2:3",
                          "--duration-ms", 300)
        self.assertEqual(len({row["spikes"] for row in value["rows"]}), 3)

    def test_networks(self):
        value = self.json("simulate", "--preset", "cortical1000", "--duration-ms", 200, "--sweep", "seed=1:3:3", "--out", "run")
        alone = self.json("simulate", "--preset", "cortical1000", "--duration-ms", 200, "--seed", 2)
        self.assertEqual(value["rows"][1]["spikes"], alone["spikes"])
        self.assertAlmostEqual(value["rows"][1]["exc"], alone["populations"][0]["mean_rate_hz"], delta=1e-9)
        weak = self.json("simulate", "--preset", "cortical1000", "--duration-ms", 200, "--sweep", "weight=0:1:2")["rows"]
        self.assertLess(weak[0]["exc"], weak[1]["exc"])


class Networks(Case):
    FILE = """
[network]
duration_ms = 200
[[population]]
name = "exc"
size = 40
current = "10"
[[projection]]
source = "exc"
target = "exc"
rule = "out_degree"
degree = 5
"""

    def test_file(self):
        (self.folder / "net.toml").write_text(self.FILE)
        value = self.json("simulate", "net.toml", "--out", "run", "--seed", 1)
        self.assertEqual((value["neurons"], value["steps"]), (40, 2000))
        self.assertGreater(value["spikes"], 100)
        self.assertGreater(value["synaptic_events"], 500)
        rows = (self.folder / "run/spikes.csv").read_text().splitlines()
        self.assertEqual((rows[0], len(rows)), ("population,neuron,time_ms", value["spikes"] + 1))
        rest = self.json("simulate", "net.toml", "--seed", 1, "--duration-ms", 300, "--resume", "run/network.state", "--out",
                         "rest", "--record", "exc:0..1")
        self.assertEqual(rest["recorded_from_ms"], 200)
        whole = self.json("simulate", "net.toml", "--seed", 1, "--duration-ms", 300, "--out", "whole", "--record", "exc:0..1")
        after = [row for row in (self.folder / "whole/spikes.csv").read_text().splitlines()[len(rows):]]
        self.assertEqual((self.folder / "rest/spikes.csv").read_text().splitlines()[1:], after)
        self.assertEqual((self.folder / "rest/network.state").read_bytes(), (self.folder / "whole/network.state").read_bytes())
        heading, traces = table(self.folder / "rest/traces.csv")
        self.assertEqual(heading, ["t_ms", "v_mv:exc:0", "u:exc:0", "v_mv:exc:1", "u:exc:1"])
        self.assertEqual(traces, table(self.folder / "whole/traces.csv")[1][2001:])
        self.assertEqual(whole["spikes"], rest["spikes"] if "spikes" in rest else None)

    def test_interrupted_goes_on_with_the_same_bits(self):
        arguments = ("simulate", "--preset", "cortical1000", "--seed", 4)
        process = self.start_program(*arguments, "--duration-ms", 1e7, "--out", "run", "--json")
        for _ in range(600):
            if list(self.folder.glob("run/spikes.csv*")):
                break
            time.sleep(0.05)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 130, err)
        self.assertIn("--resume run/network.state", err.decode())
        first = json.loads(out)
        end = first["duration_ms"] + 50
        rest = self.json(*arguments, "--duration-ms", end, "--resume", "run/network.state", "--out", "rest")
        whole = self.json(*arguments, "--duration-ms", end, "--out", "whole")
        self.assertEqual(rest["spikes"], whole["spikes"])
        self.assertEqual((self.folder / "rest/network.state").read_bytes(), (self.folder / "whole/network.state").read_bytes())
        lines = [(self.folder / name / "spikes.csv").read_text().splitlines()[1:] for name in ("run", "rest", "whole")]
        self.assertEqual(lines[0] + lines[1], lines[2])

    FIELD = """
[field]
kappa = 0.02
lambda_mm = 0.1
[[population]]
name = "cells"
size = 50
current = "9"
noise_sd = 1
field = { positions = "box 0.2 0.2 0", diameter_um = "uniform 15 25", g_ratio = 0.8 }
"""

    def test_field(self):
        (self.folder / "field.toml").write_text(self.FIELD)
        self.json("simulate", "field.toml", "--kappa", 0, "--duration-ms", 300, "--out", "off")
        self.json("simulate", "field.toml", "--duration-ms", 300, "--out", "on")
        spikes = [(self.folder / name / "spikes.csv").read_text() for name in ("on", "off")]
        self.assertNotEqual(spikes[0], spikes[1])
        value = self.json("simulate", "field", "--kappas", "0,0.02", "--seeds", 2, "--duration-ms", 700, "--out", "sweep")
        self.assertGreater(value["rows"][1]["synchrony"], 4 * value["rows"][0]["synchrony"])
        self.assertEqual(len((self.folder / "sweep/field.csv").read_text().splitlines()), 5)
        self.refused("simulate", "--preset", "cortical1000", "--kappa", 1, saying=["kappa = 1", "no field"])
        self.refused("simulate", "field", "--kappas", "0,x", saying="--kappas")
        for line, words in (("sigma = 0", ["sigma = 0"]), ("lambda_mm = -1", ["lambda = -1"]), ("speed = 3", ["field: unknown key 'speed'"]),
                            ("tau_rise_ms = 5", ["tau_rise = 5"])):
            with self.subTest(line):
                (self.folder / "bad.toml").write_text(self.FIELD.replace("lambda_mm = 0.1", line))
                self.refused("simulate", "bad.toml", saying=words)
        for old, new, words in (("0.8 }", "1.2 }", ["neuron 0", "g_ratio = 1.2"]), ("box 0.2 0.2 0", "box 1", ["positions", "box 1"]),
                                ("box 0.2 0.2 0", "grid 0", ["positions", "grid 0", "one place"]),
                                ('"uniform 15 25"', "0", ["diameter = 0"]), ('"box 0.2 0.2 0"', "[[0, 0, 0]]", ["1 places for 50"]),
                                ("g_ratio = 0.8", "gratio = 0.8", ["unknown key 'gratio'"])):
            with self.subTest(new):
                (self.folder / "bad.toml").write_text(self.FIELD.replace(old, new))
                self.refused("simulate", "bad.toml", saying=words)

    def test_population_in_a_field(self):
        arguments = ("simulate", "--preset", "rs2003", "--n", 30, "--current", 9, "--duration-ms", 300)
        places = 'positions = "box 0.2 0.2 0", lambda_mm = 0.1, kappa = '
        plain = self.json(*arguments)
        off = self.json(*arguments, "--field", places + "0", "--out", "off")
        self.assertEqual((off["neurons"], off["spikes"]), (30, plain["spikes"]))
        self.json(*arguments, "--field", places + "0.05", "--out", "on")
        self.json(*arguments, "--field", places + "0", "--kappa", 0.05, "--out", "again")
        spikes = [(self.folder / name / "spikes.csv").read_text() for name in ("off", "on", "again")]
        self.assertEqual(spikes[1], spikes[2])
        self.assertNotEqual(spikes[0], spikes[1])
        for field, words in (("kappa = 1", ["positions is missing"]), (places + "x", ["field 'positions"]),
                             (places + "1, speed = 2", ["unknown key 'speed'"])):
            with self.subTest(field):
                self.refused(*arguments, "--field", field, saying=words)
        self.refused("simulate", "--field", places + "1", saying="--n")
        self.refused("simulate", "--preset", "cortical1000", "--field", places + "1", saying="--field")

    def test_random_currents(self):
        current = 'current = "4;ou:sd=3,tau=5;poisson:rate=50,weight=3;sin:3@10"\nnoise_sd = 1'
        (self.folder / "net.toml").write_text(self.FILE.replace('current = "10"', current))
        run = lambda duration, *rest: self.json("simulate", "net.toml", "--seed", 1, "--duration-ms", duration, *rest)
        run(150.5, "--out", "part")
        run(300, "--resume", "part/network.state", "--out", "rest")
        whole = run(300, "--out", "whole", "--threads", 1)
        self.assertGreater(whole["spikes"], 50)
        self.assertEqual((self.folder / "rest/network.state").read_bytes(), (self.folder / "whole/network.state").read_bytes())
        (self.folder / "net.toml").write_text(self.FILE.replace('"10"', '"ou:sd=3,tau=0"'))
        self.refused("simulate", "net.toml", saying=["ou:sd=3,tau=0", "tau=MS"])

    def test_bad_file(self):
        for line, words in (("speed = 1", ["projection 1", "speed"]), ("delay_ms = 0.01", ["under one step"]),
                            ("tau_ms = 0", ["tau = 0"]), ("[[population]]\nname = 'b'\nsize = 2000000000\n"
                                           "each = {c = 'uniform -65 -60'}", ["larger than memory", "2000000000 x"]), ("short_term = { U = 2 }", ["U = 2"])):
            with self.subTest(line):
                (self.folder / "net.toml").write_text(self.FILE + line + "\n")
                self.refused("simulate", "net.toml", saying=words)
        self.refused("simulate", "none.toml", saying="none.toml")


if __name__ == "__main__":
    unittest.main()
