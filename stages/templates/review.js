"use strict";
// State of one reviewer: answers by pair, pairs that they added, what can be undone, the pair shown.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const ANSWERS = { 1: "point1", 2: "point2", s: "skip" };
const COLOURS = ["#ffc400", "#35d6ff"];
const ZOOM = 4; // screen pixels for one of the image's, in the small views; fewer for large images
const prefix = `dav2-pairs:${data.batch}:`;
let state = empty();
let adding = null; // points clicked so far, of a pair to add

function empty() {
  return { answers: {}, entered: [], undo: [], at: 0, image: null };
}

function stored(key, value) {
  try {
    if (value === undefined) return localStorage.getItem(prefix + key);
    localStorage.setItem(prefix + key, value);
  } catch (error) {
    say(`This browser does not keep answers (${error.name}): export before you close the page.`, true);
  }
  return null;
}

function keep() {
  stored("reviewer", $("reviewer").value.trim());
  stored(`state:${$("reviewer").value.trim()}`, JSON.stringify(state));
}

function load(name) {
  const text = stored(`state:${name}`);
  return text ? { ...empty(), ...JSON.parse(text) } : null;
}

function pairs() {
  return [...data.pairs, ...state.entered];
}

function shown() {
  return pairs()[state.at] ?? null;
}

function shownImage() {
  return state.image ?? shown()?.image ?? Object.keys(data.images)[0] ?? null;
}

function pairId(image, one, other) {
  const ends = [one, other].sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  return `${image}#${ends.map((point) => point.join(",")).join("-")}`;
}

function say(text, bad = false) {
  $("message").textContent = text;
  $("message").classList.toggle("bad", bad);
}

function answer(value) {
  const pair = shown();
  if (adding || state.image || !pair) return;
  state.undo.push({ id: pair.id, before: state.answers[pair.id] ?? null });
  state.answers[pair.id] = value;
  const later = [...pairs().keys()].map((step) => (state.at + 1 + step) % pairs().length);
  const next = later.find((at) => !(pairs()[at].id in state.answers));
  if (next === undefined) say("All pairs are answered. Export them.");
  else {
    state.at = next;
    say("");
  }
  keep();
  draw();
}

function undo() {
  if (adding) return stopAdding("");
  const last = state.undo.pop();
  if (!last) return say("There is nothing to undo.");
  state.image = null;
  if (last.entered) {
    state.entered = state.entered.filter((pair) => pair.id !== last.entered);
    delete state.answers[last.entered];
    state.at = Math.min(last.at, Math.max(0, pairs().length - 1));
  } else {
    if (last.before === null) delete state.answers[last.id];
    else state.answers[last.id] = last.before;
    state.at = pairs().findIndex((pair) => pair.id === last.id);
  }
  say("Undone.");
  keep();
  draw();
}

function move(step) {
  if (adding || !pairs().length) return;
  if (state.image) state.image = null;
  else state.at = (state.at + step + pairs().length) % pairs().length;
  say("");
  keep();
  draw();
}

function startAdding() {
  if (adding) return stopAdding("");
  if (!shownImage()) return;
  adding = [];
  say("Click two points in the image; Esc ends it.");
  draw();
}

function stopAdding(text, bad = false) {
  adding = null;
  say(text, bad);
  draw();
}

function click(event) {
  if (!adding) return;
  const image = $("image");
  const box = image.getBoundingClientRect();
  const row = Math.floor(((event.clientY - box.top) / box.height) * image.naturalHeight);
  const column = Math.floor(((event.clientX - box.left) / box.width) * image.naturalWidth);
  const inside = row >= 0 && column >= 0 && row < image.naturalHeight && column < image.naturalWidth;
  if (!inside) return;
  adding.push([row, column]);
  if (adding.length < 2) return draw();
  const [point1, point2] = adding;
  const pair = { id: pairId(shownImage(), point1, point2), image: shownImage(), point1, point2 };
  if (String(point1) === String(point2)) return stopAdding("These are one point.", true);
  if (pairs().some((other) => other.id === pair.id)) return stopAdding("This pair is there already.", true);
  state.undo.push({ entered: pair.id, at: state.at });
  state.entered.push(pair);
  state.at = pairs().length - 1;
  state.image = null;
  keep();
  stopAdding("Added. Which point is closer?");
}

function save() {
  const reviewer = $("reviewer").value.trim();
  if (!reviewer) {
    $("reviewer").focus();
    return say("Enter your name first.", true);
  }
  const content = { format: data.format, batch: data.batch, reviewer, answers: state.answers, entered: state.entered };
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(content, null, 1)], { type: "application/json" }));
  link.download = `${document.title.split(":")[0]}-${reviewer.replace(/[^\w-]+/g, "_")}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  say(`Exported ${Object.keys(state.answers).length} answers.`);
}

function marker(point, number, image) {
  // In screen pixels: as large in every image. The centre stays free.
  const scale = image.clientWidth / image.naturalWidth;
  const [x, y] = [(point[1] + 0.5) * scale, (point[0] + 0.5) * scale];
  const side = x > image.clientWidth - 40 ? -1 : 1;
  const top = y < 24 ? 1 : -1;
  const [lx, ly] = [x + side * 20, y + top * 16];
  return `
    <circle cx="${x}" cy="${y}" r="10" fill="none" stroke="#000" stroke-width="6"/>
    <circle cx="${x}" cy="${y}" r="10" fill="none" stroke="#fff" stroke-width="3.5"/>
    <circle cx="${x}" cy="${y}" r="10" fill="none" stroke="${COLOURS[number - 1]}" stroke-width="2.5"/>
    <circle cx="${x}" cy="${y}" r="1.6" fill="#fff" stroke="#000" stroke-width="1"/>
    <circle cx="${lx}" cy="${ly}" r="10" fill="${COLOURS[number - 1]}" stroke="#000" stroke-width="2"/>
    <circle cx="${lx}" cy="${ly}" r="11.5" fill="none" stroke="#fff" stroke-width="1.2"/>
    <text x="${lx}" y="${ly}" dy=".36em" text-anchor="middle" font-family="system-ui, sans-serif"
      font-size="14" font-weight="700" fill="#000">${number}</text>`;
}

function zoom(element, point, image) {
  if (!point) {
    element.setAttribute("style", "");
    return;
  }
  const side = element.clientWidth;
  const scale = Math.max((image.clientWidth / image.naturalWidth) * 2, Math.min(ZOOM, (side * 12) / image.naturalWidth));
  element.style.backgroundImage = `url("${image.src}")`;
  element.style.backgroundSize = `${image.naturalWidth * scale}px ${image.naturalHeight * scale}px`;
  element.style.backgroundPosition = `${side / 2 - (point[1] + 0.5) * scale}px ${side / 2 - (point[0] + 0.5) * scale}px`;
}

function fit(image) {
  // As large as there is room, small images too: by hand, as CSS does not enlarge them in both directions.
  const stage = document.querySelector(".stage");
  const below = $("caption").offsetHeight + 16;
  const room = window.innerWidth > 860 ? stage.clientHeight - below : window.innerHeight * 0.6;
  const scale = Math.min(stage.clientWidth / image.naturalWidth, room / image.naturalHeight);
  image.style.width = `${Math.max(1, Math.floor(image.naturalWidth * scale))}px`;
}

function mark() {
  const image = $("image");
  if (!image.naturalWidth) return;
  fit(image);
  const pair = shown();
  const points = adding ?? (state.image || !pair ? [] : [pair.point1, pair.point2]);
  $("overlay").innerHTML = points.map((point, number) => marker(point, number + 1, image)).join("");
  zoom($("zoom1"), points[0], image);
  zoom($("zoom2"), points[1], image);
}

function draw() {
  const [pair, name] = [shown(), shownImage()];
  const image = $("image");
  const address = name ? data.images[name] : "";
  if (address && image.getAttribute("src") !== address) {
    image.setAttribute("src", address);
    image.alt = name;
  }
  const total = pairs().length;
  const done = pairs().filter((one) => one.id in state.answers).length;
  $("bar").style.width = `${total ? (100 * done) / total : 0}%`;
  document.querySelector(".progress").setAttribute("aria-valuenow", done);
  document.querySelector(".progress").setAttribute("aria-valuemax", total);
  $("count").textContent = `${done} of ${total}`;
  const place = state.image || !pair ? "no pair shown" : `pair ${state.at + 1} of ${total}`;
  $("caption").textContent = name ? `${name.replace("images/", "")} · ${place}` : "There is no image.";
  const given = pair && !state.image && !adding ? state.answers[pair.id] : undefined;
  for (const [id, value] of [["answer1", "point1"], ["answer2", "point2"], ["skip", "skip"]]) {
    $(id).classList.toggle("chosen", given === value);
    $(id).setAttribute("aria-pressed", given === value);
  }
  $("frame").classList.toggle("adding", adding !== null);
  $("add").setAttribute("aria-pressed", adding !== null);
  $("images").value = name ?? "";
  mark();
}

function press(event) {
  if (event.target.matches("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const actions = {
    u: undo, a: startAdding, ArrowLeft: () => move(-1), ArrowRight: () => move(1),
    Escape: () => adding && stopAdding(""),
  };
  if (key in ANSWERS) answer(ANSWERS[key]);
  else if (key in actions) actions[key]();
  else return;
  event.preventDefault();
}

function rename() {
  // Another reviewer at this browser has answers of their own; a first name takes those given without one.
  const [name, nameless] = [$("reviewer").value.trim(), stored("reviewer") === ""];
  const known = name ? load(name) : null;
  if (known || !nameless) state = known ?? empty();
  keep();
  say("");
  draw();
}

for (const name of Object.keys(data.images)) $("images").add(new Option(name.replace("images/", ""), name));
$("images").addEventListener("change", () => {
  const at = pairs().findIndex((pair) => pair.image === $("images").value);
  if (at >= 0) [state.at, state.image] = [at, null];
  else state.image = $("images").value;
  say(at >= 0 ? "" : "This image has no pair yet.");
  $("images").blur(); // keys are for the pair again
  keep();
  draw();
});
$("answer1").addEventListener("click", () => answer("point1"));
$("answer2").addEventListener("click", () => answer("point2"));
$("skip").addEventListener("click", () => answer("skip"));
$("previous").addEventListener("click", () => move(-1));
$("next").addEventListener("click", () => move(1));
$("undo").addEventListener("click", undo);
$("add").addEventListener("click", startAdding);
$("export").addEventListener("click", save);
$("reviewer").addEventListener("change", rename);
$("reviewer").addEventListener("keydown", (event) => event.key === "Enter" && $("reviewer").blur());
$("frame").addEventListener("click", click);
$("image").addEventListener("load", mark);
window.addEventListener("resize", mark);
document.addEventListener("keydown", press);

$("reviewer").value = stored("reviewer") ?? "";
state = load($("reviewer").value.trim()) ?? empty();
keep();
draw();
