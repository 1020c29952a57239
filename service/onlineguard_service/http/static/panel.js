// One slice: its score against its threshold over the latest events, its alarms, and the drivers of its score.

import { Plot } from './plot.js';
import { ago, count, date, make, NONE, number, percent, say, step, time } from './format.js';

const EVERY = 2000; // ms
const DRIVERS = 12; // bars shown at most
const FAR = 25; // the axis is logarithmic if the largest score is at least this many times the usual one

const FIGURES = [
  ['Seen', (slice) => count(slice.events)],
  ['Anomalies', (slice) => count(slice.anomalies)],
  ['Drift', (slice) => percent(slice.drift), 'of its latest events'],
  ['Latest score', (slice) => number(slice.score), (slice) => `threshold ${number(slice.threshold)}`],
  ['P(robot)', (slice) => number(slice.p_robot), (slice) => `limit ${number(slice.robot_threshold)}`, 'clicks'],
  ['IVR', (slice) => percent(slice.ivr), 'decided robotic', 'clicks'],
  ['FPR', (slice) => percent(slice.fpr), 'of purchasing clicks', 'clicks'],
  ['Last seen', (slice, now) => ago(slice.last_ts, now), (slice) => date(slice.last_ts)],
];

export class Panel {
  #timer = 0;
  #asked = 0;

  constructor(api, { closed, now }) {
    Object.assign(this, { api, closed, now, of: null, key: null });
    this.dialog = document.getElementById('panel');
    this.dialog.addEventListener('close', () => this.#close());
    this.dialog.addEventListener('click', (event) => event.target === this.dialog && this.dialog.close());
    document.addEventListener('visibilitychange', () => document.hidden || this.#poll());
  }

  /** Show a slice; a null key closes the panel. */
  show(of, key) {
    if (of === this.of && key === this.key) return;
    Object.assign(this, { of, key });
    if (key === null) {
      if (this.dialog.open) this.dialog.close();
      return;
    }
    this.#build();
    if (!this.dialog.open) this.dialog.showModal();
    this.heading.focus();
    this.#poll();
  }

  #close() {
    clearTimeout(this.#timer);
    this.#asked += 1;
    const { of, key } = this;
    Object.assign(this, { of: null, key: null });
    if (key !== null) this.closed(of, key);
  }

  #build() {
    const kind = this.of === 'clicks' ? 'clicks' : 'events';
    this.heading = make('h2', { id: 'panel-heading', tabindex: '-1' }, this.key === '' ? '(empty)' : this.key);
    this.figures = FIGURES.filter(([, , , of]) => !of || of === kind).map(([name, write, note]) => {
      const value = make('dd', {}, NONE), small = make('small', {}, typeof note === 'string' ? note : '');
      return { write, note, value, small, element: make('div', {}, make('dt', {}, name), value, small) };
    });
    this.score = new Plot({ label: 'Score against threshold', height: 220, right: 68, y: step,
      lines: [{ name: 'score', look: 'a' }, { name: 'threshold', look: 'limit' }] });
    this.robot = new Plot({ label: 'Probability of a robot against its limit', height: 170, right: 68, y: step,
      lines: [{ name: 'P(robot)', look: 'b' }, { name: 'limit', look: 'limit' }],
      moved: (index) => this.score.cross(index) });
    this.score.moved = (index) => this.robot.cross(index);
    this.scoreNote = make('p', {});
    this.robotNote = make('p', {});
    this.drivers = make('ul', { class: 'drivers' });
    this.driversNote = make('p', {});
    this.notice = make('p', { class: 'notice', role: 'status' }, 'Loading …');
    this.robotPart = make('section', { hidden: true }, make('h3', {}, 'Robot or not'), this.robotNote, this.robot.element);
    this.known = make('div', { hidden: true },
      make('dl', { class: `figures of-${kind}` }, ...this.figures.map((figure) => figure.element)),
      make('section', {}, make('h3', {}, 'Score against threshold'), this.scoreNote, this.score.element),
      this.robotPart,
      make('section', {}, make('h3', {}, 'What drives it'), this.driversNote, this.drivers));
    this.dialog.replaceChildren(make('div', { class: 'inside' },
      make('header', {}, make('div', {}, make('p', {}, `Slice of ${kind}`), this.heading),
        make('button', { type: 'button', 'aria-label': 'Close', onclick: () => this.dialog.close() }, '×')),
      this.notice, this.known));
    this.dialog.scrollTop = 0;
  }

  async #poll() {
    clearTimeout(this.#timer);
    if (this.key === null) return;
    const asked = (this.#asked += 1);
    try {
      if (!document.hidden) {
        const slice = await this.api.get(`v1/slices/${encodeURIComponent(this.key)}?of=${this.of}`);
        if (asked !== this.#asked) return;
        this.notice.hidden = true;
        this.known.hidden = false;
        this.#fill(slice);
      }
    } catch (error) {
      if (asked !== this.#asked) return;
      this.notice.hidden = false;
      say(this.notice, error.status === 404
        ? 'The service knows no such slice: it has not been seen, or was let go to make room for others.'
        : error.status ? error.message : this.known.hidden ? 'The service cannot be reached.' : 'The service cannot be reached; these are the last known figures.');
    }
    if (asked === this.#asked) this.#timer = setTimeout(() => this.#poll(), EVERY);
  }

  #fill(slice) {
    const now = this.now();
    for (const { write, note, value, small } of this.figures) {
      say(value, write(slice, now));
      if (typeof note === 'function') say(small, note(slice));
    }
    const { ts, score, threshold, anomalous, p_robot: robot } = slice.history;
    const alarms = anomalous.flatMap((alarm, n) => (alarm ? [{ x: n, y: score[n] }] : []));
    const axis = places(ts);
    const usual = Math.max(middle(score), middle(threshold)), positive = score.filter((value) => value > 0);
    const log = positive.length > 0 && Math.max(...positive) > FAR * usual && positive.length === score.filter((value) => value !== null).length;
    say(this.scoreNote, `${score.length === 1 ? 'The latest event' : `The last ${count(score.length)} events`}, oldest left. ${
      alarms.length === 0 ? 'No alarms' : alarms.length === 1 ? '1 alarm, marked with a dot' : `${count(alarms.length)} alarms, marked with dots`}.${
      log ? ' Logarithmic axis.' : ''}`);
    this.score.show({
      ...axis, values: [score, threshold], points: alarms, log, none: 'No scores yet',
      say: (n) => ({ head: time(ts[n]), rows: [['score', number(score[n]), 'a'], ['threshold', number(threshold[n]), 'limit'],
        ...(anomalous[n] ? [['alarm', 'yes', 'alarm']] : [])] }),
    });
    this.robotPart.hidden = !robot;
    if (robot) {
      const limit = slice.robot_threshold ?? null;
      const robots = robot.filter((p) => p !== null && limit !== null && p > limit).length;
      say(this.robotNote, limit === null ? 'No limit is set for this slice.'
        : `${count(robots)} of the last ${count(robot.length)} clicks lie above the limit and are decided robotic.`);
      this.robot.show({
        ...axis, values: [robot, robot.map(() => limit)], top: 1, none: 'No probabilities yet',
        points: robot.flatMap((p, n) => (p !== null && limit !== null && p > limit ? [{ x: n, y: p }] : [])),
        say: (n) => ({ head: time(ts[n]), rows: [['P(robot)', number(robot[n]), 'b'], ['limit', number(limit), 'limit'],
          ...(limit !== null && robot[n] > limit ? [['decision', 'robotic', 'alarm']] : [])] }),
      });
    }
    this.#drive(slice.drivers);
  }

  #drive(drivers) {
    const shares = Object.entries(drivers ?? {}).sort((a, b) => b[1] - a[1]);
    const others = shares.slice(DRIVERS);
    say(this.driversNote, shares.length
      ? `Share of each feature in the latest score.${others.length ? ` ${count(others.length)} more make up ${
        percent(others.reduce((sum, [, share]) => sum + share, 0))}.` : ''}`
      : 'Not known yet: the slice has not been scored often enough.');
    this.drivers.replaceChildren(...shares.slice(0, DRIVERS).map(([name, share]) => {
      const bar = make('i', {});
      bar.style.setProperty('width', `${100 * Math.min(1, Math.max(0, share))}%`);
      return make('li', {}, make('span', { title: name }, name), make('b', { class: 'meter', 'aria-hidden': 'true' }, bar),
        make('em', {}, percent(share)));
    }));
  }
}

/** The x axis of a history: events at equal distances, with the times of the first, the middle and the last. */
function places(ts) {
  const last = ts.length - 1;
  const named = last >= 8 ? [0, Math.round(last / 2), last] : last >= 1 ? [0, last] : last === 0 ? [0] : [];
  return {
    xs: ts.map((_, n) => n), from: 0, to: Math.max(1, last),
    ticks: named.map((n) => ({ x: n, text: time(ts[n]), side: n === 0 ? 'start' : n === last ? 'end' : 'middle' })),
  };
}

function middle(values) {
  const sorted = values.filter((value) => value !== null).sort((a, b) => a - b);
  return sorted.length ? sorted[sorted.length >> 1] : 0;
}
