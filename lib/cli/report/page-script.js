'use strict';
/* global document, getComputedStyle, matchMedia, requestAnimationFrame */
/**
 * Script of the report page. It runs in the reader's browser on the JSON in #report. Each picture has a canvas of one pixel
 * per patch over it, stretched by the browser, so that redrawing all pictures costs next to nothing while the slider moves.
 */
const report = JSON.parse(document.getElementById('report').textContent);
const form = document.forms.controls;
const keep = form.elements.keep;
const keepOutput = form.elements.keepOutput;
const heat = form.elements.heat;
const dim = form.elements.dim;
const chosen = form.elements.chosen;
const root = document.documentElement;

const cards = report.images.map((image, index) => {
  const figure = document.querySelectorAll('figure')[index];
  const canvas = figure.querySelector('canvas');
  const maps = image.maps.map((map) => {
    const order = map.scores.map((_, patch) => patch);
    order.sort((a, b) => map.scores[b] - map.scores[a] || a - b);
    const place = new Array(order.length);
    order.forEach((patch, rank) => {
      place[patch] = rank;
    });
    return { ...map, place, chosenSet: map.selected ? new Set(map.selected) : null };
  });
  return {
    canvas,
    maps,
    context: canvas.getContext('2d'),
    count: figure.querySelector('[data-count]'),
    patch: figure.querySelector('[data-patch]'),
    hint: figure.querySelector('[data-patch]').textContent,
    name: image.name,
  };
});

function heatColour(share) {
  const stops = report.heatStops;
  const position = Math.min(1, Math.max(0, share)) * (stops.length - 1);
  const low = Math.min(stops.length - 2, Math.floor(position));
  return stops[low].map(
    (value, channel) => value + (stops[low + 1][channel] - value) * (position - low),
  );
}

function currentMap(card) {
  const label = form.elements.map ? form.elements.map.value : null;
  return card.maps.find((map) => map.label === label) || card.maps[0];
}

function rgb(name) {
  const probe = document.createElement('span');
  probe.style.color = 'var(' + name + ')';
  document.body.append(probe);
  const values = getComputedStyle(probe)
    .color.match(/[\d.]+/g)
    .map(Number);
  probe.remove();
  return values;
}

function draw() {
  const share = Number(keep.value) / 100;
  keepOutput.value = keep.value + '%';
  const dropped = rgb('--dropped');
  for (const card of cards) {
    const map = currentMap(card);
    const total = map.scores.length;
    const useChosen = chosen && chosen.checked && map.chosenSet;
    const count = useChosen ? map.chosenSet.size : Math.max(1, Math.round(total * share));
    const { canvas, context } = card;
    if (canvas.width !== map.columns || canvas.height !== map.rows) {
      canvas.width = map.columns;
      canvas.height = map.rows;
    }
    const pixels = context.createImageData(map.columns, map.rows);
    for (let patch = 0; patch < total; patch++) {
      const kept = useChosen ? map.chosenSet.has(patch) : map.place[patch] < count;
      let colour = [0, 0, 0, 0];
      if (!kept && dim.checked) colour = [...dropped.slice(0, 3), 226];
      else if (heat.checked)
        colour = [...heatColour(1 - map.place[patch] / Math.max(1, total - 1)), 168];
      pixels.data.set(colour, patch * 4);
    }
    context.putImageData(pixels, 0, 0);
    const text =
      count + ' of ' + total + ' patches kept (' + Math.round((100 * count) / total) + '%)';
    card.count.textContent = text;
    canvas.setAttribute(
      'aria-label',
      card.name + ': ' + text + (heat.checked ? ', heat map shown' : ''),
    );
  }
}

let waiting = false;
function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    draw();
  });
}

document.addEventListener('input', (event) => {
  if (event.target === keep && chosen) chosen.checked = false;
  redraw();
});
form.addEventListener('submit', (event) => event.preventDefault());

const number = (value) => Number(value.toPrecision(4)).toString();
for (const card of cards) {
  const point = (event) => {
    const map = currentMap(card);
    const area = card.canvas.getBoundingClientRect();
    const column = Math.min(
      map.columns - 1,
      Math.max(0, Math.floor(((event.clientX - area.left) / area.width) * map.columns)),
    );
    const row = Math.min(
      map.rows - 1,
      Math.max(0, Math.floor(((event.clientY - area.top) / area.height) * map.rows)),
    );
    const patch = row * map.columns + column;
    const spread = map.standardErrors ? map.standardErrors[patch] : null;
    card.patch.textContent =
      'Row ' +
      (row + 1) +
      ', column ' +
      (column + 1) +
      ': place ' +
      (map.place[patch] + 1) +
      ' of ' +
      map.scores.length +
      ', score ' +
      number(map.scores[patch]) +
      (spread === null ? '' : ' \u00b1 ' + number(spread));
  };
  card.canvas.addEventListener('pointermove', point);
  card.canvas.addEventListener('pointerdown', point);
  card.canvas.addEventListener('pointerleave', () => {
    card.patch.textContent = card.hint;
  });
}

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  // A slider and a choice have arrow keys of their own.
  const field = event.target.closest('input[type=range], input[type=radio]');
  const step = { ArrowLeft: -1, ArrowRight: 1, PageDown: -10, PageUp: 10 }[event.key];
  if (step !== undefined && !field) {
    keep.value = Number(keep.value) + step;
    if (chosen) chosen.checked = false;
    event.preventDefault();
  } else if (event.key === 'h') heat.checked = !heat.checked;
  else if (event.key === 'd') dim.checked = !dim.checked;
  else return;
  redraw();
});

const theme = document.getElementById('theme');
const dark = matchMedia('(prefers-color-scheme: dark)');
const isDark = () => (root.dataset.theme ? root.dataset.theme === 'dark' : dark.matches);
function nameTheme() {
  theme.textContent = isDark() ? 'Light page' : 'Dark page';
}
theme.addEventListener('click', () => {
  root.dataset.theme = isDark() ? 'light' : 'dark';
  nameTheme();
  redraw();
});
dark.addEventListener('change', () => {
  nameTheme();
  redraw();
});
nameTheme();
draw();
