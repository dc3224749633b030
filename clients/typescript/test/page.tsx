// What the tests' pages run: a client that the tests can reach, and a small application of the React hooks.

import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";

import { PresenceClient, type PresenceOptions, Rest } from "../src/index.js";
import { PresenceProvider, usePresence, useTyping } from "../src/react.js";

function Room({ conversation }: { conversation: string }) {
  const { connection, me, presences, setStatus } = usePresence();
  const { userIds, typed, stopped } = useTyping(conversation);
  const [text, setText] = useState("");
  return (
    <main>
      <p id="connection">{connection}</p>
      <p id="me">{me?.availability}</p>
      <button onClick={() => setStatus({ status: "busy", custom_status: "Reading" })}>Busy</button>
      <ul>
        {[...presences.values()].map(({ user_id, availability, custom_status }) => (
          <li key={user_id} id={`user-${user_id}`}>{availability} {custom_status}</li>
        ))}
      </ul>
      <input
        aria-label="Message"
        value={text}
        onChange={({ target }) => {
          setText(target.value);
          typed();
        }}
        onBlur={stopped}
      />
      <p id="typing">{userIds.join(",")}</p>
    </main>
  );
}

Object.assign(globalThis, {
  PresenceClient,
  Rest,
  render(options: PresenceOptions, conversation: string) {
    const place = document.body.appendChild(document.createElement("div"));
    createRoot(place).render(
      <StrictMode>
        <PresenceProvider {...options}>
          <Room conversation={conversation} />
        </PresenceProvider>
      </StrictMode>,
    );
  },
});
