"use strict";

// The page of `play`. The server describes the run once (`hello`), then sends what a frame shows;
// the page sends which keys are down. Nothing is decided here.

const HISTORY = 150;     // Frames in a plot, at most.
const SILENCE = 6000;    // Milliseconds without a sign of life after which the page says so.
const client = crypto.getRandomValues(new Uint32Array(2)).join("-");
const byId = id => document.getElementById(id);
const commands = [
  // Name, keys as they are printed, what the page calls it, keys as the browser calls them.
  ["restart", ["R"], "new dream", ["r", "Enter"]],
  ["pause", ["P"], "pause", ["p"]],
  ["step", ["N"], "one frame", ["n", "."]],
  ["agent", ["T"], "agent steers", ["t"]],
  ["slower", ["−"], "slower", ["-", "_"]],
  ["faster", ["+"], "faster", ["+", "="]],
  ["sync", ["C"], "dream from what is real now", ["c"]],
];

let about = null;        // What `hello` said.
let frame = null;        // The newest frame.
let bound = new Set();   // Codes of keys that act.
let held = [];           // Codes of keys that are down, in the order of pressing.
let pressed = [];        // Codes of keys pressed since the last message.
let rest = [];           // Values of the sliders.
let sent = 0;            // Messages sent.
let past = [];        // Frames of the recent past, for the plots.
let ended = false;       // Whether the server has said goodbye.
let lastSign = Date.now();
let plots = [];          // Functions that draw one plot each.

// --- What the page tells the server

function tell(command = null) {
  const body = JSON.stringify({client, number: ++sent, held, pressed, rest, command});
  pressed = [];
  fetch("input", {method: "POST", headers: {"Content-Type": "application/json"}, body})
    .catch(() => {});  // A server that is gone is noticed, and shown, by the stream of frames.
}

function press(code) {
  if (held.includes(code)) return;
  held.push(code);
  pressed.push(code);
  tell();
}

function release(code) {
  if (!held.includes(code)) return;
  held = held.filter(other => other !== code);
  tell();
}

function releaseAll() {
  if (!held.length) return;
  held = [];
  tell();
}

addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (bound.has(event.code)) {
    event.preventDefault();
    if (!event.repeat) press(event.code);
    return;
  }
  const command = commands.find(([, , , keys]) => keys.includes(
    event.key.length === 1 ? event.key.toLowerCase() : event.key));
  if (command && !event.repeat && offers(command[0])) {
    event.preventDefault();
    tell(command[0]);
  }
});
addEventListener("keyup", event => release(event.code));
addEventListener("blur", releaseAll);
document.addEventListener("visibilitychange", () => document.hidden && releaseAll());

function offers(command) {
  return command !== "sync" || Boolean(about?.real);
}

// --- What the server tells the page

const stream = new EventSource(`events?client=${client}`);
stream.addEventListener("hello", event => {
  about = JSON.parse(event.data);
  ended = false;
  frame = null;
  past = [];
  byId("views").replaceChildren();
  build();
});
stream.addEventListener("frame", event => {
  lastSign = Date.now();
  const next = JSON.parse(event.data);
  // A frame may come again, with another mode.
  const again = past.at(-1)?.step === next.step && past.at(-1)?.episode === next.episode;
  if (again) past.pop();
  past.push(next);
  if (past.length > HISTORY) past.shift();
  frame = next;
  show();
});
stream.addEventListener("alive", () => { lastSign = Date.now(); });
stream.addEventListener("bye", () => { ended = true; showLost(); });
stream.onerror = showLost;
stream.onopen = () => { lastSign = Date.now(); };
setInterval(() => Date.now() - lastSign > SILENCE && showLost(), 1000);

function showLost() {
  const why = ended ? "The server has ended." : "The server cannot be reached.";
  byId("banner").textContent =
    `${why} This page goes on by itself once the server runs again${about ? `: ${about.command}` : "."}`;
  byId("banner").className = "alarm";
  byId("status").textContent = "not connected";
  document.body.dataset.state = "lost";
}

// --- Parts of the page

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  Object.assign(made, attributes);
  made.append(...children);
  return made;
}

const caps = list => list.map(cap => element("kbd", {textContent: cap}));

function build() {
  document.title = `${about.task}: play`;
  byId("task").textContent = about.task;
  byId("run").textContent = about.run;
  bound = new Set([...about.keys, ...about.sliders].flatMap(item => item.codes));
  rest = about.sliders.map(slider => slider.rest);
  byId("keys").replaceChildren(...about.keys.map(key => {
    const button = element("button", {type: "button", tabIndex: -1}, ...caps(key.caps), key.label);
    button.addEventListener("pointerdown", event => {
      event.preventDefault();
      button.setPointerCapture(event.pointerId);
      press(key.codes[0]);
    });
    for (const name of ["pointerup", "pointercancel"]) {
      button.addEventListener(name, () => release(key.codes[0]));
    }
    return button;
  }));
  byId("sliders").replaceChildren(...about.sliders.map((slider, index) => {
    const input = element("input", {
      type: "range", min: slider.low, max: slider.high, step: slider.step || "any",
      value: slider.rest, tabIndex: -1, title: "double-click: back to the middle",
    });
    const set = value => { rest[index] = value; tell(); };
    input.addEventListener("input", () => set(Number(input.value)));
    input.addEventListener("dblclick", () => { input.value = slider.rest; set(slider.rest); });
    input.addEventListener("change", () => input.blur());  // Arrow keys are for the game.
    return element("label", {className: "slider"},
      ...caps(slider.caps.slice(0, 1)), input, ...caps(slider.caps.slice(1)),
      element("span", {textContent: slider.label}), element("span", {className: "number"}));
  }));
  byId("commands").replaceChildren(...commands.filter(([name]) => offers(name)).map(
    ([name, printed, label]) => {
      const button = element("button", {type: "button", tabIndex: -1, id: `do-${name}`},
        ...caps(printed), label);
      button.addEventListener("mousedown", event => event.preventDefault());  // Keeps the focus.
      button.addEventListener("click", () => tell(name));
      return button;
    }));
  plots = [];
}

function buildViews() {
  const sides = frame.real ? ["dream", "real"] : ["dream"];
  const figures = [];
  plots = [
    plot(about.reward, sides, side => side.reward),
    plot("discount", sides, side => side.discount, [0, 1]),
    plot("value", sides, side => side.value),
  ];
  for (const side of sides) {
    // Without pictures there is still something to say of each side.
    const keys = Object.keys(frame[side].images);
    for (const key of keys.length ? keys : [""]) {
      const figure = element("figure", {className: side},
        element("figcaption", {}, element("b"), element("span")));
      if (key) figure.append(element("img", {alt: `${side}: ${key}`}));
      Object.assign(figure.dataset, {side, key});
      figures.push(figure);
    }
  }
  for (const [key, values] of Object.entries(frame.dream.vectors)) {
    values.forEach((_, index) => plots.push(
      plot(`${key} ${index + 1} of ${about.lengths[key]}`, sides,
        side => side.vectors[key]?.[index])));
  }
  byId("views").replaceChildren(...figures);
  byId("views").className = figures.length > 2 ? "many" : figures.length === 2 ? "pair" : "";
  const bare = !figures.some(figure => figure.querySelector("img"));
  byId("plots").className = bare ? "bare" : plots.length > 5 ? "many" : "";
  byId("plots").replaceChildren(...plots.map(draw => draw.root));
}

function plot(name, sides, read, range = null) {
  const numbers = sides.map(side => element("span", {className: `number ${side}`}));
  const canvas = element("canvas");
  const root = element("div", {className: "plot"},
    element("h2", {}, element("span", {className: "name", textContent: name}), ...numbers), canvas);
  const draw = () => {
    const rows = sides.map(side => past.map(item => item[side] ? read(item[side]) : null));
    rows.forEach((row, i) => { numbers[i].textContent = number(row.at(-1)); });
    drawLines(canvas, sides, rows, past.map(item => item.episode), range);
  };
  draw.root = root;
  return draw;
}

// --- A frame

function show() {
  if (!plots.length) buildViews();
  for (const figure of byId("views").children) {
    const {side, key} = figure.dataset;
    const view = frame[side];
    const [name, score] = figure.firstChild.children;
    const many = Object.keys(view.images).length > 1 ? ` · ${key}` : "";
    name.textContent = (side === "dream" ? "Dream" : "Real") + many + (view.over ? ", ended" : "");
    score.textContent = `return ${Number(view.score?.toFixed(2))}`;
    if (key) figure.lastChild.src = view.images[key];
  }
  byId("keys").childNodes.forEach((button, i) => {
    button.classList.toggle("lit", frame.lit.includes(i));
  });
  byId("sliders").childNodes.forEach((row, i) => {
    row.lastChild.textContent = frame.values.length ? frame.values[i].toFixed(2) : "";
  });
  byId("do-pause")?.classList.toggle("on", frame.paused);
  byId("do-agent")?.classList.toggle("on", frame.agent);
  byId("status").textContent = status();
  byId("choice").textContent = 
    `The agent ${frame.agent ? "chooses" : "would choose"} next: ${frame.choice}`;
  byId("banner").textContent = frame.ended ? ending()
    : frame.paused ? "Paused: each press of a key plays one frame." : frame.note;
  byId("banner").className = frame.ended || frame.paused ? "news" : "";
  plots.forEach(draw => draw());
  document.body.dataset.state = frame.ended ? "ended" : frame.paused ? "paused" : "playing";
  document.body.dataset.number = frame.number;
}

function status() {
  const speed = frame.paused ? "paused" : frame.ended ? "ended"
    : frame.rate ? `${frame.rate.toFixed(1)} of ${frame.fps} frames a second`
      : `${frame.fps} frames a second`;
  const who = frame.agent ? "the agent steers" : "you steer";
  const did = frame.action ? `: ${frame.action}` : "";
  return `step ${frame.step} · ${who}${did} · ${speed}`;
}

function ending() {
  const why = frame.dream.over
    ? "The model predicts that the episode ends here." : "The real episode is over.";
  return frame.agent && !frame.paused ? `${why} A new dream begins in a moment.`
    : `${why} R begins a new dream; P dreams on regardless.`;
}
