import type { ConversationId } from "./wire.js";

/** The server ends typing 5 s after the last frame; a frame before that extends it. */
const REPEAT_AFTER_MS = 3_000;
/** A user who types nothing for this time has stopped typing. */
const STOPPED_AFTER_MS = 3_000;

interface Typing {
  sentAt: number;
  timer: ReturnType<typeof setTimeout>;
}

/**
 * Reduces keystrokes to few frames: one at the first keystroke, one every 3 s while the user types, one 3 s after the last
 * keystroke.
 */
export class TypingDebounce {
  readonly #typing = new Map<ConversationId, Typing>();

  constructor(private readonly send: (conversationId: ConversationId, isTyping: boolean) => void) {}

  /** Records a keystroke. */
  typed(conversationId: ConversationId): void {
    const before = this.#typing.get(conversationId);
    clearTimeout(before?.timer);
    const now = Date.now();
    const isDue = before === undefined || now - before.sentAt >= REPEAT_AFTER_MS;
    if (isDue) this.send(conversationId, true);
    const timer = setTimeout(() => this.stopped(conversationId), STOPPED_AFTER_MS);
    this.#typing.set(conversationId, { sentAt: isDue ? now : before.sentAt, timer });
  }

  /** Records that the user sent or discarded the text. */
  stopped(conversationId: ConversationId): void {
    const before = this.#typing.get(conversationId);
    if (before === undefined) return;
    clearTimeout(before.timer);
    this.#typing.delete(conversationId);
    this.send(conversationId, false);
  }

  /** Drops all state without sending frames. */
  clear(): void {
    for (const { timer } of this.#typing.values()) clearTimeout(timer);
    this.#typing.clear();
  }
}
