// The latest alarms: what drove each, who has seen it, and what an operator can say of it.

import { count, keyText, make, moment, NONE, number, percent, say, span } from './format.js';

const PAGE = 5; // alarms shown at first, and added by each press of "more"
const MOST = 200;
const DRIVERS = 3; // features named

const STATES = { open: ['bad', 'open'], over: ['soft', 'over'], acknowledged: ['good', 'acknowledged'] };
const FIGURES = { ivr: 'IVR', fpr: 'FPR', scores: 'The distribution of scores', features: 'The distribution of' };

export class Alarms {
  #change = null; // the number of the last change that is shown
  #loading = false;
  #drawn = '';
  #latest = null; // the newest alarm that was announced

  /** `change` asks for what a change needs; `announce` says news to those who do not see them. */
  constructor(api, { change, announce }) {
    Object.assign(this, { api, change, announce, limit: PAGE });
    const find = (id) => document.getElementById(id);
    this.parts = { list: find('alarms'), shown: find('alarms-shown'), more: find('alarms-more'), notice: find('alarms-notice') };
    this.parts.more.addEventListener('click', () => {
      this.limit = Math.min(MOST, this.limit + PAGE);
      this.#load();
    });
    this.parts.list.addEventListener('keydown', (event) => this.#walk(event));
  }

  /** What a tick says of alarms: they are asked for when they have changed. */
  take(told) {
    if (told && told.change !== this.#change && !document.hidden) this.#load(told.change);
  }

  async #load(change = this.#change) {
    if (this.#loading) return; // the next tick asks again
    this.#loading = true;
    try {
      const page = await this.api.get(`v1/alarms?limit=${this.limit}`);
      this.#change = change;
      this.#draw(page);
    } catch (error) {
      this.#notice(error.status ? error.message : 'The service cannot be reached; these are the last known alarms.');
    } finally {
      this.#loading = false;
    }
  }

  #draw(page) {
    this.#notice('');
    const { alarms, kept, open, cursor } = page;
    say(this.parts.shown, !kept ? '' : `${count(alarms.length)} of ${kept === 1 ? '1 alarm' : `${count(kept)} alarms`}, ${open ? `${count(open)} open` : 'none open'}`);
    this.parts.more.hidden = cursor === null || this.limit >= MOST;
    const newest = alarms[0];
    if (newest && this.#latest !== null && newest.id !== this.#latest) this.announce(`New alarm: ${title(newest)}.`);
    this.#latest = newest?.id ?? '';
    const json = JSON.stringify(alarms);
    if (json === this.#drawn) return;
    this.#drawn = json;
    const focus = document.activeElement?.closest?.('#alarms [data-part]');
    const at = focus && [focus.closest('li').dataset.alarm, focus.dataset.part];
    this.parts.list.replaceChildren(...(alarms.length ? alarms.map((alarm) => this.#item(alarm))
      : [make('li', { class: 'soft' }, 'No alarms. One begins with an anomalous event, or when a watch finds a deviation.')]));
    if (at) this.#part(...at)?.focus({ preventScroll: true });
  }

  #item(alarm) {
    const [look, state] = STATES[alarm.state];
    const { score, threshold, p_value: p, acknowledged: seen } = alarm;
    const lasted = (alarm.ended ?? alarm.last) - alarm.began;
    return make('li', { 'data-alarm': alarm.id },
      make('div', { class: 'told' },
        make('b', { class: look }, state), ' ', subject(alarm),
        make('span', { class: 'why' }, `Score ${number(score)} over ${number(threshold)}${p === null ? '' : `, p ${number(p)}`}`,
          ...(alarm.events > 1 ? [`, the largest of ${count(alarm.events)} odd events`] : []), ...driven(alarm)),
        make('small', {}, `${moment(alarm.began)}${lasted >= 1000 ? `, for ${span(lasted)}` : ''}${alarm.event_id === null ? '' : `, event ${alarm.event_id}`}`),
        ...(seen ? [make('small', {}, `${alarm.usual ? 'Said to be usual' : 'Seen'} by ${seen.who}, ${moment(seen.t)}${seen.note ? `: ${seen.note}` : ''}`)] : [])),
      make('div', { class: 'actions' },
        make('button', { type: 'button', 'data-part': 'acknowledge', onclick: () => this.#ask(alarm, false) }, seen ? 'Note …' : 'Acknowledge …'),
        ...(alarm.x && !alarm.usual ? [make('button', { type: 'button', 'data-part': 'usual', onclick: () => this.#ask(alarm, true) }, 'That was usual …')] : [])));
  }

  #ask(alarm, usual) {
    this.change.ask({
      title: usual ? 'That was usual' : 'Acknowledge an alarm', action: usual ? 'It was usual' : 'Acknowledge',
      text: usual ? `The slice of this alarm (${title(alarm)}) learns its event, and its threshold rises, within bounds. The alarm is acknowledged.`
        : `Everyone who looks at this alarm (${title(alarm)}) sees who has seen it.`,
      path: `v1/alarms/${encodeURIComponent(alarm.id)}`, note: true, body: { usual },
      done: () => {
        this.announce(usual ? 'The slice has learned that it was usual.' : 'The alarm is acknowledged.');
        this.#load();
        (this.#part(alarm.id, 'acknowledge') ?? document.getElementById('alarms-heading')).focus();
      },
    });
  }

  #part(id, part) {
    return [...this.parts.list.children].find((item) => item.dataset.alarm === id)?.querySelector(`[data-part="${part}"]`);
  }

  /** Move from alarm to alarm with the arrow keys. */
  #walk(event) {
    const item = event.target.closest('li'), part = event.target.closest('[data-part]')?.dataset.part;
    const to = { ArrowDown: item?.nextSibling, ArrowUp: item?.previousSibling }[event.key];
    if (!to || !part) return;
    event.preventDefault();
    (to.querySelector(`[data-part="${part}"]`) ?? to.querySelector('[data-part]'))?.focus();
  }

  #notice(text) {
    this.parts.notice.hidden = !text;
    say(this.parts.notice, text);
  }
}

/** What it is about, in words. */
function title(alarm) {
  const slice = alarm.slice === null ? '' : keyText(alarm.slice) || '(empty)';
  if (!alarm.watch) return `slice ${slice} of ${alarm.of}`;
  const { figure, of, model_version: version } = alarm.watch;
  return `${FIGURES[figure]}${of ? ` ${figure === 'features' ? '' : 'of '}${of}` : ''}, ${alarm.kind === 'trial' ? 'candidate' : 'model'} ${version}`;
}

function subject(alarm) {
  if (alarm.slice === null) return title(alarm);
  const key = keyText(alarm.slice);
  const link = make('a', { href: `#/${alarm.of}/${encodeURIComponent(key)}`, 'data-part': 'slice', title: key, 'aria-label': `Slice ${key || '(empty)'}` }, key || '(empty)');
  return alarm.watch ? make('span', {}, link, ` ${title(alarm)}`) : link;
}

/** The features that drove it, each with its share, its value and what was expected. */
function driven(alarm) {
  if (alarm.watch) return [];
  if (!alarm.drivers) return [alarm.x ? '. Not explained: too many came at once' : ''];
  const shares = Object.entries(alarm.drivers).sort((a, b) => b[1] - a[1]).slice(0, DRIVERS);
  const expected = typeof alarm.reasons.expected === 'object' ? alarm.reasons.expected ?? {} : {};
  return shares.length === 0 ? [] : ['. Driven by ', ...shares.flatMap(([name, share], n) => [n ? ', ' : '',
    make('strong', {}, name), ` ${percent(share)} (${value(alarm.x?.[name])}${
      typeof expected[name] === 'number' ? `, expected ${number(expected[name])}` : ''})`])];
}

const value = (of) => (typeof of === 'string' ? of : of === undefined || of === null ? NONE : number(of));
