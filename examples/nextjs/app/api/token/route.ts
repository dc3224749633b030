// A short-lived token for the page. The token in the cookie is not readable by scripts.

import { tokenHandler } from "rollcall-client/server";

import { PAGE_SECONDS, currentUser, secret } from "../../../lib/session";

export const GET = tokenHandler({ secret, user: currentUser, expiresIn: PAGE_SECONDS });
