"use strict";
// ---------------------------------------------------------------- drawing
// What both pages share: their elements, their colours, and labels on a canvas.

const part = Object.fromEntries(
  [...document.querySelectorAll("[id]")].map(node => [node.id, node]));
const COLOURS = ["#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59",
  "#e76300", "#b9ac70", "#717581", "#92dadd"];  // petroff10, as in the chapters
let style;  // the colours of the page's style sheet, light or dark

function readStyle() {
  const values = getComputedStyle(document.documentElement);
  style = Object.fromEntries(["paper", "ink", "soft", "line", "mark", "crowd"].map(name =>
    [name, values.getPropertyValue(`--${name}`).trim()]));
}
const ratio = () => window.devicePixelRatio || 1;
const median = values => [...values].sort((a, b) => a - b)[values.length >> 1];

function circle(context, x, y, r) {
  context.moveTo(x + r, y);
  context.arc(x, y, r, 0, 2 * Math.PI);
}
function cross(context, x, y, r) {
  context.moveTo(x - r, y - r);
  context.lineTo(x + r, y + r);
  context.moveTo(x - r, y + r);
  context.lineTo(x + r, y - r);
}
function write(context, text, x, y, scale) {  // with a halo
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineJoin = "round";
  context.lineWidth = 4 * scale;
  context.strokeStyle = style.paper;
  context.strokeText(text, x, y);
  context.fillStyle = style.ink;
  context.fillText(text, x, y);
}

// Positions for labels { x, y, width, height } on a square map, one after another: each
// where it wants to be if that is free, else at the nearest free place. The nearest is
// level with the label itself or touches one that is placed, so there are few to try.
function placeLabels(labels, size) {
  const placed = [];
  for (const { width, height, ...wanted } of labels) {
    const inside = (value, extent) =>
      Math.min(Math.max(value, extent / 2), size - extent / 2);
    const x0 = inside(wanted.x, width), y0 = inside(wanted.y, height);
    const beside = (middle, own, along, extent) =>
      [middle, ...placed.flatMap(other => [-1, 1].map(side =>
        other[along] + side * (other[extent] + own) / 2))];
    // Labels that touch do not hide each other, whichever way a sum was rounded.
    const isFree = ({ x, y }) => placed.every(other =>
      Math.abs(x - other.x) > (width + other.width) / 2 - 0.01
      || Math.abs(y - other.y) > (height + other.height) / 2 - 0.01);
    const cost = ({ x, y }) => Math.hypot(x - x0, y - y0)
      + (inside(x, width) === x && inside(y, height) === y ? 0 : 4 * size);
    let best = { x: x0, y: y0, width, height };
    if (!isFree(best)) best = beside(x0, width, "x", "width").flatMap(x =>
      beside(y0, height, "y", "height").map(y => ({ x, y, width, height })))
      .filter(isFree).reduce((a, b) => cost(b) < cost(a) ? b : a);
    placed.push(best);
  }
  return placed;
}
// Names { name, x, y }, each at its place or next to it, none on another.
function writeNames(context, names, size, scale) {
  context.font = `600 ${13 * scale}px system-ui, sans-serif`;
  const labels = names.map(({ name, x, y }) =>
    ({ x, y, width: context.measureText(name).width + 8 * scale, height: 16 * scale }));
  placeLabels(labels, size).forEach(({ x, y }, i) =>
    write(context, names[i].name, x, y, scale));
}

