/** How long to wait before connecting again. */
export interface BackoffOptions {
  /** After the first failure, in milliseconds. Default 1,000. */
  first?: number;
  /** At most, in milliseconds. Default 30,000. */
  most?: number;
}

/**
 * Twice as long after each failure, up to a bound, of which a random half to whole is waited: when a server restarts,
 * its clients do not come back all at once.
 */
export class Backoff {
  readonly #first: number;
  readonly #most: number;
  #failures = 0;

  constructor({ first = 1_000, most = 30_000 }: BackoffOptions = {}) {
    this.#first = first;
    this.#most = Math.max(first, most);
  }

  /** The next pause, in milliseconds. */
  next(): number {
    const whole = Math.min(this.#most, this.#first * 2 ** this.#failures);
    this.#failures += 1;
    return whole * (0.5 + Math.random() / 2);
  }

  /** It worked: begin small again. */
  reset(): void {
    this.#failures = 0;
  }
}
