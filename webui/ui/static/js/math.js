/** LaTeX, drawn by KaTeX, which is loaded with the first formula. */

const HERE = new URL('../vendor/katex/', import.meta.url).pathname;
/** @type {Promise<any>|null} */
let loading = null;

/** @returns {Promise<any>} */
function katex() {
  loading ??= new Promise((resolve, reject) => {
    const style = document.createElement('link');
    style.rel = 'stylesheet';
    style.href = `${HERE}katex.min.css`;
    const script = document.createElement('script');
    script.src = `${HERE}katex.min.js`;
    script.onload = () => resolve(/** @type {any} */ (window).katex);
    script.onerror = () => { loading = null; reject(new Error('katex')); };
    document.head.append(style, script);
  });
  return loading;
}

/** @param {any} engine @param {HTMLElement} span */
function draw(engine, span) {
  const source = span.textContent ?? '';
  span.dataset.drawn = '1';
  engine.render(source, span, { displayMode: span.dataset.display === '1', throwOnError: false, trust: false, strict: 'ignore', maxSize: 20, maxExpand: 500 });
}

/** Draws the formulas below an element that are not drawn yet. @param {HTMLElement} root */
export function typeset(root) {
  const spans = [...root.querySelectorAll('.math:not([data-drawn])')];
  if (!spans.length) return;
  const engine = /** @type {any} */ (window).katex;
  if (engine) for (const span of spans) draw(engine, /** @type {HTMLElement} */ (span));
  else katex().then((late) => { for (const span of spans) if (span.isConnected) draw(late, /** @type {HTMLElement} */ (span)); }, () => {});
}
