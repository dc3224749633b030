import { redirect } from "next/navigation";

import { Room } from "../components/room";
import { nameOf } from "../lib/people";
import { rollcall, rollcallUrl } from "../lib/rollcall";
import { currentUser } from "../lib/session";
import { leave } from "./actions";

// The first paint has everybody in it already; the page's socket takes over from there.
export default async function Page() {
  const userId = await currentUser();
  if (!userId) redirect("/sign-in");
  const api = rollcall(userId);
  const [presences, own, conversations] = await Promise.all([
    api.get("/api/presence/users"),
    api.get("/api/presence/status"),
    api.get("/api/conversations"),
  ]);
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
      <Room url={rollcallUrl()} userId={userId} initial={[own, ...presences]} conversations={conversations} />
    </main>
  );
}
