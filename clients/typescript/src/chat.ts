import type { paths } from "./api.js";
import { RollcallError, errorOf } from "./errors.js";

/** Body of a chat request. */
export type ChatRequest = paths["/api/v1/ai/chat"]["post"]["requestBody"]["content"]["application/json"];

/** An event of a streamed answer. */
export type ChatEvent =
  | { type: "context"; engine: string; messageId: string; [field: string]: unknown }
  | { type: "delta"; content: string }
  | { type: "done"; content: string; model: string; [field: string]: unknown };

/**
 * Reads a streamed answer of `POST /api/v1/ai/chat`, also through a route handler of the application. Throws a
 * `RollcallError` if the request was refused or the answer broke off.
 */
export async function* readChat(response: Response): AsyncGenerator<ChatEvent, void, undefined> {
  if (!response.ok) throw await errorOf(response);
  if (!response.body)
    throw new RollcallError("This runtime cannot read a response as a stream.", {
      status: response.status,
      code: "NO_STREAM",
    });
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let buffer = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      buffer += done ? decoder.decode() : decoder.decode(value, { stream: true });
      const lines = buffer.split(/\r\n|\n|\r(?!$)/);
      buffer = done ? "" : (lines.pop() ?? "");
      for (const line of lines) {
        if (!line.startsWith("data:")) continue;
        const data = line.slice(5).trim();
        if (data === "[DONE]") return;
        const event = JSON.parse(data) as ChatEvent | { type: "error"; error: string; message: string };
        if (event.type === "error")
          throw new RollcallError(event.message, { status: response.status, code: event.error });
        yield event;
      }
      if (done)
        throw new RollcallError("The answer ended before it was complete.", {
          status: response.status,
          code: "INCOMPLETE",
        });
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
