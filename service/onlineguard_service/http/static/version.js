// One version: the report of its guardrails, measures, thresholds and training; or two versions side by side.

import { count, dayOf, make, moment, NONE, number, percent, say, sentence } from './format.js';

const FEATURES = 15; // shown, those that differ most
const ORDER = { failed: 0, skipped: 1, passed: 2 };

export class Version {
  #asked = 0;
  #shown = []; // versions

  constructor(api, { closed, promote, attempt }) {
    Object.assign(this, { api, closed, promote, attempt, state: null, row: null });
    this.dialog = document.getElementById('version');
    this.dialog.addEventListener('close', () => this.#close());
    this.dialog.addEventListener('click', (event) => event.target === this.dialog && this.dialog.close());
  }

  /** Show a version, or two; none closes the panel. */
  show(versions, state) {
    this.state = state;
    if (JSON.stringify(versions) === JSON.stringify(this.#shown)) return;
    this.#shown = versions;
    if (!versions.length) {
      if (this.dialog.open) this.dialog.close();
      return;
    }
    this.#build();
    if (!this.dialog.open) this.dialog.showModal();
    this.heading.focus();
    this.#load();
  }

  /** Take the registry as it is now. */
  know(state) {
    this.state = state;
    if (this.row) this.#place();
  }

  /** Say what came of a change. */
  say(text, bad) {
    if (!this.dialog.open) return;
    this.notice.hidden = false;
    this.notice.classList.toggle('done', !bad);
    say(this.notice, text);
  }

  #close() {
    this.#asked += 1;
    const versions = this.#shown;
    this.#shown = [];
    this.row = null;
    if (versions.length) this.closed(versions);
  }

  #build() {
    const [a, b] = this.#shown;
    this.row = null;
    this.heading = make('h2', { id: 'version-heading', tabindex: '-1' }, b === undefined ? a : `${a} and ${b}`);
    this.notice = make('p', { class: 'notice', role: 'status' }, 'Loading …');
    this.marks = make('p', { class: 'marks-of' });
    this.buttons = [make('button', { type: 'button', class: 'main', onclick: () => this.promote(this.row) }, 'Promote …'),
      make('button', { type: 'button', onclick: () => this.attempt(this.row) }, 'Try beside …')];
    this.actions = make('div', { class: 'do', hidden: true }, ...this.buttons);
    this.content = make('div', {});
    this.dialog.replaceChildren(make('div', { class: 'inside' },
      make('header', {}, make('div', {}, make('p', {}, b === undefined ? 'Version' : 'Two versions'), this.heading, this.marks),
        make('button', { type: 'button', class: 'close', 'aria-label': 'Close', onclick: () => this.dialog.close() }, '×')),
      this.notice, this.actions, this.content));
    this.dialog.scrollTop = 0;
  }

  async #load() {
    const asked = (this.#asked += 1);
    const [a, b] = this.#shown;
    try {
      const answer = await this.api.get(b === undefined ? `v1/registry/versions/${encodeURIComponent(a)}`
        : `v1/registry/diff?${new URLSearchParams({ a, b })}`);
      if (asked !== this.#asked) return;
      this.notice.hidden = true;
      if (b === undefined) {
        this.row = answer;
        this.#place();
        this.content.replaceChildren(...whole(answer));
      } else {
        this.content.replaceChildren(...beside(answer));
      }
    } catch (error) {
      if (asked !== this.#asked) return;
      say(this.notice, error.status ? sentence(error.message) : 'The service cannot be reached.');
    }
  }

  #place() {
    this.marks.replaceChildren(...places(this.row.version, this.state));
    const { version, made } = this.row;
    this.actions.hidden = made === null || !this.state;
    this.buttons[0].hidden = version === this.state?.current;
    this.buttons[1].hidden = version === this.state?.live;
  }
}

/** Marks of what a version is: the one that decides, the registry's current and previous one. */
export function places(version, state) {
  const marks = [];
  if (state && version === state.live) marks.push(['live', 'decides']);
  if (state && version === state.current && version !== state.live) marks.push(['current', 'current']);
  if (state && version === state.previous) marks.push(['previous', 'previous']);
  return marks.map(([look, text]) => make('span', { class: `mark ${look}` }, text));
}

export const period = ({ since, until }) => `${dayOf(since)} to ${dayOf(until)}`;

function whole(version) {
  const { measured, trained, calibrated } = version;
  const figures = [['IVR', percent(measured.ivr), 'decided robotic'], ['FPR', percent(measured.fpr), 'of purchasing clicks'],
    ['Coverage', percent(measured.coverage), 'of clicks of heavy sessions'], ['AUC', number(measured.auc), 'people from the rest']];
  const checks = [...version.guardrails].sort((a, b) => ORDER[a.outcome] - ORDER[b.outcome]);
  const said = [['passed', version.passed], ['failed', version.failed.length], ['skipped', version.skipped.length]]
    .filter(([, n]) => n).map(([name, n]) => `${count(n)} ${name}`).join(', ');
  const facts = [
    ['Made', version.made === null ? 'not in the registry' : `${moment(version.made)} by ${version.who}`],
    ['Parent', version.parent ?? NONE],
    ['Kind', `${version.kind}, sliced by ${version.columns.join(', ') || 'nothing'}`],
    ['Trained on', `${period(trained)}: ${count(trained.clicks)} clicks, ${count(trained.humans)} of known people`],
    ['Labels known at', moment(trained.known_at)],
    ['Thresholds from', calibrated === null ? NONE : `${period(calibrated)}: ${count(calibrated.clicks)} clicks, ${count(calibrated.humans)} led to a purchase`],
  ];
  return [
    make('dl', { class: 'figures of-clicks' }, ...figures.map(([name, value, note]) =>
      make('div', {}, make('dt', {}, name), make('dd', {}, value), make('small', {}, note)))),
    make('section', {}, make('h3', {}, 'Guardrails'), make('p', {}, said || 'No guardrail judged this version.'),
      make('ul', { class: 'checks' }, ...checks.map(check))),
    make('section', {}, make('h3', {}, 'Training'), make('dl', { class: 'listed' },
      ...facts.map(([name, value]) => make('div', {}, make('dt', {}, name), make('dd', {}, value))))),
    make('section', {}, make('h3', {}, 'Slices'),
      make('p', {}, 'A click whose P(robot) is above the threshold of its slice is decided robotic.'),
      table(['Slice', 'Threshold', 'Clicks', 'IVR', 'FPR', 'Coverage', 'AUC'], version.slices.map((slice) =>
        [slice.of, number(slice.threshold), count(slice.clicks), percent(slice.ivr), percent(slice.fpr), percent(slice.coverage), number(slice.auc)]))),
  ];
}

function check({ name, about, outcome, sentence: found, reason, figures, limits }) {
  const numbers = (values) => Object.entries(values).map(([key, value]) => `${key} ${number(value)}`).join(', ') || NONE;
  return make('li', { class: outcome },
    make('b', { class: { failed: 'bad', passed: 'good', skipped: 'soft' }[outcome] }, outcome), make('strong', {}, name),
    make('small', {}, `of the ${about}`), make('p', {}, found),
    make('dl', {}, make('div', {}, make('dt', {}, 'Seen'), make('dd', {}, numbers(figures))),
      make('div', {}, make('dt', {}, 'Limit'), make('dd', {}, numbers(limits)))),
    make('p', { class: 'soft' }, reason));
}

function beside({ a, b, facts, metrics, thresholds, features }) {
  const pairs = (rows, write) => table(['', a, b], rows.map((row) => [row.name, write(row.a, row.name), write(row.b, row.name)]), 'two');
  const differ = thresholds.filter((row) => row.a !== row.b);
  const fact = (value, name) => (value === null ? NONE
    : /^training (since|until|known_at)$/.test(name) ? moment(value) : typeof value === 'number' ? (Number.isInteger(value) ? count(value) : number(value)) : String(value));
  const metric = (value, name) => (name === 'auc' ? number(value) : percent(value));
  return [
    make('section', {}, make('h3', {}, 'What was measured'),
      make('p', {}, 'Of the days that each was measured on, which may be others.'), pairs(metrics, metric)),
    make('section', {}, make('h3', {}, 'What they are'), pairs(facts, fact)),
    make('section', {}, make('h3', {}, 'Thresholds'),
      make('p', {}, `${count(differ.length)} of ${count(thresholds.length)} differ.`), ...(differ.length ? [pairs(differ, number)] : [])),
    make('section', {}, make('h3', {}, 'Features in training'),
      make('p', {}, features.length ? 'The largest difference of their cumulative distributions, 0 to 1; those that differ most.'
        : 'The distributions are not known of both.'),
      ...(features.length ? [table(['Feature', 'Distance'], features.slice(0, FEATURES).map((row) => [row.name, number(row.distance)]))] : [])),
  ];
}

/** A table of text, whose rows begin with a name. */
export function table(heads, rows, look = '') {
  return make('div', { class: 'wide' }, make('table', { class: `plain ${look}` },
    make('thead', {}, make('tr', {}, ...heads.map((head, n) => make('th', { scope: 'col', class: n ? '' : 'name' }, make('span', {}, head))))),
    make('tbody', {}, ...rows.map(([name, ...cells]) => make('tr', {},
      make('th', { scope: 'row', class: 'name', title: name }, name), ...cells.map((cell) => make('td', {}, cell)))))));
}
