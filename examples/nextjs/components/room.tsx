"use client";

import { useState } from "react";
import type { Presence, Status } from "rollcall-client";
import { PresenceProvider, usePresence, useTyping } from "rollcall-client/react";

import { nameOf } from "../lib/people";

const STATUSES: readonly Status[] = ["online", "away", "busy", "dnd", "invisible"];

interface Conversation {
  id: string;
  title: string | null;
}

interface RoomProps {
  url: string;
  userId: string;
  initial: readonly Presence[];
  conversations: readonly Conversation[];
}

async function token(): Promise<string> {
  const response = await fetch("/api/token");
  if (!response.ok) throw new Error("not signed in any more");
  return response.text();
}

export function Room({ url, userId, initial, conversations }: RoomProps) {
  const [first] = conversations;
  return (
    <PresenceProvider url={url} token={token}>
      <OwnStatus initial={initial.find(({ user_id }) => user_id === userId)} />
      <Roster userId={userId} initial={initial} />
      {first && <Messages conversation={first} />}
    </PresenceProvider>
  );
}

function OwnStatus({ initial }: { initial: Presence | undefined }) {
  const { connection, me, setStatus } = usePresence();
  const current = me?.availability ?? initial?.availability;
  return (
    <section aria-label="Own status" data-connection={connection}>
      {STATUSES.map((status) => (
        <button key={status} aria-pressed={status === current} onClick={() => setStatus({ status })}>
          {status}
        </button>
      ))}
    </section>
  );
}

function Roster({ userId, initial }: { userId: string; initial: readonly Presence[] }) {
  const { presences } = usePresence();
  // What the server has painted stays until the socket knows better.
  const known = presences.size > 0 ? [...presences.values()] : initial;
  const others = known.filter(({ user_id }) => user_id !== userId);
  others.sort((one, other) => nameOf(one.user_id).localeCompare(nameOf(other.user_id)));
  return (
    <ul className="roster">
      {others.map(({ user_id, availability, custom_status, last_seen }) => (
        <li key={user_id} data-user={user_id} data-status={availability}>
          <span className="dot" aria-hidden="true" />
          <span>
            <strong>{nameOf(user_id)}</strong> {availability}
            {custom_status && <em> “{custom_status}”</em>}
          </span>
          {availability === "offline" && last_seen && <LastSeen at={last_seen} />}
        </li>
      ))}
    </ul>
  );
}

// The same text on server and page, whatever their time zones.
function LastSeen({ at }: { at: string }) {
  return <time dateTime={at}>{`${at.slice(0, 10)} ${at.slice(11, 16)} UTC`}</time>;
}

function Messages({ conversation }: { conversation: Conversation }) {
  const { userIds, typed, stopped } = useTyping(conversation.id);
  const [text, setText] = useState("");
  const who = userIds.map(nameOf).join(" and ");
  return (
    <section>
      <label htmlFor="message">{conversation.title ?? "Conversation"}</label>
      <input
        id="message"
        value={text}
        placeholder="Others see that you type"
        autoComplete="off"
        onChange={({ target }) => {
          setText(target.value);
          typed();
        }}
        onBlur={stopped}
      />
      <p className="typing" role="status">{who && `${who} ${userIds.length > 1 ? "are" : "is"} typing…`}</p>
    </section>
  );
}
