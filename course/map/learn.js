// ---------------------------------------------------------------- 1 of 2: the learner
// A VAE in plain JavaScript. It runs in a worker, and in node for the tests.
// A batch of n rows is one Float64Array, row after row.

const PIXELS = 196, DIMENSIONS = 2, BATCH = 32;
const WIDTHS = [PIXELS, 64, 32];  // the encoder's; the decoder's are the same, reversed

function* numbers(seed) {  // uniform in [0, 1): the generator mulberry32
  for (let state = seed; ;) {
    state = state + 0x6D2B79F5 | 0;
    let t = Math.imul(state ^ state >>> 15, 1 | state);
    t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t;
    yield ((t ^ t >>> 14) >>> 0) / 2 ** 32;
  }
}
function normals(random, count) {  // from N(0, 1), by Box and Muller
  return Float64Array.from({ length: count }, () =>
    Math.sqrt(-2 * Math.log(1 - random.next().value))
    * Math.cos(2 * Math.PI * random.next().value));
}

function layer(rows, columns, random) {  // Glorot's uniform kernel, as in Keras
  const limit = Math.sqrt(6 / (rows + columns)), zeros = n => new Float64Array(n);
  const kernel = Float64Array.from({ length: rows * columns },
    () => limit * (2 * random.next().value - 1));
  return [kernel, zeros(columns)].map(values => ({
    values, gradient: zeros(values.length),
    first: zeros(values.length), second: zeros(values.length),  // Adam's moments
  }));
}
function network(random) {  // an encoder to mean and log-variance, and a decoder
  const stack = widths => widths.slice(1).map((w, i) => layer(widths[i], w, random));
  return {
    encoder: stack([...WIDTHS, 2 * DIMENSIONS]),
    decoder: stack([DIMENSIONS, ...[...WIDTHS].reverse()]),
    steps: 0,
  };
}
const weights = net => [...net.encoder, ...net.decoder].flat();

function forward(layers, x) {  // the values of every layer, x first; ReLU between them
  const values = [x];
  layers.forEach(([{ values: kernel }, { values: bias }], l) => {
    const input = values[l], columns = bias.length, rows = kernel.length / columns;
    const n = input.length / rows, output = new Float64Array(n * columns);
    for (let i = 0; i < n; i++) {
      const to = i * columns;
      output.set(bias, to);
      for (let k = 0; k < rows; k++) {
        const value = input[i * rows + k], from = k * columns;
        if (value !== 0)
          for (let j = 0; j < columns; j++) output[to + j] += value * kernel[from + j];
      }
    }
    if (l < layers.length - 1)
      for (let i = 0; i < output.length; i++) if (output[i] < 0) output[i] = 0;
    values.push(output);
  });
  return values;
}

// The chain rule: from the gradient of the last layer's values to those of kernels and
// biases, which are added up, and of x, which is returned.
function backward(layers, values, gradient) {
  for (let l = layers.length - 1; l >= 0; l--) {
    const [kernel, bias] = layers[l], input = values[l], columns = bias.values.length;
    const rows = kernel.values.length / columns, n = input.length / rows;
    const next = new Float64Array(input.length), { values: w, gradient: dw } = kernel;
    for (let i = 0; i < n; i++) {
      const to = i * columns;
      for (let j = 0; j < columns; j++) bias.gradient[j] += gradient[to + j];
      for (let k = 0; k < rows; k++) {
        const value = input[i * rows + k], from = k * columns;
        // Black pixels and ReLUs that are off pass nothing on; a code of 0 does.
        if (value === 0 && rows !== DIMENSIONS) continue;
        let sum = 0;
        for (let j = 0; j < columns; j++) {
          const g = gradient[to + j];
          dw[from + j] += value * g;
          sum += w[from + j] * g;
        }
        next[i * rows + k] = sum;
      }
    }
    gradient = next;
  }
  return gradient;
}

function adam(net, rate) {  // Kingma and Ba 2015, with Keras' constants
  const t = ++net.steps, scale = rate * Math.sqrt(1 - 0.999 ** t) / (1 - 0.9 ** t);
  for (const { values, gradient, first, second } of weights(net))
    for (let i = 0; i < values.length; i++) {
      first[i] += 0.1 * (gradient[i] - first[i]);
      second[i] += 0.001 * (gradient[i] ** 2 - second[i]);
      values[i] -= scale * first[i] / (Math.sqrt(second[i]) + 1e-7);
    }
}

// ---------------------------------------------------------------- the training step
// Of images x (n, 196) and noise (n, 2) from N(0, 1): the loss, its gradient, a step.

function losses(net, x, noise, noisy) {  // reconstruction and KL, in nats per image
  // Encode: two means and two log-variances for each image.
  const n = x.length / PIXELS, encoded = forward(net.encoder, x), code = encoded.at(-1);
  const codes = [];
  for (let i = 0; i < n; i++)
    for (const d of [0, 1])
      codes.push({ mean: 4 * i + d, logVar: 4 * i + 2 + d, z: 2 * i + d });

  // Sample: z = mean + standard deviation * noise.
  const z = new Float64Array(2 * n);
  for (const at of codes)
    z[at.z] = code[at.mean] + (noisy ? Math.exp(code[at.logVar] / 2) * noise[at.z] : 0);

  // Decode, and compare: binary cross-entropy of x and sigmoid(a), summed over pixels.
  const decoded = forward(net.decoder, z);
  let reconstruction = 0, kl = 0;
  decoded.at(-1).forEach((a, i) => {
    reconstruction += (Math.max(a, 0) - a * x[i] + Math.log1p(Math.exp(-Math.abs(a)))) / n;
  });

  // KL from N(mean, variance) to N(0, 1), summed over the two dimensions.
  for (const at of codes) {
    const mean = code[at.mean], logVar = code[at.logVar];
    kl += 0.5 * (mean * mean + Math.exp(logVar) - 1 - logVar) / n;
  }
  return { encoded, code, codes, decoded, reconstruction, kl };
}

function gradients(net, x, noise, { beta, noisy }) {  // of reconstruction + beta * KL
  const now = losses(net, x, noise, noisy), { code } = now, n = x.length / PIXELS;
  for (const { gradient } of weights(net)) gradient.fill(0);

  // The cross-entropy's slope is sigmoid(a) - x; backward through the decoder to z.
  const slope = now.decoded.at(-1).map((a, i) => (1 / (1 + Math.exp(-a)) - x[i]) / n);
  const dz = backward(net.decoder, now.decoded, slope);

  // z and KL depend on means and log-variances; backward through the encoder.
  const dCode = new Float64Array(code.length);
  for (const at of now.codes) {
    const variance = Math.exp(code[at.logVar]);
    dCode[at.mean] = dz[at.z] + beta * code[at.mean] / n;
    dCode[at.logVar] = beta * 0.5 * (variance - 1) / n
      + (noisy ? dz[at.z] * noise[at.z] * 0.5 * Math.sqrt(variance) : 0);
  }
  backward(net.encoder, now.encoded, dCode);
  return now;
}

function step(net, x, noise, settings) {
  const now = gradients(net, x, noise, settings);
  adam(net, settings.rate);
  return now;
}

// ---------------------------------------------------------------- the worker
// Trains until the epoch that the page names. Shows its state when the page has drawn
// the one before, and not more often than every `settings.pause` milliseconds.

const GRID = 14;  // the decoded plane has so many images along each side
let run;

function begin({ images, shown, picked, seed, settings }) {
  const random = numbers(seed), x = Float64Array.from(images, value => value / 255);
  const count = x.length / PIXELS - shown;
  run = {
    net: network(random), random, settings, picked, until: 0, waiting: false, last: 0,
    shown: x.subarray(0, shown * PIXELS), x: x.subarray(shown * PIXELS),
    order: Array.from({ length: count }, (_, i) => i),
    perEpoch: Math.floor(count / BATCH), batch: 0,
    noise: normals(random, shown * 2), draws: normals(random, 20),
  };
}
const epoch = () => run.batch / run.perEpoch;
function current() {  // the settings; in a warm-up, beta rises
  const { settings } = run, { beta, warm } = settings;
  return { ...settings, beta: warm ? beta * Math.min(1, epoch() / warm) : beta };
}

function trainBatch() {
  const { order, random, perEpoch, x } = run, start = run.batch % perEpoch * BATCH;
  if (start === 0)  // a new epoch, in a new order
    for (let i = order.length - 1; i > 0; i--) {
      const j = Math.floor(random.next().value * (i + 1));
      [order[i], order[j]] = [order[j], order[i]];
    }
  const batch = new Float64Array(BATCH * PIXELS);
  order.slice(start, start + BATCH).forEach((from, i) =>
    batch.set(x.subarray(from * PIXELS, (from + 1) * PIXELS), i * PIXELS));
  step(run.net, batch, normals(random, 2 * BATCH), current());
  run.batch++;
}

function decode(z) {  // images as bytes
  const logits = forward(run.net.decoder, Float64Array.from(z)).at(-1);
  return Uint8Array.from(logits, a => 255 / (1 + Math.exp(-a)) + 0.5);
}
const deviation = values => {
  const mean = values.reduce((a, b) => a + b) / values.length;
  return Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length);
};
function picture() {  // all that the page draws
  const { net, shown, noise, picked, draws } = run, settings = current();
  const { code, reconstruction, kl } = losses(net, shown, noise, settings.noisy);
  const means = [], sds = [], grid = [];
  for (let i = 0; i < code.length; i += 4) {
    means.push(code[i], code[i + 1]);
    sds.push(Math.exp(code[i + 2] / 2), Math.exp(code[i + 3] / 2));
  }
  // The map is centred on 0; it shows 98% of all means, and all of N(0, I).
  const sizes = means.map(Math.abs).sort((a, b) => a - b);
  const half = Math.max(3.3, 1.15 * sizes[Math.floor(0.98 * sizes.length)]);
  const at = i => half * ((2 * i + 1) / GRID - 1);
  for (let row = 0; row < GRID; row++)
    for (let column = 0; column < GRID; column++) grid.push(at(column), -at(row));
  return {
    epoch: epoch(), beta: settings.beta, reconstruction, kl, half, means, sds, draws,
    spread: deviation(means), noise: sds.reduce((a, b) => a + b) / sds.length,
    plane: decode(grid), samples: decode(draws),
    decoded: decode(picked.flatMap(i => [means[2 * i], means[2 * i + 1]])),
  };
}

function work() {
  const end = performance.now() + 25, isOn = () => run.batch < run.until * run.perEpoch;
  while (isOn() && performance.now() < end) trainBatch();
  const isDue = performance.now() > run.last + run.settings.pause || !isOn();
  if (isDue && !run.waiting && run.drawn !== run.batch) {
    Object.assign(run, { waiting: true, last: performance.now(), drawn: run.batch });
    postMessage(picture());
  }
  if (isOn()) run.timer = setTimeout(work);
}

if (typeof importScripts === "function")  // in a worker, not in the page or in node
  onmessage = ({ data: { start, settings, until, drawn } }) => {
    if (start) begin(start);
    if (settings) run.settings = settings;
    if (until !== undefined) run.until = until;
    if (drawn) run.waiting = false;
    clearTimeout(run.timer);
    work();
  };
