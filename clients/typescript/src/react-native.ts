/** Visibility and network state of a React Native app, from modules that the app passes in. */

import type { Environment } from "./environment.js";

export type { Environment } from "./environment.js";

/** The part of React Native's `AppState` that is used. */
export interface AppStateLike {
  readonly currentState: string | null;
  addEventListener(type: "change", listener: (state: any) => void): { remove(): void };
}

/** State that `@react-native-community/netinfo` reports. */
export interface NetInfoStateLike {
  readonly isConnected: boolean | null;
  readonly type?: string;
}

/** The part of `@react-native-community/netinfo` that is used. */
export interface NetInfoLike {
  addEventListener(listener: (state: any) => void): () => void;
}

/** Modules of the app. */
export interface ReactNativeModules {
  /** `AppState` of `react-native`. */
  AppState: AppStateLike;
  /** Default export of `@react-native-community/netinfo`. Without it the client reconnects by backoff only. */
  NetInfo?: NetInfoLike;
}

/**
 * Returns the environment of a React Native app:
 * `new PresenceClient({ url, token, deviceId, environment: reactNativeEnvironment({ AppState, NetInfo }) })`.
 */
export function reactNativeEnvironment({ AppState, NetInfo }: ReactNativeModules): Environment {
  // `inactive` (iOS: app switcher, incoming call) is not hidden; the app may return without a `background` state.
  const isHiddenState = (state: string | null) => state === "background";
  return {
    suspendsWhenHidden: true,
    isHidden: () => isHiddenState(AppState.currentState),
    takeUse: () => !isHiddenState(AppState.currentState),
    listen(listener) {
      let isHidden = isHiddenState(AppState.currentState);
      const appState = AppState.addEventListener("change", (state: string) => {
        if (state === "inactive" || isHiddenState(state) === isHidden) return;
        isHidden = isHiddenState(state);
        listener.visibility(isHidden);
      });
      let previous: NetInfoStateLike | undefined;
      const removeNetInfo = NetInfo?.addEventListener((state: NetInfoStateLike) => {
        const last = previous;
        // `null`: not known yet.
        if (state.isConnected === null) return;
        previous = state;
        // NetInfo reports the current state first; it is not a change.
        if (!last ? state.isConnected : last.isConnected === state.isConnected && last.type === state.type) return;
        listener.online(state.isConnected);
      });
      return () => {
        appState.remove();
        removeNetInfo?.();
      };
    },
  };
}
