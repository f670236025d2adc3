/** The chat on show: opening, sending, following its reply. One object, made once by main. */

import { chatPath, connection, get, patch, post, replyPath } from './api.js';
import { announce, byId } from './dom.js';
import { Follower } from './follow.js';
import { Messages } from './messages.js';
import { tell } from './overlay.js';
import { onChange, refresh, setRunning, state, touchChat } from './store.js';

/** @typedef {import('./api.js').Chat} Chat @typedef {import('./api.js').Message} Message @typedef {import('./api.js').Opened} Opened */

const WINDOW = 16; // messages read when a chat opens
const MORE = 32; // messages read with each step upwards

/** @returns {Chat} a chat that the server does not know yet */
const blank = () => ({
  id: '', title: '', version: 0, leaf: '', model: '', loader: '', preset: '', system: '', prefix: '', character: '', settings: { ...state.defaults.settings }, updated: 0,
});
/** What a new chat keeps for the next one too. */
const KEPT = new Set(['preset', 'settings']);

/** Fires `open` (another chat, or the same one anew), `born` (the new chat came to be), `chat` (its fields), `reply` (starts, ends), `progress`, `meter`. */
export class ChatView extends EventTarget {
  /** @param {import('./message.js').Act} act */
  constructor(act) {
    super();
    this.chat = blank();
    /** @type {import('./api.js').Meter|null} */ this.meter = null;
    /** @type {Follower|null} */ this.follower = null;
    /** @type {{stage: string, done: number, total: number, text: string}|null} */ this.progress = null;
    this.opening = 0;
    /** @type {Set<string>} other chats that are answered */ this.elsewhere = new Set();
    this.messages = new Messages(act, () => this.loadOlder());
    connection.addEventListener('back', () => this.comeBack());
    onChange('running', () => { for (const chat of state.running) if (chat !== this.chat.id) this.lookAfter(chat); });
  }

  /** @param {string} what */
  fire(what) { this.dispatchEvent(new Event(what)); }

  /** The reply that is being written here, or "". */
  get replyId() { return this.follower && !this.follower.ended ? this.follower.reply : ''; }

  /** Shows an empty chat; it comes to be with its first message. */
  startNew() {
    this.opening += 1;
    this.leave();
    this.chat = blank();
    this.meter = null;
    this.messages.set([], 0);
    this.messages.stick(true);
    this.shown();
  }

  /**
   * Opens a chat at its end, or at one message. @param {string} id @param {string} [at] @returns {Promise<void>}
   */
  async open(id, at) {
    const turn = (this.opening += 1);
    let told;
    try {
      told = await this.read(id, at);
    } catch (error) {
      if (turn !== this.opening) return;
      tell(error);
      if (!this.chat.id && /** @type {any} */ (error).status === 404) this.startNew();
      return;
    }
    if (turn !== this.opening) return;
    if (id !== this.chat.id) this.leave();
    this.show(told, id !== this.chat.id);
    if (at) await this.goTo(at);
  }

  /** A chat's newest messages, or those from `at` on; a version that is not on show is put on show. @param {string} id @param {string} [at] @returns {Promise<Opened>} */
  async read(id, at) {
    if (!at) return get(chatPath(id, `?limit=${WINDOW}`));
    try {
      return await get(chatPath(id, `?limit=${WINDOW}&around=${at}`));
    } catch (error) {
      if (/** @type {any} */ (error).status !== 404) throw error;
      return post(chatPath(id, '/show'), { message: at });
    }
  }

  /** @param {Opened} told @param {boolean} [fresh] another chat than before */
  show(told, fresh = false) {
    this.chat = told.chat;
    this.meter = told.meter;
    this.elsewhere.delete(told.chat.id);
    this.messages.set(told.messages, told.older);
    if (fresh) { this.messages.stick(true); this.messages.toEnd(); }
    this.shown();
    if (told.reply) this.follow(told.reply.id);
    else if (this.follower) this.endFollowing();
    else setRunning(told.chat.id, false);
  }

  shown() {
    const { id } = this.chat;
    const hash = id ? `#/c/${id}` : '';
    if (location.hash !== hash) history.pushState(null, '', `/${hash}`);
    byId('empty').hidden = this.messages.views.size > 0;
    this.remember();
    this.fire('open');
  }

  /** Names the chat to the window, and to the panels, which know it by a cookie. */
  remember() {
    const { id, title } = this.chat;
    byId('chat-title').textContent = title || 'New chat';
    document.title = title ? `${title} · Patchbay` : 'Patchbay';
    document.cookie = `patchbay_chat=${id}; path=/; SameSite=Strict`;
  }

  /** Brings a message into view, reading older ones until it is there. @param {string} id */
  async goTo(id) {
    while (!this.messages.views.has(id) && this.messages.older > 0) await this.loadOlder(128);
    const view = this.messages.views.get(id);
    if (!view) return;
    this.messages.stick(false);
    view.element.scrollIntoView({ block: 'center' });
    view.element.focus({ preventScroll: true });
    view.element.classList.add('found');
    setTimeout(() => view.element.classList.remove('found'), 2000);
  }

  async loadOlder(count = MORE) {
    const first = this.messages.views.keys().next().value;
    const id = this.chat.id;
    if (!first || !id) return;
    const told = /** @type {Opened} */ (await get(chatPath(id, `?limit=${count}&before=${first}`)));
    if (this.chat.id === id) this.messages.prepend(told.messages, told.older);
  }

  /** Stops looking at the reply here; it goes on by itself. */
  leave() {
    if (!this.follower) return;
    if (!this.follower.ended) this.lookAfter(this.chat.id);
    this.follower.close();
    this.follower = null;
    this.setProgress(null);
    this.fire('reply');
  }

  /** Looks now and then whether a reply in another chat is done, without holding a connection. @param {string} chat */
  async lookAfter(chat) {
    if (this.elsewhere.has(chat)) return;
    this.elsewhere.add(chat);
    while (this.elsewhere.has(chat)) {
      await new Promise((resolve) => setTimeout(resolve, 2000));
      if (!this.elsewhere.has(chat)) return;
      try {
        const told = /** @type {Opened} */ (await get(chatPath(chat, '?limit=1')));
        if (told.reply || !this.elsewhere.has(chat)) continue;
        announce(`The reply in ${told.chat.title || 'another chat'} is finished.`);
      } catch (error) {
        if (/** @type {any} */ (error).code === 'offline') continue;
      }
      this.elsewhere.delete(chat);
      setRunning(chat, false);
    }
  }

  /** @param {string} reply */
  follow(reply) {
    if (this.follower && !this.follower.ended && this.follower.reply === reply) return;
    this.follower?.close();
    const chat = this.chat.id;
    setRunning(chat, true);
    const follower = new Follower(reply, (change) => { if (this.follower === follower) this.take(reply, change); }, () => {
      if (this.follower === follower) { this.endFollowing(); this.open(chat); }
    });
    this.follower = follower;
    announce('Reply started');
    this.fire('reply');
  }

  /** @param {string} reply @param {import('./follow.js').Change} change */
  take(reply, change) {
    const view = this.messages.views.get(reply);
    if (change.p) this.setProgress(change.p);
    else if (this.progress && (change.o?.length || change.h || change.b?.length || change.hb?.length || change.e)) this.setProgress(null);
    if (view) {
      view.take(change);
      if (change.e) view.draw();
      else this.messages.soon(view);
    }
    if (!change.e) return;
    view?.update(change.e);
    const { status, details, error } = change.e;
    if (details?.context) this.meter = { used: (details.prompt_tokens ?? 0) + (details.tokens ?? 0), context: details.context, estimated: false };
    announce(status === 'failed' ? `The reply failed. ${error}` : status === 'stopped' ? 'Reply stopped' : 'Reply finished');
    this.endFollowing();
    this.fire('meter');
  }

  endFollowing() {
    this.follower?.close();
    this.follower = null;
    setRunning(this.chat.id, false);
    this.setProgress(null);
    this.fire('reply');
    if (this.chat.id) refresh().then(() => this.renamed(), () => {});
  }

  /** The title that the list of chats knows, when the server gave it one meanwhile. */
  renamed() {
    const listed = state.chats.find((c) => c.id === this.chat.id);
    if (!listed || listed.title === this.chat.title) return;
    this.chat = { ...this.chat, title: listed.title };
    this.remember();
    this.fire('chat');
  }

  /** @param {{stage: string, done: number, total: number, text: string}|null} progress */
  setProgress(progress) {
    if (!progress && !this.progress) return;
    this.progress = progress;
    this.fire('progress');
  }

  /** Makes the chat real, with what was chosen for it while it was empty. @returns {Promise<string>} its id */
  async ensure() {
    if (this.chat.id) return this.chat.id;
    const { model, loader, preset, system, prefix, settings } = this.chat;
    const turn = this.opening;
    const chosen = Object.entries({ model, loader, preset, system, prefix }).filter(([, value]) => value);
    const { chat } = await post('/ui/chats', { ...Object.fromEntries(chosen), ...(Object.keys(settings).length && { settings }) });
    if (turn === this.opening) {
      this.chat = chat;
      history.replaceState(null, '', `/#/c/${chat.id}`);
      this.remember();
      this.fire('born');
    }
    return chat.id;
  }

  /** Changes fields of the chat: at once here, then on the server. @param {Partial<Chat>} fields */
  async change(fields) {
    const before = this.chat;
    this.chat = { ...this.chat, ...fields };
    this.fire('chat');
    try {
      if (!before.id) {
        const kept = Object.entries(fields).filter(([name]) => KEPT.has(name));
        if (kept.length) Object.assign(state.defaults, await patch('/ui/new-chat', Object.fromEntries(kept)));
        return;
      }
      const { chat } = await patch(chatPath(before.id), fields);
      if (chat.id === this.chat.id) { this.chat = chat; this.fire('chat'); }
    } catch (error) {
      if (this.chat.id === before.id) { this.chat = before; this.fire('chat'); }
      tell(error);
    }
  }

  /** @param {string} text @returns {Promise<void>} fails with ApiError when the message was not taken */
  async send(text) {
    const turn = this.opening;
    const id = await this.ensure();
    const parent = turn === this.opening ? this.messages.last?.message.id ?? '' : null;
    this.messages.stick(true);
    await this.ask('/send', { text, parent }, id, turn);
  }

  /**
   * A request that changes messages and may start a reply.
   * @param {string} path @param {any} body @param {string} [id] @param {number} [turn]
   */
  async ask(path, body, id = this.chat.id, turn = this.opening) {
    const told = await post(chatPath(id, path), body);
    touchChat({ id: told.chat.id, title: told.chat.title, updated: told.chat.updated });
    if (turn !== this.opening) {
      if (told.reply) setRunning(id, true);
      return;
    }
    this.chat = told.chat;
    this.messages.put(told.messages);
    this.shown();
    if (told.reply) this.follow(told.reply.id);
  }

  /** Like `ask`, for what shows another path: the answer is the whole window. @param {string} path @param {any} body @param {string} [at] */
  async turn(path, body, at) {
    const id = this.chat.id;
    const top = at ? this.messages.views.get(at)?.element.getBoundingClientRect().top : undefined;
    const position = at ? this.messages.older + [...this.messages.views.keys()].indexOf(at) : 0;
    const told = /** @type {Opened} */ (await post(chatPath(id, path), body));
    if (this.chat.id !== id) return;
    if (this.replyId && this.replyId !== told.reply?.id) this.leave();
    const sticking = this.messages.sticking;
    this.show(told);
    if (!at) return;
    while (this.messages.older > position) await this.loadOlder(128);
    const view = this.messages.views.get(body.message);
    if (!view || top === undefined || (sticking && view.isLast)) return;
    this.messages.stick(false);
    this.messages.scroller.scrollTop += view.element.getBoundingClientRect().top - top;
  }

  async stop() {
    const reply = this.replyId;
    if (!reply) return;
    try { await post(replyPath(reply, '/stop')); } catch (error) { tell(error); }
  }

  /** After a break: the lists again, and what the chat became meanwhile. */
  async comeBack() {
    try {
      await refresh();
      if (this.chat.id && !this.replyId) await this.open(this.chat.id);
    } catch { /* lost again: the next time */ }
  }

  /** Looks whether another tab, or a panel, changed this chat or what a new one begins with. */
  async look() {
    if (!this.chat.id) {
      const { preset, settings } = state.defaults;
      this.chat = { ...this.chat, preset: this.chat.preset && preset, settings: { ...settings } };
      this.fire('chat');
      return;
    }
    if (this.replyId) return;
    const id = this.chat.id;
    const told = /** @type {Opened} */ (await get(chatPath(id, '?limit=1')));
    if (this.chat.id !== id || this.replyId) return;
    if (told.chat.leaf === this.chat.leaf && !told.reply) {
      this.chat = told.chat;
      this.meter = told.meter;
      for (const what of ['chat', 'meter']) this.fire(what);
    } else if (!document.querySelector('.message.editing')) await this.open(id);
  }
}
