// Compiled with `skipLibCheck: false`, without DOM types: the declarations of a server-side project.

import { PresenceClient, Rest } from "rollcall-client";
import { chatHandler, signToken, verifyToken } from "rollcall-client/server";

export const all = [PresenceClient, Rest, chatHandler, signToken, verifyToken];
