// Streams answers of Rollcall's chat to the page, as the signed-in user.

import { chatHandler } from "rollcall-client/server";

import { rollcallUrl } from "../../../lib/rollcall";
import { currentUser, pageToken } from "../../../lib/session";

export const POST = chatHandler({
  url: rollcallUrl,
  token: async () => {
    const userId = await currentUser();
    return userId && pageToken(userId);
  },
});
