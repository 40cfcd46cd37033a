/** The page's end of worker.js: questions and answers as promises. */

import { PageError } from "./session.js";

export class Client {
  #worker;
  #open = new Map();
  #next = 0;

  /** @param tell called with {loaded, total} while the network arrives. */
  constructor(tell = () => {}) {
    this.#worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    this.#worker.onmessage = ({ data: { id, value, error, progress } }) => {
      if (progress) return tell(progress);
      const { resolve, reject } = this.#open.get(id);
      this.#open.delete(id);
      if (!error) return resolve(value);
      return reject(error.name === "PageError" ? new PageError(error.message) : new Error(error.message));
    };
    this.#worker.onerror = (event) => {
      for (const { reject } of this.#open.values()) reject(new Error(event.message ?? "worker.js cannot be loaded"));
      this.#open.clear();
    };
  }

  /** @param kind of worker.js's `answers`. @param transfer what changes hands instead of being copied. */
  ask(kind, values = {}, transfer = []) {
    return new Promise((resolve, reject) => {
      this.#open.set(this.#next, { resolve, reject });
      this.#worker.postMessage({ id: this.#next++, kind, ...values }, transfer);
    });
  }
}
