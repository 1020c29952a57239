// Makes a report answer: a crosshair with values over every plot, and a table that can be sorted and filtered.
// The report is whole without it.
'use strict';

const make = (tag, className, text = '') => Object.assign(document.createElement(tag), { className, textContent: text });
const written = new Intl.NumberFormat('en-US', { maximumSignificantDigits: 4 });
const whole = new Intl.NumberFormat('en-US');
const moment = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', year: 'numeric', hour: '2-digit', minute: '2-digit',
  second: '2-digit', timeZone: 'UTC' });

function number(value) {
  if (value === null) return 'n/a';
  if (!Number.isFinite(value)) return value > 0 ? '∞' : '-∞';
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e7) ? value.toExponential(2).replace('e+', 'e') : written.format(value);
}

const summed = (steps) => steps.map(((sum) => (step) => (sum += step))(0));

// A crosshair. `data-points` has, of every column of the plot that has events: its place, the number and the moment
// of the event with the highest score (as differences), the lowest and the highest value, the highest score, and the
// thresholds, each with how often it comes in a row; then the alarms and the labelled windows, each with its first and last column.
function crosshair(panels) {
  const [at, events, times, low, high, scores, runs, alarms, labels] = JSON.parse(panels.dataset.points);
  const last = at.length - 1, width = Number(panels.dataset.width), start = panels.dataset.start;
  if (last < 0) return;
  const limits = runs.flatMap((value, n) => (n % 2 ? [] : Array(runs[n + 1]).fill(value)));
  const numbers = summed(events), moments = start === undefined ? null : summed(times).map((ms) => Number(start) + ms);
  const plots = [...panels.querySelectorAll('.plot')], name = panels.dataset.value;
  const lines = plots.map((plot) => plot.appendChild(make('i', 'cursor')));
  const tip = plots[0].appendChild(make('div', 'tip'));
  let here = null;
  for (const [key, value] of Object.entries({ role: 'slider', tabindex: 0, 'aria-roledescription': 'chart', 'aria-valuemin': 0,
    'aria-valuemax': last, 'aria-label': `Values of ${panels.dataset.of}` })) panels.setAttribute(key, value);

  function rows(i) {
    const odd = alarms.find(([from, to]) => from <= at[i] && at[i] <= to);
    return [
      [moments ? `${moment.format(moments[i])}, event` : 'event', whole.format(numbers[i])],
      ...(low ? [[name, low[i] === high[i] ? number(low[i]) : `${number(low[i])} to ${number(high[i])}`]] : []),
      ['score', number(scores[i])], ['threshold', number(limits[i])],
      ...(odd ? [[odd[2] === 1 ? 'alarm, p-value' : `${odd[2]} alarms, p-value`, number(odd[3])]] : []),
      ...(labels.some(([from, to]) => from <= at[i] && at[i] <= to) ? [['labelled window', 'yes']] : []),
    ];
  }
  function move(i) {
    here = i;
    panels.classList.toggle('pointed', i !== null);
    const told = rows(i ?? last);
    panels.setAttribute('aria-valuenow', i ?? last);
    panels.setAttribute('aria-valuetext', told.map((pair) => pair.join(' ')).join(', '));
    if (i === null) return;
    for (const line of lines) line.style.left = `${(100 * at[i]) / width}%`;
    tip.replaceChildren(...told.map(([what, value]) => {
      const row = make('span', '', what);
      row.append(make('b', '', value));
      return row;
    }));
    const room = plots[0].clientWidth, wide = tip.offsetWidth, left = (room * at[i]) / width;
    tip.style.left = `${Math.max(0, Math.min(room - wide, left + 14 + wide > room ? left - 14 - wide : left + 14))}px`;
  }
  function point(event) {
    const box = plots[0].getBoundingClientRect(), column = ((event.clientX - box.left) / box.width) * width;
    let first = 0, end = last;
    while (first < end) {
      const middle = (first + end) >> 1;
      if (at[middle] < column) first = middle + 1;
      else end = middle;
    }
    move(first > 0 && column - at[first - 1] < at[first] - column ? first - 1 : first);
  }
  function press(event) {
    const now = here ?? last, far = Math.max(1, Math.round(last / 10));
    const to = { ArrowLeft: now - 1, ArrowDown: now - 1, ArrowRight: now + 1, ArrowUp: now + 1, PageDown: now - far,
      PageUp: now + far, Home: 0, End: last, Escape: null }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    move(to === null ? null : Math.min(last, Math.max(0, to)));
  }
  panels.addEventListener('pointermove', point);
  panels.addEventListener('pointerdown', point);
  panels.addEventListener('pointerleave', () => move(null));
  panels.addEventListener('blur', () => move(null));
  panels.addEventListener('keydown', press);
  move(null);
}

// Sort and filter the slices: the rows of the table, and the sections below it in the same order.
function order(table) {
  const body = table.tBodies[0], rows = [...body.rows];
  const section = new Map(rows.map((row) => [row, document.getElementById(row.dataset.of)]));
  const heads = [...table.tHead.rows[0].cells];
  const value = (row, n) => row.cells[n].dataset.value ?? row.cells[n].textContent;
  const last = rows.length && section.get(rows.at(-1)).nextSibling;

  function sort(n) {
    const numeric = rows.some((row) => row.cells[n].dataset.value !== undefined);
    const usual = numeric && !heads[n].hasAttribute('data-lowest') ? 'descending' : 'ascending';
    const other = usual === 'descending' ? 'ascending' : 'descending';
    const now = heads[n].getAttribute('aria-sort') === usual ? other : usual, sign = now === 'ascending' ? 1 : -1;
    for (const head of heads) head.removeAttribute('aria-sort');
    heads[n].setAttribute('aria-sort', now);
    const missing = (row) => value(row, n) === '' || value(row, n) === 'n/a';
    rows.sort((a, b) => missing(a) - missing(b) || sign * (numeric ? value(a, n) - value(b, n)
      : value(a, n).localeCompare(value(b, n), 'en', { numeric: true })) || 0);
    for (const row of rows) {
      body.append(row);
      const part = section.get(row);
      part.parentNode.insertBefore(part, last);
    }
  }
  heads.forEach((head, n) => {
    if (head.hasAttribute('data-plain')) return;
    const button = make('button', '', head.textContent);
    button.type = 'button';
    button.addEventListener('click', () => sort(n));
    head.replaceChildren(button);
  });

  const bar = make('div', 'find'), field = make('input', ''), found = make('span', '');
  Object.assign(field, { type: 'search', placeholder: 'Filter by name', autocomplete: 'off', spellcheck: false });
  field.setAttribute('aria-label', 'Show only slices whose name contains');
  found.setAttribute('role', 'status');
  field.addEventListener('input', () => {
    const part = field.value.trim().toLowerCase();
    for (const row of rows) row.hidden = section.get(row).hidden = !row.cells[0].textContent.toLowerCase().includes(part);
    found.textContent = part ? `${whole.format(rows.filter((row) => !row.hidden).length)} of ${whole.format(rows.length)} slices` : '';
  });
  bar.append(field, found);
  table.parentNode.before(bar);
}

document.querySelectorAll('.panels').forEach(crosshair);
document.querySelectorAll('table.slices').forEach(order);
