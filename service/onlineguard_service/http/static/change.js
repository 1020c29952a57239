// A change by an operator: asks for what it needs and for the key, sends it, and says what prevented it.

import { say, sentence } from './format.js';

export class Change {
  #key = null; // of the scope admin: in the memory of this page and nowhere else
  #sending = false;

  constructor(api) {
    this.api = api;
    const find = (name) => document.getElementById(`change-${name}`);
    this.parts = Object.fromEntries(['heading', 'text', 'refused', 'reasoned', 'why', 'shared', 'share', 'forced',
      'force', 'forcing', 'keyed', 'key', 'do', 'cancel', 'form']
      .map((name) => [name, find(name)]));
    this.dialog = document.getElementById('change');
    this.parts.form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#send();
    });
    this.parts.cancel.addEventListener('click', () => this.dialog.close());
    this.dialog.addEventListener('cancel', (event) => this.#sending && event.preventDefault());
  }

  /** Ask for what the change needs beside its `body`: a reason if `why`, a note if
   * `note`, a share of the users if `share`, consent if
   * there is a `force`. Tell `done` the answer. */
  ask(wanted) {
    this.wanted = wanted;
    const { heading, text, refused, reasoned, why, shared, share, forced, force, forcing, keyed, key } = this.parts;
    say(heading, wanted.title);
    say(text, wanted.text);
    say(this.parts.do, wanted.action);
    refused.hidden = true;
    reasoned.hidden = !wanted.why && !wanted.note;
    say(reasoned.querySelector('label'), wanted.note ? 'Note, for whoever sees it next' : 'Reason, for whoever reads the log in a year');
    why.required = Boolean(wanted.why);
    why.value = '';
    shared.hidden = !wanted.share;
    share.required = Boolean(wanted.share);
    share.value = '0';
    forced.hidden = !wanted.force;
    force.required = Boolean(wanted.force?.required);
    force.checked = false;
    say(forcing, wanted.force?.text ?? '');
    keyed.hidden = this.api.key === null; // the service asks for none
    key.required = !keyed.hidden;
    key.value = this.#key ?? '';
    this.dialog.showModal();
    (!reasoned.hidden ? why : wanted.share ? share : keyed.hidden ? this.parts.do : key).focus();
  }

  async #send() {
    const { path, method, body, why: asksWhy, note: asksNote, share: asksShare, force: asksForce, done } = this.wanted;
    const { refused, why, share, force, keyed, key } = this.parts;
    const used = keyed.hidden ? null : key.value.trim();
    if (used !== null && !/^[\x21-\x7e]+$/.test(used)) return this.#refuse('A key has only letters, digits and signs of ASCII, without spaces.');
    this.#busy(true);
    refused.hidden = true;
    try {
      const answer = await this.api.change(method ?? 'POST', path, body && {
        ...body, ...(asksWhy ? { why: why.value } : {}), ...(asksNote ? { note: why.value } : {}), ...(asksShare ? { share: Number(share.value) / 100 } : {}),
        ...(asksForce ? { force: force.checked } : {}),
      }, used);
      this.#key = used;
      this.dialog.close();
      done(answer);
    } catch (error) {
      this.#refuse(error.status ? sentence(error.message)
        : 'The service gave no answer, so whether it was done is not known. Look at what is shown before you try again.');
    } finally {
      this.#busy(false);
    }
  }

  #busy(sending) {
    this.#sending = sending;
    for (const name of ['do', 'cancel']) this.parts[name].disabled = sending;
    this.dialog.setAttribute('aria-busy', String(sending));
  }

  #refuse(text) {
    this.parts.refused.hidden = false;
    say(this.parts.refused, text);
  }
}
