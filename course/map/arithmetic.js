"use strict";
// ---------------------------------------------------------------- arithmetic
// What the page holds, networks of Dense layers, nats, and the plane of the map. A code
// is an array of `dimensions` numbers, an image one of 784 pixels from 0 to 1.
// It runs on the page, in a worker, and in node for the tests.

let page;  // what page.write stored: models, labels, pictures, ...

async function unpack({ page, arrays }) {
  const stream = new Blob([bytesOf(arrays)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const data = await new Response(stream).arrayBuffer();
  const read = ({ type, shape, start }) => {
    const count = shape.reduce((a, b) => a * b, 1);
    if (type === "uint8") return new Uint8Array(data, start, count);
    if (type === "float32") return new Float32Array(data, start, count);
    const low = new Int8Array(data, start, count);  // int16: low bytes, then high ones
    const high = new Int8Array(data, start + count, count);
    return new Int16Array(low).map((value, i) => value + 256 * high[i]);
  };
  return JSON.parse(JSON.stringify(page), (_, value) =>
    value?.start === undefined ? value : read(value));
}

const activations = {
  linear: a => a, relu: a => Math.max(a, 0), sigmoid: a => 1 / (1 + Math.exp(-a)),
};

function forward(layers, input) {
  let x = input;
  for (const layer of layers) {
    // Products of floats are faster than of integers and floats.
    const kernel = layer.floats ??= new Float32Array(layer.kernel);
    const { scale, bias } = layer, activate = activations[layer.activation];
    const y = new Float64Array(bias.length), width = y.length;
    for (let i = 0, row = 0; i < x.length; i++, row += width) {
      const value = x[i];
      if (value !== 0)
        for (let j = 0; j < width; j++) y[j] += value * kernel[row + j];
    }
    for (let j = 0; j < width; j++) y[j] = activate(bias[j] + scale * y[j]);
    x = y;
  }
  return x;
}

const decode = (model, z) => forward(model.decoder, z);

// The mean and the log-variance of an image's code; an autoencoder has no log-variance.
function encode(model, image) {
  const codes = forward(model.encoder, image), d = model.dimensions;
  return [codes.subarray(0, d), codes.length > d ? codes.subarray(d) : null];
}

function crossEntropy(image, predicted) {  // summed over pixels, clipped as in Keras
  let sum = 0;
  for (let i = 0; i < image.length; i++) {
    const p = Math.min(Math.max(predicted[i], 1e-7), 1 - 1e-7);
    sum -= image[i] * Math.log(p) + (1 - image[i]) * Math.log(1 - p);
  }
  return sum;
}

// The nats of an image: reconstruction (the mean over the page's fixed draws of z), KL,
// their sum -ELBO, and the entropy of the pixels.
function measure(model, image) {
  const [mean, logVar] = encode(model, image), d = model.dimensions;
  const sd = i => logVar ? Math.exp(0.5 * logVar[i]) : 0;
  const draws = model.noise.length / d;
  let reconstruction = 0, kl = 0;
  for (let k = 0; k < draws; k++) {
    const z = mean.map((value, i) => value + sd(i) * model.noise[k * d + i]);
    reconstruction += crossEntropy(image, decode(model, z)) / draws;
  }
  for (let i = 0; logVar && i < d; i++)
    kl += 0.5 * (mean[i] ** 2 + Math.exp(logVar[i]) - 1 - logVar[i]);
  const entropy = crossEntropy(image, image);
  return { mean, logVar, reconstruction, kl, bound: reconstruction + kl, entropy };
}

const picture = i =>  // of garment i on the map
  Float32Array.from(page.pictures.subarray(784 * i, 784 * i + 784), v => v / 255);
const codeOf = ({ codes, dimensions, scale }, i) => Float32Array.from(
  codes.subarray(i * dimensions, (i + 1) * dimensions), value => value * scale);

// Between codes and points of the plane.
function toPlane({ axes, centre, dimensions }, z) {
  const point = [0, 0];
  for (let i = 0; i < dimensions; i++) {
    point[0] += (z[i] - centre[i]) * axes[i];
    point[1] += (z[i] - centre[i]) * axes[dimensions + i];
  }
  return point;
}
function fromPlane({ axes, centre, dimensions }, [u, v]) {
  return centre.map((value, i) => value + u * axes[i] + v * axes[dimensions + i]);
}
const apart = (a, b) => Math.hypot(...a.map((value, i) => value - b[i]));
// How far a code is from the plane, 0 if the map shows it where it is.
const offPlane = (model, z) => apart(fromPlane(model, toPlane(model, z)), z);
// The garments nearest to a code, or to a point: [distance, garment].
const nearest = (places, place, count) =>
  places.map((other, i) => [apart(other, place), i])
    .sort((a, b) => a[0] - b[0]).slice(0, count);
// The covariance of an image's cloud on the plane: [xx, xy, yy].
function onPlane({ axes, dimensions }, logVar) {
  const sums = [0, 0, 0];
  logVar.forEach((value, i) => {
    const a = axes[i], b = axes[dimensions + i], variance = Math.exp(value);
    [a * a, a * b, b * b].forEach((c, k) => sums[k] += c * variance);
  });
  return sums;
}
const normal = () =>  // a draw from N(0, 1), by the Box-Muller transform
  Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());

// ---------------------------------------------------------------- the true posterior
// The true posterior p(z | x) of a VAE with two dimensions, by quadrature: p(x), the
// integral of p(x | z) p(z), is a sum over squares of the map. Where it is high, squares
// are divided. The last layer's sums are a = W h + b, so that
// log p(x | z) = x . a - sum softplus(a) = (x W) . h + x . b - sum softplus(a):
// h and the last sum are computed once for a square, and serve every image.

const COARSE = 96;  // the map has so many squares along each side
const DEEP = 14;  // squares more than so many nats below the highest do not count

function square(model, z, size) {
  const hidden = forward(model.decoder.slice(0, -1), z);
  model.sums ??= [{ ...model.decoder.at(-1), activation: "linear" }];
  const sums = forward(model.sums, hidden);
  let prior = -Math.log(2 * Math.PI) - (z[0] ** 2 + z[1] ** 2) / 2;
  for (const a of sums) prior -= Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)));
  return { z, size, prior, hidden: new Float32Array(hidden), log: 0, parts: null };
}
function divided(model, [u, v], size, n) {  // n x n squares in place of one
  const offsets = Array.from({ length: n }, (_, i) => size * ((i + 0.5) / n - 0.5));
  return offsets.flatMap(y => offsets.map(x => square(model, [u + x, v + y], size / n)));
}

// log p(x) and the squares that hold the posterior's mass, each with log p(x, z).
function truePosterior(model, image) {
  const { kernel, scale, bias } = model.decoder.at(-1), width = bias.length;
  const weights = new Float64Array(kernel.length / width);  // x W
  let constant = 0;  // x . b
  for (let i = 0; i < width; i++) {
    if (image[i] === 0) continue;
    constant += image[i] * bias[i];
    for (let k = 0, at = i; k < weights.length; k++, at += width)
      weights[k] += scale * image[i] * kernel[at];
  }
  const evaluate = node => {
    let sum = constant + node.prior;
    for (let k = 0; k < weights.length; k++) sum += weights[k] * node.hidden[k];
    node.log = sum;
  };
  let squares = model.squares ??= divided(model, model.middle, 2 * model.half, COARSE);
  for (let divisions = 0; ; divisions++) {
    squares.forEach(evaluate);
    const highest = squares.reduce((high, { log }) => Math.max(high, log), -Infinity);
    squares = squares.filter(({ log }) => log > highest - DEEP);
    const isFine = squares.filter(({ log }) => log > highest - 2).length > 24;
    if (divisions === 2 || divisions === 1 && isFine) {
      const mass = squares.map(({ z, size, log }) => ({ z, size, log }));
      const sum = mass.reduce((total, { log, size }) =>
        total + size ** 2 * Math.exp(log - highest), 0);
      return { logEvidence: highest + Math.log(sum), squares: mass, highest };
    }
    squares = squares.flatMap(node =>
      node.parts ??= divided(model, node.z, node.size, 4));
  }
}

if (typeof document === "undefined") {  // in the worker
  let models;
  onmessage = ({ data: { all, model, image } }) => {
    models ??= all;
    if (image) postMessage(truePosterior(models[model], image));
  };
}
