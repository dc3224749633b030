"use client";

import { type FormEvent, useEffect, useRef, useState } from "react";
import { RollcallError, readChat } from "rollcall-client";

/** Asks the model about a conversation. The answer appears while the model writes it. */
export function Chat({ conversationId }: { conversationId: string }) {
  const [question, setQuestion] = useState("");
  const [answer, setAnswer] = useState("");
  const [error, setError] = useState<string>();
  const [isBusy, setBusy] = useState(false);
  const request = useRef<AbortController>(undefined);
  // A closed page ends the request to the model.
  useEffect(() => () => request.current?.abort(), []);

  async function ask(event: FormEvent) {
    event.preventDefault();
    const abort = (request.current = new AbortController());
    setAnswer("");
    setError(undefined);
    setBusy(true);
    try {
      const response = await fetch("/api/chat", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ conversationId, messages: [{ role: "user", content: question }] }),
        signal: abort.signal,
      });
      for await (const event of readChat(response)) {
        if (event.type === "delta") setAnswer((before) => before + event.content);
      }
    } catch (failure) {
      if (abort.signal.aborted) return;
      setError(failure instanceof RollcallError ? failure.message : "No response. Try again later.");
    } finally {
      if (!abort.signal.aborted) setBusy(false);
    }
  }

  return (
    <section aria-label="Chat" aria-busy={isBusy}>
      <form onSubmit={ask} className="chat">
        <label htmlFor="question">Ask the assistant</label>
        <input id="question" value={question} autoComplete="off" required onChange={({ target }) => setQuestion(target.value)} />
        <button disabled={isBusy}>Ask</button>
      </form>
      {error && <p role="alert">{error}</p>}
      <p className="answer" aria-live="polite">{answer}</p>
    </section>
  );
}
