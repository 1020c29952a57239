// The service's API: requests, with a key if the service asks for one, and the stream of ticks, which reconnects.

const STORED = 'onlineguard.key';
const SILENT = 6000; // ms without an answer or a byte of the stream, after which the connection is given up
const CHANGE = 90_000; // ms without an answer to a change, in which another model may have to be compiled
const FIRST_WAIT = 500; // ms before the second try; doubled before each later one
const LONGEST_WAIT = 10_000;

export class Refused extends Error {
  constructor(status, problem) {
    super(problem?.detail ?? problem?.title ?? `The service answered ${status}`);
    this.status = status;
    this.problem = problem;
  }
}

export class Api {
  #ask; // (reason | null) -> Promise<string>: asks the user for a key, and resolves to it
  #asked = null;

  constructor(ask) {
    this.#ask = ask;
  }

  get key() {
    return sessionStorage.getItem(STORED);
  }

  async get(path) {
    const { response, clear } = await this.open(path, 'application/json');
    try {
      return await response.json();
    } finally {
      clear();
    }
  }

  /** The answer to a change. Its key is another one than that for reading; null where the service asks for none. */
  async change(method, path, body, key) {
    const headers = { ...(body ? { 'Content-Type': 'application/json' } : {}), ...(key ? { Authorization: `Bearer ${key}` } : {}) };
    const signal = AbortSignal.timeout(CHANGE);
    const response = await fetch(path, { method, headers, body: body && JSON.stringify(body), signal, cache: 'no-store' });
    const answer = await response.json().catch(() => null);
    if (!response.ok) throw new Refused(response.status, answer);
    return answer;
  }

  /** A successful response, with functions that stop (`clear`) and restart (`alive`) its time-out. Waits for a key if one is needed. */
  async open(path, accept) {
    for (;;) {
      const key = this.key;
      const abort = new AbortController();
      let timer = setTimeout(() => abort.abort(), SILENT);
      const clear = () => clearTimeout(timer);
      const alive = () => {
        clear();
        timer = setTimeout(() => abort.abort(), SILENT);
      };
      let problem;
      try {
        const headers = { Accept: accept, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
        const response = await fetch(path, { headers, signal: abort.signal, cache: 'no-store' });
        if (response.ok) return { response, alive, clear, abort };
        problem = new Refused(response.status, await response.json().catch(() => null));
      } catch (error) {
        clear();
        throw error;
      }
      clear();
      if (problem.status !== 401 && problem.status !== 403) throw problem;
      if (key === this.key) await this.#needKey(key ? problem : null);
    }
  }

  #needKey(problem) {
    const reason = problem && (problem.status === 403
      ? 'This key may not read the figures: it lacks the scope “score”.'
      : 'This key was not accepted.');
    this.#asked ??= this.#ask(reason).then((key) => {
      sessionStorage.setItem(STORED, key);
      this.#asked = null;
    });
    return this.#asked;
  }
}

/** Follow the ticks for ever. Calls `told(tick)` at each one, and `changed(state, ms, reason)` when the connection changes.
 * The state is 'connecting', 'live' or 'waiting'; when waiting, ms is the time to the next try, and reason the service's
 * own, if it answered at all. */
export class Stream {
  #skip = () => {};

  constructor(api, told, changed) {
    this.api = api;
    this.told = told;
    this.changed = changed;
  }

  /** Try again now. */
  now() {
    this.#skip();
  }

  async follow() {
    let wait = FIRST_WAIT;
    for (;;) {
      this.changed('connecting');
      let reason = null;
      try {
        const { response, alive, clear, abort } = await this.api.open('v1/live', 'text/event-stream');
        try {
          for await (const data of messages(response.body, alive)) {
            wait = FIRST_WAIT;
            this.changed('live');
            this.told(JSON.parse(data));
          }
        } finally {
          clear();
          abort.abort();
        }
      } catch (error) {
        if (error instanceof Refused) reason = error.message;
        if (error instanceof SyntaxError) console.warn('The service sent a tick that is not JSON', error);
      }
      const pause = wait * (0.75 + 0.5 * Math.random()); // so that pages do not all reconnect at the same moment
      this.changed('waiting', pause, reason);
      await new Promise((resolve) => {
        this.#skip = resolve;
        setTimeout(resolve, pause);
      });
      wait = Math.min(2 * wait, LONGEST_WAIT);
    }
  }
}

/** The data of each server-sent event. */
async function* messages(body, alive) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    alive();
    text += value;
    const parts = text.split('\n\n');
    text = parts.pop();
    for (const part of parts) {
      const data = part.split('\n').filter((line) => line.startsWith('data:')).map((line) => line.slice(5).trimStart());
      if (data.length) yield data.join('\n');
    }
  }
}
