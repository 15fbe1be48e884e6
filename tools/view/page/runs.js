// The runs view: the list of run folders, and what was chosen of them; runs in progress are read again and again.
"use strict";

(() => {
  const {element} = Ranvier;
  const chosen = new Set(), texts = new Map();  // names; name -> the JSON text on show
  let listText = "", tab = null, timer = null, turns = 0;

  const read = async (path) => {
    const answer = await fetch(path);
    const text = await answer.text();
    if (!answer.ok) throw new Error(text.trim());
    return text;
  };

  const list = document.getElementById("run-list"), content = document.getElementById("run-content");

  const showList = (state) => {
    const fit = (run) => element("label", {},
      element("input", {type: "checkbox", value: run.name, checked: chosen.has(run.name), onchange: (event) => {
        if (event.target.checked) chosen.add(run.name); else chosen.delete(run.name);
        refresh();
      }}), element("span", {}, run.name + " ", element("span", {class: "words"}, `${run.kind}, ${Ranvier.charts.age(run)}`)));
    list.replaceChildren(element("fieldset", {class: "runs"}, element("legend", {}, `Run folders in ${state.folder}`),
      state.runs.length ? state.runs.map(fit) : element("p", {class: "words"}, "There are none yet. `ranvier train`, `pinn`, `study` and `simulate --out` make them; `--runs DIR` names another folder."),
      state.problems.map((what) => element("p", {class: "words alarm"}, what))));
  };

  const showRuns = async () => {
    const runs = [], failures = [], turn = ++turns;
    let same = true;
    for (const name of [...chosen]) {
      try {
        const text = await read("/api/run?name=" + encodeURIComponent(name));
        if (turn !== turns) return;  // others were chosen meanwhile
        const plain = text.replace(/"age_seconds":[^,}]*/, "");
        if (texts.get(name) !== plain) same = false;
        texts.set(name, plain);
        runs.push(JSON.parse(text));
      } catch (error) {
        failures.push(`${name}: ${error.message}`);
        same = false;
      }
    }
    for (const name of [...texts.keys()]) if (!chosen.has(name)) { texts.delete(name); same = false; }
    if (same && content.childElementCount) return;
    Ranvier.charts.clear();
    const trainings = runs.filter((run) => run.kind === "training");
    content.replaceChildren(...failures.map((what) => element("p", {class: "words alarm"}, what)),
      ...(trainings.length > 1 ? [Ranvier.charts.overlay(trainings)] : []),
      ...runs.map((run) => Ranvier.charts.run(run, tab, (name) => { tab = name; })));
    if (!runs.length && !failures.length) content.replaceChildren(element("p", {class: "words"}, "Choose one run or several."));
  };

  const refresh = async () => {
    clearTimeout(timer);
    try {
      const state = JSON.parse(await read("/api/runs"));
      const plain = JSON.stringify(state.runs.map((run) => [run.name, run.kind]));
      if (!chosen.size && state.runs.length && !listText) chosen.add(state.runs[0].name);
      if (plain !== listText) showList(state);
      listText = plain;
      await showRuns();
    } catch (error) {
      list.replaceChildren(element("p", {class: "words alarm"}, `The runs cannot be read: ${error.message}`));
      listText = "";
    }
    clearTimeout(timer);  // of a reading that overtook this one
    if (Ranvier.link.view === "runs") timer = setTimeout(refresh, 2000);
  };

  Ranvier.runs = {show: refresh, chosen, choose(names) { chosen.clear(); for (const name of names) chosen.add(name); listText = "again"; return refresh(); }};
  Ranvier.onTheme.push(() => { texts.clear(); if (Ranvier.link.view === "runs") refresh(); });
})();
