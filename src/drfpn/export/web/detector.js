/**
 * A detector in the browser: an ONNX file of `drfpn export --format web`, run by onnxruntime-web.
 *
 *     import { loadDetector, readPixels } from "./detector.js";
 *     const detector = await loadDetector("detector.json", "wasm");
 *     const { detections, milliseconds } = await detector.detect(await readPixels(file));
 */

const HERE = import.meta.url;
const PADDING_SCORE = -1;
const MASK_THRESHOLD = 0.5;

/** Files of onnxruntime-web by execution provider: its API, and the name of its WebAssembly module. */
const BUILDS = {
  wasm: ["ort.wasm.min.js", "ort-wasm-simd-threaded"],
  webgpu: ["ort.webgpu.min.js", "ort-wasm-simd-threaded.asyncify"],
};

/** Return whether the browser has a GPU for the execution provider "webgpu". */
export async function hasWebGPU() {
  try {
    return Boolean(await navigator.gpu?.requestAdapter());
  } catch {
    return false;
  }
}

/**
 * Load a detector.
 *
 * @param {string} description address of detector.json, relative to this script.
 * @param {"wasm" | "webgpu"} provider execution provider of onnxruntime-web.
 * @returns {Promise<Detector>}
 */
export async function loadDetector(description = "detector.json", provider = "wasm") {
  const address = new URL(description, HERE);
  const info = await (await fetchFile(address)).json();
  const model = await (await fetchFile(new URL(info.file, address))).arrayBuffer();
  const ort = await loadRuntime(provider);
  const options = { executionProviders: [provider], logSeverityLevel: 3 }; // errors, no warnings of the optimizer
  const session = await ort.InferenceSession.create(new Uint8Array(model), options);
  return new Detector(ort, session, info);
}

async function loadRuntime(provider) {
  const [api, module] = BUILDS[provider];
  const ort = await import(new URL(`ort/${api}`, HERE));
  ort.env.logLevel = "error"; // not which operators of a graph for a GPU run on the CPU
  ort.env.wasm.wasmPaths = {
    mjs: new URL(`ort/${module}.js`, HERE).href,
    wasm: new URL(`ort/${module}.wasm`, HERE).href,
  };
  ort.env.wasm.proxy = provider === "wasm"; // in a worker, so that the page stays responsive
  return ort;
}

async function fetchFile(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address.pathname} could not be loaded: HTTP ${response.status}`);
  return response;
}

/** A detector of a session of onnxruntime-web. */
export class Detector {
  constructor(ort, session, info) {
    this.ort = ort;
    this.session = session;
    /** Content of detector.json: model, classes, score_threshold, min_side, max_side, ... */
    this.info = info;
    this.last = Promise.resolve();
  }

  /**
   * Detect objects in an image; calls wait for each other, since a session runs one image at a time.
   *
   * @param {Pixels} pixels of `readPixels`.
   * @returns {Promise<{detections: Detection[], milliseconds: number}>} detections by descending score: `box`, x1, y1,
   *   x2, y2 in pixels of the image; `score`; `label`, from 1; `name` of the class; and of detectors with masks `crop`,
   *   (M, M) probabilities inside of the box.
   * @throws {RangeError} a side is shorter than `min_side` or longer than `max_side`.
   */
  detect(pixels) {
    const result = this.last.then(() => this.#run(pixels));
    this.last = result.catch(() => undefined);
    return result;
  }

  /** Free the memory of the detector. */
  async release() {
    await this.last;
    await this.session.release();
  }

  async #run({ data, height, width }) {
    const { min_side: min, max_side: max, classes } = this.info;
    if (Math.min(height, width) < min || Math.max(height, width) > max) {
      throw new RangeError(`the image has ${width} x ${height} pixels; each side must have ${min} to ${max}`);
    }
    const copy = data.slice(); // the worker of onnxruntime-web takes the memory away
    const began = performance.now();
    const outputs = await this.session.run({ image: new this.ort.Tensor("uint8", copy, [3, height, width]) });
    const milliseconds = performance.now() - began;
    const { boxes, scores, labels, masks } = outputs;
    const area = masks ? masks.dims[1] * masks.dims[2] : 0;
    const detections = [];
    for (let i = 0; i < scores.data.length && scores.data[i] > PADDING_SCORE; i++) {
      const label = Number(labels.data[i]);
      detections.push({
        box: Array.from(boxes.data.subarray(4 * i, 4 * i + 4)),
        score: scores.data[i],
        label,
        name: classes[label - 1],
        ...(masks && { crop: masks.data.subarray(area * i, area * (i + 1)) }),
      });
    }
    return { detections, milliseconds };
  }
}

/**
 * Decode an image file as `drfpn predict` does: the EXIF orientation is applied, color profiles are not, and transparent
 * pixels are composited on white.
 *
 * @param {Blob} file
 * @returns {Promise<Pixels>} `data`, (3, height, width), RGB, uint8; `height`; `width`; and `canvas` with the image.
 */
export async function readPixels(file) {
  const bitmap = await createImageBitmap(file, {
    imageOrientation: "from-image",
    colorSpaceConversion: "none",
    premultiplyAlpha: "none",
  });
  const { height, width } = bitmap;
  const canvas = Object.assign(document.createElement("canvas"), { height, width });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const rgba = context.getImageData(0, 0, width, height).data;
  const area = height * width;
  const data = new Uint8Array(3 * area);
  for (let i = 0, j = 0; i < area; i++, j += 4) {
    data[i] = rgba[j];
    data[area + i] = rgba[j + 1];
    data[2 * area + i] = rgba[j + 2];
  }
  return { data, height, width, canvas };
}

/**
 * Paste the mask of a detection into its image, as torchvision's `paste_masks_in_image` does.
 *
 * @param {Detection} detection with a `crop`.
 * @param {{height: number, width: number}} image
 * @returns {{left: number, top: number, width: number, height: number, bits: Uint8Array}} part of the image that the
 *   mask may cover, and in `bits` (height, width) 1 where the probability is at least 0.5.
 */
export function pasteMask({ box, crop }, image) {
  const side = Math.round(Math.sqrt(crop.length));
  const padded = side + 2; // a border of zeros, so that the probability falls to 0 outside of the box
  const scale = Math.fround(padded / side);
  const [left, right] = expand(box[0], box[2], scale);
  const [top, bottom] = expand(box[1], box[3], scale);
  const columns = axis(left, right, image.width, padded);
  const rows = axis(top, bottom, image.height, padded);
  const at = (y, x) => (y < 1 || x < 1 || y > side || x > side ? 0 : crop[(y - 1) * side + x - 1]);
  const bits = new Uint8Array(columns.length * rows.length);
  rows.forEach(([y, below, v], row) => {
    columns.forEach(([x, beside, u], column) => {
      const upper = at(y, x) * (1 - u) + at(y, beside) * u;
      const lower = at(below, x) * (1 - u) + at(below, beside) * u;
      bits[row * columns.length + column] = upper * (1 - v) + lower * v >= MASK_THRESHOLD ? 1 : 0;
    });
  });
  return { left: Math.max(left, 0), top: Math.max(top, 0), width: columns.length, height: rows.length, bits };
}

/** Return an interval scaled about its center, in float32 as in PyTorch, its ends rounded towards zero. */
function expand(start, end, scale) {
  const center = Math.fround(Math.fround(start + end) / 2);
  const half = Math.fround((Math.fround(end - start) / 2) * scale);
  return [Math.trunc(Math.fround(center - half)), Math.trunc(Math.fround(center + half))];
}

/** Return for each pixel of [start, end] inside of the image two neighbors in the padded crop and a weight. */
function axis(start, end, limit, padded) {
  const length = Math.max(end - start + 1, 1);
  const pixels = [];
  for (let i = Math.max(start, 0); i < Math.min(end + 1, limit); i++) {
    const position = Math.max(((i - start + 0.5) * padded) / length - 0.5, 0);
    const first = Math.min(Math.floor(position), padded - 1);
    pixels.push([first, Math.min(first + 1, padded - 1), position - first]);
  }
  return pixels;
}

/** @typedef {{data: Uint8Array, height: number, width: number, canvas?: HTMLCanvasElement}} Pixels */
/** @typedef {{box: number[], score: number, label: number, name: string, crop?: Float32Array}} Detection */
