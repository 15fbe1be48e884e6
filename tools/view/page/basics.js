// What all parts of the page share: elements, numbers, colours, theme.
"use strict";
const Ranvier = {};
globalThis.Ranvier = Ranvier;

/// element("p", {class: "words", onclick: f}, "text", child, ...)
Ranvier.element = (tag, properties = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  for (const child of children.flat()) if (child != null) made.append(child);
  return made;
};

/// A number as people read it: four digits that count, no exponent where it can be avoided.
Ranvier.shown = (value, digits = 4) => {
  if (value === null || value === undefined) return "none";
  if (!Number.isFinite(value)) return "not a number";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e7 || size < 1e-4) return value.toExponential(2);
  return String(Number(value.toPrecision(digits)));
};

Ranvier.colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

/// The colours of a theme, looked up once.
Ranvier.colours = () => {
  if (!Ranvier.colours.kept) {
    Ranvier.colours.kept = {};
    for (const name of ["paper", "card", "ink", "soft", "line", "grid", "first", "second", "third", "fourth", "mark", "alarm"])
      Ranvier.colours.kept[name] = Ranvier.colour(name);
  }
  return Ranvier.colours.kept;
};

Ranvier.onTheme = [];
Ranvier.theme = (choice) => {
  const dark = choice === "dark" || (choice === "system" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  Ranvier.colours.kept = null;
  for (const tell of Ranvier.onTheme) tell();
};

/// Keeps a choice of this browser; a browser that keeps nothing is fine too.
Ranvier.keep = (key, value) => { try { localStorage.setItem("ranvier." + key, value); } catch (_) { /* private mode */ } };
Ranvier.kept = (key) => { try { return localStorage.getItem("ranvier." + key); } catch (_) { return null; } };
