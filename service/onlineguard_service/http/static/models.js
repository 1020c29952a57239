// The models: the versions of the registry, the live watch of the one that decides, and who changed it and why.

import { Change } from './change.js';
import { count, make, moment, NONE, number, percent, say, sentence } from './format.js';
import { period, places, table, Version } from './version.js';

const EVERY = 5000; // ms
const PAGE = 100; // versions requested at first, and added by each press of "more"
const MOST = 1000;
const CHANGES = 20; // shown
const ALARMS = 12;

/** The columns after the name. `late`: the higher, the sooner a narrow screen drops the column. */
const COLUMNS = [
  ['Made', (row) => moment(row.made), 1],
  ['By', (row) => make('span', { class: 'who', title: row.who ?? '' }, row.who ?? NONE), 3],
  ['Trained on', (row) => period(row.trained), 2],
  ['Clicks', (row) => count(row.trained.clicks), 3],
  ['IVR', (row) => percent(row.measured.ivr), 2],
  ['FPR', (row) => percent(row.measured.fpr), 2],
  ['Coverage', (row) => percent(row.measured.coverage), 3],
];

export class Models {
  #asked = 0;
  #timer = 0;
  #drawn = {}; // what each part shows, as JSON, so that only a part that differs is drawn anew
  #picked = [];

  constructor(api, { announce }) {
    Object.assign(this, { api, announce, shown: false, limit: PAGE, state: null });
    const find = (id) => document.getElementById(id);
    this.parts = Object.fromEntries(['versions', 'versions-shown', 'versions-more', 'watch', 'changes', 'registry',
      'models-notice', 'compare', 'roll-back', 'models-heading'].map((id) => [id, find(id)]));
    this.change = new Change(api);
    this.version = new Version(api, { closed: (key) => this.#closed(key), promote: (row) => this.#promote(row) });
    this.body = make('tbody', { onclick: (event) => this.#press(event), onkeydown: (event) => this.#walk(event) });
    this.parts.versions.append(make('table', { class: 'versions' },
      make('caption', { class: 'unseen' }, 'Versions of the registry, the newest first'),
      make('thead', {}, make('tr', {},
        make('th', { scope: 'col', class: 'pick' }, make('span', { class: 'unseen' }, 'Compare')),
        make('th', { scope: 'col', class: 'name' }, make('span', {}, 'Version')),
        make('th', { scope: 'col', class: 'outcome' }, make('span', {}, 'Guardrails')),
        ...COLUMNS.map(([title, , late]) => make('th', { scope: 'col', class: `late-${late}` }, make('span', {}, title))))), this.body));
    this.parts.compare.addEventListener('click', () => {
      location.hash = `#/models/${this.#picked.map(encodeURIComponent).join('/')}`;
    });
    this.parts['roll-back'].addEventListener('click', () => this.#rollBack());
    this.parts['versions-more'].addEventListener('click', () => {
      this.limit = Math.min(MOST, this.limit + PAGE);
      this.#poll();
    });
    document.addEventListener('visibilitychange', () => document.hidden || this.#poll());
  }

  /** Show the versions, and one of them, or two side by side. */
  show(versions) {
    this.shown = true;
    this.version.show(versions, this.state);
    this.#poll();
  }

  leave() {
    this.shown = false;
    clearTimeout(this.#timer);
    this.version.show([], null);
  }

  async #poll() {
    clearTimeout(this.#timer);
    if (!this.shown) return;
    const asked = (this.#asked += 1);
    if (!document.hidden) {
      const wanted = [this.api.get(`v1/registry?limit=${this.limit}`), this.api.get('v1/watch')];
      const [state, watch] = await Promise.allSettled(wanted);
      if (asked !== this.#asked || !this.shown) return;
      if (watch.status === 'fulfilled') this.#part('watch', watch.value, () => this.#watch(watch.value));
      this.parts['models-notice'].hidden = state.status === 'fulfilled' && !state.value.refused;
      if (state.status === 'fulfilled') {
        if (state.value.refused) {
          say(this.parts['models-notice'], `The registry’s current version ${state.value.current} is not used: ${state.value.refused}`);
        }
        await this.#take(state.value);
      } else {
        const known = this.state ? ' These are the last known versions.' : '';
        say(this.parts['models-notice'], state.reason.status ? `${sentence(state.reason.message)}${known}` : `The service cannot be reached.${known}`);
      }
    }
    if (asked === this.#asked) this.#timer = setTimeout(() => this.#poll(), EVERY);
  }

  async #take(state) {
    const before = this.state;
    this.state = state;
    this.#part('versions', [state, this.#picked], () => this.#versions(state));
    this.version.know(state);
    if (state.registry === null) this.#part('changes', null, () => this.parts.changes.replaceChildren(
      make('p', { class: 'soft' }, 'There is no registry, so nothing is promoted or rolled back.')));
    else if (before?.generation !== state.generation || !this.#drawn.changes) {
      const answer = await this.api.get(`v1/registry/changes?limit=${CHANGES}`).catch(() => null);
      if (answer) this.#part('changes', answer, () => this.#changes(answer));
    }
  }

  #part(name, value, draw) {
    const json = JSON.stringify(value);
    if (this.#drawn[name] === json) return;
    this.#drawn[name] = json;
    draw();
  }

  #versions(state) {
    const { versions, total, registry } = state;
    const focused = document.activeElement?.closest?.('#versions tr')?.dataset.version;
    const link = document.activeElement?.tagName === 'A';
    this.#picked = this.#picked.filter((version) => versions.some((row) => row.version === version));
    this.body.replaceChildren(...versions.map((row) => this.#row(row, state)));
    if (focused !== undefined) this.#rowOf(focused)?.querySelector(link ? 'a' : 'input')?.focus({ preventScroll: true });
    say(this.parts.registry, registry === null
      ? 'No registry is set: the model that decides is shown with what is known of it. Start the service with --registry FOLDER to keep versions, and to promote and roll back.'
      : registry);
    this.parts.compare.hidden = registry === null;
    this.parts['roll-back'].hidden = registry === null;
    this.parts['roll-back'].disabled = state.previous === null;
    this.parts['roll-back'].title = state.previous === null ? 'There is no previous version' : `Back to ${state.previous}`;
    say(this.parts['versions-shown'], versions.length < total ? `${count(versions.length)} of ${count(total)} versions`
      : total === 1 ? '1 version' : `${count(total)} versions`);
    this.parts['versions-more'].hidden = versions.length >= total || this.limit >= MOST;
    this.#comparable();
  }

  #row(row, state) {
    const pick = make('input', { type: 'checkbox', 'aria-label': `Compare ${row.version}`, onchange: () => {
      this.#picked = pick.checked ? [...this.#picked, row.version] : this.#picked.filter((each) => each !== row.version);
      this.#comparable();
    } });
    pick.checked = this.#picked.includes(row.version);
    pick.disabled = row.made === null;
    return make('tr', { 'data-version': row.version },
      make('td', { class: 'pick' }, pick),
      make('th', { scope: 'row', class: 'name' }, make('a', { href: `#/models/${encodeURIComponent(row.version)}`, title: row.version }, row.version),
        ...places(row.version, state)),
      make('td', { class: 'outcome' }, outcome(row)),
      ...COLUMNS.map(([, write, late]) => make('td', { class: `late-${late}` }, write(row))));
  }

  #rowOf(version) {
    return [...this.body.children].find((row) => row.dataset.version === version);
  }

  #comparable() {
    this.parts.compare.disabled = this.#picked.length !== 2;
    this.parts.compare.title = this.#picked.length === 2 ? '' : 'Mark two versions';
  }

  #watch(watch) {
    const open = this.parts.watch.querySelector('details')?.open ?? false;
    const details = (title, inside) => make('details', { open }, make('summary', {}, title), inside);
    const alarms = watch.alarms.slice(-ALARMS).reverse();
    const slices = new Map(); // of each, its rates by figure
    for (const rate of watch.rates) slices.set(rate.of, { ...slices.get(rate.of), [rate.figure]: rate });
    const rows = [...slices].map(([of, rates]) => [of || 'All clicks', ...['ivr', 'fpr'].flatMap((figure) =>
      [percent(rates[figure]?.seen), percent(rates[figure]?.promised)])]);
    const heads = ['', 'IVR', 'promised', 'FPR', 'promised'];
    const shifts = Object.entries(watch.psi).map(([name, psi]) => `${name} ${number(psi)}`).join(', ');
    const since = watch.since === null ? '' : `, since ${moment(watch.since)}`;
    this.parts.watch.replaceChildren(
      make('p', { class: 'soft' }, `${watch.model_version} decides${since}: ${count(watch.clicks)} clicks.`,
        watch.watched ? '' : ' Nothing is known of what it promised, so nothing is compared. Versions that `onlineguard slidr retrain` makes have promises.'),
      ...(rows.length ? [table(heads, rows.slice(0, 1)), details(`${count(rows.length - 1)} slices`, table(heads, rows.slice(1)))] : []),
      ...(watch.watched ? [make('p', { class: 'soft' }, `Shift of distributions since training (population stability index): ${shifts}.`)] : []),
      make('h3', {}, alarms.length ? 'Latest alarms' : 'No alarms'),
      make('ul', { class: 'log' }, ...alarms.map((alarm) => make('li', {},
        make('b', { class: 'bad' }, `${alarm.figure.toUpperCase()}${alarm.of ? ` of ${alarm.of}` : ''}`),
        ` ${number(alarm.seen)}, promised ${number(alarm.promised)}, limit ${number(alarm.limit)}`,
        make('small', {}, `${moment(alarm.t)}, model ${alarm.model_version} after ${count(alarm.clicks)} clicks`)))),
      make('p', { class: 'soft' }, watch.rollbacks === 1 ? 'A model was taken back once by the watch.'
        : watch.rollbacks ? `Models were taken back ${count(watch.rollbacks)} times by the watch.` : 'No model was taken back by the watch.'));
  }

  #changes({ changes, total }) {
    this.parts.changes.replaceChildren(
      make('ol', { class: 'log', reversed: true, start: String(changes[0]?.generation ?? 0) }, ...changes.map((change) => make('li', {},
        make('b', {}, change.action === 'rollback' ? 'Rolled back to ' : 'Promoted '), make('code', {}, change.current),
        ...(change.forced.length ? [make('b', { class: 'bad' }, ` past ${change.forced.join(', ')}`)] : []),
        make('span', { class: 'why' }, change.why),
        make('small', {}, `${moment(change.when)}, by ${change.who}${change.replaced ? `, in place of ${change.replaced}` : ''}`)))),
      make('p', { class: 'soft' }, total > changes.length ? `The latest ${count(changes.length)} of ${count(total)} changes.`
        : total ? '' : 'Nothing was promoted yet.'));
  }

  #promote(row) {
    const { generation, current } = this.state;
    const failed = row.failed.length ? ` It failed ${row.failed.join(', ')}.` : '';
    this.change.ask({
      title: `Promote ${row.version}`, action: 'Promote', path: 'v1/registry/promote', forcible: row.failed.length > 0,
      text: `It decides from then on${current ? `, in place of ${current}` : ''}.${failed}`,
      body: { version: row.version, generation }, done: (answer) => this.#done(answer),
    });
  }

  #rollBack() {
    const { generation, current, previous } = this.state;
    this.change.ask({
      title: `Roll back to ${previous}`, action: 'Roll back', path: 'v1/registry/rollback', forcible: false,
      text: `It decides from then on, in place of ${current}.`, body: { generation }, done: (answer) => this.#done(answer),
    });
  }

  #done({ change, live, problem }) {
    const made = `Change ${change.generation} by ${change.who}: ${change.current} is current.`;
    this.announce(problem ? `${made} But ${live} still decides: ${problem}` : `${made} It decides now.`);
    this.version.say(problem ? `${made} But ${live} still decides: ${sentence(problem)}` : `${made} It decides now.`, Boolean(problem));
    this.#poll();
  }

  #closed(versions) {
    if (location.hash.startsWith('#/models/')) history.pushState(null, '', '#/models');
    (this.#rowOf(versions[0])?.querySelector('a') ?? this.parts['models-heading']).focus();
  }

  #press(event) {
    if (event.target.closest('a, .pick') || String(getSelection())) return;
    event.target.closest('tr')?.querySelector('a').click();
  }

  /** Move from row to row with the arrow keys. */
  #walk(event) {
    const row = event.target.closest('tr');
    const to = { ArrowDown: row?.nextSibling, ArrowUp: row?.previousSibling }[event.key];
    if (!to) return;
    event.preventDefault();
    to.querySelector(event.target.closest('.pick') ? 'input' : 'a').focus();
  }
}

function outcome(row) {
  if (row.failed.length) return make('span', { class: 'bad', title: row.failed.join(', ') }, row.failed.length === 1 ? `failed ${row.failed[0]}` : `failed ${count(row.failed.length)}`);
  return row.passed ? make('span', { class: 'good' }, 'passed') : NONE;
}
