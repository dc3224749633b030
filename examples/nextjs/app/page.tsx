import { redirect } from "next/navigation";
import { PresenceProvider } from "rollcall-client/react";
import { initialPresence } from "rollcall-client/server";

import { Chat } from "../components/chat";
import { Messages, OwnStatus, Roster } from "../components/room";
import { nameOf } from "../lib/people";
import { rollcall, rollcallUrl } from "../lib/rollcall";
import { currentUser } from "../lib/session";
import { leave } from "./actions";

// A server component. The HTML contains the roster; the page's socket updates it.
export default async function Page() {
  const userId = await currentUser();
  if (!userId) redirect("/sign-in");
  const api = rollcall(userId);
  const [initial, [conversation]] = await Promise.all([initialPresence(api), api.get("/api/conversations")]);
  return (
    <main>
      <header>
        <h1>Harbour</h1>
        <p>
          Signed in as <strong>{nameOf(userId)}</strong>
        </p>
        <form action={leave}>
          <button>Sign out</button>
        </form>
      </header>
      <PresenceProvider url={rollcallUrl()} tokenUrl="/api/token" userId={userId} initial={initial}>
        <OwnStatus />
        <Roster />
        {conversation && <Messages conversation={conversation} />}
      </PresenceProvider>
      {conversation && <Chat conversationId={conversation.id} />}
    </main>
  );
}
