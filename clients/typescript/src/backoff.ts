/** Delays between connection attempts. */
export interface BackoffOptions {
  /** Upper bound of the first delay, in milliseconds. Default 1,000. */
  initialMs?: number;
  /** Upper bound of every delay, in milliseconds. Default 30,000. */
  maxMs?: number;
}

/**
 * Exponential backoff with jitter. The bound doubles after each failure up to `maxMs`; the delay is a random value
 * between half the bound and the bound, so that clients do not reconnect at the same moment after a server restart.
 */
export class Backoff {
  readonly #initialMs: number;
  readonly #maxMs: number;
  #failures = 0;

  constructor({ initialMs = 1_000, maxMs = 30_000 }: BackoffOptions = {}) {
    this.#initialMs = initialMs;
    this.#maxMs = Math.max(initialMs, maxMs);
  }

  /** Returns the next delay, in milliseconds. */
  next(): number {
    const bound = Math.min(this.#maxMs, this.#initialMs * 2 ** this.#failures);
    this.#failures += 1;
    return bound * (0.5 + Math.random() / 2);
  }

  /** Starts again with the first delay. */
  reset(): void {
    this.#failures = 0;
  }
}
