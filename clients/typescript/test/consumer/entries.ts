// Imports every entry point, to be compiled with each module resolution.

import { PresenceClient, type PresenceSnapshot } from "rollcall-client";
import { PresenceProvider, useChannelPresence, usePresence, useTyping, useUserPresence } from "rollcall-client/react";
import { reactNativeEnvironment } from "rollcall-client/react-native";
import { initialPresence, serverClient, signToken, tokenHandler } from "rollcall-client/server";
import { presenceStore, typingStore } from "rollcall-client/svelte";
import { providePresence, usePresence as usePresenceInVue } from "rollcall-client/vue";

export const snapshot: PresenceSnapshot = new PresenceClient({ url: "", token: "" }).snapshot;
export const all = [
  PresenceProvider,
  useChannelPresence,
  usePresence,
  useTyping,
  useUserPresence,
  reactNativeEnvironment,
  initialPresence,
  serverClient,
  signToken,
  tokenHandler,
  presenceStore,
  typingStore,
  providePresence,
  usePresenceInVue,
];
