/** How a reply was made: the popover, and the dialog with the exact prompt. */

import { get, replyPath } from './api.js';
import { copyText, el, flash, iconButton } from './dom.js';
import { openDialog, openPopover, tell } from './overlay.js';
import { state } from './store.js';

/** @param {number|undefined} n */
const count = (n) => (n === undefined || n === null ? '' : Number(n).toLocaleString('en'));
/** @param {number|undefined} s */
const seconds = (s) => (s === undefined || s === null ? '' : `${s < 10 ? s.toFixed(2) : s.toFixed(1)} s`);

const REASONS = /** @type {Record<string, string>} */ ({ stop: 'the model ended it', length: 'longest length', cancelled: 'stopped' });

/** @param {import('./api.js').Message} message @returns {[string, string][]} */
function rows(message) {
  const d = message.details ?? {};
  const loader = state.models.flatMap((m) => m.loaders).find((l) => l.name === message.loader)?.title ?? message.loader;
  return /** @type {[string, string][]} */ ([
    ['Model', message.model], ['Loader', loader], ['Preset', message.preset], ['Seed', d.seed >= 0 ? String(d.seed) : ''],
    ['Prompt', d.prompt_tokens ? `${count(d.prompt_tokens)} tokens${d.cached_tokens ? `, ${count(d.cached_tokens)} from cache` : ''}` : ''],
    ['Reply', d.tokens ? `${count(d.tokens)} tokens` : ''],
    ['Speed', d.tokens_per_second ? `${Number(d.tokens_per_second).toFixed(1)} tokens/s` : ''],
    ['First token', seconds(d.first_token_seconds)], ['Time', seconds(d.seconds)],
    ['Context', d.context ? `${count(d.context)} tokens` : ''],
    ['Dropped', d.dropped?.length ? `${d.dropped.length} older ${d.dropped.length === 1 ? 'message' : 'messages'}` : ''],
    ['Sources', (d.attachments ?? []).map((/** @type {any} */ a) => a.title || a.kind).join(', ')],
    ['Ended by', REASONS[d.reason] ?? d.reason ?? ''],
  ]).filter(([, value]) => value);
}

/** @param {import('./chat.js').ChatView} view @param {import('./api.js').Message} message @param {HTMLElement} button */
export function showDetails(view, message, button) {
  const list = el('dl', { class: 'details' });
  for (const [name, value] of rows(message)) list.append(el('dt', { text: name }), el('dd', { text: value, dir: 'auto' }));
  const warnings = (message.details?.warnings ?? []).map((/** @type {string} */ text) => el('p', { class: 'warning', text }));
  const exact = el('button', { type: 'button', class: 'wide-button', text: 'Show the exact prompt', onclick: () => {
    /** @type {any} */ (box).hidePopover();
    showPrompt(view, message.id);
  } });
  const box = el('div', { class: 'details-box', role: 'dialog', 'aria-label': 'Details of this reply' }, list, ...warnings, exact);
  if (openPopover(button, box)) exact.focus();
}

/** @param {import('./chat.js').ChatView} view @param {string} id */
async function showPrompt(view, id) {
  try {
    const told = await get(replyPath(id, '/prompt'));
    const copy = iconButton('copy', 'Copy the prompt', () => copyText(told.prompt).then(() => flash(copy, 'copy')));
    const dropped = told.dropped ?? [];
    const content = el('div', {},
      el('p', { class: 'quiet prompt-head' },
        el('span', { text: `${count(told.tokens)} tokens${told.context ? ` of ${count(told.context)}` : ''}: what the model read, letter by letter.` }), copy),
      el('pre', { class: 'prompt', tabindex: 0, dir: 'auto', text: told.prompt }));
    if (dropped.length) {
      content.append(el('h3', { text: `Left out, because the context is full: ${dropped.length}` }),
        el('ul', { class: 'dropped' }, ...dropped.map((/** @type {any} */ m) => el('li', {}, el('strong', { text: m.role === 'user' ? 'You' : 'Reply' }), ' ', el('span', { text: m.text, dir: 'auto' })))));
    }
    openDialog('The exact prompt', content, { class: 'wide' });
  } catch (error) { tell(error); }
}
