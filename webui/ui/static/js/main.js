/** Puts the page together: the chat, the list, the choosers, the keys. */

import { connection } from './api.js';
import { act, edit, showVersion } from './actions.js';
import { ChatView } from './chat.js';
import { setUpChoosers, setUpNotices } from './choosers.js';
import { setUpComposer } from './composer.js';
import { byId, el, focus } from './dom.js';
import { openKeys, setUpKeys } from './keys.js';
import { tell } from './overlay.js';
import { currentTab, openTab, setUpTabs } from './panels.js';
import { openSearch } from './search.js';
import { setUpSidebar, showSidebar } from './sidebar.js';
import { refresh, state } from './store.js';

const SUGGESTIONS = ['How do I add a model?', 'What does min_p do?', 'How do I swap the loader?', 'How do I write an extension?'];

const view = new ChatView((action, message, button) => act(view, action, message, button));

const newChat = () => {
  openTab('Chat');
  showSidebar(false);
  view.startNew();
  composer.focus();
};
const openChat = async (/** @type {string} */ id, /** @type {string|undefined} */ message = undefined) => {
  openTab('Chat');
  showSidebar(false);
  if (id !== view.chat.id || message) await view.open(id, message);
  if (!message) composer.focus();
};

const composer = setUpComposer(view);
setUpSidebar(view, { newChat, openChat });
setUpChoosers(view, openTab);
setUpNotices();
let touched = 0;
for (const kind of ['keydown', 'pointerdown', 'wheel']) addEventListener(kind, () => { touched = performance.now(); }, { passive: true, capture: true });
setUpTabs(() => view.replyId !== '' || performance.now() - touched < 2500, async () => { await refresh(); await view.look(); });

byId('empty').append(
  el('h2', { text: 'What shall we talk about?' }),
  el('p', { class: 'quiet', text: 'Everything stays on this machine. The small guide model answers questions about Patchbay.' }),
  el('div', { class: 'suggestions' }, ...SUGGESTIONS.map((text) => el('button', { type: 'button', text, onclick: () => composer.say(text) }))),
);

/** The last message on show that fulfils a condition. @param {(m: import('./api.js').Message) => boolean} fits */
const lastMessage = (fits) => [...view.messages.views.values()].reverse().find((v) => fits(v.message));
const turnLast = (/** @type {number} */ step) => {
  const last = lastMessage((m) => m.role === 'assistant');
  if (last && !view.replyId) showVersion(view, last, step).catch(tell);
};
const inChat = () => currentTab() === 'Chat' && !document.querySelector('dialog[open], :popover-open');

/** @type {import('./keys.js').Key[]} README.md has the same table; a test compares them. */
const KEYS = [
  { keys: ['Enter', 'Shift+Enter'], does: 'send; a new line' },
  { keys: ['Esc'], does: 'stop the reply', when: () => inChat() && view.replyId !== '', run: () => view.stop() },
  { keys: ['Ctrl+Shift+O'], does: 'new chat', run: newChat },
  { keys: ['Ctrl+K'], does: 'search all chats', run: () => openSearch(openChat) },
  { keys: ['Ctrl+/'], does: 'show all keys', run: () => openKeys(KEYS) },
  {
    keys: ['Up'], does: 'edit your last message (in an empty box)', when: () => inChat() && document.activeElement === byId('text') && composer.isEmpty() && !view.replyId,
    run: () => { const last = lastMessage((m) => m.role === 'user'); if (last) edit(view, last).catch(tell); },
  },
  { keys: ['Alt+Left', 'Alt+Right'], does: 'previous or next version of the last reply', when: inChat, run: (keys) => turnLast(keys === 'Alt+Left' ? -1 : 1) },
];
setUpKeys(KEYS);
byId('open-keys').addEventListener('click', () => openKeys(KEYS));
byId('open-search').addEventListener('click', () => openSearch(openChat));
byId('skip').addEventListener('click', (event) => { event.preventDefault(); openTab('Chat'); composer.focus(); });

const line = byId('connection');
connection.addEventListener('lost', () => { line.textContent = 'Patchbay does not answer. The page goes on by itself as soon as it is back.'; line.hidden = false; });
connection.addEventListener('back', () => { line.hidden = true; line.textContent = ''; });

const chatInAddress = () => /^#\/c\/([\w-]+)/.exec(location.hash)?.[1] ?? '';
addEventListener('popstate', () => {
  const id = chatInAddress();
  if (id && id !== view.chat.id) view.open(id);
  else if (!id && view.chat.id) view.startNew();
});
addEventListener('focus', () => { view.remember(); if (currentTab() === 'Chat') view.look().catch(() => {}); });

/** What the panels may use. */
/** @type {any} */ (window).patchbay = {
  get chat() { return view.chat.id; },
  openTab,
  refresh: async () => { await refresh(); if (view.chat.id && !view.replyId) await view.open(view.chat.id); },
};

async function start() {
  const id = chatInAddress();
  const lists = refresh().catch(tell);
  if (id) await view.open(id);
  else view.startNew();
  await lists;
  if (!id) await view.look();
  byId('version').textContent = state.version ? `Version ${state.version}` : '';
  if (matchMedia('(hover: hover)').matches) focus(byId('text'));
  document.body.dataset.ready = 'true';
}
start();
