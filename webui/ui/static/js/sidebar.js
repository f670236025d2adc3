/** The list of chats: by day, with rename and delete; a drawer on small windows. */

import { chatPath, patch, post } from './api.js';
import { byId, el, focus, icon, iconButton } from './dom.js';
import { deleteChat } from './actions.js';
import { openMenu, tell } from './overlay.js';
import { moreChats, onChange, state, touchChat } from './store.js';

/** @typedef {import('./chat.js').ChatView} ChatView @typedef {import('./api.js').ChatSummary} ChatSummary */

const narrow = matchMedia('(max-width: 820px)');

/** @param {number} updated seconds since 1970 @returns {string} */
export function dayName(updated) {
  const day = new Date(updated * 1000);
  const today = new Date();
  const days = Math.round((new Date(today).setHours(0, 0, 0, 0) - new Date(day).setHours(0, 0, 0, 0)) / 86400000);
  if (days <= 0) return 'Today';
  if (days === 1) return 'Yesterday';
  if (days < 7) return 'Last 7 days';
  if (days < 30) return 'Last 30 days';
  return day.toLocaleDateString('en', { month: 'long', year: day.getFullYear() === today.getFullYear() ? undefined : 'numeric' });
}

/** Shows or hides the drawer (small windows only). @param {boolean} open */
export function showSidebar(open) {
  const was = document.body.classList.contains('side-open');
  document.body.classList.toggle('side-open', open);
  byId('open-sidebar').setAttribute('aria-expanded', String(open));
  byId('shade').hidden = !open;
  byId('sidebar').inert = narrow.matches && !open;
  byId('main').inert = narrow.matches && open;
  if (open) focus(byId('new-chat'));
  else if (was) focus(byId('open-sidebar'));
}

/** @param {ChatView} view @param {{newChat: () => void, openChat: (id: string) => void}} go */
export function setUpSidebar(view, go) {
  const list = byId('chats');
  let renaming = '';

  /** @param {ChatSummary} chat */
  const row = (chat) => {
    const title = chat.title || 'New chat';
    const link = el('a', { class: 'chat-link', href: `/#/c/${chat.id}`, title: chat.preview || title, 'aria-current': chat.id === view.chat.id ? 'page' : null }, el('span', { text: title, dir: 'auto' }));
    link.addEventListener('click', (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      go.openChat(chat.id);
    });
    link.addEventListener('dblclick', () => rename(chat.id));
    link.addEventListener('keydown', (event) => {
      if (event.key === 'F2') { event.preventDefault(); rename(chat.id); }
      if (event.key === 'Delete') { event.preventDefault(); deleteChat(view, chat.id); }
    });
    if (state.running.has(chat.id)) link.append(el('span', { class: 'pb-dot', role: 'img', 'aria-label': 'is being answered' }));
    const more = iconButton('more', `More for ${title}`, () => openMenu(more, `Chat ${title}`, [
      { label: 'Rename', icon: 'edit', run: () => rename(chat.id) },
      { label: 'Delete', icon: 'trash', danger: true, run: () => deleteChat(view, chat.id) },
    ]), { 'aria-haspopup': 'menu', 'aria-expanded': 'false' });
    return el('li', { 'data-id': chat.id }, link, more);
  };

  /** @param {string} id */
  const rename = (id) => {
    const item = list.querySelector(`li[data-id="${id}"]`);
    const chat = state.chats.find((c) => c.id === id);
    if (!item || !chat) return;
    renaming = id;
    const input = el('input', { type: 'text', 'aria-label': 'Name of the chat', maxlength: 200, dir: 'auto' });
    input.value = chat.title;
    let over = false;
    const end = async (/** @type {boolean} */ save) => {
      if (over) return;
      over = true;
      renaming = '';
      const title = input.value.trim();
      if (save && title && title !== chat.title) {
        try {
          await patch(chatPath(id), { title });
          touchChat({ id, title });
          view.renamed();
        } catch (error) { tell(error); }
      }
      draw();
      focus(/** @type {HTMLElement|null} */ (list.querySelector(`li[data-id="${id}"] a`)));
    };
    input.addEventListener('keydown', (event) => {
      if (event.key === 'Enter') { event.preventDefault(); end(true); }
      if (event.key === 'Escape') { event.stopPropagation(); end(false); }
    });
    input.addEventListener('blur', () => end(true));
    item.replaceChildren(input);
    input.focus();
    input.select();
  };

  const draw = () => {
    if (renaming) return;
    const at = /** @type {HTMLElement|null} */ (document.activeElement)?.closest?.('#chats li')?.getAttribute('data-id');
    /** @type {Node[]} */ const parts = [];
    let group = '';
    /** @type {HTMLUListElement|null} */ let items = null;
    for (const chat of state.chats) {
      const day = dayName(chat.updated);
      if (day !== group || !items) {
        group = day;
        const id = `day-${parts.length}`;
        items = el('ul', { 'aria-labelledby': id });
        parts.push(el('h2', { id, text: day }), items);
      }
      items.append(row(chat));
    }
    if (!state.chats.length) parts.push(el('p', { class: 'quiet', text: 'Your chats will be listed here.' }));
    if (state.more) parts.push(el('button', { type: 'button', class: 'side-button more-chats', text: 'Older chats', onclick: () => moreChats().catch(tell) }));
    list.replaceChildren(...parts);
    if (at) focus(/** @type {HTMLElement|null} */ (list.querySelector(`li[data-id="${at}"] a`)));
  };

  const mark = () => {
    for (const link of list.querySelectorAll('a')) {
      const current = link.parentElement?.dataset.id === view.chat.id;
      if (current) link.setAttribute('aria-current', 'page');
      else link.removeAttribute('aria-current');
    }
  };

  list.addEventListener('keydown', (event) => { // arrows walk through the list
    if (event.key !== 'ArrowDown' && event.key !== 'ArrowUp') return;
    const links = [...list.querySelectorAll('a')];
    const at = links.indexOf(/** @type {HTMLAnchorElement} */ (document.activeElement));
    if (at < 0) return;
    event.preventDefault();
    links[Math.max(0, Math.min(links.length - 1, at + (event.key === 'ArrowDown' ? 1 : -1)))].focus();
  });
  onChange('chats', draw);
  onChange('theme', setThemeIcon);
  onChange('running', draw);
  view.addEventListener('open', mark);
  byId('new-chat').addEventListener('click', go.newChat);
  byId('open-sidebar').addEventListener('click', () => showSidebar(!document.body.classList.contains('side-open')));
  byId('close-sidebar').addEventListener('click', () => showSidebar(false));
  byId('shade').addEventListener('click', () => showSidebar(false));
  byId('sidebar').addEventListener('keydown', (event) => { if (event.key === 'Escape' && document.body.classList.contains('side-open')) { event.stopPropagation(); showSidebar(false); } });
  narrow.addEventListener('change', () => showSidebar(false));
  showSidebar(false);
  byId('choose-theme').addEventListener('click', () => chooseTheme());
  setThemeIcon();
}

const THEMES = /** @type {const} */ ([['system', 'Like the system', 'screen'], ['light', 'Light', 'sun'], ['dark', 'Dark', 'moon']]);

function setThemeIcon() {
  const choice = /** @type {any} */ (window).patchbayTheme.choice;
  byId('choose-theme').replaceChildren(icon(THEMES.find(([name]) => name === choice)?.[2] ?? 'screen'));
}

function chooseTheme() {
  const theme = /** @type {any} */ (window).patchbayTheme;
  openMenu(byId('choose-theme'), 'Colours', THEMES.map(([name, label]) => ({
    label, checked: theme.choice === name, run: () => { theme.choose(name); setThemeIcon(); post('/ui/theme', { theme: name }).catch(tell); },
  })));
}
