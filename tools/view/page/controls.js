// Sliders, menus and buttons, made from the table that the program sends: names, ranges and units are nowhere else.
"use strict";

(() => {
  const {element, link} = Ranvier;
  const steps = 1000;  // of a slider

  const toShare = (c, value) => c.logarithmic
    ? Math.log(value / c.low) / Math.log(c.high / c.low) : (value - c.low) / (c.high - c.low);
  const fromShare = (c, share) => {
    if (share <= 0) return c.low;
    if (share >= 1) return c.high;
    const value = c.logarithmic ? c.low * (c.high / c.low) ** share : c.low + share * (c.high - c.low);
    return c.whole ? Math.round(value) : Math.min(c.high, Math.max(c.low, Number(value.toPrecision(4))));
  };

  const made = new Map();  // name -> {set(value)}

  const numberControl = (c) => {
    const id = "c-" + c.name.replaceAll(".", "-");
    const slider = element("input", {type: "range", id, min: 0, max: steps, step: 1, title: c.about, "data-name": c.name});
    const box = element("input", {type: "number", min: c.low, max: c.high, step: "any", "aria-label": c.label + ", number"});
    if (c.seed_low !== undefined) {
      slider.style.setProperty("--from", 100 * toShare(c, c.seed_low) + "%");
      slider.style.setProperty("--to", 100 * toShare(c, c.seed_high) + "%");
      slider.title += `; marked: ${c.seed_low} to ${c.seed_high}, the range of the seed project`;
    }
    slider.setAttribute("aria-label", c.label);
    const speak = (value) => slider.setAttribute("aria-valuetext", Ranvier.shown(value) + " " + c.unit);
    slider.addEventListener("input", (event) => {
      const value = fromShare(c, slider.value / steps);
      box.value = value;
      speak(value);
      link.set(c.name, value, event.timeStamp);
    });
    box.addEventListener("change", (event) => {
      if (box.value.trim() !== "") link.set(c.name, Number(box.value), event.timeStamp);
    });
    const set = (value) => {
      if (link.isWaiting(c.name)) return;
      slider.value = Math.round(steps * toShare(c, value));
      box.value = Number(value.toPrecision(6));
      speak(value);
    };
    set(c.initial);
    made.set(c.name, {set});
    return element("div", {class: "control", "data-control": c.name},
      element("label", {for: id, title: c.about}, c.label + " ", element("span", {class: "unit"}, c.unit)), box, slider);
  };

  const choiceControl = (c) => {
    const id = "c-" + c.name.replaceAll(".", "-");
    const menu = element("select", {id, title: c.about, "data-name": c.name},
      c.choices.map((choice, i) => element("option", {value: choice}, c.words ? c.words[i] : choice)));
    menu.addEventListener("change", (event) => link.set(c.name, menu.value, event.timeStamp));
    made.set(c.name, {set: (value) => { menu.value = value; }});
    return element("div", {class: "control", "data-control": c.name}, element("label", {for: id, title: c.about}, c.label), menu);
  };

  /// Buttons for run, pause, step, restart, pace.
  const transport = (view) => {
    const table = link.controls, run = table[view + ".run"];
    const button = element("button", {type: "button", id: view + "-run", title: run.about}, "Pause");
    button.addEventListener("click", () => link.set(run.name, button.dataset.next || "pause"));
    made.set(run.name, {set: (value) => {
      const ended = (link.states[view] || {}).state === "ended";
      button.dataset.next = value === "run" && !ended ? "pause" : "run";
      button.textContent = ended ? "Run again" : value === "run" ? "Pause" : "Run";
    }});
    const act = (key) => {
      const c = table[view + "." + key];
      return element("button", {type: "button", id: view + "-" + key, title: c.about, onclick: () => link.do(c.name)}, c.label);
    };
    const fast = element("button", {type: "button", id: view + "-pace", title: table[view + ".pace"].about}, "As fast as it can");
    fast.addEventListener("click", () => link.set(view + ".pace", fast.getAttribute("aria-pressed") === "true" ? "speed" : "unlimited"));
    made.set(view + ".pace", {set: (value) => fast.setAttribute("aria-pressed", value === "unlimited")});
    const speed = (value, words) => element("button", {type: "button", title: "speed x" + value, onclick: () => {
      link.set(view + ".pace", "speed");
      link.set(view + ".speed", value);
    }}, words);
    return [element("div", {class: "buttons"}, button, act("step"), act("restart")),
      numberControl(table[view + ".speed"]),
      element("div", {class: "buttons"}, speed(0.01, "slow motion"), speed(0.1, "x0.1"), speed(1, "real time"), speed(10, "x10"), speed(100, "x100"), fast)];
  };

  const group = (title, ...content) => element("fieldset", {}, element("legend", {}, title), ...content);

  // A slider follows the program again once its command is answered: the value may have been refused or held.
  link.onAnswer.push((answer, asked) => {
    const state = asked.name && link.states[asked.name.split(".")[0]];
    if (state && made.has(asked.name) && asked.name in state.values) made.get(asked.name).set(state.values[asked.name]);
  });

  Ranvier.controls = {
    numberControl, choiceControl, transport, group,
    /// Takes over what the program says all values are.
    show(state) {
      for (const [name, value] of Object.entries(state.values)) if (made.has(name)) made.get(name).set(value);
    },
  };
})();
