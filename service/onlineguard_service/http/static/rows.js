/** Rows of a table that open by a press and are walked by the arrow keys; each holds a link, and may hold a `.pick`. */

export const walked = { onclick: press, onkeydown: walk };

function press(event) {
  if (event.target.closest('a, .pick') || String(getSelection())) return;
  event.target.closest('tr')?.querySelector('a').click();
}

/** Move from row to row with the arrow keys. */
function walk(event) {
  const row = event.target.closest('tr');
  const to = { ArrowDown: row?.nextSibling, ArrowUp: row?.previousSibling }[event.key];
  if (!to) return;
  event.preventDefault();
  to.querySelector(event.target.closest('.pick') ? 'input' : 'a').focus();
}
