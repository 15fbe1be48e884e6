// Starts the page: theme, views, connection, and what is said about it.
"use strict";

(() => {
  const {link} = Ranvier;
  const views = ["neuron", "population", "runs"];
  const status = document.getElementById("status");

  let refusal = "", refusedAt = 0;
  const say = () => {
    const words = {connecting: "connecting to the program", lost: "connection lost; trying again", ended: "the program has ended: start `ranvier view` again, then reload"};
    let text = words[link.state] || "";
    if (link.state === "connected") {
      const state = link.states[link.view], frame = link.view === "neuron" ? Ranvier.neuron.frame() : link.view === "population" ? Ranvier.population.frame() : null;
      text = link.view === "runs" ? "connected" : state ? state.state : "connected, waiting for the first state";
      if (state && state.diverged && state.diverged.length) text += ", diverged and held";
      if (frame && state && state.state === "running") text += `, ${Ranvier.shown(frame.speed, 3)} x real time`;
      if (link.skipped && link.view !== "runs") text += `; ${link.skipped} gaps where this page was too slow`;
    }
    if (refusal && performance.now() - refusedAt < 8000) text = refusal;  // long enough to be read
    if (status.textContent !== text) status.textContent = text;
  };
  setInterval(say, 500);
  link.onLink.push(say);
  link.onState.push(say);
  link.onAnswer.push((answer) => {
    if (!answer.error) return;
    refusal = "refused: " + answer.error;
    refusedAt = performance.now();
    say();
  });

  const show = () => {
    const [name] = location.hash.slice(1).split("/");
    const view = views.includes(name) ? name : "neuron";
    for (const other of views) document.getElementById("view-" + other).hidden = other !== view;
    for (const anchor of document.querySelectorAll("nav a")) {
      if (anchor.dataset.view === view) anchor.setAttribute("aria-current", "page"); else anchor.removeAttribute("aria-current");
    }
    link.watch(view);
    if (view === "runs") Ranvier.runs.show();
    say();
  };
  addEventListener("hashchange", show);

  const themes = ["system", "light", "dark"], button = document.getElementById("theme");
  let theme = themes.includes(Ranvier.kept("theme")) ? Ranvier.kept("theme") : "system";
  const setTheme = () => { Ranvier.theme(theme); button.textContent = "theme: " + theme; Ranvier.keep("theme", theme); };
  button.addEventListener("click", () => { theme = themes[(themes.indexOf(theme) + 1) % 3]; setTheme(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", setTheme);
  setTheme();

  link.onWelcome.push(() => { Ranvier.neuron.build(); Ranvier.population.build(); });
  show();
  link.open();
})();
