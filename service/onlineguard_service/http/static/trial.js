// The trial: a candidate that judges every click beside the model that decides, and what each says of the same clicks.

import { count, make, moment, percent, sentence } from './format.js';
import { table } from './version.js';
import { alarms, folded, rates } from './watch.js';

const HEADS = ['', 'Clicks', 'Marked by live', 'candidate', 'Only by live', 'candidate', 'Purchases marked by live', 'candidate', 'Of purchases',
  'Heavy marked by live', 'candidate'];

/** `end` is called to end the trial. */
export function drawTrial(host, trial, end) {
  if (trial.version === null) {
    host.replaceChildren(make('p', { class: 'soft' },
      'No candidate was tried yet. Open a version to have it judge every click beside the one that decides, or decide those of some users.'));
    return;
  }
  const all = trial.overall, by = all?.by_candidate;
  const share = trial.share > 0 ? `decides the clicks of ${percent(trial.share)} of the users` : 'decides nothing';
  host.replaceChildren(
    make('p', { class: 'soft' }, trial.running
      ? `${trial.version} is on trial beside ${trial.live} since ${moment(trial.since)}. It judges every click and ${share}.`
      : `${trial.version} was on trial beside ${trial.live} until ${moment(trial.ended)}. ${trial.why ? sentence(trial.why) : ''}`),
    ...(trial.running ? [make('button', { type: 'button', onclick: end }, 'End the trial …')] : []),
    ...(all && all.clicks ? [figures(all), ...folded(host, 'compared', trial.slices.length, table(HEADS, trial.slices.map(row)))]
      : [make('p', {}, 'No click has come since it began.')]),
    ...(by && by.clicks ? [make('p', { class: 'soft' },
      `The candidate decided ${count(by.clicks)} clicks, ${count(by.robotic)} of them robotic; of ${count(by.purchases)} purchases, ${count(by.robotic_purchases)}.`)] : []),
    ...(trial.watched ? [make('h3', {}, 'The candidate and what it promised'), ...rates(host, trial.rates)] : []),
    ...alarms(trial.alarms));
}

function figures(all) {
  const shown = [
    ['Clicks', count(all.clicks), 'judged by both'],
    ['Marked by the candidate', part(all.candidate, all.clicks), `by the live model ${part(all.live, all.clicks)}`],
    ['Only by the candidate', count(all.only_candidate), `only by the live model ${count(all.only_live)}`],
    ['Purchases it marked', count(all.purchases_candidate), `the live model ${count(all.purchases_live)}, of ${count(all.purchases)}`],
    ['Heavy clicks it marked', part(all.heavy_candidate, all.heavy), `the live model ${part(all.heavy_live, all.heavy)}`],
  ];
  return make('dl', { class: 'figures' }, ...shown.map(([name, value, note]) =>
    make('div', {}, make('dt', {}, name), make('dd', {}, value), make('small', {}, note))));
}

const part = (hits, trials) => (trials ? percent(hits / trials) : percent(null));

function row(one) {
  return [one.of || 'All clicks', count(one.clicks), part(one.live, one.clicks), part(one.candidate, one.clicks),
    count(one.only_live), count(one.only_candidate), count(one.purchases_live), count(one.purchases_candidate), count(one.purchases),
    part(one.heavy_live, one.heavy), part(one.heavy_candidate, one.heavy)];
}
