/** Small ways to make elements. Text always goes in as text; only `html` (server-rendered blocks) is parsed. */

/** @template {HTMLElement} [T=HTMLElement] @param {string} id @returns {T} */
export const byId = (id) => /** @type {T} */ (document.getElementById(id));

/**
 * An element with attributes, listeners (`onclick` and the like) and children.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Node|string|null|undefined|false)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith('on')) node.addEventListener(key.slice(2), value);
    else if (key === 'class') node.className = value;
    else if (key === 'text') node.textContent = value;
    else node.setAttribute(key, value === true ? '' : String(value));
  }
  for (const child of children) if (child || child === '') node.append(child);
  return node;
}

/** The sprite file, beside the folder of this script. */
const ICONS = new URL('../icons.svg', import.meta.url).pathname;
const SVG = 'http://www.w3.org/2000/svg';

/** An icon of the sprite file, hidden from screen readers. @param {string} name @returns {SVGSVGElement} */
export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  const use = document.createElementNS(SVG, 'use');
  use.setAttribute('href', `${ICONS}#${name}`);
  svg.setAttribute('aria-hidden', 'true');
  svg.append(use);
  return svg;
}

/** Swaps the icon inside a button. @param {Element} button @param {string} name */
export function setIcon(button, name) {
  button.querySelector('use')?.setAttribute('href', `${ICONS}#${name}`);
}

/**
 * A button that shows only an icon; `label` is its name and its tooltip.
 * @param {string} name @param {string} label @param {(event: MouseEvent) => void} onclick @param {Record<string, any>} [more]
 */
export function iconButton(name, label, onclick, more = {}) {
  return el('button', { type: 'button', class: 'pb-icon', 'aria-label': label, title: label, onclick, ...more }, icon(name));
}

/** Says something to a screen reader, without moving the focus. @param {string} text */
export function announce(text) {
  const place = byId('announcer');
  place.textContent = '';
  setTimeout(() => { place.textContent = text; }, 30);
}

/** Puts the focus on an element without scrolling. @param {HTMLElement|null|undefined} node */
export const focus = (node) => node?.focus({ preventScroll: true });

/** A number as people read it: 950, 1.2k, 131k. @param {number} n */
export function short(n) {
  if (n < 1000) return n < 10 && n % 1 ? n.toFixed(1) : String(Math.round(n));
  return n < 9950 ? `${(n / 1000).toFixed(1).replace('.0', '')}k` : `${Math.round(n / 1000)}k`;
}

/** A file size. @param {number} bytes */
export function size(bytes) {
  if (!bytes) return '';
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let i = 0;
  while (bytes >= 1000 && i < units.length - 1) { bytes /= 1000; i += 1; }
  return `${bytes < 10 && i > 0 ? bytes.toFixed(1) : Math.round(bytes)} ${units[i]}`;
}

/**
 * Copies text, also where the clipboard interface is missing (a plain-http address of another machine).
 * @param {string} text @returns {Promise<void>}
 */
export async function copyText(text) {
  if (navigator.clipboard && isSecureContext) {
    try { await navigator.clipboard.writeText(text); return; } catch { /* no permission: the old way */ }
  }
  const box = el('textarea', { class: 'sr', 'aria-hidden': 'true' });
  box.value = text;
  const before = /** @type {HTMLElement|null} */ (document.activeElement);
  document.body.append(box);
  box.select();
  document.execCommand('copy');
  box.remove();
  focus(before);
}

/** Shows on a button that its work is done, for a moment. @param {HTMLElement} button @param {string} name */
export function flash(button, name) {
  setIcon(button, 'check');
  button.classList.add('done');
  announce('Copied');
  setTimeout(() => { setIcon(button, name); button.classList.remove('done'); }, 1400);
}
