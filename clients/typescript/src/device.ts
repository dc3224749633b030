import { randomId } from "./id.js";

// The device ID of a browser tab. It survives a reload, and no two tabs share it.
//
// "Duplicate tab" and `window.open` copy `sessionStorage`. A live page therefore holds its ID in memory only: it removes
// the ID from `sessionStorage` when it takes it, and writes it back on `pagehide`. A copy of a live tab finds nothing. A
// tab can also be copied while another page is shown in it; then both copies find the ID, and the page that took it later
// gets a new one, by messages on a BroadcastChannel. Both work on plain HTTP, unlike Web Locks.

const KEY = "rollcall.device";

interface Claim {
  readonly id: string;
  readonly page: string;
  readonly at: number;
}

/** The device ID of this page, shared by all clients in it. */
export class TabDevice {
  readonly #page = randomId();
  readonly #listeners = new Set<() => void>();
  readonly #at = Date.now();
  #id: string;
  #channel: BroadcastChannel | undefined;

  constructor() {
    this.#id = take() ?? newId();
    this.#claim();
    window.addEventListener("pagehide", () => {
      keep(this.#id);
      this.#channel?.close();
      this.#channel = undefined;
    });
    window.addEventListener("pageshow", (event) => {
      if (!event.persisted) return;
      take();
      this.#claim();
    });
  }

  get id(): string {
    return this.#id;
  }

  /** Calls back after the ID was replaced because another tab has it; the returned function stops that. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  #claim(): void {
    if (typeof BroadcastChannel === "undefined") return;
    const channel = (this.#channel ??= new BroadcastChannel(KEY));
    const claim = () => channel.postMessage({ id: this.#id, page: this.#page, at: this.#at } satisfies Claim);
    channel.onmessage = ({ data }: MessageEvent<Claim>) => {
      if (data.id !== this.#id || data.page === this.#page) return;
      const isOlder = this.#at < data.at || (this.#at === data.at && this.#page < data.page);
      if (isOlder) {
        claim();
      } else {
        this.#id = newId();
        claim();
        for (const listener of [...this.#listeners]) listener();
      }
    };
    claim();
  }
}

const newId = () => `web-${randomId()}`;

function take(): string | undefined {
  try {
    const id = sessionStorage.getItem(KEY) ?? undefined;
    sessionStorage.removeItem(KEY);
    return id;
  } catch {
    // The page may not use storage.
    return undefined;
  }
}

function keep(id: string): void {
  try {
    sessionStorage.setItem(KEY, id);
  } catch {
    // The page may not use storage: the next page gets a new ID.
  }
}

/** Key of the page's {@link TabDevice}: one per page, even if the page contains several copies of this module. */
const SHARED = Symbol.for("rollcall.tab-device");

/** Returns the tab's device; `undefined` outside of a browser page. */
export function tabDevice(): TabDevice | undefined {
  if (typeof document === "undefined" || typeof window === "undefined") return undefined;
  const holder = globalThis as { [SHARED]?: TabDevice };
  return (holder[SHARED] ??= new TabDevice());
}
