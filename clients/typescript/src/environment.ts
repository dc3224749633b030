// What the client learns from its surroundings: whether the page or app is visible, used and online.

/** Events of an {@link Environment}. */
export interface EnvironmentListener {
  /** The page or app was hidden or shown. */
  visibility(isHidden: boolean): void;
  /** The network connection was lost, restored, or replaced by another network. */
  online(isOnline: boolean): void;
  /** The page is being closed or enters the back/forward cache. */
  leaving(): void;
  /** The page was restored from the back/forward cache, or resumed after it was frozen. */
  resumed(): void;
}

/** Reports visibility, use and network state of a page or an app. */
export interface Environment {
  /** Starts listening; the returned function stops it. */
  listen(listener: EnvironmentListener): () => void;
  /** Returns whether the page or app is hidden. */
  isHidden(): boolean;
  /** Returns whether the user used the page or app since the last call. */
  takeUse(): boolean;
  /**
   * Whether the system suspends a hidden app, as phones do. The client then reports `away` without a delay, and opens
   * a new connection when the app is shown again.
   */
  readonly suspendsWhenHidden?: boolean;
}

const USE_EVENTS = ["pointerdown", "pointermove", "keydown", "scroll", "touchstart"] as const;

/** The environment of a web page. In a runtime without a document it reports nothing. */
export function browserEnvironment(): Environment {
  let isUsed = true;
  const isHidden = () => typeof document !== "undefined" && document.hidden;
  return {
    isHidden,
    takeUse: () => {
      const used = isUsed && !isHidden();
      isUsed = typeof document === "undefined";
      return used;
    },
    listen(listener) {
      if (typeof document === "undefined" || typeof window === "undefined") return () => {};
      const removers: Array<() => void> = [];
      const on = (
        target: EventTarget,
        name: string,
        run: (event: Event) => void,
        options?: AddEventListenerOptions,
      ) => {
        target.addEventListener(name, run, options);
        removers.push(() => target.removeEventListener(name, run, options));
      };
      on(document, "visibilitychange", () => listener.visibility(document.hidden));
      // Phones do not fire `unload` and `beforeunload`, and both exclude a page from the back/forward cache.
      on(window, "pagehide", () => listener.leaving());
      on(window, "pageshow", (event) => (event as PageTransitionEvent).persisted && listener.resumed());
      on(document, "resume", () => listener.resumed());
      on(window, "online", () => listener.online(true));
      on(window, "offline", () => listener.online(false));
      for (const name of USE_EVENTS) on(window, name, () => (isUsed = true), { passive: true, capture: true });
      return () => removers.splice(0).forEach((remove) => remove());
    },
  };
}
