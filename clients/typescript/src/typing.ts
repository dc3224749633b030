/** The server forgets after 5 s; a repeat before that keeps it. */
const REPEAT_AFTER = 3_000;
/** Whoever does not type for so long has stopped. */
const STOPPED_AFTER = 3_000;

interface Typing {
  toldAt: number;
  timer: ReturnType<typeof setTimeout>;
}

/**
 * Makes a few frames of many key strokes: one at the first, one now and then while it goes on, one when it has stopped.
 */
export class TypingDebounce {
  readonly #typing = new Map<string, Typing>();

  constructor(private readonly tell: (conversation: string, isTyping: boolean) => void) {}

  /** The user has just typed something. */
  typed(conversation: string): void {
    const before = this.#typing.get(conversation);
    clearTimeout(before?.timer);
    const now = Date.now();
    const isDue = before === undefined || now - before.toldAt >= REPEAT_AFTER;
    if (isDue) this.tell(conversation, true);
    const timer = setTimeout(() => this.stopped(conversation), STOPPED_AFTER);
    this.#typing.set(conversation, { toldAt: isDue ? now : before.toldAt, timer });
  }

  /** The user has sent or discarded it, or not typed for a while. */
  stopped(conversation: string): void {
    const before = this.#typing.get(conversation);
    if (before === undefined) return;
    clearTimeout(before.timer);
    this.#typing.delete(conversation);
    this.tell(conversation, false);
  }

  /** Forgets everything without a word. */
  clear(): void {
    for (const { timer } of this.#typing.values()) clearTimeout(timer);
    this.#typing.clear();
  }
}
