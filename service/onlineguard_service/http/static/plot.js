// One chart: lines over a shared x, a labelled grid, marks, and a crosshair for pointer and keyboard.

import { draw, make, say } from './format.js';

const TOP = 30, BOTTOM = 22, GAP = 6; // pixels above and below the plot, and from it to its labels

/**
 * `lines`: [{name, look}], `look` being a class of page.css: a, b, limit or faint.
 * `y`: formats a value of the axis. `room`: pixels left and right for labels.
 */
export class Plot {
  #data = null;
  #at = null; // index under the crosshair
  #scale = null;

  constructor({ label, lines, y, height = 158, left = 52, right = 64, moved = () => {} }) {
    Object.assign(this, { label, lines, y, height, left, right, moved });
    this.svg = draw('svg', { 'aria-hidden': 'true', height });
    this.tip = make('div', { class: 'tip', hidden: true, 'aria-hidden': 'true' });
    this.note = make('p', { class: 'none', hidden: true });
    this.element = make('div', {
      class: 'plot', tabindex: '0', role: 'slider', 'aria-label': label, 'aria-roledescription': 'chart',
      'aria-orientation': 'horizontal', 'aria-valuemin': '0', 'aria-valuemax': '0', 'aria-valuenow': '0',
      onpointermove: (event) => this.#point(event), onpointerdown: (event) => this.#point(event),
      onpointerleave: () => this.#move(null), onblur: () => this.#move(null), onkeydown: (event) => this.#press(event),
    }, this.svg, this.note, this.tip);
    this.element.style.setProperty('height', `${height}px`);
    new ResizeObserver(() => this.#paint()).observe(this.element);
  }

  /**
   * Show `{xs, values: [[...] a line], from, to, ticks: [{x, text}], marks: [{x, text, look}], points: [{x, y}],
   * step, top, log, gap, area, least, say(i) -> {head, rows: [[name, text]]}, none}`; `none` is the text that stands where nothing is known,
   * `step` the distance of the ticks, of which only every second, third, ... is named where there is no room for all.
   */
  show(data) {
    this.#data = data;
    if (this.#at !== null && this.#at >= data.xs.length) this.#at = data.xs.length ? data.xs.length - 1 : null;
    this.#paint();
  }

  /** Put the crosshair at an index; null removes it. */
  cross(index) {
    this.#at = index;
    this.#cursor();
  }

  #paint() {
    const data = this.#data, width = this.element.clientWidth;
    if (!data || !width) return;
    this.svg.setAttribute('width', width);
    this.svg.setAttribute('viewBox', `0 0 ${width} ${this.height}`);
    const x0 = this.left, x1 = width - this.right, y0 = this.height - BOTTOM, y1 = TOP;
    const [low, high, steps] = data.log ? decades(data) : linear(data);
    const place = data.log ? Math.log10 : (value) => value;
    const x = (value) => x0 + (x1 - x0) * (data.to > data.from ? (value - data.from) / (data.to - data.from) : 1);
    const y = (value) => y0 - (y0 - y1) * Math.min(1.04, Math.max(0, (place(value) - place(low)) / (place(high) - place(low))));
    this.#scale = { x, y, x0, x1, y0, y1 };

    const grid = draw('g', { class: 'grid' });
    for (const value of steps) {
      grid.append(draw('line', { x1: x0, x2: x1, y1: y(value), y2: y(value) }),
        draw('text', { x: x0 - GAP, y: y(value), 'text-anchor': 'end', 'dominant-baseline': 'middle' }, this.y(value)));
    }
    const room = data.step && ((x1 - x0) * data.step) / (data.to - data.from);
    const every = room ? Math.ceil(Math.max(...data.ticks.map(({ text }) => text.length * 6.5 + 12)) / room) : 1;
    for (const { x: value, text, side } of data.ticks) {
      const at = x(value);
      if (at < x0 - 1 || at > x1 + 1 || (every > 1 && (value / data.step) % every !== 0)) continue;
      const anchor = side ?? (at - x0 < 16 ? 'start' : 'middle');
      grid.append(draw('text', { x: at, y: this.height - GAP, 'text-anchor': anchor }, text));
    }

    const lines = draw('g');
    const labels = [];
    this.lines.forEach((line, n) => {
      const values = data.values[n];
      lines.append(draw('path', { class: `line ${line.look}`, d: path(data.xs, values, x, y, data.gap) }));
      const last = values.findLastIndex((value) => value !== null && value !== undefined);
      if (last >= 0 && this.lines.length > 1) labels.push({ line, y: y(values[last]) });
    });
    const first = data.values[0];
    if (data.area) lines.prepend(draw('path', { class: 'area', d: area(data.xs, first, x, y, y0, data.gap) }));

    const points = draw('g', { class: 'points' });
    for (const point of data.points ?? []) {
      points.append(draw('circle', { cx: x(point.x), cy: point.y === null ? y1 : y(point.y), r: 3.5 }));
    }
    this.cursor = draw('g', { class: 'cursor' });
    this.svg.replaceChildren(grid, this.#marks(data.marks ?? []), lines, points, ends(labels, x1 + GAP, y1, y0), this.cursor);
    const empty = data.none !== undefined && data.values.every((values) => values.every((value) => value === null));
    this.note.hidden = !empty;
    if (empty) say(this.note, data.none);
    this.#cursor();
  }

  /** Vertical lines with their names above. Where names would overlap, only the newest is written. */
  #marks(marks) {
    const { x, x0, x1, y0, y1 } = this.#scale;
    const group = draw('g', { class: 'marks' });
    let free = x1 + this.right;
    for (const mark of marks.toSorted((a, b) => b.x - a.x)) {
      const at = x(mark.x);
      if (at < x0 || at > x1) continue;
      group.append(draw('line', { class: mark.look ?? '', x1: at, x2: at, y1: y1 - 18, y2: y0 }));
      const text = mark.text.length > 26 ? `${mark.text.slice(0, 25)}…` : mark.text;
      const wide = text.length * 6.4 + 4;
      const leftwards = at + wide > Math.min(free, x1 + this.right);
      if (leftwards && (at - wide < 0 || at > free)) continue;
      group.append(draw('text', { class: mark.look ?? '', x: leftwards ? at - 4 : at + 4, y: y1 - 12,
        'text-anchor': leftwards ? 'end' : 'start' }, text));
      free = leftwards ? at - wide - 8 : at - 8;
    }
    return group;
  }

  #cursor() {
    const data = this.#data;
    if (!this.cursor || !data) return;
    this.element.setAttribute('aria-valuemax', Math.max(0, data.xs.length - 1));
    const at = this.#at;
    this.tip.hidden = at === null;
    if (at === null) {
      this.cursor.replaceChildren();
      const last = data.xs.length - 1;
      this.element.setAttribute('aria-valuenow', Math.max(0, last));
      this.element.setAttribute('aria-valuetext', last < 0 ? data.none ?? 'nothing yet' : spoken(data.say(last)));
      return;
    }
    const { x, y, y0, y1 } = this.#scale;
    const left = x(data.xs[at]), { head, rows } = data.say(at);
    this.cursor.replaceChildren(draw('line', { x1: left, x2: left, y1, y2: y0 }));
    this.lines.forEach((line, n) => {
      const value = data.values[n][at];
      if (value !== null && value !== undefined) {
        this.cursor.append(draw('circle', { class: line.look, cx: left, cy: y(value), r: 3.5 }));
      }
    });
    this.element.setAttribute('aria-valuenow', at);
    this.element.setAttribute('aria-valuetext', spoken({ head, rows }));
    this.tip.replaceChildren(make('b', {}, head), ...rows.map(([name, text, look]) =>
      make('span', {}, make('i', { class: look ?? '' }), name, make('em', {}, text))));
    const room = this.element.clientWidth, wide = this.tip.offsetWidth;
    const over = left + 12 + wide > room;
    this.tip.style.setProperty('left', `${Math.max(0, Math.min(room - wide, over ? left - 12 - wide : left + 12))}px`);
  }

  #point(event) {
    const data = this.#data;
    if (!data?.xs.length || !this.#scale) return;
    const { x } = this.#scale, at = event.clientX - this.element.getBoundingClientRect().left;
    let low = 0, high = data.xs.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (x(data.xs[middle]) < at) low = middle + 1;
      else high = middle;
    }
    this.#move(low > 0 && at - x(data.xs[low - 1]) < x(data.xs[low]) - at ? low - 1 : low);
  }

  #press(event) {
    const last = (this.#data?.xs.length ?? 0) - 1;
    if (last < 0) return;
    const at = this.#at ?? last, far = Math.max(1, Math.round(last / 10));
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowDown: at - 1, ArrowUp: at + 1, PageDown: at - far,
      PageUp: at + far, Home: 0, End: last }[event.key];
    if (to === undefined) {
      if (event.key === 'Escape' && this.#at !== null) {
        event.preventDefault();
        event.stopPropagation();
        this.#move(null);
      }
      return;
    }
    event.preventDefault();
    this.#move(Math.min(last, Math.max(0, to)));
  }

  #move(index) {
    this.cross(index);
    this.moved(index);
  }
}

/** An axis from zero to a round number above every value, with three to five round steps. */
function linear(data) {
  const top = data.top ?? Math.max(...data.values.flat().filter(Number.isFinite), data.least ?? 0) * 1.05;
  if (!(top > 0)) return [0, 1, [0]];
  const rough = top / 3, size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].find((factor) => factor * size >= rough * 0.999) * size;
  const steps = Array.from({ length: Math.ceil(top / step - 1e-9) + 1 }, (_, n) => n * step);
  return [0, data.top ?? steps.at(-1), steps.filter((value) => value <= (data.top ?? Infinity) * 1.0001)];
}

/** An axis from the power of ten below all values to the one above them, with at most five labels. */
function decades(data) {
  const values = data.values.flat().filter((value) => value > 0);
  const low = Math.floor(Math.log10(Math.min(...values))), high = Math.ceil(Math.log10(Math.max(...values) * 1.01));
  const every = Math.ceil((high - low + 1) / 5);
  const steps = Array.from({ length: high - low + 1 }, (_, n) => low + n).filter((n) => (n - low) % every === 0);
  return [10 ** low, 10 ** high, steps.map((n) => 10 ** n)];
}

/** The parts of a line between its gaps: absent values, and steps in x longer than `gap`. */
function* runs(xs, values, x, y, gap = Infinity) {
  let run = [];
  for (let n = 0; n < xs.length; n += 1) {
    const missing = values[n] === null || values[n] === undefined;
    if (run.length && (missing || xs[n] - xs[n - 1] > gap)) {
      yield run;
      run = [];
    }
    if (!missing) run.push([x(xs[n]).toFixed(1), y(values[n]).toFixed(1)]);
  }
  if (run.length) yield run;
}

function path(xs, values, x, y, gap) {
  let d = '';
  for (const run of runs(xs, values, x, y, gap)) d += `M${run.map((at) => at.join(' ')).join('L')}${run.length === 1 ? 'm-1.5 0h3' : ''}`; // a single point is drawn as a dash
  return d;
}

function area(xs, values, x, y, floor, gap) {
  let d = '';
  for (const run of runs(xs, values, x, y, gap)) {
    d += `M${run[0][0]} ${floor}L${run.map((at) => at.join(' ')).join('L')}L${run.at(-1)[0]} ${floor}Z`;
  }
  return d;
}

/** The names of the lines at their right ends, moved apart if they would overlap. */
function ends(labels, left, top, bottom) {
  const group = draw('g', { class: 'ends' });
  labels.sort((a, b) => a.y - b.y);
  let least = top;
  for (const label of labels) least = (label.at = Math.max(label.y, least)) + 14;
  let most = bottom;
  for (const label of labels.toReversed()) most = (label.at = Math.min(label.at, most)) - 14;
  for (const { line, at } of labels) {
    group.append(draw('text', { class: line.look, x: left, y: at, 'dominant-baseline': 'middle' }, line.name));
  }
  return group;
}

const spoken = ({ head, rows }) => `${head}: ${rows.map(([name, text]) => `${name} ${text}`).join(', ')}`;
