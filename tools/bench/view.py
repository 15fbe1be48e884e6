#!/usr/bin/python3
"""How soon a slider's move is drawn, and how many frames a population delivers: the viewer in headless Chromium.

  tools/bench/view.py [--program build/ranvier] [--moves 200]      needs chromium, chromium-driver, python3-selenium

Prints, for the 3-D view paused and running, the median and the 95th percentile of the time from a slider's input event to
the end of the drawing of the first frame with it in effect, then the first frame after loading, the page's weight, and
for 10,000 uncoupled neurons the real-time factor and the frames drawn a second.
"""
import argparse
import json
import os
import signal
import subprocess
import tempfile
import time

from selenium import webdriver
from selenium.webdriver.chrome.service import Service


def quantile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def browser_in(folder):
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--enable-unsafe-swiftshader",
                 f"--user-data-dir={folder}/chromium", "--window-size=1280,1000"]:
        options.add_argument(flag)
    return webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)


def wait(browser, script, seconds=60):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        value = browser.execute_script(script)
        if value:
            return value
        time.sleep(0.02)
    raise SystemExit(f"waited in vain for: {script}")


def latencies(browser, moves):
    """Moves the slider of C, one move after the other."""
    browser.execute_script("Ranvier.latencies.length = 0")
    for i in range(moves):
        browser.execute_script("""
            const slider = document.querySelector('input[data-name="neuron.2007.C"]');
            slider.value = arguments[0]; slider.dispatchEvent(new Event("input"))""", 300 + (i * 37) % 400)
        wait(browser, f"return Ranvier.latencies.length >= {i + 1}")
        time.sleep(0.003 * (i % 11))  # at every phase of the frames
    return browser.execute_script("return Ranvier.latencies")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/ranvier")
    parser.add_argument("--moves", type=int, default=200)
    options = parser.parse_args()
    print(f"load of the machine before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        viewer = subprocess.Popen([options.program, "view", "--port", "0", "--json"], stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL)
        browser = None
        try:
            url = json.loads(viewer.stdout.readline())["url"]
            browser = browser_in(folder)
            browser.get(url)
            wait(browser, "return Ranvier.neuron.frame() !== null && Ranvier.space")
            first = browser.execute_script("return Ranvier.firstDrawn")
            weight = browser.execute_script(
                "return performance.getEntriesByType('resource').concat(performance.getEntriesByType('navigation'))"
                ".reduce((sum, e) => sum + e.transferSize, 0)")
            print(f"first frame drawn {first:.0f} ms after the start of loading; page weight {weight / 1e6:.2f} MB", flush=True)
            for state in ("paused", "running"):
                browser.execute_script("""
                    const button = document.getElementById("space-pause"), paused = button.getAttribute("aria-pressed") === "true";
                    if (paused !== (arguments[0] === "paused")) button.click()""", state)
                times = latencies(browser, options.moves)
                print(f"slider to drawn sample, 3-D {state:7}: median {quantile(times, 0.5):.1f} ms, 95th percentile "
                      f"{quantile(times, 0.95):.1f} ms, of {len(times)}", flush=True)
            browser.execute_script("location.hash = 'population'")
            wait(browser, "return Ranvier.population.drawnRate() > 0")
            time.sleep(8)
            factor, frames, load = browser.execute_script(
                "const f = Ranvier.population.frame(); return [f.speed, Ranvier.population.drawnRate(), f.parts[0].load]")
            print(f"10,000 uncoupled neurons: real-time factor {factor:.3f}, {frames:.0f} frames drawn a second, "
                  f"{load:.3f} s of work a second of the model")
        finally:
            if browser:
                browser.quit()
            viewer.send_signal(signal.SIGINT)
            viewer.wait()


if __name__ == "__main__":
    main()
