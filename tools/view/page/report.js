// Starts a stand-alone report: the runs lie in the page itself.
"use strict";

(() => {
  const runs = JSON.parse(document.getElementById("runs").textContent), {element} = Ranvier;
  const content = document.getElementById("content");
  const tabs = new Map();
  const show = () => {
    Ranvier.charts.clear();
    const trainings = runs.filter((run) => run.kind === "training");
    content.replaceChildren(...(trainings.length > 1 ? [Ranvier.charts.overlay(trainings)] : []),
      ...runs.map((run) => Ranvier.charts.run(run, tabs.get(run.name), (tab) => tabs.set(run.name, tab))));
    if (!runs.length) content.append(element("p", {}, "This report holds no runs."));
  };
  let dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const button = document.getElementById("theme");
  const set = () => { Ranvier.theme(dark ? "dark" : "light"); button.textContent = dark ? "theme: dark" : "theme: light"; show(); };
  button.addEventListener("click", () => { dark = !dark; set(); });
  set();
})();
