/** LaTeX, drawn by KaTeX, which is loaded with the first formula; in a long history only what comes near the window. */

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

/** @param {any} engine @param {Element} root */
function draw(engine, root) {
  for (const span of /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll('.math:not([data-drawn])'))) {
    const display = span.dataset.display === '1';
    span.dataset.drawn = '1';
    engine.render(span.textContent, span, { displayMode: display, throwOnError: false, trust: false, strict: 'ignore', maxSize: 20, maxExpand: 500 });
  }
}

const near = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    near.unobserve(entry.target);
    typeset(entry.target);
  }
}, { root: document.getElementById('scroller'), rootMargin: '800px 0px' });

/** Draws the formulas below an element, at once. @param {Element} root */
export function typeset(root) {
  if (!root.querySelector('.math:not([data-drawn])')) return;
  const engine = /** @type {any} */ (window).katex;
  if (engine) draw(engine, root);
  else katex().then((late) => { if (root.isConnected) draw(late, root); }, () => {});
}

/** Draws the formulas of each block when it comes near the window. @param {Element} root */
export function typesetLater(root) {
  for (const block of root.children) if (block.querySelector('.math:not([data-drawn])')) near.observe(block);
}
