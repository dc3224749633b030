import "./record.js";

import { createClient } from "@supabase/supabase-js";
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import type { ChannelClient } from "rollcall-client";
import {
  PresenceProvider,
  type PresenceProviderProps,
  useChannelPresence,
  usePresence,
  useTyping,
  useUserPresence,
} from "rollcall-client/react";

import type { Settings } from "./settings.js";

function Room({ conversation, other }: { conversation: string; other: string }) {
  const { connection, me, presences, setStatus } = usePresence();
  const { userIds, typed, stopped } = useTyping(conversation);
  const otherPresence = useUserPresence(other);
  const [text, setText] = useState("");
  return (
    <main>
      <p id="connection">{connection}</p>
      <p id="me">
        {me?.user_id} {me?.availability}
      </p>
      <p id="other">{otherPresence?.availability}</p>
      <button onClick={() => setStatus({ status: "busy", custom_status: "Reading" })}>Busy</button>
      <ul>
        {[...presences.values()].map(({ user_id, availability, custom_status }) => (
          <li key={user_id} id={`user-${user_id}`}>
            {availability} {custom_status}
          </li>
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

function Members({ supabase, topic, name }: { supabase: ChannelClient; topic: string; name: string }) {
  const { status, members } = useChannelPresence<{ name: string }>(supabase, topic, { key: name, state: { name } });
  const names = [...members.values()].map((states) => states[0]?.name).sort();
  return (
    <p id="members" data-status={status}>
      {names.join(",")}
    </p>
  );
}

function App({ settings }: { settings: Settings }) {
  const { url, token, anonKey, conversation, other, topic, name } = settings;
  const [supabase] = useState(() => createClient(url, anonKey, { accessToken: async () => token }));
  const [user, setUser] = useState<{ id: string; token: string }>();
  const [isShown, setShown] = useState(true);
  Object.assign(globalThis, { setUser, setShown });
  // A function that differs at every render, as applications write it.
  const provider: PresenceProviderProps = { url, token: () => user?.token ?? token, ...(user && { userId: user.id }) };
  return (
    <PresenceProvider {...provider}>
      <Room conversation={conversation} other={other} />
      {isShown && <Members supabase={supabase} topic={topic} name={name} />}
    </PresenceProvider>
  );
}

Object.assign(globalThis, {
  render(settings: Settings) {
    const container = document.body.appendChild(document.createElement("div"));
    createRoot(container).render(
      <StrictMode>
        <App settings={settings} />
      </StrictMode>,
    );
  },
});
