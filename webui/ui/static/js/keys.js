/** The keys: one table, from which the keys work and the dialog is made. */

import { el } from './dom.js';
import { openDialog } from './overlay.js';

/** @typedef {{keys: string[], does: string, when?: (event: KeyboardEvent) => boolean, run?: (combination: string) => void}} Key */

const mac = /Mac|iPhone|iPad/.test(navigator.platform);

/** @param {KeyboardEvent} event @param {string} combination such as "Ctrl+Shift+O" */
function pressed(event, combination) {
  const parts = combination.split('+');
  const key = parts[parts.length - 1];
  const names = /** @type {Record<string, string>} */ ({ Left: 'ArrowLeft', Right: 'ArrowRight', Up: 'ArrowUp', Esc: 'Escape' });
  const ctrl = mac ? event.metaKey || event.ctrlKey : event.ctrlKey;
  return event.key.toLowerCase() === (names[key] ?? key).toLowerCase() && ctrl === parts.includes('Ctrl')
    && (event.shiftKey === parts.includes('Shift') || key === '/') && event.altKey === parts.includes('Alt');
}

/** @param {Key[]} table */
export function setUpKeys(table) {
  addEventListener('keydown', (event) => {
    if (event.defaultPrevented || event.isComposing) return;
    for (const key of table) {
      const combination = key.run && key.keys.find((k) => pressed(event, k));
      if (!key.run || !combination || (key.when && !key.when(event))) continue;
      event.preventDefault();
      key.run(combination);
      return;
    }
  });
}

/** @param {Key[]} table */
export function openKeys(table) {
  if (document.querySelector('dialog.keys')) return;
  const list = el('dl', { class: 'keys-list' });
  for (const { keys, does } of table) {
    const names = keys.flatMap((k, i) => [
      ...(i ? [', '] : []),
      ...k.split('+').flatMap((part, j) => [...(j ? [' '] : []), el('kbd', { text: mac && part === 'Ctrl' ? '⌘' : part })]),
    ]);
    list.append(el('dt', {}, ...names), el('dd', { text: does }));
  }
  openDialog('Keys', list, { class: 'keys' });
}
