// The models: the versions of the registry, the watch of the one that decides, its trial of another, and the changes.

import { Change } from './change.js';
import { count, make, moment, NONE, percent, say, sentence } from './format.js';
import { walked } from './rows.js';
import { drawTrial } from './trial.js';
import { period, places, Version } from './version.js';
import { drawWatch } from './watch.js';

const EVERY = 3000; // ms
const PAGE = 100; // versions requested at first, and added by each press of "more"
const MOST = 1000;
const CHANGES = 20; // shown

const ACTIONS = { promote: 'Promoted', rollback: 'Rolled back to', trial: 'Put on trial', 'end trial': 'Ended the trial beside' };

/** The columns after the name. `late`: the higher, the sooner a narrow screen drops the column. */
const COLUMNS = [
  ['IVR', (row) => percent(row.measured.ivr), 2],
  ['FPR', (row) => percent(row.measured.fpr), 1],
  ['Coverage', (row) => percent(row.measured.coverage), 3],
  ['Made', (row) => moment(row.made), 1],
  ['Trained on', (row) => period(row.trained), 2],
  ['Clicks', (row) => count(row.trained.clicks), 3],
  ['By', (row) => make('span', { class: 'who', title: row.who ?? '' }, row.who ?? NONE), 3],
];

export class Models {
  #asked = 0;
  #timer = 0;
  #drawn = {}; // what each part shows, as JSON, so that only a part that differs is drawn anew
  #picked = [];

  constructor(api, { announce }) {
    Object.assign(this, { api, announce, shown: false, limit: PAGE, state: null });
    const find = (id) => document.getElementById(id);
    this.parts = Object.fromEntries(['versions', 'versions-shown', 'versions-more', 'watch', 'trial', 'changes', 'registry',
      'models-notice', 'compare', 'roll-back', 'models-heading'].map((id) => [id, find(id)]));
    this.change = new Change(api);
    this.version = new Version(api, { closed: (key) => this.#closed(key), promote: (row) => this.#promote(row), attempt: (row) => this.#try(row) });
    this.body = make('tbody', { ...walked });
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
      const wanted = [`v1/registry?limit=${this.limit}`, 'v1/watch', 'v1/trial'];
      const [state, watch, trial] = await Promise.allSettled(wanted.map((path) => this.api.get(path)));
      if (asked !== this.#asked || !this.shown) return;
      if (watch.status === 'fulfilled') this.#part('watch', watch.value, () => drawWatch(this.parts.watch, watch.value));
      if (trial.status === 'fulfilled') this.#part('trial', trial.value, () => drawTrial(this.parts.trial, trial.value, () => this.#endTrial(trial.value)));
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

  #changes({ changes, total }) {
    this.parts.changes.replaceChildren(
      make('ol', { class: 'log', reversed: true, start: String(changes[0]?.generation ?? 0) }, ...changes.map((change) => make('li', {},
        make('b', {}, ACTIONS[change.action] ?? change.action), ' ', make('code', {}, change.trial ?? change.current),
        ...(change.forced.length ? [make('b', { class: 'bad' }, ` past ${change.forced.join(', ')}`)] : []),
        make('span', { class: 'why' }, change.why),
        make('small', {}, `${moment(change.when)}, by ${change.who}${
          change.replaced && change.replaced !== change.current ? `, in place of ${change.replaced}` : ''}${
          change.trial ? `, for ${percent(change.share)} of the users` : ''}`)))),
      make('p', { class: 'soft' }, total > changes.length ? `The latest ${count(changes.length)} of ${count(total)} changes.`
        : total ? '' : 'Nothing was promoted yet.'));
  }

  #promote(row) {
    const { generation, current } = this.state;
    const failed = row.failed.length ? ` It failed ${row.failed.join(', ')}.` : '';
    this.change.ask({
      title: `Promote ${row.version}`, action: 'Promote', path: 'v1/registry/promote', why: true,
      force: row.failed.length ? { text: 'Promote it although guardrails failed; the log says so', required: true } : null,
      text: `It decides from then on${current ? `, in place of ${current}` : ''}.${failed}`,
      body: { version: row.version, generation }, done: (answer) => this.#done(answer),
    });
  }

  #rollBack() {
    const { generation, current, previous } = this.state;
    this.change.ask({
      title: `Roll back to ${previous}`, action: 'Roll back', path: 'v1/registry/rollback', why: true,
      text: `It decides from then on, in place of ${current}.`, body: { generation }, done: (answer) => this.#done(answer),
    });
  }

  #try(row) {
    this.change.ask({
      title: `Try ${row.version}`, action: 'Try it', path: 'v1/trial', share: true,
      force: { text: 'Also if it does not fit the clicks that come', required: false },
      text: `It judges every click beside ${this.state.live}, until the trial is ended.`,
      body: { version: row.version }, done: () => this.#told(`${row.version} is on trial.`),
    });
  }

  #endTrial({ version }) {
    this.change.ask({
      title: `End the trial of ${version}`, action: 'End it', path: 'v1/trial', method: 'DELETE',
      text: 'The comparison stays until the next trial.', done: () => this.#told(`The trial of ${version} has ended.`),
    });
  }

  #done({ change, live, problem }) {
    const made = `Change ${change.generation} by ${change.who}: ${change.current} is current.`;
    this.#told(problem ? `${made} But ${live} still decides: ${sentence(problem)}` : `${made} It decides now.`, Boolean(problem));
  }

  #told(text, bad = false) {
    this.announce(text);
    this.version.say(text, bad);
    this.#poll();
  }

  #closed(versions) {
    if (location.hash.startsWith('#/models/')) history.pushState(null, '', '#/models');
    (this.#rowOf(versions[0])?.querySelector('a') ?? this.parts['models-heading']).focus();
  }
}

function outcome(row) {
  if (row.failed.length) return make('span', { class: 'bad', title: row.failed.join(', ') }, row.failed.length === 1 ? `failed ${row.failed[0]}` : `failed ${count(row.failed.length)}`);
  return row.passed ? make('span', { class: 'good' }, 'passed') : NONE;
}
