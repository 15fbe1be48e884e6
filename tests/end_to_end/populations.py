#!/usr/bin/python3
"""End to end: `ranvier simulate` runs populations, sweeps over them, networks and fields: files, bounds, resumed runs."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path

from common import PROGRAM, Case, array, environment


def table(path):
    """Heading and rows of a CSV of numbers."""
    lines = path.read_text().splitlines()
    return lines[0].split(","), [tuple(map(float, line.split(","))) for line in lines[1:]]


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

    def test_the_readmes_lines_of_python(self):
        try:
            import h5py  # noqa: F401
        except ImportError:
            self.skipTest("skipped: no h5py")
        text = (Path(__file__).resolve().parents[2] / "README.md").read_text()
        block = text.split("```python\n")[1].split("```")[0]
        self.assertIn("spikes.h5", block)
        (self.folder / "ranvier").symlink_to(Path(PROGRAM).resolve())
        ran = subprocess.run([sys.executable, "-c", block], cwd=self.folder, capture_output=True, timeout=300,
                             env=environment(self.folder) | {"PATH": f"{self.folder}:{os.environ['PATH']}"}, check=False)
        self.assertEqual(ran.returncode, 0, ran.stderr.decode())
        count = json.loads((self.folder / "run/summary.json").read_text())["populations"][0]["spikes"]
        self.assertRegex(ran.stdout.decode(), rf"{count} spikes, the first at [0-9.]+ ms")
        with h5py.File(self.folder / "run/spikes.h5") as file:
            self.assertEqual(dict(file["spikes"].attrs), {"mode": b"published:2003", "solver": b"none", "dt_ms": b"1"})

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
        self.assertEqual(heading, "current,mode,solver,dt_ms,duration_ms,neurons,spikes,rate_hz,rate_sd_hz,first_spike_ms,"
                                  "isi_mean_ms,isi_cv")
        self.assertEqual((value["mode"], value["solver"], value["rows"][0]["duration_ms"]), ("accurate", "rk4", 1000))
        if shutil.which("gnuplot"):
            self.assertIn("mode accurate, solver rk4", (self.folder / "run/sweep.svg").read_text())
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
        self.assertEqual((weak[0]["mode"], weak[0]["solver"]), ("published:2003", None))


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
        self.refused("simulate", "/", saying="is no file")

    def test_keys_without_effect(self):
        for line, words in (("p = 0.1", ["p has no effect", "out_degree"]), ("sigma_mm = 1", ["sigma_mm", "out_degree"]),
                            ("width_mm = 1", ["width_mm", "distance"]), ("edges = 'x'", ["edges", "sonata"]),
                            ("csv = 'x.csv'", ["rule has no effect", "x.csv"]), ("csv = 'x'\nsonata = 'y'", ["csv", "sonata"]),
                            ("synapse = 'pulse'\ntau_ms = 3", ["tau_ms", "pulse"]), ("tau_rise_ms = 3", ["tau_rise_ms", "exponential"]),
                            ("reversal_mv = 3", ["reversal_mv", "exponential"]), ("[[population]]\nname = 'b'\nnoise_dt_ms = 1", ["noise_dt_ms", "noise_sd"]),
                            ("stdp = { high = 0.5 }", ["begins with weight 1", "0.5"])):
            with self.subTest(line):
                (self.folder / "net.toml").write_text(self.FILE + line + "\n")
                self.refused("simulate", "net.toml", saying=words)
        for old, new, words in (("degree = 5", "", ["degree is missing"]), ('rule = "out_degree"\ndegree = 5', 'rule = "probability"', ["p is missing"]),
                                ("duration_ms = 200", "kick_ms = 2", ["kick_ms", "kick"]), ("duration_ms = 200", "seed = -1", ["seed = -1"]),
                                ("duration_ms = 200", "mode = 'published:2003'\nsolver = 'rk4'", ["solver has no effect", "published:2003"]),
                                ('name = "exc"', 'name = "a,b"', ["'a,b'", "letters"])):
            with self.subTest(new):
                (self.folder / "net.toml").write_text(self.FILE.replace(old, new).replace('"exc"', '"a,b"' if "a,b" in new else '"exc"'))
                self.refused("simulate", "net.toml", "--out", "out", saying=words)
                self.assertEqual(list(self.folder.glob("out/*")), [])

    def test_lists(self):
        text = self.FILE.replace('rule = "out_degree"\ndegree = 5', 'csv = "list.csv"')
        (self.folder / "net.toml").write_text(text)
        (self.folder / "list.csv").write_text("source,target,weight\n0,1,2\n3,4,1\n\n")
        self.json("simulate", "net.toml")
        (self.folder / "list.csv").write_text("source,target\n")
        self.assertEqual(self.json("simulate", "net.toml")["synaptic_events"], 0)
        (self.folder / "list.csv").write_text("source,target,weight\n0,1,2\n")
        (self.folder / "net.toml").write_text(text + "weight = 3\n")
        self.refused("simulate", "net.toml", saying=["column weight", "no effect"])

    def test_keys_are_printed(self):
        text = self.ok("simulate", "--keys").out
        for key in ("noise_dt_ms", "cutoff_mm", "tau_facilitation_ms", "g_ratio"):
            self.assertIn(f"| `{key}` |", text)


if __name__ == "__main__":
    unittest.main()
