/** What lies over the page: dialogs, menus, popovers, toasts. All native elements, so focus and Esc behave. */

import { el, focus, icon, iconButton } from './dom.js';
import { ApiError } from './api.js';

/**
 * A modal dialog; the focus goes in, stays in, and comes back.
 * @param {string} title @param {Node} content @param {{class?: string, focus?: HTMLElement}} [options]
 * @returns {HTMLDialogElement}
 */
export function openDialog(title, content, options = {}) {
  const before = /** @type {HTMLElement|null} */ (document.activeElement);
  const heading = el('h2', { text: title, id: `dialog-${Math.random().toString(36).slice(2)}` });
  const dialog = el(
    'dialog', { class: `dialog ${options.class ?? ''}`, 'aria-labelledby': heading.id },
    el('header', {}, heading, iconButton('close', 'Close', () => dialog.close())),
    el('div', { class: 'dialog-body' }, content),
  );
  dialog.addEventListener('click', (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener('close', () => { dialog.remove(); if (before?.isConnected) focus(before); });
  document.body.append(dialog);
  dialog.showModal();
  focus(options.focus ?? dialog.querySelector('button'));
  return dialog;
}

/** Places a popover under (or above) its button, inside the window. @param {HTMLElement} box @param {HTMLElement} button */
function place(box, button) {
  const at = button.getBoundingClientRect();
  const wide = box.offsetWidth;
  const high = box.offsetHeight;
  const below = at.bottom + 6 + high <= innerHeight || at.top < high + 12;
  box.style.left = `${Math.max(8, Math.min(at.left, innerWidth - wide - 8))}px`;
  box.style.top = `${Math.max(8, below ? Math.min(at.bottom + 6, innerHeight - high - 8) : at.top - high - 6)}px`;
}

/**
 * A popover tied to a button: closes on Esc, on a click elsewhere and on a second click.
 * @param {HTMLElement} button @param {HTMLElement} box @returns {boolean} false when this click closed it
 */
export function openPopover(button, box) {
  if (button.getAttribute('aria-expanded') === 'true') return false;
  box.setAttribute('popover', 'auto');
  box.classList.add('popover');
  document.body.append(box);
  button.setAttribute('aria-expanded', 'true');
  box.addEventListener('toggle', (event) => {
    if (/** @type {ToggleEvent} */ (event).newState !== 'closed') return;
    const inside = box.contains(document.activeElement) || document.activeElement === document.body;
    box.remove();
    setTimeout(() => button.setAttribute('aria-expanded', 'false'), 150);
    if (inside && button.isConnected) focus(button);
  });
  box.showPopover();
  place(box, button);
  return true;
}

/**
 * @typedef {{label: string, detail?: string, note?: string, checked?: boolean, disabled?: boolean, danger?: boolean, icon?: string,
 *   indent?: boolean, heading?: boolean, keep?: boolean, run?: () => void}} MenuItem
 */

/**
 * A menu with arrow keys, Home, End and typing to find.
 * @param {HTMLElement} button @param {string} label @param {MenuItem[]} items @param {string} [className]
 */
export function openMenu(button, label, items, className = '') {
  const menu = el('div', { role: 'menu', 'aria-label': label, class: `menu ${className}` });
  for (const item of items) {
    if (item.heading) { menu.append(el('div', { class: 'menu-heading', role: 'presentation', text: item.label })); continue; }
    const radio = item.checked !== undefined;
    menu.append(el(
      'button',
      {
        type: 'button', tabindex: -1, role: radio ? 'menuitemradio' : 'menuitem', 'aria-checked': radio ? String(item.checked) : null,
        'aria-disabled': item.disabled ? 'true' : null, class: `${item.danger ? 'danger' : ''} ${item.indent ? 'indent' : ''}`,
        onclick: () => { if (item.disabled) return; /** @type {any} */ (menu).hidePopover(); item.run?.(); },
      },
      el('span', { class: 'mark' }, item.icon ? icon(item.icon) : radio && item.checked ? icon('check') : null),
      el('span', { class: 'label' }, el('span', { text: item.label, dir: 'auto' }), item.detail ? el('small', { text: item.detail }) : null),
      item.note ? el('span', { class: 'note', text: item.note }) : null,
    ));
  }
  if (!openPopover(button, menu)) return;
  const choices = /** @type {HTMLElement[]} */ ([...menu.querySelectorAll('button')]);
  focus(choices.find((c) => c.getAttribute('aria-checked') === 'true') ?? choices[0]);
  let typed = '';
  let typedAt = 0;
  menu.addEventListener('keydown', (event) => {
    const at = choices.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    let to = -1;
    if (event.key === 'ArrowDown') to = (at + 1) % choices.length;
    else if (event.key === 'ArrowUp') to = (at - 1 + choices.length) % choices.length;
    else if (event.key === 'Home') to = 0;
    else if (event.key === 'End') to = choices.length - 1;
    else if (event.key === 'Tab') { event.preventDefault(); /** @type {any} */ (menu).hidePopover(); return; }
    else if (event.key.length === 1 && event.key !== ' ' && !event.ctrlKey && !event.metaKey) {
      typed = Date.now() - typedAt > 700 ? event.key : typed + event.key;
      typedAt = Date.now();
      to = choices.findIndex((c) => c.textContent?.toLowerCase().startsWith(typed.toLowerCase()));
    }
    if (to >= 0) { event.preventDefault(); choices[to].focus(); }
  });
}

/**
 * A short notice at the bottom; with an action it stays longer, and while it is pointed at or focused.
 * @param {string} text @param {{action?: string, run?: () => void, hint?: string, error?: boolean, takeFocus?: boolean}} [options]
 */
export function toast(text, options = {}) {
  const box = el('div', { class: `toast ${options.error ? 'error' : ''}` }, el('div', {}, el('span', { text }), options.hint ? el('small', { text: options.hint }) : null));
  /** @type {number|undefined} */ let timer;
  const close = () => { clearTimeout(timer); box.remove(); };
  const start = () => { timer = setTimeout(close, options.action ? 12000 : options.error ? 9000 : 4500); };
  if (options.action) {
    const button = el('button', { type: 'button', class: 'link', text: options.action, onclick: () => { close(); options.run?.(); } });
    box.append(button);
    if (options.takeFocus) setTimeout(() => focus(button), 0);
  }
  box.append(iconButton('close', 'Dismiss', close));
  for (const kind of ['mouseenter', 'focusin']) box.addEventListener(kind, () => clearTimeout(timer));
  for (const kind of ['mouseleave', 'focusout']) box.addEventListener(kind, start);
  document.getElementById('toasts')?.append(box);
  start();
}

/** Says what failed. Silence while the server is away: one line says that already. @param {unknown} error */
export function tell(error) {
  if (error instanceof ApiError) {
    if (error.code !== 'offline') toast(error.message, { hint: error.hint, error: true });
  } else if (/** @type {any} */ (error)?.name !== 'AbortError') {
    console.error(error);
    toast('Something went wrong on this page.', { hint: 'Reload it; nothing is lost.', error: true });
  }
}
