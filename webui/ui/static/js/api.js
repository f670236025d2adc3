/** The wire: JSON both ways, errors in words, and one quiet watch over the connection. */

/**
 * @typedef {{id: string, title: string, updated: number, preview: string}} ChatSummary
 * @typedef {{id: string, title: string, version: number, leaf: string, model: string, loader: string, preset: string,
 *   system: string, prefix: string, character: string, settings: Record<string, any>, updated: number}} Chat
 * @typedef {{id: string, parent: string, role: 'user'|'assistant'|'system', status: string, blocks: string[], thought: string[],
 *   versions: string[], index: number, created: number, model: string, loader: string, preset: string, error: string,
 *   hint: string, details: Record<string, any>}} Message
 * @typedef {{used: number, context: number, estimated: boolean}} Meter
 * @typedef {{chat: Chat, messages: Message[], older: number, reply: {id: string, number: number}|null, meter: Meter}} Opened
 * @typedef {{name: string, loader: string, loaders: {name: string, title: string, available: boolean, reason: string}[],
 *   state: string, progress: number, text: string, error: string, size: number}} Model
 */

/** What went wrong, in a sentence, and what to do about it. */
export class ApiError extends Error {
  /** @param {string} message @param {string} hint @param {string} code @param {number} status */
  constructor(message, hint = '', code = '', status = 0) {
    super(message);
    this.hint = hint;
    this.code = code;
    this.status = status;
  }
}

/** Fires `lost` and `back`. */
export const connection = new EventTarget();
let lost = false;

/** True while the server does not answer. */
export const isLost = () => lost;

/** Called by whoever notices that the server is gone: looks for it until it answers again. */
export function connectionLost() {
  if (lost) return;
  lost = true;
  connection.dispatchEvent(new Event('lost'));
  let wait = 400;
  const look = async () => {
    try {
      const response = await fetch('/health', { cache: 'no-store' });
      if (response.status < 500) {
        lost = false;
        connection.dispatchEvent(new Event('back'));
        return;
      }
    } catch { /* still away */ }
    wait = Math.min(wait * 1.5, 3000);
    setTimeout(look, wait);
  };
  setTimeout(look, wait);
}

/**
 * One request. Raises ApiError; `code` is "offline" when the server cannot be reached.
 * @param {string} method @param {string} path @param {any} [body] @param {AbortSignal} [signal] @returns {Promise<any>}
 */
export async function call(method, path, body, signal) {
  /** @type {RequestInit} */
  const options = { method, signal, cache: 'no-store' };
  if (method === 'POST' || method === 'PATCH') {
    options.headers = { 'Content-Type': 'application/json' };
    options.body = JSON.stringify(body ?? {});
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (signal?.aborted) throw error;
    connectionLost();
    throw new ApiError('Patchbay does not answer.', 'The page goes on by itself as soon as it is back.', 'offline');
  }
  let data = null;
  try { data = await response.json(); } catch { /* an empty answer */ }
  if (response.ok) return data ?? {};
  if (response.status === 401) location.assign('/login');
  const told = data?.error ?? {};
  throw new ApiError(told.message || `The server answered ${response.status}.`, told.hint || '', told.code || '', response.status);
}

/** @param {string} path @param {AbortSignal} [signal] */
export const get = (path, signal) => call('GET', path, undefined, signal);
/** @param {string} path @param {any} [body] */
export const post = (path, body) => call('POST', path, body);
/** @param {string} path @param {any} body */
export const patch = (path, body) => call('PATCH', path, body);
/** @param {string} path */
export const remove = (path) => call('DELETE', path);

/** A path of the chat routes. @param {string} chat @param {string} [rest] */
export const chatPath = (chat, rest = '') => `/ui/chats/${encodeURIComponent(chat)}${rest}`;
/** A path of the reply routes. @param {string} reply @param {string} rest */
export const replyPath = (reply, rest) => `/ui/replies/${encodeURIComponent(reply)}${rest}`;
