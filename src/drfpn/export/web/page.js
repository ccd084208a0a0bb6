/** The page: an image is chosen, its detections are drawn and listed. */

import { hasWebGPU, loadDetector, pasteMask, readPixels } from "./detector.js";

/** Colors of Okabe and Ito, which can be distinguished with color blindness; each with a color of its text. */
const PALETTE = [
  ["#0072B2", "white"],
  ["#E69F00", "black"],
  ["#009E73", "white"],
  ["#CC79A7", "black"],
  ["#D55E00", "white"],
  ["#56B4E9", "black"],
  ["#F0E442", "black"],
  ["#000000", "white"],
];
const MASK_OPACITY = 0.4;
const MIN_SHORTER_SIDE = 480; // smaller images are enlarged, so that the text can be read
const NAMES = { wasm: "CPU", webgpu: "GPU" };

const byId = (id) => document.getElementById(id);
const [status, threshold, provider, picture] = ["status", "threshold", "provider", "picture"].map(byId);

let detector; // promise of the current one
let image; // pixels of the last image
let detections = [];
let requests = 0; // a result is shown only if no other one was asked for since

function say(text, error = false) {
  status.textContent = text;
  status.classList.toggle("error", error);
}

function reason(error) {
  const text = String(error?.message ?? error).split("\n")[0];
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

/** Load the detector for the chosen execution provider; where a GPU fails, for the CPU. */
async function load() {
  const previous = detector;
  const chosen = provider.value;
  say("Loading the detector…");
  detector = (async () => {
    await (await previous?.catch(() => undefined))?.release();
    return loadDetector("detector.json", chosen);
  })();
  try {
    const { info } = await detector;
    document.title = byId("title").textContent = info.model;
    threshold.min = info.score_threshold;
    show();
    return true;
  } catch (error) {
    if (chosen === "webgpu") return fallBack(error);
    say(`The detector could not be loaded: ${reason(error)}`, true);
    return false;
  }
}

function fallBack(error) {
  console.warn(error);
  provider.value = "wasm";
  provider.querySelector("[value=webgpu]").disabled = true;
  return load();
}

async function read(file) {
  const request = ++requests;
  say("Reading the image…");
  try {
    const pixels = await readPixels(file);
    if (request !== requests) return;
    image = pixels;
  } catch {
    if (request === requests) say(`${file.name || "The file"} is not an image that this browser can read.`, true);
    return;
  }
  await detect();
}

/** Detect objects in the last image and show them. */
async function detect() {
  const request = ++requests;
  const chosen = provider.value;
  say("Detecting…");
  await new Promise((done) => setTimeout(done)); // paints the text first
  try {
    const result = await (await detector).detect(image);
    if (request !== requests) return;
    detections = result.detections;
    image.timing = `${NAMES[chosen]}, ${Math.round(result.milliseconds)} ms`;
    show();
  } catch (error) {
    if (request !== requests) return;
    if (chosen === "webgpu" && !(error instanceof RangeError)) {
      if (await fallBack(error)) await detect();
      return;
    }
    detections = [];
    byId("result").hidden = true;
    say(`Nothing was detected: ${reason(error)}`, true);
  }
}

/** Draw and list the detections that reach the confidence threshold. */
function show() {
  const minimum = threshold.valueAsNumber;
  byId("threshold-value").textContent = minimum.toFixed(2);
  if (!image?.timing) return;
  const shown = detections.filter(({ score }) => score >= minimum);
  draw(shown);
  byId("detections").replaceChildren(...shown.map(row));
  byId("result").hidden = false;
  const count = shown.length === 1 ? "1 detection" : `${shown.length} detections`;
  say(`${count} with a score of at least ${minimum.toFixed(2)} in ${image.width} x ${image.height} pixels (${image.timing}).`);
}

function row({ name, score, box }) {
  const tr = document.createElement("tr");
  for (const text of [name, score.toFixed(3), box.map((value) => value.toFixed(1)).join(", ")]) {
    tr.insertCell().textContent = text; // as text: names of classes may hold markup
  }
  return tr;
}

function draw(shown) {
  const zoom = Math.max(1, Math.min(MIN_SHORTER_SIDE / Math.min(image.width, image.height), 1600 / Math.max(image.width, image.height)));
  picture.width = Math.round(image.width * zoom);
  picture.height = Math.round(image.height * zoom);
  const context = picture.getContext("2d");
  context.drawImage(image.canvas, 0, 0, picture.width, picture.height);
  const bestLast = [...shown].reverse();
  for (const detection of bestLast.filter(({ crop }) => crop)) drawMask(context, detection, zoom);
  const line = Math.max(1, Math.round(Math.sqrt(picture.width * picture.height) / 260));
  for (const detection of bestLast) drawBox(context, detection, zoom, line);
}

function colors(label) {
  return PALETTE[(label - 1) % PALETTE.length];
}

function drawMask(context, detection, zoom) {
  detection.mask ??= maskCanvas(detection);
  const { canvas, left, top } = detection.mask;
  if (canvas) context.drawImage(canvas, left * zoom, top * zoom, canvas.width * zoom, canvas.height * zoom);
}

/** Return a canvas with the mask of a detection in its color, and the place of the canvas in the image. */
function maskCanvas(detection) {
  const { left, top, width, height, bits } = pasteMask(detection, image);
  if (!bits.length) return {};
  const color = parseInt(colors(detection.label)[0].slice(1), 16);
  const rgba = new ImageData(width, height);
  const [red, green, blue, alpha] = [color >> 16, (color >> 8) & 255, color & 255, Math.round(255 * MASK_OPACITY)];
  bits.forEach((bit, i) => bit && rgba.data.set([red, green, blue, alpha], 4 * i));
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  canvas.getContext("2d").putImageData(rgba, 0, 0);
  return { canvas, left, top };
}

function drawBox(context, { box, name, score, label }, zoom, line) {
  const [x1, y1, x2, y2] = box.map((value) => value * zoom);
  const [color, ink] = colors(label);
  context.lineJoin = "round";
  for (const [style, width] of [["white", line + 2 * Math.max(1, Math.floor(line / 3))], [color, line]]) {
    context.strokeStyle = style;
    context.lineWidth = width;
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
  }
  const size = 11 + 2 * line;
  const text = `${name} ${score.toFixed(2)}`;
  context.font = `${size}px system-ui, sans-serif`;
  context.textBaseline = "top";
  const width = context.measureText(text).width + size / 2;
  const x = Math.max(0, Math.min(x1, picture.width - width));
  const y = y1 >= 1.3 * size ? y1 - 1.3 * size : y1;
  context.fillStyle = color;
  context.fillRect(x, y, width, 1.3 * size);
  context.fillStyle = ink;
  context.fillText(text, x + size / 4, y + 0.15 * size);
}

/** Read the first image among files that were chosen, dropped or pasted. */
async function open(files) {
  const [file] = files;
  if (file && (await ready)) await read(file);
}

const drop = document.body;
drop.addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("dragging");
});
drop.addEventListener("dragleave", () => drop.classList.remove("dragging"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("dragging");
  open(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => open(event.clipboardData.files));
byId("file").addEventListener("change", ({ target }) => {
  open(target.files);
  target.value = ""; // so that the same file can be chosen again
});
threshold.addEventListener("input", show);
provider.addEventListener("change", () => {
  ready = load();
  ready.then((loaded) => loaded && (image ? detect() : say("Choose an image.")));
});

hasWebGPU().then((has) => {
  if (has) provider.querySelector("[value=webgpu]").disabled = false;
});
let ready = load();
ready.then((loaded) => loaded && !image && say("Choose an image."));
