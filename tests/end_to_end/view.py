"""The viewer end to end: the real page in headless Chromium, and the server's manners as a stranger meets them."""
import csv
import json
import math
import os
import re
import signal
import socket
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from browser import Page, Viewer
from common import RECORD, SANITIZED, write_batches


class NeuronControls(Page):
    def test_sliders(self):
        self.open()
        table = self.js("return Ranvier.link.controls")
        for form in ("2007", "2003"):
            self.choose("neuron.preset", "rs" + form)
            for name in [n for n in table if n.startswith(f"neuron.{form}.")]:
                self.slide_to_ends(table, name)
                self.command(name, table[name]["initial"])
        self.slide_to_ends(table, *["neuron." + name for name in ("speed", "window", "myelin", "dt.0", "dt.1", "until")])
        self.no_errors()

    def test_presets_protocols_and_solvers(self):
        self.open()
        table = self.js("return Ranvier.link.controls")
        self.choose("neuron.preset", *table["neuron.preset"]["choices"], "rs2007")
        self.drive(*[("click", "preset-" + name) for name in ("rs", "ib", "ch", "fs", "lts", "tc", "rz")])
        self.assertEqual(self.value("neuron.preset"), "rz2003")
        self.choose("neuron.preset", "rs2007")
        inputs = {"constant": [], "step": ["onset"], "pulse": ["onset", "width", "period"], "ramp": ["onset", "width"],
                  "noise": ["noise"], "preset": []}
        self.assertEqual(list(inputs), table["neuron.protocol"]["choices"])
        for protocol, names in inputs.items():
            self.choose("neuron.protocol", protocol)
            self.slide_to_ends(table, *["neuron." + name for name in names], order=((1, "high"), (0, "low")))
        for lane in "01":
            self.choose("neuron.solver." + lane, *table["neuron.solver." + lane]["choices"])
        self.drive(("set", "neuron.speed", 1))
        self.wait("one solver alone", "return Ranvier.neuron.frame().parts.length === 1")
        self.assertTrue(self.js("return Ranvier.neuron.lanes.every((l) => Number.isFinite(l.last.v) && Number.isFinite(l.last.u))"))
        self.drive(("click", "neuron-step"))
        self.assertEqual(self.value("neuron.run"), "pause")
        self.no_errors()


class Neuron(Page):
    def end_of(self, preset, duration, lanes):
        """The page's spike counts after a run to `duration`, as fast as it can."""
        moves = [("choose", "neuron.preset", preset)]
        for i, (solver, mode, dt) in enumerate(lanes):
            moves += [("choose", f"neuron.solver.{i}", solver), ("choose", f"neuron.mode.{i}", mode), ("set", f"neuron.dt.{i}", dt)]
        self.drive(*moves, ("set", "neuron.until", duration), ("set", "neuron.pace", "unlimited"), ("click", "neuron-restart"),
                   ("set", "neuron.run", "run"))
        self.wait("the end of the run", "return Ranvier.link.states.neuron.state === 'ended' && Ranvier.neuron.frame().ended")
        self.wait("the drawn numbers", "return document.getElementById('neuron-time').textContent.startsWith(`t = ${arguments[0]}.0`)", duration)
        return [int(self.js("return document.getElementById('spikes-' + arguments[0]).textContent", i)) for i in range(len(lanes))]

    def test_spike_counts_are_the_library_s(self):
        self.open()
        for preset, duration, lanes in [
                ("rs2007", 1000, [("rk4", "accurate", 0.1), ("euler", "published", 1)]),
                ("ch2007", 1000, [("rk4", "accurate", 0.1), ("ab2", "accurate", 0.5)]),
                ("fs2003", 500, [("midpoint", "accurate", 0.25), ("izhikevich", "published", 0.5)]),
                ("pattern:c", 220, [("rk4", "accurate", 0.25), ("reference", "accurate", 0.25)])]:
            counts = self.end_of(preset, duration, lanes)
            for count, (solver, mode, dt) in zip(counts, lanes):
                library = self.json("simulate", "--preset", preset, "--solver", solver, "--mode", mode, "--dt-ms", dt,
                                    "--duration-ms", duration)
                self.assertEqual(count, library["spikes"], (preset, solver, mode, dt))
                self.assertGreater(count, 0)
        self.no_errors()

    def test_divergence_is_said_and_held(self):
        self.open()
        self.drive(("choose", "neuron.preset", "rs2007"), ("set", "neuron.2007.I", 700), ("slide", "neuron.2007.C", 0),
                   ("set", "neuron.pace", "unlimited"))
        self.wait("the flag", "return Ranvier.neuron.lanes.length === 2 && Ranvier.neuron.lanes[1].last.diverged")
        self.wait("the words", "return document.querySelector('[data-diverged=\"1\"]') !== null")
        self.assertIn("diverged", self.js("return document.querySelector('[data-diverged=\"1\"]').textContent"))
        held = self.js("return Ranvier.neuron.lanes[1].last.time")
        time.sleep(0.3)
        self.assertEqual(self.js("return Ranvier.neuron.lanes[1].last.time"), held)
        self.assertTrue(self.js("return Ranvier.neuron.lanes.every((l) => Number.isFinite(l.last.v))"))
        self.picture("neuron-diverged")
        self.no_errors()

    def test_exports(self):
        self.open()
        counts = self.end_of("rs2007", 500, [("rk4", "accurate", 0.1), ("euler", "published", 1)])
        status, text, _ = self.get("/api/trace.csv")
        self.assertEqual(status, 200)
        rows = list(csv.DictReader(text.splitlines()))
        self.assertEqual([row["solver"] for row in rows if row["spike"] == "1"],
                         ["rk4 accurate 0.1 ms"] * counts[0] + ["euler published 1 ms"] * counts[1])
        self.assertTrue(all(math.isfinite(float(row[name])) for row in rows if row["spike"] == "0"
                            for name in ("t_ms", "v_mv", "u")))
        picture = self.browser.execute_async_script("""
            const done = arguments[0];  // the bytes of what the button would save
            let saved = null;
            URL.createObjectURL = (blob) => { saved = blob; return "#"; };
            HTMLAnchorElement.prototype.click = function () {
              saved.arrayBuffer().then((bytes) =>
                done({name: this.download, start: Array.from(new Uint8Array(bytes.slice(0, 4))), size: bytes.byteLength}));
            };
            document.getElementById("export-png").click();""")
        self.assertEqual((picture["name"], bytes(picture["start"])), ("ranvier-neuron.png", b"\x89PNG"))
        self.assertGreater(picture["size"], 10_000)
        self.no_errors()

    def test_keys(self):
        """A slider by arrow keys, a button by the space bar, a view by Enter."""
        from selenium.webdriver.common.keys import Keys
        self.open()
        before = self.value("neuron.2007.I")
        slider = self.js("const part = document.querySelector('input[data-name=\"neuron.2007.I\"]'); part.focus(); return part")
        slider.send_keys(Keys.ARROW_RIGHT)
        self.settled()
        self.assertGreater(self.value("neuron.2007.I"), before)
        self.js("document.getElementById('neuron-step').focus(); return document.activeElement").send_keys(Keys.SPACE)
        self.wait("a single step", "return Ranvier.link.states.neuron.values['neuron.run'] === 'pause'")
        self.js("const part = document.querySelector('a[href=\"#population\"]'); part.focus(); return part").send_keys(Keys.ENTER)
        self.wait("the next view", "return location.hash === '#population'")
        self.no_errors()

    def test_look(self):
        self.open(space=True)
        # A whole window at once, then slowly on: no gaps where the machine is busy.
        self.drive(("set", "neuron.run", "pause"), ("set", "neuron.window", 600), ("set", "neuron.until", 900),
                   ("set", "neuron.pace", "unlimited"), ("click", "neuron-restart"), ("set", "neuron.run", "run"))
        self.wait("a window and more", "return Ranvier.link.states.neuron.state === 'ended' && Ranvier.neuron.frame().ended")
        self.drive(("set", "neuron.speed", 0.01), ("set", "neuron.pace", "speed"), ("set", "neuron.until", 0))
        self.picture("neuron-light")
        self.scheme("dark")
        self.picture("neuron-dark")
        self.scheme("light")
        self.size(360, 800)
        self.assertLessEqual(self.js("return document.documentElement.scrollWidth"), 360)
        self.picture("neuron-360")
        self.size(1900, 1000)
        time.sleep(0.3)
        self.picture("neuron-wide")
        self.no_errors()

    def test_weight_and_first_frame(self):
        self.open()
        self.browser.get(self.place["url"])
        self.wait("a frame", "return Ranvier.neuron.frame() !== null")
        weight = self.js("return performance.getEntriesByType('resource').concat(performance.getEntriesByType('navigation'))"
                         ".reduce((sum, e) => sum + e.transferSize, 0)")
        self.assertLess(weight, 1.5e6)
        self.assertGreater(weight, 5e5, "nothing was measured")
        self.no_errors()


class Tabs(Page):
    def test_twenty_tabs_of_one_browser(self):
        """All watch at once, and the slider of each still answers; fifty that come and go are view_server's."""
        self.open()
        first, tabs = self.browser.current_window_handle, []

        def another():
            self.browser.switch_to.new_window("tab")
            self.browser.get(self.place["url"])
            self.wait("the first frame", "return Ranvier.neuron.frame() !== null && Ranvier.space")
            self.js("document.getElementById('space-pause').click()")
            return self.browser.current_window_handle

        for _ in range(19):
            tabs.append(another())
        for i, tab in enumerate([first, *tabs]):
            self.browser.switch_to.window(tab)
            self.assertEqual(self.command("neuron.2007.I", 50 + i), 50 + i)
            seen = self.js("return Ranvier.link.states.neuron.revision")
            self.wait("a frame with it", "return Ranvier.neuron.frame().revision >= arguments[0]", seen)
        for tab in tabs:
            self.browser.switch_to.window(tab)
            self.browser.close()
        self.browser.switch_to.window(first)
        self.command("neuron.2007.I", 70)
        self.wait("frames as before", "return Ranvier.neuron.frame().revision >= Ranvier.link.states.neuron.revision")
        self.no_errors()


class Population(Page):
    def open(self):
        super().open()
        self.js("location.hash = 'population'")
        self.wait("a population frame", "return Ranvier.population.frame() !== null && Ranvier.population.drawnRate() > 0")

    def test_sliders_and_regimes(self):
        self.open()
        table = self.js("return Ranvier.link.controls")
        for regime in table["population.preset"]["choices"]:
            self.choose("population.preset", regime)
            before = self.js("return Ranvier.population.frame().parts[0].spikeCount")
            self.wait("spikes", "return Ranvier.population.frame().parts[0].spikeCount > arguments[0]", before)
        self.slide_to_ends(table, *["population." + name for name in ("neurons", "input", "synapses", "inhibition", "ephaptic",
                                                                      "window", "speed")], order=((1, "high"), (0, "low")))
        self.drive(("click", "population-step"))
        self.assertEqual(self.value("population.run"), "pause")
        self.no_errors()

    def test_look(self):
        self.open()
        for regime in self.js("return Ranvier.link.controls")["population.preset"]["choices"]:
            self.choose("population.preset", regime)
            self.wait("two thirds of a window", "return Ranvier.population.frame().time > 700", seconds=60)
            self.picture(f"population-{regime}")
        self.scheme("dark")
        self.picture("population-dark")
        self.size(360, 800)
        time.sleep(0.3)
        self.assertLessEqual(self.js("return document.documentElement.scrollWidth"), 360)
        self.picture("population-360")
        self.no_errors()


DESIGN = """
model = "tiny"
epochs = 1
batch = 16
held_out = 40
seeds = [1, 2, 3, 4, 5, 6]
images = 4
strong_images = 2
square_queries = 2
low_data = 0
strong_attacks = []
treatment = "dropout"
falsifier = ["none"]
[tuning]
epochs = 1
[[arm]]
name = "none"
[[arm]]
name = "dropout"
kind = "dropout"
sites = ["block3"]
strengths = [0.5]
"""


class Runs(Page):
    def make(self):
        """Real run folders, as the commands write them."""
        write_batches(self.folder / "data")
        test = bytearray((self.folder / "data/test_batch.bin").read_bytes())
        for i in range(0, len(test), 8 * RECORD):  # labels that are wrong: mistakes that no training avoids
            test[i] = (test[i] + 1) % 4
        (self.folder / "data/test_batch.bin").write_bytes(test)
        cpu = ["--device", "cpu"]
        for seed, more in ((1, []), (2, ["--coupling", "ephaptic", "--sites", "conv2,conv3", "--coupling-geometry", "learned"])):
            self.ok("train", "--model", "tiny", "--epochs", 2, "--batch", 16, "--data", "data", "--seed", seed,
                    "--out", f"runs/tiny-{seed}", *more, *cpu)
        self.ok("pinn", "--neuron", "rs2003", "--duration-ms", 40, "--out", "runs/pinn")
        self.ok("simulate", "--preset", "ch2007", "--out", "runs/chattering")
        if not SANITIZED:
            (self.folder / "study.toml").write_text(DESIGN)
            self.ok("study", "coupling", "study.toml", "--data", "data", "--out", "runs/study", *cpu, timeout=600)

    def choose_runs(self, *names):
        self.js("Ranvier.runs.choose(arguments[0])", list(names))
        for name in names:
            self.wait(f"run {name}", "return document.querySelector(`article[data-run='${arguments[0]}']`) !== null", name)
        time.sleep(0.3)  # charts are drawn in the next animation frame

    def text(self):
        return self.js("return document.getElementById('run-content').textContent")

    def test_every_kind_of_run(self):
        self.make()
        self.open()
        self.js("location.hash = 'runs'")
        self.wait("the list", "return document.querySelectorAll('#run-list input').length >= 4")
        self.choose_runs("tiny-1")
        for words in ("Training loss", "Confusion matrix", "First-layer filters", "Images it gets wrong"):
            self.assertIn(words, self.text())
        self.assertNotIn("Coupling sheet", self.text())
        self.assertGreater(self.js("return document.querySelectorAll('.chart canvas').length"), 0)
        evaluation = json.loads((self.folder / "runs/tiny-1/evaluation.json").read_text())
        self.assertEqual(self.js("return document.querySelectorAll('.mistakes > figure').length"), len(evaluation["mistakes"]))
        self.assertGreaterEqual(len(evaluation["mistakes"]), 5)
        self.picture("runs-training")
        with (self.folder / "runs/tiny-1/metrics.jsonl").open("a") as file:  # a run that goes on, caught in mid-line
            file.write('{"step": 99, "epoch": 3, "train_lo')
        self.wait("the torn line to be said", "return document.getElementById('run-content').textContent.includes('half-written')")
        self.choose_runs("tiny-1", "tiny-2")
        self.assertIn("Side by side", self.text())
        for site in ("block2.norm: 64 units", "block3.norm: 128 units"):
            self.assertIn("Coupling sheet of " + site, self.text())
        self.picture("runs-overlaid")
        self.choose_runs("pinn")
        tabs = {"Overview": 1, "Training": 1, "Accuracy": 0, "Neuronal": 2, "Performance": 0, "Network and reference": 2,
                "Error": 1, "Residual": 2, "Phase plane": 0}
        self.assertEqual(self.js("return [...document.querySelectorAll('[role=tab]')].map((b) => b.textContent)"), list(tabs))
        for tab, charts in tabs.items():
            self.js("[...document.querySelectorAll('[role=tab]')].find((b) => b.textContent === arguments[0]).click()", tab)
            self.wait(f"the charts of {tab}", "return document.querySelectorAll('.chart .dygraph-ylabel').length === arguments[0]", charts)
            self.assertNotIn("nothing was written", self.text())
            self.picture(f"runs-pinn-{tab.lower().replace(' ', '-')}")
        summary = json.loads((self.folder / "runs/pinn/summary.json").read_text())
        self.js("document.querySelector('[role=tab]').click()")
        self.assertIn(f"{summary['spikes']}spikes found", self.text())
        self.choose_runs("chattering")
        self.picture("runs-simulation")
        if not SANITIZED:
            self.choose_runs("study")
            self.assertIn("The claim", self.text())
            self.picture("runs-study")
        self.size(360, 800)
        self.choose_runs("tiny-2")
        self.assertLessEqual(self.js("return document.documentElement.scrollWidth"), 360)
        self.picture("runs-360")
        self.no_errors()
        self.ok("report", "runs/tiny-1", "runs/pinn", "--out", "report.html")
        self.browser.get((self.folder / "report.html").as_uri())
        self.wait("the report", "return document.querySelectorAll('article').length === 2")
        time.sleep(0.5)
        self.assertGreater(self.js("return document.querySelectorAll('.chart canvas').length"), 0)
        self.picture("report")
        self.assertEqual([e for e in self.browser.get_log("browser") if e["level"] == "SEVERE"], [])


class Commands(Viewer):
    """Without a browser."""

    def test_interruption_and_port(self):
        process = self.start()
        self.refused("view", "--port", self.port, saying=["cannot listen", str(self.port), "--port"])
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(20), 130)
        self.assertIn(b"ended:", process.stderr.read())

    def test_token_elsewhere(self):
        process = self.start("--address", "0.0.0.0")
        token = re.search(r"token=([0-9a-f]{32})", self.place["url"]).group(1)
        self.assertEqual(self.get("/")[0], 403)
        self.assertEqual(self.get("/?token=" + token)[0], 303)
        self.assertEqual(self.get("/", {"Cookie": "ranvier_token=" + token})[0], 200)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(20), 130)
        self.assertEqual(process.stderr.read().decode().count(token), 1, "printed once, at the start, and never logged")

    def test_damaged_folders_and_requests(self):
        folder = self.folder / "runs" / "torn"
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text('{"epoch": 1, "train_loss": 2}\n{"epo')
        self.start("--runs", "runs")
        status, text, _ = self.get("/api/run?name=torn")
        self.assertEqual(status, 200)
        self.assertIn("half-written", text)
        self.assertEqual(self.get("/api/run?name=../runs")[0], 404)
        self.assertEqual(self.get("/", {"Host": "evil.example"})[0], 403)
        for raw in (b"\0\1\2\r\n\r\n", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: " + b"x" * 100_000):
            with socket.create_connection(("127.0.0.1", self.port), timeout=20) as stranger:
                stranger.sendall(raw)
        self.assertEqual(self.get("/api/runs")[0], 200)

    def test_bad_usage(self):
        self.refused("view", "--port", 70000, saying="--port 70000")
        self.refused("view", "--address", "nowhere", saying="nowhere")
        self.refused("report", "absent", "--out", "r.html", saying="absent")
        self.refused("report", saying="runs")


if __name__ == "__main__":
    unittest.main(verbosity=2)
