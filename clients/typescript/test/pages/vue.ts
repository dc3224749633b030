import "./record.js";

import { createClient } from "@supabase/supabase-js";
import { providePresence, useChannelPresence, usePresence, useTyping } from "rollcall-client/vue";
import { createApp, defineComponent, h } from "vue";

import type { Settings } from "./settings.js";

const Room = defineComponent<{ settings: Settings }>(
  (props) => {
    const { url, anonKey, token, conversation, other, topic, name } = props.settings;
    const { connection, me, presences, setStatus } = usePresence([other]);
    const { userIds, typed, stopped } = useTyping(conversation);
    const channel = useChannelPresence<{ name: string }>(
      createClient(url, anonKey, { accessToken: async () => token }),
      topic,
      { key: name },
    );
    void channel.track({ name });
    return () => [
      h("p", { id: "connection" }, connection.value),
      h("p", { id: "me" }, `${me.value?.user_id} ${me.value?.availability}`),
      h("button", { onClick: () => setStatus({ status: "busy", custom_status: "Reading" }) }, "Busy"),
      h(
        "ul",
        [...presences.value.values()].map(({ user_id, availability, custom_status }) =>
          h("li", { id: `user-${user_id}` }, `${availability} ${custom_status ?? ""}`),
        ),
      ),
      h("input", { "aria-label": "Message", onInput: typed, onBlur: stopped }),
      h("p", { id: "typing" }, userIds.value.join(",")),
      h(
        "p",
        { id: "members" },
        [...channel.snapshot.value.members.values()]
          .map((states) => states[0]?.name)
          .sort()
          .join(","),
      ),
    ];
  },
  { props: ["settings"] },
);

Object.assign(globalThis, {
  render(settings: Settings) {
    const App = defineComponent(() => {
      providePresence({ url: settings.url, token: settings.token });
      return () => h(Room, { settings });
    });
    const app = createApp(App);
    app.mount(document.body.appendChild(document.createElement("div")));
    Object.assign(globalThis, { unmount: () => app.unmount() });
  },
});
