// ---------------------------------------------------------------- 4 of 4: controls
// Everything that a reader touches changes `state` and asks for a frame.

const number = (value, digits = 2) =>  // with a minus sign, and without "-0.00"
  (value < -0.5 * 10 ** -digits ? "\u2212" : "") + Math.abs(value).toFixed(digits);
const large = part.picture.getContext("2d");
const pad = part.pad.getContext("2d");
const restored = part.reconstruction.getContext("2d");
const small = document.createElement("canvas").getContext("2d");  // the pad's pixels
small.canvas.width = small.canvas.height = 28;
// Text without the line breaks of this file, and none inside "N(0, I)".
const tell = (node, text) => node.textContent =
  text.replace(/\s+/g, " ").replaceAll("N(0, I)", "N(0,\u00a0I)");
let sliders = [], waiting = false, timer, cursor = [14, 14];

function frame() {
  waiting = false;
  if (state.isNew) encodeImage();
  grey(large, decode(state.model, state.z));
  paint();
  if (part["sliders-view"].open) for (const { i, input, value } of sliders) {
    input.value = state.z[i];
    value.textContent = number(state.z[i]);
    input.setAttribute("aria-valuetext", number(state.z[i]));
  }
}
function change() {  // at most one frame at a time; words follow when the hand rests
  if (!waiting) requestAnimationFrame(frame);
  waiting = true;
  clearTimeout(timer);
  timer = setTimeout(say, 300);
}
function say() {
  const [u, v] = state.point.map(value => number(value, 1)), words = inWords(state.z);
  const where = state.isOff ? `Off the map; its nearest place is ${u}, ${v}.
    The code is ${words}.`
    : `At ${u}, ${v}: ${words}${isGap(state.point) ? ", in a gap" : ""}.`;
  tell(part.status, where);
  part["picture-title"].textContent = state.isOff ? "Decoded off the map"
    : "Decoded here";
  part.picture.setAttribute("aria-label",
    `The decoded garment. ${part.status.textContent}`);
}
function setCode(z) {
  state.z = Float32Array.from(z);
  state.point = toPlane(state.model, z);
  state.isOff = offPlane(state.model, state.z) > 0.02 * state.model.half;
  change();
}
function setPoint(point) {
  const { middle, half } = state.model;
  state.point = point.map((value, k) =>
    Math.min(Math.max(value, middle[k] - half), middle[k] + half));
  state.z = fromPlane(state.model, state.point);
  state.isOff = false;
  change();
}

// ---- models and views

function choose(model) {
  Object.assign(state, { model, draws: [], path: [] });
  part.film.hidden = part["cloud-strip"].hidden = true;
  part.cloud.hidden = model.unit !== "nats";
  const { name, dimensions, unit } = model, isVae = unit === "nats";
  part.map.setAttribute("aria-label", `Map of codes: ${name}`);
  const where = dimensions > 2
    ? `The code has ${dimensions} numbers. The map is a plane through them: the first
       two principal components (PCA) of the codes, with
       ${Math.round(100 * model.explained)}% of their variance. Most garments' codes
       are off this plane: the ring is then hollow, at the nearest place.`
    : "The code has two numbers, the place on the map.";
  const kind = isVae
    ? `This VAE (variational autoencoder) turns an image into a cloud of codes around
       its mark. The ellipses show the cloud of the garment that is picked, at one and
       two standard deviations (sd). Training kept all clouds together close to the
       normal distribution N(0, I), so that codes drawn from it mostly give
       garments.`
    : `This autoencoder turns an image into a single point. Nothing in its training
       kept the points close to the normal distribution N(0, I), so codes drawn from it
       need not give garments.`;
  const count = n => n.toLocaleString("en");
  tell(part["map-note"], `Each mark is the code of one of ${count(page.labels.length)}
    images that the model was not trained on. ${where}`);
  tell(part["kind-note"], `${kind} N(0, I) is a bell curve around 0 for each number;
    the circles are at its 1, 2 and 3 sd. Where N(0, I) draws, but hardly any garment
    has its code, is a gap.`);
  tell(part["density-note"], `Shaded: where the codes of ${count(page.images)} images
    lie. Hatched: gaps, places where a draw from N(0, I) is at least ten times as likely
    as a garment's code. The decoder was hardly trained there, so what it gives need not
    be a garment. ${(100 * model.gap_share).toFixed(0)}% of the draws from N(0, I) fall
    into gaps, as seen on this map.`);
  tell(part.exact, `The page computes with rounded weights: its numbers differ slightly
    from those of the model in Keras. ${isVae ? `\u2212ELBO is estimated with
    ${model.noise.length / dimensions} draws of z, whose mean and spread are exactly
    those of the cloud.` : ""}`);
  tell(part["nats-note"], `A nat is an amount of information, 1.44 bits.
    ${isVae ? "KL is what the code tells about the image, reconstruction what it "
      + "leaves open; their sum is \u2212ELBO."
      : "Reconstruction is what the code leaves open about the image."}
    A perfect reconstruction would still cost the pixels' entropy, because a grey pixel
    counts as a chance of white.`);
  makeSliders();
  if (part.plane.checked) decodePlane(model);
  paintGround();
  encodeImage();
  setCode(state.measured.mean);
}

function makeSliders() {
  const { model } = state, { use, unit, dimensions } = model;
  part.sliders.replaceChildren(part.sliders.querySelector("legend"));
  part.sliders.querySelector("legend").textContent = unit === "nats"
    ? "Latent code, largest KL first" : "Code, largest standard deviation first";
  sliders = [];
  const order = [...use.keys()].sort((a, b) => use[b] - use[a]);
  for (const i of order) {
    const row = document.createElement("div"), inactive = !(use[i] > page.threshold);
    const mark = inactive ? "inactive"
      : unit === "nats" ? `${use[i].toFixed(2)} nats` : `sd ${use[i].toFixed(2)}`;
    let low = -3, high = 3;
    for (let k = i; k < model.codes.length; k += dimensions) {
      low = Math.min(low, Math.floor(model.codes[k] * model.scale));
      high = Math.max(high, Math.ceil(model.codes[k] * model.scale));
    }
    row.className = inactive ? "row inactive" : "row";
    row.innerHTML = `<label for="z${i}">Dimension ${i}</label>
      <small id="use${i}">${mark}</small>
      <input type="range" id="z${i}" min="${low}" max="${high}" step="0.05"
        aria-describedby="use${i}">
      <span class="value" aria-hidden="true"></span>`;
    part.sliders.append(row);
    const input = row.querySelector("input");
    input.addEventListener("input", () =>
      setCode(state.z.with(i, Number(input.value))));
    sliders.push({ i, input, value: row.lastElementChild });
  }
}

function interpolate() {
  const [a, b] = [part.from, part.to].map(list => codeOf(state.model, list.value));
  const t = part.way.value / 100;
  part.way.setAttribute("aria-valuetext", `${part.way.value} percent`);
  setCode(a.map((value, i) => value + t * (b[i] - value)));
}

// Codes decoded side by side on a canvas, `across` in each row.
function drawStrip(canvas, codes, model, across = 10) {
  const context = canvas.getContext("2d");
  context.fillStyle = style.paper;
  context.fillRect(0, 0, canvas.width, canvas.height);
  codes.forEach((z, k) => grey(context, decode(model, z), 30 * (k % across) + 1,
    30 * Math.floor(k / across) + 1));
}

// The same twenty draws for all models: of each, a code takes the first numbers.
function drawTwenty() {
  const longest = Math.max(...page.models.map(model => model.dimensions));
  const draws = Array.from({ length: 20 }, () =>
    Float32Array.from({ length: longest }, normal));
  part.strips.replaceChildren(...page.models.map(model => {
    const codes = draws.map(z => z.slice(0, model.dimensions));
    const figure = document.createElement("figure");
    figure.innerHTML = `<canvas width="300" height="60" role="img"></canvas>
      <figcaption></figcaption>`;
    drawStrip(figure.firstChild, codes, model);
    const inGaps = codes.filter(z => isGap(toPlane(model, z), model)).length;
    tell(figure.lastChild, `${model.name}: ${inGaps} of 20 lie in gaps`);
    figure.firstChild.setAttribute("aria-label", `Twenty draws: ${model.name}`);
    if (model === state.model) state.draws = codes;
    return figure;
  }));
  tell(part["draws-note"], `Each model decodes the same random numbers; the crosses on
    the map are this model's. In a gap N(0, I) draws, but hardly any garment has its
    code: the decoder was hardly trained there, and gives smears.`);
  change();
}

function drawFromCloud() {
  const { mean, logVar } = state.measured;
  state.draws = Array.from({ length: 10 }, () =>
    mean.map((value, i) => value + Math.exp(logVar[i] / 2) * normal()));
  part["cloud-strip"].hidden = false;
  drawStrip(part["cloud-strip"], state.draws, state.model);
  change();
}

// ---- an address for what is shown: #model=vae2&at=1.0,-0.5, or z=... off the map

const nameOf = model => (model.unit === "nats" ? "vae" : "ae") + model.dimensions;
function addressOf() {
  const text = values => [...values].map(v => v.toFixed(2)).join(",");
  const place = state.path.length > 1
    ? `path=${state.path.filter((_, i, { length }) => i % Math.ceil(length / 30) === 0
      || i === length - 1).map(text).join(";")}`
    : state.isOff ? `z=${text(state.z)}` : `at=${text(state.point)}`;
  return `${location.href.split("#")[0]}#model=${nameOf(state.model)}&${place}`;
}
function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const numbers = text => (text || "").split(",").map(Number);
  const isCode = (values, count) => values.length === count && values.every(isFinite);
  const k = page.models.findIndex(model => nameOf(model) === given.get("model"));
  if (k < 0) return;
  part.models.querySelectorAll("input")[k].checked = true;
  choose(page.models[k]);
  const at = numbers(given.get("at")), z = numbers(given.get("z"));
  const path = (given.get("path") || "").split(";").map(numbers);
  if (isCode(at, 2)) setPoint(at);
  else if (isCode(z, state.model.dimensions)) setCode(z);
  else if (path.every(point => isCode(point, 2)) && path.length > 1) {
    setPoint(path[0]);
    state.path = path;
    part.film.parentElement.open = true;
    endPath();
  } else return;
  state.moves = false;
}
async function copyAddress() {
  const address = addressOf();
  try {
    await navigator.clipboard.writeText(address);
    tell(part.copied, "Copied.");
  } catch {  // not allowed here: the address bar holds it
    location.hash = address.split("#")[1];
    tell(part.copied, "The link is in the address bar.");
  }
}

// ---- until the first touch: around a boot, a bag and a dress

function moveAround(now) {
  if (!state.moves) return;
  const stops = [9, 8, 3].map(label => [0, 1].map(k => median(state.model.points
    .filter((_, i) => page.labels[i] === label).map(point => point[k]))));
  const turn = now / 4000 % 3, from = stops[Math.floor(turn)];
  const to = stops[(Math.floor(turn) + 1) % 3];
  const t = (1 - Math.cos(Math.PI * (turn % 1))) / 2;
  setPoint(from.map((value, k) => value + t * (to[k] - value)));
  requestAnimationFrame(moveAround);
}
function stopMoving() {
  if (state.moves) change();
  state.moves = false;
}

// ---- a path on the map, its film and its strip

function startPath(point) {
  setPoint(point);
  state.path = [state.point];
  part.film.hidden = true;
}
function extendPath(point) {
  setPoint(point);
  state.path.push(state.point);
}
function along(t) {  // the point of the path after a fraction t of its length
  const { path } = state, lengths = path.slice(1).map(([x, y], i) =>
    Math.hypot(x - path[i][0], y - path[i][1]));
  let rest = t * lengths.reduce((a, b) => a + b), i = 0;
  while (i < lengths.length - 1 && rest > lengths[i]) rest -= lengths[i++];
  const share = Math.min(rest / (lengths[i] || 1), 1);
  return path[i].map((value, k) => value + share * (path[i + 1][k] - value));
}
function endPath() {
  part.film.hidden = state.path.length < 2;
  if (part.film.hidden) return;
  drawStrip(part.reel, Array.from({ length: 12 }, (_, k) =>
    fromPlane(state.model, along(k / 11))), state.model, 6);
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) play();
}
function play() {  // in four seconds; another path or move ends it
  const { path } = state, begin = performance.now();
  let last = state.point;
  const step = now => {
    if (state.path !== path || state.point !== last || !path.length) return;
    const t = Math.min(Math.max(now - begin, 0) / 4000, 1);
    setPoint(along(t));
    last = state.point;
    if (t < 1) requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}
function saveStrip() {
  const context = document.createElement("canvas").getContext("2d");
  context.canvas.width = 720;
  context.canvas.height = 240;
  context.imageSmoothingEnabled = false;
  context.drawImage(part.reel, 0, 0, 720, 240);
  const link = document.createElement("a");
  link.href = context.canvas.toDataURL();
  link.download = "path.png";
  link.click();
}

// ---- the image that is encoded

function encodeImage() {
  const { model, image } = state, measured = state.measured = measure(model, image);
  state.isNew = false;
  grey(restored, decode(model, measured.mean));
  paintPad();
  const isVae = measured.logVar !== null;
  const { reconstruction, kl, bound, entropy } = measured, excess = bound - entropy;
  const total = isVae ? "\u2212ELBO" : "reconstruction";
  const rows = isVae ? [["reconstruction", reconstruction], ["KL to N(0, I)", kl]] : [];
  rows.push([total, bound, true], ["entropy of the pixels", entropy],
    [`${total} minus entropy`, excess, true]);
  part.nats.innerHTML = rows.map(([name, value, sum]) =>
    `<tr${sum ? ' class="sum"' : ""}><th scope="row">${name}</th>
     <td>${number(value, 1)}</td></tr>`).join("");
  updatePosterior();
  const below = model.excess.filter(value => value < excess).length;
  tell(part["score-note"], `The last number is higher than that of
    ${Math.min(below, 100)}% of the garments on the map. The higher it is, the less the
    image is like those that the model was trained on.`);
  change();
}

// The true posterior: only for a VAE with two dimensions, when its squares are computed.
function updatePosterior() {
  const { model, image } = state, isReady = model.squares?.length === COARSE ** 2;
  const isTwo = model.unit === "nats" && model.dimensions === 2;
  part["zoom-figure"].hidden = part["posterior-note"].hidden = !isTwo;
  state.posterior = isTwo && isReady ? truePosterior(model, image) : null;
  if (!isTwo) return;
  if (!isReady) return tell(part["posterior-note"], "Computing the true posterior \u2026");
  const { logEvidence, isExact } = state.posterior, { bound } = state.measured;
  paintZoom();
  tell(part["posterior-note"], `\u2212log p(x) ${number(-logEvidence, 1)},
    \u2212ELBO ${number(bound, 1)}, gap ${number(bound + logEvidence, 1)}
    nats${isExact ? "" : " (being refined)"}. The gap is KL between the encoder's cloud and
    the true posterior: where the two differ, the encoder's guess costs nats that the
    decoder does not.`);
  if (!isExact) requestAnimationFrame(() => {
    if (state.model === model && state.image === image) updatePosterior();
    change();
  });
}
function fillInBackground(model) {
  if (!fillSquares(model, 8)) return setTimeout(() => fillInBackground(model), 4);
  if (state.model === model) updatePosterior();
  change();
}

function paintPad() {
  grey(small, state.image);
  pad.imageSmoothingEnabled = false;
  pad.drawImage(small.canvas, 0, 0, 196, 196);
  if (document.activeElement === part.pad) {
    pad.strokeStyle = "#ffa90e";
    pad.lineWidth = 2;
    pad.strokeRect(7 * cursor[0] - 1, 7 * cursor[1] - 1, 9, 9);
  }
}

function pick(i) {
  state.picked = i;
  restore();
  setCode(state.measured.mean);
}
const origin = () => `${page.classes[page.labels[state.picked]]}, from the map`;
function restore() {
  state.image = picture(state.picked);
  part.picked.textContent = origin();
  encodeImage();
}
function stroke(x, y) {  // a soft round brush around a pixel
  for (let row = Math.max(y - 1, 0); row <= Math.min(y + 1, 27); row++)
    for (let column = Math.max(x - 1, 0); column <= Math.min(x + 1, 27); column++) {
      const i = 28 * row + column, ink = row === y && column === x ? 1
        : row === y || column === x ? 0.6 : 0.3;
      state.image[i] = part.erase.checked ? Math.min(state.image[i], 1 - ink)
        : Math.max(state.image[i], ink);
    }
  drawn();
}
function drawn() {  // encoded once a frame, however fast the hand is
  part.picked.textContent = "drawn here";
  state.isNew = true;
  paintPad();
  change();
}

// ---- events

function listen() {
  let pressed = null;  // where a finger or button went down on the map
  part.map.addEventListener("pointerdown", event => {
    pressed = [event.clientX, event.clientY];
    part.map.setPointerCapture(event.pointerId);
    if (part.path.checked) startPath(pointAt(...pressed));
    else if (event.pointerType !== "mouse") setPoint(pointAt(...pressed));
  });
  part.map.addEventListener("pointermove", event => {
    const point = pointAt(event.clientX, event.clientY);
    if (pressed && part.path.checked) extendPath(point);
    else if (pressed || event.pointerType === "mouse" && !part.path.checked)
      setPoint(point);
  });
  part.map.addEventListener("pointerup", event => {
    const at = [event.clientX, event.clientY];
    if (part.path.checked) endPath();
    else if (pressed && Math.hypot(at[0] - pressed[0], at[1] - pressed[1]) < 8)
      pick(nearestOnMap(pointAt(...at), 1)[0]?.[1] ?? state.picked);
    pressed = null;
  });
  part.map.addEventListener("pointercancel", () => pressed = null);
  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1],
    ArrowDown: [0, -1] };
  part.map.addEventListener("keydown", event => {
    const way = ways[event.key], step = state.model.half / (event.shiftKey ? 8 : 40);
    const move = part.path.checked ? extendPath : setPoint;
    if (way && !part.film.hidden) startPath(state.point);
    if (way) move(state.point.map((value, k) => value + step * way[k]));
    else if (event.key !== "Enter") return;
    else if (part.path.checked) endPath();
    else pick(nearestOnMap(state.point, 1)[0]?.[1] ?? state.picked);
    event.preventDefault();
  });

  const pixel = event => {
    const box = part.pad.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width;
    const y = (event.clientY - box.top) / box.height;
    return [x, y].map(value => Math.min(Math.max(Math.floor(28 * value), 0), 27));
  };
  part.pad.addEventListener("pointerdown", event => stroke(...cursor = pixel(event)));
  part.pad.addEventListener("pointermove", event => {  // a line from the last pixel
    if (!event.buttons) return;
    const from = cursor, to = pixel(event);
    const steps = Math.max(Math.abs(to[0] - from[0]), Math.abs(to[1] - from[1]), 1);
    for (let k = 1; k <= steps; k++) stroke(
      ...cursor = from.map((value, i) => Math.round(value + k / steps * (to[i] - value))));
  });
  part.pad.addEventListener("keydown", event => {
    const way = ways[event.key];
    if (way) {
      cursor = cursor.map((value, k) =>
        Math.min(Math.max(value + (k ? -1 : 1) * way[k], 0), 27));
      paintPad();
    } else if (event.key === " ") stroke(...cursor);
    else return;
    event.preventDefault();
  });
  for (const kind of ["focus", "blur"]) part.pad.addEventListener(kind, paintPad);
  part.empty.addEventListener("click", () => {
    state.image = new Float32Array(784);
    drawn();
  });
  part.restore.addEventListener("click", restore);

  part.plane.addEventListener("change", () => {
    if (part.plane.checked) decodePlane(state.model);
    paintGround();
  });
  part.density.addEventListener("change", () => {
    part["density-note"].hidden = !part.density.checked;
    paintGround();
  });
  part.twenty.addEventListener("click", drawTwenty);
  part.path.addEventListener("change", () => startPath(state.point));
  part.play.addEventListener("click", play);
  part.save.addEventListener("click", saveStrip);
  part.zero.addEventListener("click", () =>
    setCode(new Float32Array(state.model.dimensions)));
  part.random.addEventListener("click", () => setCode(state.z.map(normal)));
  for (const control of [part.from, part.to, part.way])
    control.addEventListener("input", interpolate);
  part["sliders-view"].addEventListener("toggle", change);
  part.cloud.addEventListener("click", drawFromCloud);
  part.link.addEventListener("click", copyAddress);
  for (const kind of ["pointerdown", "keydown"])
    document.addEventListener(kind, stopMoving, { capture: true });
  part.map.addEventListener("pointermove", stopMoving, { capture: true });
  window.addEventListener("hashchange", readAddress);
  window.addEventListener("message", ({ data }) => {  // the theme of the page around
    if (!["light", "dark"].includes(data?.theme)) return;
    document.documentElement.dataset.theme = data.theme;
    readStyle();
    paintGround();
  });
}

function makeChoices() {
  page.models.forEach((model, k) => {
    const label = document.createElement("label");
    label.innerHTML = `<input type="radio" name="model"><span></span>`;
    label.lastChild.textContent = model.name;
    label.firstChild.checked = k === 0;
    label.firstChild.addEventListener("change", () => choose(model));
    part.models.append(label);
  });
  part.models.hidden = page.models.length < 2;
  page.classes.forEach((name, label) => {
    if (!page.labels.includes(label)) return;
    const box = document.createElement("label");
    box.innerHTML = `<input type="checkbox" checked><canvas width="36" height="36">
      </canvas><span></span>`;
    box.lastChild.textContent = name;
    const context = box.querySelector("canvas").getContext("2d");
    context.fillStyle = COLOURS[label];
    context.strokeStyle = "#808080";
    trace(context, label, 18, 18, 12);
    context.fill();
    context.stroke();
    box.firstChild.addEventListener("change", event => {
      state.hidden[event.target.checked ? "delete" : "add"](label);
      paintGround();
      change();
    });
    part.classes.append(box);
  });
  page.examples.forEach((i, k) => {
    const name = page.classes[page.labels[i]];
    const first = k === 0 || page.labels[page.examples[k - 1]] !== page.labels[i];
    [part.from, part.to].forEach(list =>
      list.add(new Option(`${name} ${first ? 1 : 2}`, i)));
  });
  part.to.selectedIndex = Math.floor(page.examples.length / 2);
}

function resize() {
  const size = Math.round(part.map.clientWidth * ratio());
  if (!size || size === part.map.width) return;
  part.map.width = part.map.height = ground.width = ground.height = size;
  paintGround();
}
function readStyle() {
  const values = getComputedStyle(document.documentElement);
  style = Object.fromEntries(["paper", "ink", "crowd"].map(name =>
    [name, values.getPropertyValue(`--${name}`).trim()]));
}

async function start() {
  page = await unpack(JSON.parse(part.model.textContent));
  for (const model of page.models) {
    model.points = Array.from(page.labels, (_, i) => toPlane(model, codeOf(model, i)));
    model.origin = toPlane(model, new Float32Array(model.dimensions));
    model.gapsAlong = Math.sqrt(model.gaps.length);
  }
  readStyle();
  makeChoices();
  listen();
  part.everything.hidden = false;
  part.loading.hidden = true;
  part.link.hidden = !/^(http|file)/.test(location.protocol);
  document.documentElement.classList.toggle("embedded", window !== window.parent);
  if (innerWidth < 900) part.encoded.open = false;
  state.model = page.models[0];
  state.picked = page.examples.at(-1);
  state.image = picture(state.picked);
  part.picked.textContent = origin();
  resize();
  choose(page.models[0]);
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) state.moves = false;
  readAddress();
  requestAnimationFrame(moveAround);
  const two = page.models.find(m => m.dimensions === 2 && m.unit === "nats");
  if (two) setTimeout(() => fillInBackground(two), 1500);
  new ResizeObserver(resize).observe(part.map);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    readStyle();
    paintGround();
  });
  window.explorer = { page, state, decode, encode, measure, setPoint, frame,
    addressOf };
}
start().catch(error => {
  part.failure.textContent = typeof DecompressionStream === "undefined"
    ? "This browser is too old for the page: update it and reload the page."
    : `The page could not start (${error.message}): download or make it again.`;
  throw error;
});
