"use client";

import { useState } from "react";
import type { Status } from "rollcall-client";
import { usePresence, useTyping } from "rollcall-client/react";

import { nameOf } from "../lib/people";

const STATUSES: readonly Status[] = ["online", "away", "busy", "dnd", "invisible"];

export function OwnStatus() {
  const { connection, error, me, setStatus } = usePresence();
  return (
    <section aria-label="Own status" data-connection={connection}>
      {STATUSES.map((status) => (
        <button key={status} aria-pressed={status === me?.availability} onClick={() => setStatus({ status })}>
          {status}
        </button>
      ))}
      {error && <p role="alert">{error.code === "SIGNED_OUT" ? "You are signed out." : error.isFinal ? error.message : "Reconnecting…"}</p>}
    </section>
  );
}

export function Roster() {
  const { presences, userId } = usePresence();
  const others = [...presences.values()].filter(({ user_id }) => user_id !== userId);
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

// Server and browser render the same text, in any time zone.
function LastSeen({ at }: { at: string }) {
  return <time dateTime={at}>{`${at.slice(0, 10)} ${at.slice(11, 16)} UTC`}</time>;
}

interface Conversation {
  id: string;
  title: string | null;
}

export function Messages({ conversation }: { conversation: Conversation }) {
  const { userIds, typed, stopped } = useTyping(conversation.id);
  const [text, setText] = useState("");
  const names = userIds.map(nameOf).join(" and ");
  return (
    <section>
      <label htmlFor="message">{conversation.title ?? "Conversation"}</label>
      <input
        id="message"
        value={text}
        placeholder="Others see that you are typing"
        autoComplete="off"
        onChange={({ target }) => {
          setText(target.value);
          typed();
        }}
        onBlur={stopped}
      />
      <p className="typing" role="status">{names && `${names} ${userIds.length > 1 ? "are" : "is"} typing…`}</p>
    </section>
  );
}
