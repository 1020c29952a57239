// Numbers and times as text with their units, and elements whose text is never read as HTML.

export const NONE = '–';

const whole = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat('en-US', { notation: 'compact', maximumSignificantDigits: 3 });
const three = new Intl.NumberFormat('en-US', { maximumSignificantDigits: 3 });
const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const minute = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' });
const utcDay = new Intl.DateTimeFormat('en-GB', { year: 'numeric', month: 'short', day: 'numeric', timeZone: 'UTC' });
const day = new Intl.DateTimeFormat('en-GB', { month: 'short', day: 'numeric' });

const known = (write) => (value) => (typeof value === 'number' && Number.isFinite(value) ? write(value) : NONE);

const packed = (n) => (Math.abs(n) >= 1e-3 && Math.abs(n) < 1e15 ? compact.format(n).replace('K', 'k') : n.toExponential(0).replace('e+', 'e'));

/** A share on an axis with round steps. */
export const percentStep = known((share) => `${three.format(share * 100)}%`);
export const count = known((n) => whole.format(n));
export const short = known((n) => (n < 10_000 ? whole.format(n) : packed(n)));
export const number = known((n) => {
  const size = Math.abs(n);
  if (size >= 1e6 || (size > 0 && size < 1e-3)) return n.toExponential(1).replace('e+', 'e');
  return size >= 100 ? whole.format(n) : size >= 0.1 || n === 0 ? n.toFixed(size >= 10 ? 1 : 2) : n.toPrecision(2);
});
export const step = known((n) => (Math.abs(n) >= 1e4 || (n !== 0 && Math.abs(n) < 1e-3) ? packed(n) : three.format(n)));
export const rate = known((n) => `${n >= 10_000 ? packed(n) : n < 100 ? three.format(n) : whole.format(n)}/s`);
export const rateStep = known((n) => `${n >= 1000 ? packed(n) : three.format(n)}/s`);
export const millis = known((ms) => (ms < 1000 ? `${three.format(ms)} ms` : `${three.format(ms / 1000)} s`));
export const percent = known((share) => {
  const value = share * 100;
  return `${value === 0 || value === 100 ? value : value < 0.01 ? '<0.01' : value < 1 ? value.toPrecision(1 + (value >= 0.1)) : value.toFixed(1)}%`;
});

export const time = known((ms) => clock.format(ms));
export const hour = known((ms) => minute.format(ms));
export const date = known((ms) => `${day.format(ms)}, ${clock.format(ms)}`);

/** A day in UTC, in which registries and retrainings count. */
export const dayOf = known((ms) => utcDay.format(ms));
export const moment = known((ms) => `${day.format(ms)} ${new Date(ms).getFullYear()}, ${minute.format(ms)}`);

export function span(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`;
}

export function ago(ms, now) {
  if (typeof ms !== 'number') return NONE;
  return now - ms < 1000 ? 'now' : `${span(now - ms)} ago`;
}

/** A slice's key as text, on the page and in addresses: a key of text is itself, any other is its JSON. */
export const keyText = (key) => (typeof key === 'string' ? key : JSON.stringify(key));

/** What the service says as a sentence: its problems begin in lower case, and end without a full stop. */
export const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? '' : '.'}`;

/** An element with attributes and children. Text becomes a text node, even if it looks like HTML. */
export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);
}

/** Set the text if it differs. An equal text is left alone, so that a selection in it is not lost. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}
