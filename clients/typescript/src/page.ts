// What the page tells: whether somebody looks at it, uses it, or closes it. Does nothing where there is no page.

/** What a client wants to know of its page. */
export interface PageListener {
  /** The page is hidden from now on, or shown again. */
  visibility(isHidden: boolean): void;
  /** The page is being closed, or put aside for the "back" button. */
  leaving(): void;
  /** The page has been brought back by the "back" button. */
  returned(): void;
  /** The machine is connected again, or to another network. */
  online(): void;
}

const USE = ["pointerdown", "pointermove", "keydown", "scroll", "touchstart"] as const;

/** Listens to the page until told to stop. */
export class Page {
  readonly #ends: Array<() => void> = [];
  #used = true;

  constructor(listener: PageListener) {
    if (typeof document === "undefined") return;
    this.#on(document, "visibilitychange", () => listener.visibility(document.hidden));
    // `unload` and `beforeunload` do not come on phones, and would keep the page out of the back/forward cache.
    this.#on(window, "pagehide", () => listener.leaving());
    this.#on(window, "pageshow", (event) => (event as PageTransitionEvent).persisted && listener.returned());
    this.#on(window, "online", () => listener.online());
    for (const name of USE) this.#on(window, name, () => (this.#used = true), { passive: true, capture: true });
  }

  /** Whether the page is hidden now. */
  get isHidden(): boolean {
    return typeof document !== "undefined" && document.hidden;
  }

  /** Whether somebody has used the page since this was last asked. */
  takeUse(): boolean {
    const used = this.#used && !this.isHidden;
    this.#used = false;
    return used;
  }

  /** Stops listening. */
  end(): void {
    for (const end of this.#ends.splice(0)) end();
  }

  #on(target: EventTarget, name: string, run: (event: Event) => void, options?: AddEventListenerOptions): void {
    target.addEventListener(name, run, options);
    this.#ends.push(() => target.removeEventListener(name, run, options));
  }
}
