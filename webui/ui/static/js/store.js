/** What the page knows of the whole program: chats, models, presets. One object, one event per change. */

import { get, isLost } from './api.js';

/** @typedef {import('./api.js').ChatSummary} ChatSummary @typedef {import('./api.js').Model} Model */

export const state = {
  version: '',
  /** @type {ChatSummary[]} */ chats: [],
  more: false,
  /** @type {Model[]} */ models: [],
  /** @type {{name: string, description: string, own: boolean}[]} */ presets: [],
  defaults: { model: '', loader: '', preset: '', /** @type {Record<string, any>} */ settings: {} },
  panels: { ready: false, script: '', style: '', reason: '' },
  /** @type {string[]} */ notices: [],
  /** @type {Record<string, any>[]} */ quick: [],
  /** @type {Set<string>} ids of chats whose reply is being written, as far as this page knows */ running: new Set(),
};

/** Fires `chats`, `models`, `presets`, `panels`, `notices`, `running`, `theme`. */
export const changes = new EventTarget();

/** @param {string} what */
export const changed = (what) => changes.dispatchEvent(new Event(what));
/** @param {string} what @param {() => void} then */
export const onChange = (what, then) => changes.addEventListener(what, then);

/** Reads everything again. */
export async function refresh() {
  const told = await get('/ui/state');
  const kept = told.more ? state.chats.slice(told.chats.length) : [];
  const known = new Set(told.chats.map((/** @type {ChatSummary} */ c) => c.id));
  Object.assign(state, told, { running: state.running, chats: [...told.chats, ...kept.filter((c) => !known.has(c.id))] });
  if (Array.isArray(told.running)) state.running = new Set(told.running);
  /** @type {any} */ (window).patchbayTheme.seen(told.theme);
  for (const what of ['theme', 'chats', 'models', 'presets', 'panels', 'notices', 'running']) changed(what);
  watchModels();
}

/** Reads the next page of chats. */
export async function moreChats() {
  const told = await get(`/ui/chats?offset=${state.chats.length}&limit=50`);
  const known = new Set(state.chats.map((c) => c.id));
  state.chats.push(...told.chats.filter((/** @type {ChatSummary} */ c) => !known.has(c.id)));
  state.more = told.more;
  changed('chats');
}

/** Puts a chat at the top of the list (new, or written to just now). @param {Partial<ChatSummary> & {id: string}} chat */
export function touchChat(chat) {
  const old = state.chats.find((c) => c.id === chat.id);
  const entry = { title: '', preview: '', updated: Date.now() / 1000, ...old, ...chat };
  state.chats = [entry, ...state.chats.filter((c) => c.id !== chat.id)].sort((a, b) => b.updated - a.updated);
  changed('chats');
}

/** Marks whether a chat is being answered. @param {string} chat @param {boolean} running */
export function setRunning(chat, running) {
  if (running === state.running.has(chat)) return;
  if (running) state.running.add(chat);
  else state.running.delete(chat);
  changed('running');
}

let watching = false;

/** Follows the models as long as one is loading; costs nothing otherwise. */
export async function watchModels() {
  if (watching) return;
  watching = true;
  try {
    while (!isLost() && state.models.some((m) => m.state === 'loading')) {
      await new Promise((resolve) => setTimeout(resolve, 400));
      state.models = (await get('/ui/models')).models;
      changed('models');
    }
  } catch { /* the connection's watch says so */ } finally { watching = false; }
}

/** The model that a chat uses. @param {string} name @returns {Model|undefined} */
export const modelNamed = (name) => state.models.find((m) => m.name === (name || state.defaults.model));
