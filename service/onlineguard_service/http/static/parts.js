// The parts of the service: its journal, its snapshots and Redis, and in sentences what is degraded.

import { ago, count, make, millis, say, sentence, span } from './format.js';

const LATE = 1000; // ms that an entry waits until it is durable, from which on it is marked
const RECENT = 30; // ticks over which syncs and round trips are averaged

/** Of each part: its name, whether there is one, and for a tick `[figure, note]`; `late` if the figure itself is odd. */
const PARTS = [
  {
    id: 'journal', title: 'Journal', help: 'Every change is written here before it is answered', of: (parts) => parts.journal,
    write: ({ journal }, took) => [journal.lag > 0.001 ? `${millis(journal.lag * 1000)} behind` : 'Up to date',
      [`entry ${count(journal.sequence)}`, journal.waiting ? `${count(journal.waiting)} waiting` : '',
        took('syncs') === null ? '' : `sync ${millis(took('syncs'))}`].filter(Boolean).join(', ')],
    late: ({ journal }) => journal.lag * 1000 >= LATE,
  },
  {
    id: 'snapshot', title: 'Snapshot', help: 'The whole state, from which a restart goes on', of: (parts) => parts.snapshot,
    write: ({ snapshot, journal }, took, now) => [typeof snapshot.t === 'number' ? ago(snapshot.t, now) : 'None yet',
      journal.sequence > snapshot.sequence
        ? `${counted(journal.sequence - snapshot.sequence)} since, next within ${span(snapshot.every * 1000)}`
        : 'nothing has changed since'],
    late: ({ snapshot }) => snapshot.behind > 2 * snapshot.every,
  },
  {
    id: 'counters', title: 'Redis', help: 'Round trips to Redis', of: (parts) => parts.redis,
    write: (parts, took) => [took('redis') === null ? 'Not asked yet' : millis(took('redis')),
      `a round trip, of ${Object.keys(parts.redis).join(' and ')}${failures(parts) ? `, ${count(failures(parts))} failed` : ''}`],
    late: () => false,
  },
];

const counted = (n) => (n === 1 ? '1 entry' : `${count(n)} entries`);
const failures = (parts) => Object.values(parts.failures ?? {}).reduce((sum, n) => sum + n, 0);

export class Parts {
  #past = []; // of the latest ticks: what syncs and round trips took since the start

  constructor(host, notice) {
    this.host = host;
    this.notice = notice;
    this.parts = PARTS.map((part) => {
      const figure = make('dd', {}), note = make('small', {});
      const element = make('div', { class: 'part', 'data-part': part.id, title: part.help, hidden: true },
        make('dt', {}, make('span', { class: 'dot', 'aria-hidden': 'true' }), part.title), figure, note);
      return { ...part, figure, note, element };
    });
    host.append(...this.parts.map(({ element }) => element));
  }

  show(parts, now) {
    this.host.hidden = !parts;
    this.notice.hidden = !parts?.degraded.length;
    if (!parts) return;
    this.#past = [...this.#past, { syncs: parts.syncs, redis: total(parts.redis) }].slice(-RECENT);
    for (const part of this.parts) {
      part.element.hidden = !part.of(parts);
      if (part.element.hidden) continue;
      const [figure, note] = part.write(parts, (of) => this.#took(of), now);
      say(part.figure, figure);
      say(part.note, note);
      part.element.dataset.state = part.late(parts) || parts.degraded.some((why) => why.startsWith(`${part.id}: `)) ? 'waiting' : 'live';
    }
    say(this.notice, parts.degraded.map(sentence).join(' '));
  }

  /** Milliseconds that one took lately, or where there were none lately, since the start; null where there were none. */
  #took(of) {
    const last = this.#past.at(-1)[of], first = this.#past[0][of];
    if (!last?.count) return null;
    const lately = first && last.count > first.count ? first : { count: 0, seconds: 0 };
    return (1000 * (last.seconds - lately.seconds)) / (last.count - lately.count);
  }
}

/** Of all that Redis is asked for. */
function total(redis) {
  return redis && Object.values(redis).reduce((sum, one) => ({ count: sum.count + one.count, seconds: sum.seconds + one.seconds }),
    { count: 0, seconds: 0 });
}
