/** Follows a reply that the server owns: reads its events, again after a break, until it ends. */

import { connection, connectionLost, isLost, replyPath } from './api.js';

/**
 * @typedef {{b?: string[], hb?: string[], o?: [number, number, string][], c?: number, h?: [number, number, string][],
 *   p?: {stage: string, done: number, total: number, text: string}, t?: number, e?: import('./api.js').Message}} Change
 */

/** One viewer of one reply. `close()` only stops looking; the reply goes on. */
export class Follower {
  /** @param {string} reply @param {(change: Change) => void} take @param {() => void} gone called when the server no longer knows the reply */
  constructor(reply, take, gone) {
    this.reply = reply;
    this.take = take;
    this.gone = gone;
    this.number = 0;
    this.ended = false;
    this.abort = new AbortController();
    this.run();
  }

  close() {
    this.ended = true;
    this.abort.abort();
  }

  async run() {
    let failures = 0;
    while (!this.ended) {
      const before = this.number;
      try {
        const path = replyPath(this.reply, `/follow?number=${this.number}`);
        const response = await fetch(path, { signal: this.abort.signal, headers: { Accept: 'text/event-stream' }, cache: 'no-store' });
        if (response.status === 404) { this.ended = true; this.gone(); return; }
        if (!response.ok || !response.body) throw new Error(String(response.status));
        await this.read(response.body);
      } catch {
        if (this.ended) return;
        connectionLost();
      }
      if (this.ended) return;
      if (isLost()) await new Promise((resolve) => connection.addEventListener('back', resolve, { once: true }));
      failures = this.number > before ? 0 : failures + 1;
      if (failures > 5) { this.ended = true; this.gone(); return; }
      await new Promise((resolve) => setTimeout(resolve, 150 * failures));
    }
  }

  /** @param {ReadableStream<Uint8Array>} body */
  async read(body) {
    const reader = body.getReader();
    const decoder = new TextDecoder();
    let rest = '';
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      rest += decoder.decode(value, { stream: true });
      let end;
      while ((end = rest.indexOf('\n\n')) >= 0) {
        this.event(rest.slice(0, end));
        rest = rest.slice(end + 2);
        if (this.ended) return;
      }
    }
  }

  /** @param {string} text one event: its id and data lines */
  event(text) {
    let data = '';
    for (const line of text.split('\n')) {
      if (line.startsWith('data:')) data += line.slice(5);
      else if (line.startsWith('id:')) this.number = Number(line.slice(3)) || this.number;
    }
    if (!data) return;
    const change = JSON.parse(data);
    if (change.e) this.ended = true;
    this.take(change);
  }
}
