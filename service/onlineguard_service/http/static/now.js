// The last ten minutes: the ticks, and the charts over them, of events and of clicks only where there are some.

import { Plot } from './plot.js';
import { hour, make, millis, NONE, percent, percentStep, rate, rateStep, say, time } from './format.js';

const WINDOW = 600_000; // ms shown at most
const LEAST = 60_000; // ms shown at least
const GAP = 3500; // ms without a tick, over which no line is drawn
const STEPS = [15_000, 30_000, 60_000, 120_000]; // ms between the times on the axis

const CHARTS = [
  {
    title: 'Events', label: 'Events a second', y: rate, axis: rateStep, none: 'Nothing has arrived yet', least: 1,
    lines: [{ name: 'events', look: 'a' }], of: (tick) => [tick.rates?.events], needs: (has) => has.events || !has.clicks,
  },
  {
    title: 'Clicks', label: 'Clicks a second', y: rate, axis: rateStep, none: 'No clicks in these minutes', least: 1,
    lines: [{ name: 'clicks', look: 'b' }], of: (tick) => [tick.rates?.clicks], needs: (has) => has.clicks,
  },
  {
    title: 'Latency', label: 'Latency of a request', y: millis, axis: millis, none: 'No requests yet', least: 0.9,
    lines: [{ name: 'p50', look: 'a' }, { name: 'p99', look: 'b' }],
    of: (tick) => [tick.latency?.p50, tick.latency?.p99],
  },
  {
    title: 'Invalidation rate', label: 'IVR: share of clicks decided robotic', y: percent, axis: percentStep,
    none: 'No clicks in these minutes', lines: [{ name: 'IVR', look: 'a' }], of: (tick) => [tick.ivr], least: 0.0095,
    needs: (has) => has.clicks,
  },
];

export class Now {
  #ticks = new Map(); // by time, so that a tick that comes again after a reconnection is kept once
  #marks = new Map();
  #started = null;

  constructor(host) {
    this.charts = CHARTS.map((chart) => {
      const plot = new Plot({
        label: `${chart.label}, over time`, lines: chart.lines, y: chart.axis, right: chart.lines.length > 1 ? 64 : 16,
        moved: (index) => this.charts.forEach((other) => other.plot !== plot && other.plot.cross(index)),
      });
      const figures = chart.lines.map(() => make('dd', {}, NONE));
      const element = make('section', { class: 'card chart' },
        make('header', {}, make('div', {}, make('h2', {}, chart.title), make('p', {}, chart.label)),
          make('dl', {}, ...chart.lines.map((line, n) =>
            make('div', {}, make('dt', {}, make('i', { class: line.look }), line.name), figures[n])))),
        plot.element);
      host.append(element);
      return { ...chart, plot, figures, element };
    });
  }

  /** Add a tick, and those in its `past` that are missing. Returns a sentence about a restart or a new model, or null. */
  take(tick) {
    const before = this.latest;
    for (const past of tick.past ?? []) if (!this.#ticks.has(past.t)) this.#ticks.set(past.t, past);
    const { past: _, ...latest } = tick;
    this.#ticks.set(tick.t, latest);
    this.latest = latest;
    for (const t of this.#ticks.keys()) if (t < tick.t - WINDOW - GAP) this.#ticks.delete(t);
    for (const mark of tick.marks ?? []) {
      this.#marks.set(`${mark.t} ${mark.model_version}`, { x: mark.t, text: `model ${mark.model_version}`, look: 'model' });
    }
    for (const [key, mark] of this.#marks) if (mark.x < tick.t - WINDOW) this.#marks.delete(key);
    let news = null;
    if (this.#started !== null && tick.started !== this.#started) {
      this.#marks.set(`restart ${tick.started}`, { x: tick.started, text: 'restart', look: 'restart' });
      news = 'The service was restarted.';
    } else if (before && before.model_version !== tick.model_version) {
      news = `The model was switched to ${tick.model_version}.`;
    }
    this.#started = tick.started ?? null;
    if (!document.hidden) this.show();
    return news;
  }

  show() {
    if (!this.latest) return;
    const ticks = [...this.#ticks.values()].sort((a, b) => a.t - b.t);
    const has = Object.fromEntries(['events', 'clicks'].map((of) =>
      [of, this.latest.parts?.slices[of] > 0 || ticks.some((tick) => tick.rates?.[of] > 0)]));
    const to = ticks.at(-1).t, from = to - Math.min(WINDOW, Math.max(LEAST, to - ticks[0].t));
    const step = STEPS.find((size) => (to - from) / size <= 5.01);
    const written = step < 60_000 ? time : hour;
    const ticksOfAxis = [];
    for (let t = Math.ceil(from / step) * step; t <= to; t += step) ticksOfAxis.push({ x: t, text: written(t) });
    const shown = ticks.filter((tick) => tick.t >= from);
    const xs = shown.map((tick) => tick.t);
    for (const chart of this.charts) {
      chart.element.hidden = chart.needs ? !chart.needs(has) : false;
      const values = chart.lines.map((_, n) => shown.map((tick) => chart.of(tick)[n] ?? null));
      chart.lines.forEach((_, n) => say(chart.figures[n], chart.y(values[n].at(-1))));
      chart.plot.show({
        xs, values, from, to, ticks: ticksOfAxis, step, marks: [...this.#marks.values()], gap: GAP, area: values.length === 1,
        least: chart.least, none: chart.none,
        say: (i) => ({ head: time(xs[i]), rows: chart.lines.map((line, n) => [line.name, chart.y(values[n][i]), line.look]) }),
      });
    }
  }
}
