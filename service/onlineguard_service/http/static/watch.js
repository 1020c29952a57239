// The live watch: what was promised of the model that decides, what is seen of it, and its alarms.

import { count, make, moment, number, percent } from './format.js';
import { table } from './version.js';

const ALARMS = 12; // shown

export function drawWatch(host, watch) {
  const shifts = Object.entries(watch.psi).map(([name, psi]) => `${name} ${number(psi)}`).join(', ');
  const since = watch.since === null ? '' : `, since ${moment(watch.since)}`;
  host.replaceChildren(
    make('p', { class: 'soft' }, `${watch.model_version} decides${since}: ${count(watch.clicks)} clicks.`,
      watch.watched ? '' : ' Nothing is known of what it promised, so nothing is compared. Versions that `onlineguard slidr retrain` makes have promises.'),
    ...rates(host, watch.rates),
    ...(watch.watched ? [make('p', { class: 'soft' }, `Shift of distributions since training (population stability index): ${shifts}.`)] : []),
    ...alarms(watch.alarms),
    make('p', { class: 'soft' }, watch.rollbacks === 1 ? 'A model was taken back once by the watch.'
      : watch.rollbacks ? `Models were taken back ${count(watch.rollbacks)} times by the watch.` : 'No model was taken back by the watch.'));
}

/** Rates seen and promised, over all clicks, and folded away, of the slices. */
export function rates(host, listed) {
  const slices = new Map(); // of each, its rates by figure
  for (const rate of listed) slices.set(rate.of, { ...slices.get(rate.of), [rate.figure]: rate });
  const rows = [...slices].map(([of, found]) => [of || 'All clicks', ...['ivr', 'fpr'].flatMap((figure) =>
    [percent(found[figure]?.seen), percent(found[figure]?.promised)])]);
  const heads = ['', 'IVR', 'promised', 'FPR', 'promised'];
  return rows.length ? [table(heads, rows.slice(0, 1)), ...folded(host, 'rates', rows.length - 1, table(heads, rows.slice(1)))] : [];
}

/** A part about n slices that can be opened. By its name it stays open when the host is drawn anew. */
export function folded(host, name, n, inside) {
  if (!n) return [];
  const open = host.querySelector(`details[data-name="${name}"]`)?.open ?? false;
  return [make('details', { open, 'data-name': name }, make('summary', {}, n === 1 ? '1 slice' : `${count(n)} slices`), inside)];
}

export function alarms(listed) {
  const latest = listed.slice(-ALARMS).reverse();
  return [
    make('h3', {}, latest.length ? 'Latest alarms' : 'No alarms'),
    ...(latest.length ? [make('ul', { class: 'log' }, ...latest.map((alarm) => make('li', {},
      make('b', { class: 'bad' }, `${alarm.figure.toUpperCase()}${alarm.of ? ` of ${alarm.of}` : ''}`),
      ` ${number(alarm.seen)}, promised ${number(alarm.promised)}, limit ${number(alarm.limit)}`,
      make('small', {}, `${moment(alarm.t)}, model ${alarm.model_version} after ${count(alarm.clicks)} clicks`))))] : []),
  ];
}
