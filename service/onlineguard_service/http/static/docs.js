// The API: every route of /openapi.json with what it takes and answers, and every schema. All of it becomes text.

import { make, say, sentence } from './format.js';

const find = (id) => document.getElementById(id);

show().catch(() => {
  find('notice').hidden = false;
  say(find('notice'), 'The description of the service could not be read; load this page again.');
});

async function show() {
  const response = await fetch('openapi.json', { cache: 'no-store' });
  const api = await response.json();
  const named = Object.entries(api.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ method: method.toUpperCase(), path, operation })));
  find('about').append(`${api.info.title} ${api.info.version}. ${api.info.description} This page shows `,
    make('a', { href: 'openapi.json' }, 'openapi.json'), ' (OpenAPI 3.1).');
  find('contents').append(
    make('ul', {}, ...named.map((each) => make('li', {}, make('a', { href: `#${anchor(each)}` }, badge(each.method), make('span', {}, each.path))))),
    make('a', { href: '#schemas-heading' }, 'Schemas'));
  find('operations').append(...named.map(route));
  find('schemas').append(...Object.entries(api.components.schemas).map(schema));
  if (location.hash) find(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

const anchor = ({ method, path }) => `${method} ${path}`.toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/-$/, '');
const badge = (method) => make('b', { class: `method ${method.toLowerCase()}` }, method);

function route(each) {
  const { method, path, operation } = each;
  const { parameters = [], requestBody: body, responses } = operation;
  return make('section', { class: 'card inner', id: anchor(each), 'aria-labelledby': `of-${anchor(each)}` },
    make('h2', { id: `of-${anchor(each)}` }, badge(method), make('code', {}, path)),
    make('p', {}, operation.summary ?? ''),
    ...(operation.description ? [make('p', { class: 'soft' }, operation.description)] : []),
    ...(parameters.length ? [make('h3', {}, 'Parameters'), fields(parameters.map((one) => [
      one.name, one.schema, [`in the ${one.in}`, one.description].filter(Boolean).join(': '), one.required]))] : []),
    ...(body ? [make('h3', {}, 'Body'), contents(body.content)] : []),
    make('h3', {}, 'Answers'),
    make('dl', { class: 'answers' }, ...Object.entries(responses).map(([status, answer]) => make('div', {},
      make('dt', {}, status), make('dd', {}, answer.description, ' ', contents(answer.content ?? {}))))));
}

function contents(content) {
  return make('ul', { class: 'kinds' }, ...Object.entries(content).map(([media, { schema: one }]) =>
    make('li', {}, make('code', {}, media), ...(one ? [': ', ...kind(one)] : []))));
}

function schema([name, one]) {
  const required = new Set(one.required ?? []);
  return make('section', { class: 'card inner', id: `schema-${name}`, 'aria-labelledby': `of-schema-${name}` },
    make('h3', { id: `of-schema-${name}` }, name), make('p', { class: 'soft' }, one.description ?? ''),
    one.properties ? fields(Object.entries(one.properties).map(([field, inner]) => [field, inner, inner.description, required.has(field)]))
      : make('p', {}, ...kind(one)));
}

/** A table of fields: name, schema, what it is, and whether it must be there. */
function fields(rows) {
  return make('div', { class: 'wide' }, make('table', { class: 'plain fields' },
    make('thead', {}, make('tr', {}, ...['Name', 'Type', 'About'].map((head, n) =>
      make('th', { scope: 'col', class: n ? '' : 'name' }, make('span', {}, head))))),
    make('tbody', {}, ...rows.map(([name, inner, about, required]) => make('tr', {},
      make('th', { scope: 'row', class: 'name' }, name), make('td', {}, ...kind(inner)),
      make('td', {}, [required ? 'required' : '', about, inner.default === undefined ? '' : `by default ${JSON.stringify(inner.default)}`]
        .filter(Boolean).map(sentence).join(' ')))))));
}

/** What a JSON schema allows, in words, with links to the schemas that it names. */
function kind(one) {
  if (one.$ref) {
    const name = one.$ref.split('/').pop();
    return [make('a', { href: `#schema-${name}` }, name)];
  }
  if (one.enum) return [one.enum.map((value) => JSON.stringify(value)).join(' | ')];
  if (one.const !== undefined) return [JSON.stringify(one.const)];
  const choices = one.anyOf ?? one.oneOf;
  if (choices && !one.properties) return choices.flatMap((choice, n) => (n ? [' or ', ...kind(choice)] : kind(choice)));
  if (one.type === 'array') return ['list of ', ...(one.items ? kind(one.items) : one.prefixItems ? one.prefixItems.flatMap(kind) : ['anything'])];
  if (one.type === 'object') {
    return typeof one.additionalProperties === 'object' ? ['object of ', ...kind(one.additionalProperties)] : ['object'];
  }
  const bounds = [['minimum', 'at least'], ['maximum', 'at most'], ['minLength', 'at least'], ['maxLength', 'at most']]
    .filter(([key]) => one[key] !== undefined)
    .map(([key, words]) => `${words} ${one[key].toLocaleString('en-US')}${key.endsWith('Length') ? ' characters' : ''}`);
  return [[[one.type ?? 'anything'].flat().join(' or '), ...bounds].join(', ')];
}
