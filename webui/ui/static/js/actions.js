/** What the buttons of a message do. */

import { chatPath, get, remove, post } from './api.js';
import { announce, byId, copyText, el, flash, focus } from './dom.js';
import { showDetails } from './details.js';
import { tell, toast } from './overlay.js';
import { refresh, state, changed } from './store.js';

/** @typedef {import('./chat.js').ChatView} ChatView @typedef {import('./message.js').MessageView} MessageView */

/**
 * @param {ChatView} view of the chat @param {import('./message.js').Action} action
 * @param {MessageView} message @param {HTMLElement} button
 */
export async function act(view, action, message, button) {
  try {
    await doIt(view, action, message, button);
  } catch (error) { tell(error); }
}

/** @param {ChatView} view @param {import('./message.js').Action} action @param {MessageView} message @param {HTMLElement} button */
async function doIt(view, action, message, button) {
  const { id, role } = message.message;
  const busy = view.replyId && ['edit', 'regenerate', 'continue', 'retry', 'delete'].includes(action);
  if (busy) { toast('The reply is still being written.', { hint: 'Stop it first (Esc).' }); return; }
  if (action === 'copy') {
    const { text } = await get(chatPath(view.chat.id, `/messages/${id}`));
    await copyText(text);
    flash(button, 'copy');
  } else if (action === 'edit') await edit(view, message);
  else if (action === 'details') showDetails(view, message.message, button);
  else if (action === 'previous' || action === 'next') await showVersion(view, message, action === 'next' ? 1 : -1, action);
  else if (action === 'delete') {
    const chat = view.chat.id;
    await view.turn('/delete', { message: id });
    toast(role === 'user' ? 'Your message and what followed it are deleted.' : 'The reply and what followed it are deleted.', {
      action: 'Undo', takeFocus: true,
      run: async () => {
        try {
          if (view.chat.id === chat) await view.turn('/undelete', { message: id });
          else { await post(chatPath(chat, '/undelete'), { message: id }); await view.open(chat); }
          focus(view.messages.views.get(id)?.element);
          announce('The message is back.');
        } catch (error) { tell(error); }
      },
    });
  } else if (action === 'branch') {
    const { chat } = await post(chatPath(view.chat.id, '/branch'), { message: id });
    await refresh();
    await view.open(chat.id);
    announce('You are in a new chat that goes on from this message.');
    focus(byId('text'));
  } else if (action === 'continue') {
    view.messages.stick(true);
    await view.ask('/continue', { message: id });
    focus(byId('text'));
  } else { // regenerate, retry
    view.messages.stick(true);
    await view.ask('/regenerate', { message: id });
    focus(byId('text'));
  }
}

/** Shows another version of a message. @param {ChatView} view @param {MessageView} message @param {number} step @param {string} [action] */
export async function showVersion(view, message, step, action) {
  const { versions, index, id } = message.message;
  const to = versions[index + step];
  if (!to) return;
  await view.turn('/show', { message: to }, id);
  announce(`Version ${index + step + 1} of ${versions.length}`);
  const shown = view.messages.views.get(to);
  const bar = shown?.bar;
  const next = /** @type {HTMLButtonElement|null|undefined} */ (bar?.querySelector(`[data-action="${action}"]`));
  if (action) focus(next && !next.disabled ? next : /** @type {HTMLElement|null|undefined} */ (bar?.querySelector('[data-action="previous"]:not(:disabled), [data-action="next"]:not(:disabled)')));
}

/** Edits a message where it stands. @param {ChatView} view @param {MessageView} message */
export async function edit(view, message) {
  if (message.element.classList.contains('editing')) return;
  const { id, role } = message.message;
  const { text } = await get(chatPath(view.chat.id, `/messages/${id}`));
  const user = role === 'user';
  const box = el('textarea', { dir: 'auto', 'aria-label': user ? 'Your message' : 'The reply', class: 'edit-text', rows: 1 });
  box.value = text;
  const end = () => {
    form.remove();
    message.element.classList.remove('editing');
    focus(/** @type {HTMLElement|null} */ (message.bar.querySelector('[data-action="edit"]')));
  };
  const save = async (/** @type {boolean} */ goOn) => {
    if (!box.value.trim()) return;
    if (box.value === text && !user) { end(); return; }
    try {
      if (user) view.messages.stick(true);
      await view.ask('/edit', { message: id, text: box.value });
      end();
      if (goOn && !user && view.messages.last) await view.ask('/continue', { message: view.messages.last.message.id });
      focus(byId('text'));
    } catch (error) { tell(error); }
  };
  const form = el('form', { class: 'pb-edit', onsubmit: (/** @type {Event} */ event) => { event.preventDefault(); save(false); } },
    box,
    el('div', { class: 'edit-row' },
      el('button', { type: 'submit', class: 'primary', text: user ? 'Save & answer' : 'Save' }),
      user ? null : el('button', { type: 'button', text: 'Save & continue', onclick: () => save(true) }),
      el('button', { type: 'button', text: 'Cancel', onclick: end }),
      el('small', { text: 'The old version is kept.' })));
  form.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') { event.stopPropagation(); end(); }
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) { event.preventDefault(); save(false); }
  });
  const fit = () => { box.style.height = 'auto'; box.style.height = `${Math.min(box.scrollHeight + 2, innerHeight * 0.6)}px`; };
  box.addEventListener('input', fit);
  message.element.classList.add('editing');
  message.body.after(form);
  fit();
  box.focus();
  box.setSelectionRange(box.value.length, box.value.length);
}

/** Deletes a chat, with a way back. @param {ChatView} view @param {string} id */
export async function deleteChat(view, id) {
  try {
    await remove(chatPath(id));
    const gone = state.chats.find((c) => c.id === id);
    state.chats = state.chats.filter((c) => c.id !== id);
    changed('chats');
    if (view.chat.id === id) view.startNew();
    toast(`“${gone?.title || 'Chat'}” is deleted.`, {
      action: 'Undo', takeFocus: true,
      run: async () => {
        try { await post(chatPath(id, '/restore')); await refresh(); await view.open(id); announce('The chat is back.'); } catch (error) { tell(error); }
      },
    });
  } catch (error) { tell(error); }
}
