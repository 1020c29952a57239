// The slices as a table, sorted and filtered by the service, and requested again every two seconds.

import { ago, count, keyText, make, NONE, number, percent, say, short } from './format.js';
import { walked } from './rows.js';

const EVERY = 2000; // ms
const PAGE = 100; // rows requested at first, and added by each press of "more"
const MOST = 1000; // rows requested at most
const FULL = 0.1; // the drift of a full bar, unless a visible row has more
/** Widths from which on a row is one line; below them it is a card. There are more columns of clicks. */
const LINES = { events: matchMedia('(min-width: 860px)'), clicks: matchMedia('(min-width: 1240px)') };

/** The columns. `sort`: the service can sort by it. A column that is empty in every row is not shown. */
const COLUMNS = [
  { id: 'name', title: 'Slice', sort: 'name' },
  { id: 'events', title: 'Seen', sort: 'events', write: (row) => short(row.events), help: 'Events or clicks seen in this slice' },
  { id: 'anomalies', title: 'Anomalies', sort: 'anomalies', write: (row) => short(row.anomalies),
    help: 'Events whose score was above the threshold, since the beginning' },
  { id: 'drift', title: 'Drift', sort: 'drift', help: 'Share of its latest events that were flagged' },
  { id: 'score', title: 'Score', sort: 'score', write: (row) => number(row.score), help: 'How odd the latest event was' },
  { id: 'threshold', title: 'Threshold', sort: 'threshold', write: (row) => number(row.threshold),
    help: 'A score above this is an anomaly' },
  { id: 'ivr', title: 'IVR', sort: 'ivr', write: (row) => percent(row.ivr),
    help: 'Invalidation rate: share of the clicks decided robotic' },
  { id: 'fpr', title: 'FPR', write: (row) => percent(row.fpr),
    help: 'False-positive rate: share of the purchasing clicks decided robotic' },
  { id: 'p_robot', title: 'P(robot)', write: (row) => number(row.p_robot),
    help: 'The network’s probability that the latest click came from a robot' },
  { id: 'robot_threshold', title: 'Limit', write: (row) => number(row.robot_threshold),
    help: 'A click with P(robot) above this limit is decided robotic' },
  { id: 'last_ts', title: 'Last seen', write: (row, now) => ago(row.last_ts, now), help: 'Time of the latest event' },
];

export class Slices {
  #rows = new Map(); // key text to {element, cells}
  #answer = null;
  #asked = 0; // requests sent; only the answer to the newest one is used
  #timer = 0;
  #chosen = false; // by the address: another stream is not shown instead
  #totals = { clicks: null, events: null };

  constructor(api, { opened, now }) {
    Object.assign(this, { api, opened, now, of: null, sort: 'events', order: 'desc', limit: PAGE, filter: '' });
    const find = (id) => document.getElementById(id);
    this.tabs = Object.fromEntries(['clicks', 'events'].map((of) => [of, make('button', {
      type: 'button', 'aria-pressed': 'false', onclick: () => { location.hash = `#/${of}`; },
    }, of === 'clicks' ? 'Clicks' : 'Events', make('small', {}))]));
    find('tabs').append(...Object.values(this.tabs));
    this.body = make('tbody', { role: 'rowgroup', ...walked });
    this.heads = COLUMNS.map((column) => this.#head(column));
    this.table = make('table', { role: 'table' }, make('caption', { class: 'unseen' }, 'Slices with their latest figures'),
      make('thead', { role: 'rowgroup' }, make('tr', { role: 'row' }, ...this.heads)), this.body);
    for (const wide of Object.values(LINES)) wide.addEventListener('change', () => this.#show());
    this.host = find('table');
    this.host.append(this.table);
    this.view = find('traffic');
    this.empty = find('empty');
    this.shown = find('shown');
    this.more = find('more');
    this.more.addEventListener('click', () => this.#ask({ limit: Math.min(MOST, this.limit + PAGE) }));
    this.field = find('filter');
    this.field.addEventListener('input', () => {
      this.#ask({ filter: this.field.value.trim(), limit: PAGE });
    });
    document.addEventListener('visibilitychange', () => document.hidden || this.poll());
  }

  /** Show the slices of a stream, 'clicks' or 'events'; null shows the one that the service has slices of. */
  async choose(of) {
    this.#chosen ||= of !== null;
    if (this.of !== null && (of === null || of === this.of)) return;
    if (of === null) {
      const totals = await Promise.all(['clicks', 'events'].map((kind) => this.#total(kind))).catch(() => [null, null]);
      if (this.of !== null) return; // the user chose one meanwhile
      of = totals[0] === 0 && totals[1] > 0 ? 'events' : 'clicks';
    }
    this.of = of;
    this.#ask({ limit: PAGE, answer: null });
  }

  /** Request the slices now, and then every two seconds. */
  async poll() {
    clearTimeout(this.#timer);
    if (this.of === null) return;
    const asked = (this.#asked += 1);
    try {
      if (!document.hidden && !this.view.hidden) {
        const answer = await this.api.get(this.#address(this.of, this.limit));
        if (asked !== this.#asked) return;
        this.#answer = answer;
        this.#totals[this.of] = answer.total;
        this.#show();
      }
    } catch (error) {
      if (asked === this.#asked && error.status) say(this.shown, `The slices could not be read: ${error.message}`);
    }
    if (asked === this.#asked) this.#timer = setTimeout(() => this.poll(), EVERY);
  }

  /** How many slices there are of each stream now. Where there are none of the one shown, the other is. */
  held(totals) {
    this.#totals = totals;
    const other = this.of === 'clicks' ? 'events' : 'clicks';
    if (!this.#chosen && totals[this.of] === 0 && totals[other] > 0) {
      this.of = other;
      this.#ask({ limit: PAGE, answer: null });
    } else this.#tabs();
  }

  /** The link in a slice's row, to put the focus back on. */
  link(key) {
    return this.#rows.get(key)?.link;
  }

  #ask({ answer, ...change }) {
    Object.assign(this, change);
    if (answer === null) this.#answer = null;
    this.#show();
    this.poll();
  }

  #address(of, limit) {
    const { sort, order, filter: contains } = this;
    return `v1/slices?${new URLSearchParams({ of, sort, order, limit, offset: 0, contains })}`;
  }

  async #total(of) {
    const { total } = await this.api.get(`v1/slices?of=${of}&limit=1`);
    this.#totals[of] = total;
    this.#tabs();
    return total;
  }

  #head(column) {
    const inside = column.sort
      ? make('button', { type: 'button', title: column.help, onclick: () => this.#sortBy(column.sort) },
        column.title, make('i', { 'aria-hidden': 'true' }))
      : make('span', { title: column.help }, column.title);
    return make('th', { scope: 'col', role: 'columnheader', class: column.id }, inside);
  }

  #sortBy(sort) {
    if (sort === this.sort) this.#ask({ order: this.order === 'desc' ? 'asc' : 'desc' });
    else this.#ask({ sort, order: sort === 'name' ? 'asc' : 'desc' });
  }

  #tabs() {
    for (const [of, button] of Object.entries(this.tabs)) {
      button.setAttribute('aria-pressed', String(of === this.of));
      button.hidden = of !== this.of && this.#totals[of] === 0 && this.#totals[this.of] > 0;
      say(button.lastChild, this.#totals[of] === null ? '' : short(this.#totals[of]));
    }
  }

  #show() {
    this.#tabs();
    COLUMNS.forEach((column, n) => {
      if (!column.sort) return;
      const sorted = column.sort === this.sort ? (this.order === 'desc' ? 'descending' : 'ascending') : 'none';
      this.heads[n].setAttribute('aria-sort', sorted);
    });
    if (this.of) this.table.classList.toggle('cards', !LINES[this.of].matches);
    const answer = this.#answer;
    const rows = answer?.slices ?? [];
    this.#fill(rows);
    const none = answer !== null && answer.total === 0;
    this.host.hidden = none;
    this.empty.hidden = !none;
    if (none && this.empty.dataset.of !== this.of) this.#teach();
    if (!none) delete this.empty.dataset.of;
    this.shown.setAttribute('role', this.filter ? 'status' : 'none'); // a screen reader reads out how many slices the filter found
    say(this.shown, none ? '' : this.#summary(rows.length, answer));
    this.more.hidden = !answer || rows.length >= answer.found || this.limit >= MOST;
  }

  #summary(shown, answer) {
    if (!answer) return 'Loading …';
    const { total, found } = answer;
    const slices = total === 1 ? 'slice' : 'slices';
    const others = shown < found && this.limit >= MOST ? '; sort by another column to see others' : '';
    if (this.filter) {
      const match = `${count(found)} of ${count(total)} ${slices} ${found === 1 ? 'matches' : 'match'}`;
      return shown < found ? `${match}, ${count(shown)} shown${others}` : match;
    }
    return shown === total ? `${count(total)} ${slices}` : `${count(shown)} of ${count(total)} ${slices}${others}`;
  }

  /** Put the rows into the table. Rows that stay keep their elements, and the focus stays where it is. */
  #fill(rows) {
    const now = this.now();
    const full = Math.max(FULL, ...rows.map((row) => row.drift ?? 0));
    const keys = new Set();
    let at = this.body.firstChild;
    const focused = document.activeElement;
    const shown = COLUMNS.map(({ id, sort }) => id === 'name' || sort === this.sort || rows.some((row) => (row[id] ?? null) !== null));
    shown.forEach((there, n) => { this.heads[n].hidden = !there; });
    for (const row of rows) {
      const key = `${this.of} ${JSON.stringify(row.slice)}`;
      keys.add(key);
      let kept = this.#rows.get(key);
      if (!kept) this.#rows.set(key, (kept = this.#row(row)));
      this.#update(kept, row, now, full, shown);
      if (kept.element === at) at = at.nextSibling;
      else this.body.insertBefore(kept.element, at);
    }
    for (const [key, kept] of this.#rows) {
      if (keys.has(key)) continue;
      kept.element.remove();
      this.#rows.delete(key);
    }
    if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
  }

  #row(row) {
    const text = keyText(row.slice);
    const link = make('a', { href: address(this.of, text), title: text }, text === '' ? '(empty)' : text);
    const cells = COLUMNS.map((column) => make(column.id === 'name' ? 'th' : 'td',
      { class: column.id, scope: column.id === 'name' && 'row', role: column.id === 'name' ? 'rowheader' : 'cell', 'data-title': column.title },
      ...(column.id === 'name' ? [link] : [])));
    const bar = make('i', {}), share = make('span', {});
    cells[COLUMNS.findIndex((column) => column.id === 'drift')].append(
      make('span', { class: 'share' }, make('b', { class: 'meter', 'aria-hidden': 'true' }, bar), share));
    return { element: make('tr', { role: 'row' }, ...cells), cells, link, bar, share };
  }

  #update({ element, cells, bar, share }, row, now, full, shown) {
    shown.forEach((there, n) => { cells[n].hidden = !there; });
    COLUMNS.forEach((column, n) => column.write && say(cells[n], column.write(row, now)));
    bar.style.setProperty('width', `${(100 * (row.drift ?? 0)) / full}%`);
    say(share, percent(row.drift));
    const over = row.score !== null && row.threshold !== null && row.score > row.threshold;
    element.classList.toggle('over', over);
    const score = cells[COLUMNS.findIndex((column) => column.id === 'score')];
    score.title = over ? 'Above the threshold: an anomaly' : '';
    if (row.score === null && row.events > 0) say(score, NONE);
  }

  #teach() {
    this.empty.dataset.of = this.of;
    const body = this.of === 'clicks'
      ? { click_id: 'first', ts: Date.now(), user_id: 'u1', session_id: 's1', ip: '203.0.113.7', user_agent: 'Mozilla/5.0',
        device: 'phone', marketplace: 'US', ad_id: 'a1', logged_in: true }
      : { slice: 'checkout', features: { duration: 120.5, size: 3 } };
    const line = [`curl ${new URL(this.of === 'clicks' ? 'v1/clicks' : 'v1/update', document.baseURI)}`,
      ...(this.api.key ? ["-H 'Authorization: Bearer YOUR_KEY'"] : []),
      "-H 'Content-Type: application/json'", `-d '${spaced(body)}'`].join(' \\\n  ');
    const code = make('code', {}, line);
    const copy = make('button', { type: 'button', onclick: async () => {
      try {
        await navigator.clipboard.writeText(line);
        say(copy, 'Copied');
      } catch {
        getSelection().selectAllChildren(code);
        say(copy, 'Selected');
      }
      setTimeout(() => say(copy, 'Copy'), 2000);
    } }, 'Copy');
    this.empty.replaceChildren(
      make('h3', {}, this.of === 'clicks' ? 'No clicks yet' : 'No events yet'),
      make('p', {}, this.of === 'clicks'
        ? 'Each click belongs to a slice: its device, marketplace and whether its user is logged in. Send a first one, and its slice appears here.'
        : 'Each event names its slice: a sensor, a customer, an endpoint. Send a first one, and its slice appears here.'),
      make('div', { class: 'code' }, make('pre', { tabindex: '0', 'aria-label': 'Command that sends a first one' }, code), copy));
  }
}

/** JSON that can wrap between its fields on a narrow screen. */
function spaced(value) {
  if (typeof value !== 'object') return JSON.stringify(value);
  return `{${Object.entries(value).map(([name, inner]) => `${JSON.stringify(name)}: ${spaced(inner)}`).join(', ')}}`;
}

export const address = (of, key) => `#/${of}/${encodeURIComponent(key)}`;
