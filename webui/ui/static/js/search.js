/** Search over all chats: a dialog with a box and a list, walked with the arrow keys. */

import { get } from './api.js';
import { el } from './dom.js';
import { openDialog, tell } from './overlay.js';
import { dayName } from './sidebar.js';
import { state } from './store.js';

/** @typedef {{chat: string, title: string, message: string, snippet: string, updated: number}} Hit */

/** @param {(chat: string, message?: string) => void} open */
export function openSearch(open) {
  if (document.querySelector('dialog.search')) return;
  const input = el('input', {
    type: 'search', role: 'combobox', 'aria-label': 'Search all chats', 'aria-controls': 'hits', 'aria-expanded': 'true', 'aria-autocomplete': 'list',
    placeholder: 'Search all chats', autocomplete: 'off', spellcheck: 'false', dir: 'auto',
  });
  const list = el('ul', { id: 'hits', role: 'listbox', 'aria-label': 'Found' });
  const note = el('p', { class: 'quiet', role: 'status' });
  const dialog = openDialog('Search', el('div', {}, input, list, note), { class: 'search', focus: input });
  /** @type {AbortController|null} */ let asking = null;
  /** @type {number|undefined} */ let timer;
  let at = 0;

  const choose = (/** @type {number} */ to) => {
    const options = /** @type {HTMLElement[]} */ ([...list.children]);
    if (!options.length) { input.removeAttribute('aria-activedescendant'); return; }
    at = (to + options.length) % options.length;
    options.forEach((option, i) => option.setAttribute('aria-selected', String(i === at)));
    input.setAttribute('aria-activedescendant', options[at].id);
    options[at].scrollIntoView({ block: 'nearest' });
  };

  /** @param {Hit[]} hits */
  const show = (hits) => {
    list.replaceChildren(...hits.map((hit, i) => {
      const snippet = el('span', { class: 'snippet', dir: 'auto' });
      snippet.innerHTML = hit.snippet;
      return el('li', { id: `hit-${i}`, role: 'option', onclick: () => { dialog.close(); open(hit.chat, hit.message); }, onmousemove: () => { if (at !== i) choose(i); } },
        el('span', { class: 'hit-title' }, el('span', { dir: 'auto', text: hit.title || 'New chat' }), el('small', { text: dayName(hit.updated) })), snippet);
    }));
    choose(0);
  };

  const recent = () => {
    list.replaceChildren(...state.chats.slice(0, 8).map((chat, i) => el('li', { id: `hit-${i}`, role: 'option', onclick: () => { dialog.close(); open(chat.id); }, onmousemove: () => { if (at !== i) choose(i); } },
      el('span', { class: 'hit-title' }, el('span', { dir: 'auto', text: chat.title || 'New chat' }), el('small', { text: dayName(chat.updated) })),
      el('span', { class: 'snippet', dir: 'auto', text: chat.preview ?? '' }))));
    note.textContent = state.chats.length ? '' : 'There are no chats yet.';
    choose(0);
  };

  const ask = async () => {
    asking?.abort();
    const words = input.value.trim();
    if (!words) { recent(); return; }
    asking = new AbortController();
    try {
      const { hits } = await get(`/ui/search?q=${encodeURIComponent(words)}`, asking.signal);
      show(hits);
      note.textContent = hits.length ? `${hits.length} found` : 'Nothing found.';
    } catch (error) { tell(error); }
  };

  input.addEventListener('input', () => { clearTimeout(timer); timer = setTimeout(ask, 120); });
  input.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') { event.preventDefault(); dialog.close(); }
    if (event.key === 'ArrowDown') { event.preventDefault(); choose(at + 1); }
    if (event.key === 'ArrowUp') { event.preventDefault(); choose(at - 1); }
    if (event.key === 'Enter') { event.preventDefault(); /** @type {HTMLElement|undefined} */ (list.children[at])?.click(); }
  });
  dialog.addEventListener('close', () => asking?.abort());
  recent();
}
