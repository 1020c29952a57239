// The page: the state of the service, and what the address names: traffic with a slice, or models with a version.

import { Alarms } from './alarms.js';
import { Api, Stream } from './api.js';
import { say, sentence, span } from './format.js';
import { Models } from './models.js';
import { Now } from './now.js';
import { Panel } from './panel.js';
import { Parts } from './parts.js';
import { Slices } from './slices.js';

const find = (id) => document.getElementById(id);
const state = { stream: 'connecting', retry: 0, asking: false, reasons: [], degraded: false, started: null, clock: 0, lost: false, said: null };

const api = new Api(askForKey);
const now = () => Date.now() + state.clock; // by the service's clock
const charts = new Now(find('charts'));
const parts = new Parts(find('parts'), find('degraded'));
const slices = new Slices(api, { now });
const panel = new Panel(api, { now, closed: left });
const models = new Models(api, { announce });
const alarms = new Alarms(api, { change: models.change, announce });
const stream = new Stream(api, told, changed);

addEventListener('hashchange', go);
addEventListener('online', () => stream.now());
document.addEventListener('visibilitychange', () => document.hidden || charts.show());
find('state-button').addEventListener('click', () => (state.asking ? find('key').showModal() : stream.now()));
setInterval(() => document.hidden || showState(), 250);
go();
stream.follow();

function told(tick) {
  state.clock = tick.t - Date.now();
  state.started = tick.started ?? null;
  state.reasons = tick.reasons ?? [];
  state.degraded = tick.parts?.degraded.length > 0;
  parts.show(tick.parts, now());
  if (tick.parts) slices.held(tick.parts.slices);
  const news = charts.take(tick);
  alarms.take(tick.alarms);
  if (news) announce(news);
  say(find('model'), tick.model_version ?? '–');
  find('model').title = tick.model_version ?? '';
}

function changed(stage, pause = 0, said = null) {
  if (stage === 'live' && state.stream !== 'live') {
    if (state.lost) {
      announce('Connected again.');
      slices.poll();
    }
    state.lost = false;
  }
  if (stage === 'waiting' && !state.lost) {
    announce(said ?? 'The connection to the service was lost. Trying to reconnect.');
    state.lost = true;
  }
  state.stream = stage;
  if (stage !== 'connecting') state.said = said?.replace(/; send the request again$/, '') ?? null;
  state.retry = performance.now() + pause;
  showState();
}

function showState() {
  const { stream: stage, asking, reasons, degraded, lost, said } = state;
  const seconds = Math.max(0, Math.ceil((state.retry - performance.now()) / 1000));
  const [look, text] = asking ? ['waiting', 'Key needed']
    : stage === 'live' ? (reasons.length ? ['waiting', `Not ready: ${reasons.join(', ')}`] : degraded ? ['waiting', 'Live, degraded'] : ['live', 'Live'])
    : lost && said ? ['waiting', `Not ready: ${said}`]
    : stage === 'waiting' ? ['lost', `Reconnecting in ${seconds} s`]
    : lost ? ['lost', 'Reconnecting …'] : ['connecting', 'Connecting'];
  find('state').dataset.state = look;
  say(find('state-text'), text);
  const button = find('state-button');
  button.hidden = !asking && !lost;
  say(button, asking ? 'Enter a key' : 'Try now');
  say(find('uptime'), state.started === null ? '–' : lost ? 'unknown' : span(now() - state.started));
  document.title = look === 'live' ? 'onlineguard' : `${text.replace(/ in \d+ s/, '')} – onlineguard`;
  document.body.classList.toggle('stale', lost);
  find('starting').hidden = !(lost && said && state.started === null);
  if (!find('starting').hidden) say(find('starting-text'), sentence(said));
}

/** Show what the address names: `#/clicks` or `#/events`, and a slice if its key follows; `#/models`, and one or two
 * versions. Other addresses are places in the view that is shown. */
function go() {
  const named = /^#\/models(?:\/(.*))?$/s.exec(location.hash);
  const shown = named !== null || (location.hash.length > 1 && !location.hash.startsWith('#/') && !find('models').hidden);
  find('models').hidden = !shown;
  find('traffic').hidden = shown;
  find('skip').href = shown ? '#models-heading' : '#slices-heading';
  say(find('skip'), shown ? 'Skip to the versions' : 'Skip to the slices');
  for (const [id, here] of [['to-models', shown], ['to-traffic', !shown]]) {
    if (here) find(id).setAttribute('aria-current', 'page');
    else find(id).removeAttribute('aria-current');
  }
  if (shown) {
    if (named) models.show((named[1] ?? '').split('/').filter(Boolean).map(decoded));
    panel.show(null, null);
    return;
  }
  models.leave();
  const [, of, key] = /^#\/(clicks|events)(?:\/(.*))?$/s.exec(location.hash) ?? [null, null, undefined];
  slices.choose(of);
  panel.show(of, key === undefined ? null : decoded(key));
}

/** When a slice is closed, take it out of the address and put the focus back on its row. */
function left(of, key) {
  if (location.hash.startsWith(`#/${of}/`)) history.pushState(null, '', `#/${of}`);
  (slices.link(`${of} ${JSON.stringify(key)}`) ?? slices.link(`${of} ${key}`) ?? find('slices-heading')).focus();
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // an address typed by hand may hold a lone %
  }
}

function askForKey(refused) {
  const dialog = find('key'), field = find('key-field');
  state.asking = true;
  showState();
  find('key-refused').hidden = !refused;
  say(find('key-refused'), refused ?? '');
  field.value = '';
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    find('key-form').onsubmit = (event) => {
      event.preventDefault();
      const key = field.value.trim();
      if (!/^[\x21-\x7e]+$/.test(key)) {
        find('key-refused').hidden = false;
        say(find('key-refused'), 'A key has only letters, digits and signs of ASCII, without spaces.');
        return;
      }
      state.asking = false;
      dialog.close();
      showState();
      resolve(key);
    };
    find('key-later').onclick = () => dialog.close();
  });
}

function announce(text) {
  say(find('news'), text);
}
