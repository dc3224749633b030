import "./record.js";

import { mount, unmount } from "svelte";

import Room from "./Room.svelte";
import type { Settings } from "./settings.js";

Object.assign(globalThis, {
  render(settings: Settings) {
    const app = mount(Room, { target: document.body.appendChild(document.createElement("div")), props: { settings } });
    Object.assign(globalThis, { unmount: () => unmount(app) });
  },
});
