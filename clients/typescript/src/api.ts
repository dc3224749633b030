// Made from the server's /openapi.json by `npm run generate`. Do not edit.

export interface paths {
    "/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the web console.
         * @description Returns the web console.
         */
        get: operations["console"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/{user_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the presence of one user with the number of devices.
         * @description A path that is not a UUID is answered with 404, also without a token.
         */
        get: operations["card"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/blocks": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the users that the caller blocks.
         * @description Returns the users that the caller blocks.
         */
        get: operations["blocks"];
        put?: never;
        /**
         * Blocks a user.
         * @description From then on neither user sees the other, whatever the other settings allow.
         *
         *     Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        post: operations["block"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/blocks/{user_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * Removes the block of a user.
         * @description Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        delete: operations["unblock"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/broadcast": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Broadcasts several messages to channels.
         * @description Same as `/realtime/v1/api/broadcast`, without the prefix of the gateway.
         */
        post: operations["broadcastWithoutPrefix"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/broadcast/{topic}/events/{event}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Broadcasts one message to a channel.
         * @description Same as the route under `/realtime/v1`, without the prefix of the gateway.
         */
        post: operations["broadcastOneWithoutPrefix"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/contacts": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the caller's contacts and contact requests.
         * @description Returns the caller's contacts and contact requests.
         */
        get: operations["contacts"];
        put?: never;
        /**
         * Sends a contact request.
         * @description A request to a user who already sent one accepts it. A repeated request changes nothing.
         *
         *     Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        post: operations["askForContact"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/contacts/{user_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * Removes a contact.
         * @description Also declines a contact request, or withdraws one.
         *
         *     Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        delete: operations["removeContact"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/contacts/{user_id}/accept": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Accepts a contact request.
         * @description Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        post: operations["acceptContact"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/conversations": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the caller's conversations.
         * @description Returns the caller's conversations.
         */
        get: operations["conversations"];
        put?: never;
        /**
         * Creates a conversation.
         * @description The creator becomes a participant.
         *
         *     Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        post: operations["beginConversation"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/conversations/{conversation_id}/typing": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns who is typing in a conversation.
         * @description Returns who is typing in a conversation.
         */
        get: operations["typing"];
        put?: never;
        /**
         * Reports that the caller started or stopped typing.
         * @description Typing ends after 5 s unless it is refreshed. A repeat within 2 s refreshes it without notifying others. Users who
         *     do not participate in the conversation get 404.
         *
         *     Rate limit: 300 requests per minute and user, burst 300 (`TYPING_UPDATES_PER_MINUTE`).
         */
        post: operations["setTyping"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/conversations/{id}/participants/{user_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Adds a participant to a conversation.
         * @description Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        post: operations["addParticipant"];
        /**
         * Removes a participant from a conversation, or leaves it.
         * @description Only the creator of a conversation may remove other participants.
         *
         *     Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        delete: operations["removeParticipant"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/ping": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Answers while the server of the channels runs.
         * @description Same as `/realtime/v1/api/ping`, without the prefix of the gateway.
         */
        get: operations["pingWithoutPrefix"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/presence/batch": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Returns the presence of up to 1,000 users.
         * @description As `GET /api/presence/users`, by user ID.
         */
        post: operations["batch"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/presence/broadcast": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Sends a custom event to the sockets of users.
         * @description Delivers at most once: recipients without an open socket miss the event. Each socket receives the event in the format
         *     of its dialect.
         *
         *     Requires role `service_role` or permission `presence:admin`.
         */
        post: operations["pushToSockets"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/presence/devices": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the caller's devices.
         * @description Returns the caller's devices.
         */
        get: operations["devices"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/presence/devices/{device_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * Signs a device off.
         * @description The device is offline at once, and its sockets are closed.
         *
         *     Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        delete: operations["signOffDevice"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/presence/events": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Streams presence changes as server-sent events.
         * @description The messages of `/api/presence/subscribe`, each as the `data` of an event, for clients and proxies without WebSocket:
         *     `curl -N`, `EventSource`, edge runtimes. As with a socket, the device is online while the stream is open. The first
         *     event is named `open`; then `initial_state` and the changes follow without a name. The last event of a stream that the
         *     server ends is named `close` and has `code` and `reason`. Positions are the IDs of events: a reconnect with
         *     `Last-Event-ID` gets only what changed, and its `initial_state` says `"resumed": true`. Changes are sent over the other
         *     routes, with the same device ID.
         */
        get: operations["presenceEvents"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/presence/export": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns all stored presence data of the caller.
         * @description Returns all stored presence data of the caller.
         */
        get: operations["exportMine"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/presence/heartbeat": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Keeps a device without a socket live.
         * @description Other users are notified only if the heartbeat brings the device back. `active` reports that the device is in use, and
         *     ends its time in the background. The body may be left out.
         *
         *     Rate limit: 600 requests per minute and user, burst 600 (`HEARTBEATS_PER_MINUTE`).
         */
        post: operations["heartbeat"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/presence/last-seen": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns when users were last seen.
         * @description Returns when users were last seen.
         */
        get: operations["lastSeen"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/presence/me": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * Erases the data of the caller.
         * @description Erases presence (settings, devices, last seen, typing, history) and content: messages and the answers to them,
         *     memories, instructions, units, topics, entities, personas, notebooks, bundles and vectors. Closes the user's sockets.
         *     The user then counts as never seen. Relations, memberships and conversations with other participants remain.
         *
         *     Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        delete: operations["forgetMe"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/presence/settings": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the caller's settings.
         * @description Returns the caller's settings.
         */
        get: operations["settings"];
        /**
         * Replaces the caller's settings.
         * @description Absent fields get their default.
         *
         *     Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        put: operations["replaceSettings"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        /**
         * Changes some of the caller's settings.
         * @description Absent fields are kept.
         *
         *     Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        patch: operations["changeSettings"];
        trace?: never;
    };
    "/api/presence/sign-off": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Signs a device off while its page is closing.
         * @description For `navigator.sendBeacon`, which cannot set headers or read the response: the token may be in the body, whose media
         *     type is ignored. The device is offline at once, and its sockets are closed.
         *
         *     Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        post: operations["signOff"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/presence/status": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the caller's own status.
         * @description Users without a presence row get status `offline`. Fields that are not shared with others are included.
         */
        get: operations["ownStatus"];
        put?: never;
        /**
         * Sets the status of the caller.
         * @description `busy`, `dnd` and `invisible` hold on all devices until changed; `online`, `away` and `offline` are the state of
         *     the device. An absent text is kept, `null` clears it. Repeating the same status within 5 s changes nothing.
         *
         *     Rate limit: 10 requests per minute and user, burst 10 (`PRESENCE_UPDATES_PER_MINUTE`).
         */
        post: operations["setStatus"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/presence/subscribe": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Opens a socket that receives presence changes.
         * @description The first message is `initial_state` with all users related to the caller; updates follow.
         */
        get: operations["presenceSocket"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/presence/users": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the presence of several users.
         * @description Without `user_ids`: contacts, team members and participants of shared conversations. Unknown and invisible users
         *     are left out. With `current_page`: who of them is on that page, as far as they share it.
         */
        get: operations["users"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/presence/users/{user_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the presence of one user.
         * @description Returns the presence of one user.
         */
        get: operations["user"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/presence/visibility": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the caller's visibility list.
         * @description Users on the list see the real state of the caller, also while the caller is invisible.
         */
        get: operations["visibilityList"];
        /**
         * Replaces the caller's visibility list.
         * @description Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        put: operations["replaceVisibilityList"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/presence/visibility/{user_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Adds a user to the caller's visibility list.
         * @description Users on the list see the real state of the caller, also while the caller is invisible.
         *
         *     Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        post: operations["enlist"];
        /**
         * Removes a user from the caller's visibility list.
         * @description Users on the list see the real state of the caller, also while the caller is invisible.
         *
         *     Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        delete: operations["unlist"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/tenants/{id}/health": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the health of the channels.
         * @description The health check of Supabase's compose files. The server has one tenant; its name is ignored.
         */
        get: operations["tenantHealth"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/ai/chat": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Asks a model, with the context of the user.
         * @description Question and answer are saved in the conversation. With `stream`, the answer is server-sent events: `context`, `delta`,
         *     then `done` or `error`, and `[DONE]`.
         *
         *     Rate limit: 20 requests per minute and user, burst 20 (`CHAT_REQUESTS_PER_MINUTE`).
         */
        post: operations["chat"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/ai/context/{conversation_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the prompt of a conversation, layer by layer.
         * @description The prompt is assembled as for a chat request; no model is called. For debugging.
         *
         *     Rate limit: 30 requests per minute and user, burst 30 (`CONTEXT_REQUESTS_PER_MINUTE`).
         */
        get: operations["showContext"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/context/health": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the health of the context engine.
         * @description The counts are the caller's own; for the service role they cover all users. They are `null` if the dynamic engine does
         *     not work.
         *
         *     Rate limit: 30 requests per minute and user, burst 30 (`CONTEXT_REQUESTS_PER_MINUTE`).
         */
        get: operations["contextHealth"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/context/invalidate/{user_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Reports that a source of bundles changed.
         * @description Triggers detect changes of the built-in tables. This route is for sources that the database does not see.
         *
         *     Rate limit: 30 requests per minute and user, burst 30 (`CONTEXT_REQUESTS_PER_MINUTE`).
         */
        post: operations["invalidate"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/context/presence/{user_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Reports what the user does on a device.
         * @description A warm-up of the bundles that the signals predict starts in the background. Sockets receive `bundle_ready` for each
         *     compiled bundle.
         *
         *     Rate limit: 30 requests per minute and user, burst 30 (`CONTEXT_REQUESTS_PER_MINUTE`).
         */
        post: operations["noteContext"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/context/rollup/{user_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Rolls up new units into profiles of topics and entities.
         * @description The oldest units come first. At most one roll-up per user runs at a time: another request gets 409, unless it sets
         *     `force`.
         *
         *     Rate limit: 30 requests per minute and user, burst 30 (`CONTEXT_REQUESTS_PER_MINUTE`).
         */
        post: operations["rollUp"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/context/warmup/{user_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Compiles the bundles that the user will probably need.
         * @description The response comes after the warm-up. Users without reported signals get 404.
         *
         *     Rate limit: 30 requests per minute and user, burst 30 (`CONTEXT_REQUESTS_PER_MINUTE`).
         */
        post: operations["warmUp"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/context/ws": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Opens a socket that receives the context of the user's other devices.
         * @description The socket opens without a valid token too and is then closed with code 4001. Also served at `/` of `WS_PORT`.
         */
        get: operations["contextSocket"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/conversations/{conversation_id}/messages": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns messages of a conversation, newest first.
         * @description Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        get: operations["listMessages"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/conversations/{conversation_id}/summary": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the summary of a conversation.
         * @description Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        get: operations["conversationSummary"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/entities": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the caller's entities, newest first.
         * @description The roll-up creates entities from units.
         *
         *     Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        get: operations["listEntities"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/entities/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * Deletes an entity of the caller.
         * @description Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        delete: operations["deleteEntity"];
        options?: never;
        head?: never;
        /**
         * Changes an entity of the caller.
         * @description Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        patch: operations["updateEntity"];
        trace?: never;
    };
    "/api/v1/instructions": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the caller's instructions, newest first.
         * @description Instructions say how the user wants to be answered.
         *
         *     Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        get: operations["listInstructions"];
        put?: never;
        /**
         * Stores an instruction of the caller.
         * @description Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        post: operations["createInstruction"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/instructions/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * Deletes an instruction of the caller.
         * @description Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        delete: operations["deleteInstruction"];
        options?: never;
        head?: never;
        /**
         * Changes an instruction of the caller.
         * @description Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        patch: operations["updateInstruction"];
        trace?: never;
    };
    "/api/v1/memories": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the caller's memories, newest first.
         * @description Memories are facts about the user: written by the user or the application, or learned from messages.
         *
         *     Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        get: operations["listMemories"];
        put?: never;
        /**
         * Stores a memory of the caller.
         * @description Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        post: operations["createMemory"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/memories/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * Deletes a memory of the caller.
         * @description The learned units of its message are deleted too, so that it is not found by its words.
         *
         *     Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        delete: operations["deleteMemory"];
        options?: never;
        head?: never;
        /**
         * Changes a memory of the caller.
         * @description Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        patch: operations["updateMemory"];
        trace?: never;
    };
    "/api/v1/memory": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * Forgets all memories of the caller and everything that was learned.
         * @description Messages remain, and are not learned from again. `DELETE /api/presence/me` erases everything about a user.
         *
         *     Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        delete: operations["forgetMemory"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/memory/settings": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns where the server learns from the caller's messages.
         * @description Without a setting, it learns from all.
         *
         *     Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        get: operations["memorySettings"];
        /**
         * Sets whether the server learns from the caller's messages.
         * @description Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        put: operations["setMemory"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/messages/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * Deletes a message of the caller, or a model's answer to the caller.
         * @description The units that were learned from it are deleted too.
         *
         *     Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        delete: operations["deleteMessage"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/notebooks": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the caller's notebooks, newest first.
         * @description Notebooks are namespaces, such as projects: memories, units and conversations may belong to one.
         *
         *     Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        get: operations["listNotebooks"];
        put?: never;
        /**
         * Stores a notebook of the caller.
         * @description Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        post: operations["createNotebook"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/notebooks/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * Deletes a notebook of the caller.
         * @description Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        delete: operations["deleteNotebook"];
        options?: never;
        head?: never;
        /**
         * Changes a notebook of the caller.
         * @description Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        patch: operations["updateNotebook"];
        trace?: never;
    };
    "/api/v1/personas": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the caller's personas, newest first.
         * @description Personas are those of the application, as far as signals name one.
         *
         *     Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        get: operations["listPersonas"];
        put?: never;
        /**
         * Stores a persona of the caller.
         * @description Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        post: operations["createPersona"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/personas/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * Deletes a persona of the caller.
         * @description Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        delete: operations["deletePersona"];
        options?: never;
        head?: never;
        /**
         * Changes a persona of the caller.
         * @description Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        patch: operations["updatePersona"];
        trace?: never;
    };
    "/api/v1/search": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Searches the caller's active memories and units.
         * @description By words and parts of words, and by meaning if an embeddings API and pgvector are there.
         *
         *     Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        get: operations["search"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/system/audit": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the actions of operators, newest first.
         * @description The same is the view `rollcall.operator_audit`. Entries cannot be changed; `rollcall.retention` says how long they
         *     are kept.
         *
         *     The token must have role `service_role`.
         */
        get: operations["listAudit"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/system/channels": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the channels that have members, in the order of their topics, with their members on all nodes.
         * @description The token must have role `service_role`.
         */
        get: operations["listChannels"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/system/connections": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the open connections of all nodes, in the order of their IDs.
         * @description The token must have role `service_role`.
         */
        get: operations["listConnections"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/system/connections/{id}/events": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Streams the messages of a connection as server-sent events.
         * @description Events named `message` have the fields of `WatchedMessage`: direction, type, size and time, and payloads only if they
         *     are requested and the setting `OPERATOR_PAYLOADS` allows them. An event `dropped` has `count`: so many messages are
         *     missing here, because the stream was read too slowly. The last event is named `close` and has `reason`. A stream
         *     ends after an hour. Each stream leaves one row in the audit log.
         *
         *     The token must have role `service_role`.
         */
        get: operations["watchConnection"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/system/disconnect": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Closes connections with code 4403 and a reason.
         * @description Clients may reconnect with a valid token. A channel socket that acts as other users too keeps their channels when a
         *     user is disconnected. Each attempt leaves one row in the audit log, also for a connection that is not open (404).
         *
         *     The token must have role `service_role`.
         */
        post: operations["disconnect"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/system/explain": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Explains why a user sees another user, or does not.
         * @description The token must have role `service_role`.
         */
        get: operations["explain"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/system/health": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the health of the server and its dependencies.
         * @description Requires no token, because load balancers have none. The dependencies are checked at most once per second.
         */
        get: operations["health"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/system/history": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the load of all nodes over the last hour.
         * @description The token must have role `service_role`.
         */
        get: operations["history"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/system/metrics": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the metrics of the server.
         * @description Same as `/metrics`.
         *
         *     The token must have role `service_role`.
         */
        get: operations["metricsWithToken"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/system/nodes": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the nodes that serve this database.
         * @description The fields of a live node that does not answer within two seconds are `null`.
         *
         *     The token must have role `service_role`.
         */
        get: operations["nodes"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/system/publish": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Sends a broadcast to a channel, on all nodes.
         * @description The message is stored in `realtime.messages` and read from there, as with `realtime.send`.
         *
         *     The token must have role `service_role`.
         */
        post: operations["publish"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/system/subscriptions": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the subscriptions to changes of tables on all nodes, in the order of their connections.
         * @description The token must have role `service_role`.
         */
        get: operations["listSubscriptions"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/system/webhooks": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns all webhooks with their state.
         * @description The token must have role `service_role`.
         */
        get: operations["webhooks"];
        put?: never;
        /**
         * Creates a webhook.
         * @description It receives what happens from now on. The response is the only one with the secret.
         *
         *     The token must have role `service_role`.
         */
        post: operations["createWebhook"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/system/webhooks/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * Deletes a webhook with its dead letters.
         * @description The token must have role `service_role`.
         */
        delete: operations["deleteWebhook"];
        options?: never;
        head?: never;
        /**
         * Changes a webhook.
         * @description To change the secret without a gap, set `previous_secret` to the old one at the same time, and to `null` when the
         *     receiver knows the new one.
         *
         *     The token must have role `service_role`.
         */
        patch: operations["updateWebhook"];
        trace?: never;
    };
    "/api/v1/system/webhooks/{id}/dead-letters": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the dead letters of a webhook, in the order of their events.
         * @description The token must have role `service_role`.
         */
        get: operations["webhookDeadLetters"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/system/webhooks/{id}/dead-letters/resend": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Sends dead letters once more.
         * @description Those that are accepted are deleted. The others stay dead letters.
         *
         *     The token must have role `service_role`.
         */
        post: operations["resendDeadLetters"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/system/webhooks/{id}/test": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Sends one event of the type `webhook.test` now.
         * @description A failure changes nothing and is not repeated.
         *
         *     The token must have role `service_role`.
         */
        post: operations["testWebhook"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/topics": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the caller's topics, newest first.
         * @description The roll-up creates topics from units.
         *
         *     Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        get: operations["listTopics"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/topics/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * Deletes a topic of the caller.
         * @description Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        delete: operations["deleteTopic"];
        options?: never;
        head?: never;
        /**
         * Changes a topic of the caller.
         * @description Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        patch: operations["updateTopic"];
        trace?: never;
    };
    "/api/v1/units": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the caller's units, newest first.
         * @description Units are single statements, most of them learned from messages.
         *
         *     Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        get: operations["listUnits"];
        put?: never;
        /**
         * Stores a unit of the caller.
         * @description Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        post: operations["createUnit"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/units/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * Deletes a unit of the caller.
         * @description Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        delete: operations["deleteUnit"];
        options?: never;
        head?: never;
        /**
         * Changes a unit of the caller.
         * @description Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        patch: operations["updateUnit"];
        trace?: never;
    };
    "/api/v1/usage": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the calls to models that were made for the caller, of the last 31 days.
         * @description Rate limit: 120 requests per minute and user, burst 120 (`MANAGE_REQUESTS_PER_MINUTE`).
         */
        get: operations["usage"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/asyncapi.json": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the description of the sockets.
         * @description Returns the description of the sockets.
         */
        get: operations["asyncapi"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/console/{file}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns a file of the console.
         * @description Returns a file of the console.
         */
        get: operations["consoleFile"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/console/demo": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns tokens of the demo users.
         * @description Available only on a demo server on a loopback address, to the browser that opened the link which the server printed
         *     at its start, and not through a proxy. Other requests are answered with 404.
         */
        get: operations["demo"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/console/demo/link": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Opens the console of a demo server as its operator.
         * @description The server prints the link at its start. It works once, and sets a cookie with which the console reads the tokens of
         *     the demo users. Other servers answer 404, and so do requests with a wrong or used code or through a proxy.
         */
        get: operations["demoLink"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/docs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the API reference with request forms.
         * @description Returns the API reference with request forms.
         */
        get: operations["docs"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/docs/errors": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the page of error codes, with cause and cure.
         * @description `doc_url` of an error leads to the section of its code.
         */
        get: operations["errorDocs"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/healthcheck": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Answers `ok` while the server runs.
         * @description Answers `ok` while the server runs.
         */
        get: operations["alive"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/livez": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Answers `ok` while the server runs.
         * @description Same as `/healthcheck`, for liveness probes: an unavailable database does not affect it.
         */
        get: operations["livez"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/metrics": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the metrics of the server.
         * @description Metrics of sockets, deliveries, latencies and requests in the text format of Prometheus. Requests without a token
         *     are answered if they come directly from a network in `METRICS_NETWORKS`, by default from the same machine, and not
         *     through a proxy or from a web page. The admin port (`ADMIN_PORT`) serves the same without a token.
         *
         *     The token must have role `service_role`.
         */
        get: operations["metrics"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/openapi.json": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns this description of the REST API.
         * @description Returns this description of the REST API.
         */
        get: operations["openapi"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/readyz": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the health of the server and its dependencies.
         * @description Same as `/api/v1/system/health`, for readiness probes: 503 while a check fails or the server stops.
         */
        get: operations["readyz"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/realtime/v1/api/broadcast": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Broadcasts several messages to channels.
         * @description Delivers to the sockets that are in the channels now. Private messages require the right to insert by the policies on
         *     `realtime.messages`; without it they are dropped, and the response is 202 too.
         */
        post: operations["broadcast"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/realtime/v1/api/broadcast/{topic}/events/{event}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Broadcasts one message to a channel.
         * @description The body is the payload: a JSON object (another value arrives as `_json`), or bytes as `application/octet-stream`,
         *     which only sockets with serializer 2.0.0 receive.
         */
        post: operations["broadcastOne"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/realtime/v1/api/health": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the health of the server and its dependencies.
         * @description The path that clients of Supabase Realtime use; same as `/api/v1/system/health`.
         */
        get: operations["channelsHealth"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/realtime/v1/api/occupancy/{topic}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns how many are present in a channel, without who.
         * @description Counts what the channel tracks on all nodes. A private channel requires the right to read its presence by the policies
         *     on `realtime.messages`.
         */
        get: operations["channelOccupancy"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/realtime/v1/api/ping": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Answers while the server of the channels runs.
         * @description Answers while the server of the channels runs.
         */
        get: operations["ping"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/realtime/v1/api/presence/{topic}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the presence state of a channel on all nodes.
         * @description The same state as in a `presence_state` message. A private channel requires the right to read its presence by the
         *     policies on `realtime.messages`.
         */
        get: operations["channelPresence"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/realtime/v1/sse": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Streams the events of a channel as server-sent events.
         * @description Joins the channel with the same policies and limits as a socket. The first event is named `open`. Then the messages of
         *     serializer 1.0.0 follow without a name, `phx_reply` to the join first. When the channel is refused or closed, the
         *     stream ends with an event named `close`. After a reconnect the channel is joined again. In a channel with a history,
         *     events have IDs, and the broadcasts after `Last-Event-ID` follow the reply to the join.
         */
        get: operations["channelEvents"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/realtime/v1/websocket": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Opens a socket for channels: broadcast, presence and database changes.
         * @description Phoenix channels as Supabase Realtime has them, for `supabase-js` and the other official clients.
         */
        get: operations["channelsSocket"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/socket/websocket": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Opens a socket for channels: broadcast, presence and database changes.
         * @description Same as `/realtime/v1/websocket`, without the prefix of the gateway.
         */
        get: operations["channelsSocketWithoutPrefix"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/chat/completions": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Creates a chat completion with the context of the user.
         * @description Request, response, stream chunks and errors have the format of OpenAI's API. `metadata.conversation_id` names the
         *     conversation; without it the prompt contains the context of the user only, and nothing is saved.
         *
         *     Rate limit: 20 requests per minute and user, burst 20 (`CHAT_REQUESTS_PER_MINUTE`).
         */
        post: operations["createChatCompletion"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/models": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Lists the models of the configured providers.
         * @description The default model of each provider, and the models that the role of the caller may use.
         */
        get: operations["listModels"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/version": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Returns the version of the server.
         * @description Returns the version of the server.
         */
        get: operations["version"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/ws": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Opens a presence socket for devices and services.
         * @description Messages have the form `{type, payload}` and are acknowledged.
         */
        get: operations["devicesSocket"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /** @description Metrics of the assembly of a prompt. */
        AssemblyMetadata: {
            /**
             * Format: double
             * @description Assembly time in milliseconds.
             */
            assemblyTimeMs: number;
            /** @description Names of the bundles in the prompt: type, and topic or entity. */
            bundlesUsed: string[];
            /**
             * Format: double
             * @description Fresh bundles divided by wanted bundles.
             */
            cacheHitRate: number;
        };
        /** @description An action of an operator, as the audit log holds it. */
        AuditEntry: {
            /** @description `disconnect_user`, `disconnect_device`, `disconnect_connection`, `publish` or `watch_connection`. */
            action: string;
            /** @description `sub` of the token; without one its role, or in SQL the database login. */
            actor: string;
            /**
             * Format: date-time
             * @description Time of the action.
             */
            at: string;
            /**
             * Format: int64
             * @description ID of the entry. Later entries have higher IDs.
             */
            id: number;
            /** @description Login of the database session. */
            login: string;
            /** @description Reason that the operator gave. */
            reason: string | null;
            /** @description `x-request-id` of the request; `null` for SQL. */
            request_id: string | null;
            /** @description Role of the token, or the database login. */
            role: string;
            /** @description What the action was applied to. */
            target: {
                [key: string]: unknown;
            };
            user_id: components["schemas"]["UserId"] | null;
        };
        /** @description One page of the audit log. */
        AuditPage: {
            /** @description Entries of the page. */
            data: components["schemas"]["AuditEntry"][];
            /**
             * Format: int64
             * @description Cursor of the next page; `null` on the last one.
             */
            next_cursor: number | null;
        };
        /** @description Presences of users by their ID. */
        BatchAnswer: {
            /** @description Presences of the visible users, by user ID. */
            presences: {
                [key: string]: components["schemas"]["Presence"];
            };
        };
        /** @description Users whose presence to return. */
        BatchBody: {
            /** @description IDs of the users: 1 to 1,000. */
            user_ids: components["schemas"]["UserId"][];
        };
        /** @description A user blocked by the caller. */
        Block: {
            /**
             * Format: date-time
             * @description Time at which the block was created.
             */
            created_at: string;
            /** @description ID of the blocked user (UUID). */
            user_id: components["schemas"]["UserId"];
        };
        /** @description Result of a custom event. */
        BroadcastAnswer: {
            /**
             * Format: int64
             * @description Number of recipients with an open socket.
             */
            delivered_to: number;
        };
        /** @description Messages to broadcast to channels. */
        BroadcastBatch: {
            /** @description The messages. All are accepted, or none. */
            messages: components["schemas"]["BroadcastMessage"][];
        };
        /** @description A custom event and its recipients. */
        BroadcastBody: {
            /** @description Category of the event. Any other value is answered with 422. */
            category: components["schemas"]["Category"];
            /** @description Name of the event: 1 to 255 characters. */
            event: string;
            /** @description Payload of the event, forwarded unchanged. */
            payload: {
                [key: string]: unknown;
            };
            /** @description IDs of the recipients: 1 to 1,000. */
            recipients: components["schemas"]["UserId"][];
        };
        /** @description A message to broadcast. */
        BroadcastMessage: {
            /** @description Name of the event. */
            event: string;
            /** @description ID of the message; receivers find it in `meta.id`. */
            id?: string | null;
            /** @description Payload of the message, forwarded unchanged. */
            payload: {
                [key: string]: unknown;
            };
            /** @description Whether the private channel of that name is meant; public by default. */
            private?: boolean | null;
            /** @description Name of the channel, without `realtime:`. */
            topic: string;
        };
        /** @description Counts of a user's bundles by state. */
        BundleCounts: {
            /**
             * Format: int64
             * @description Number of bundles that are not fresh.
             * @default 0
             */
            dirtyBundles: number;
            /**
             * Format: int64
             * @description Number of fresh bundles of conversations.
             * @default 0
             */
            freshConversationBundles: number;
            /**
             * Format: int64
             * @description Number of fresh bundles of entities.
             * @default 0
             */
            freshEntityBundles: number;
            /**
             * Format: int64
             * @description Number of fresh bundles of topics.
             * @default 0
             */
            freshTopicBundles: number;
            /**
             * Format: int64
             * @description Number of all fresh bundles.
             * @default 0
             */
            totalFreshBundles: number;
        };
        /**
         * @description Whether the stored bundle can be used, and if not, why.
         * @enum {string}
         */
        BundleReadiness: "fresh" | "missing" | "dirty" | "expired" | "forced";
        /**
         * @description Category of a custom event.
         * @enum {string}
         */
        Category: "presence" | "typing" | "custom";
        /** @description How many are present in a channel. */
        ChannelOccupancy: {
            /** @description Number of presence keys: of users, if each tracks under a key of its own. */
            keys: number;
            /** @description Number of tracked payloads: of devices and tabs. */
            metas: number;
            /** @description Whether the channel is private. */
            private: boolean;
            /** @description Name of the channel, without `realtime:`. */
            topic: string;
        };
        /** @description Presence state of a channel. */
        ChannelPresence: {
            /** @description Tracked payloads by key: `{key: {metas: [{phx_ref, …}]}}`. */
            presence: {
                [key: string]: unknown;
            };
            /** @description Whether the channel is private. */
            private: boolean;
            /** @description Name of the channel, without `realtime:`. */
            topic: string;
        };
        /** @description Answer of a model. */
        ChatAnswer: {
            /** @description Text of the answer. */
            content: string;
            /** @description Composition of the prompt. */
            contextStats: components["schemas"]["ContextStats"];
            /** @description Engine that assembled the prompt. */
            engine: components["schemas"]["ContextEngine"];
            /** @description Why the answer ends, as the provider reports it: `stop`, `length`, `tool_calls`, `content_filter`. */
            finishReason?: string;
            /**
             * Format: uuid
             * @description Message ID of the answer. Without a conversation it names no stored message.
             */
            messageId: string;
            /** @description Model that wrote the answer. */
            model: string;
            /** @description Whether the answer was interrupted. */
            partial?: boolean;
            /** @description Whether this is the stored answer to an earlier request with the same idempotency key. */
            replayed?: boolean;
            /** @description Calls of the client's tools, in OpenAI's format. */
            toolCalls?: {
                [key: string]: unknown;
            }[];
            /** @description Token usage, as reported by the provider or counted. */
            usage: components["schemas"]["ChatUsage"];
        };
        /** @description A chat request. Further parameters of OpenAI's API, such as `tools`, are passed to the provider. */
        ChatBody: {
            /** @description ID of the conversation (UUID). Question and answer are saved in it. */
            conversationId: components["schemas"]["ConversationId"];
            /** @description Key of the request: a repeat with the same key gets the stored answer. It overrides the header `Idempotency-Key`. */
            idempotencyKey?: string | null;
            /** @description Whether the prompt contains stored messages of the conversation, by default `true`. */
            includeHistory?: boolean | null;
            /** @description Maximum tokens of the prompt, from 500; by default 12,000. */
            maxContextTokens?: number | null;
            /**
             * Format: int32
             * @description Maximum tokens of the answer. The operator may set a lower maximum.
             */
            maxTokens?: number | null;
            /** @description Messages in the format of OpenAI's API: 1 to 500. The last one with role `user` is the question. */
            messages: components["schemas"]["ChatMessage"][];
            /** @description Model of the provider: at most 200 characters. The operator may limit the models of a role. */
            model?: string | null;
            /** @description Name of a configured provider: at most 64 characters. */
            provider?: string | null;
            /** @description Whether the answer is streamed as server-sent events. */
            stream?: boolean | null;
            /**
             * Format: float
             * @description Temperature of the model, from 0 to 2.
             */
            temperature?: number | null;
            /** @description Whether the dynamic engine assembles the prompt; it overrides the header `x-use-dynamic-context`. */
            useDynamicContext?: boolean | null;
            userId?: components["schemas"]["UserId"] | null;
        };
        /** @description Response to a chat request without streaming. */
        ChatEnvelope: {
            /** @description The answer of the model. */
            data: components["schemas"]["ChatAnswer"];
            /** @description Metrics of the assembly of the prompt. */
            metadata: components["schemas"]["AssemblyMetadata"];
            /**
             * @description Always `true` in this response.
             * @enum {boolean}
             */
            success: true;
            /**
             * Format: date-time
             * @description Time of the response.
             */
            timestamp: string;
        };
        /** @description An event of a streamed answer, as JSON in the `data` of a server-sent event. The last `data` is `[DONE]`. */
        ChatEvent: {
            contextStats?: components["schemas"]["ContextStats"] | null;
            /** @description Engine that assembled the prompt. */
            engine: components["schemas"]["ContextEngine"];
            /**
             * Format: uuid
             * @description ID of the message with the answer.
             */
            messageId: string;
            /** @description Metrics of the assembly of the prompt. */
            metadata: components["schemas"]["AssemblyMetadata"];
            /** @enum {string} */
            type: "context";
        } | {
            /** @description Text of this part. */
            content?: string;
            /** @description Parts of tool calls, as the provider sends them. */
            toolCalls?: {
                [key: string]: unknown;
            }[];
            /** @enum {string} */
            type: "delta";
        } | (components["schemas"]["ChatAnswer"] & {
            /** @enum {string} */
            type: "done";
        }) | {
            /** @description Stable code of the error, for programs. */
            error: string;
            /** @description English text for people. */
            message: string;
            /** @enum {string} */
            type: "error";
        };
        /**
         * @description A message as it is sent to a provider. Fields other than `role` and `content`, such as `name`, `tool_calls` and
         *     `tool_call_id`, are kept as the client sent them.
         */
        ChatMessage: {
            [key: string]: unknown;
        };
        /** @description Tokens that a request used. */
        ChatUsage: {
            /**
             * Format: int64
             * @description Tokens of the whole answer.
             */
            completionTokens: number;
            /**
             * Format: int64
             * @description Tokens of the whole prompt.
             */
            promptTokens: number;
            /**
             * Format: int64
             * @description Tokens of prompt and answer together.
             */
            totalTokens: number;
        };
        /** @description A request in the format of OpenAI's API. Further parameters, such as `tools`, are passed to the provider. */
        CompletionBody: {
            /**
             * Format: int32
             * @description Maximum tokens of the answer, with the tokens of reasoning.
             */
            max_completion_tokens?: number | null;
            /**
             * Format: int32
             * @description Maximum tokens of the answer. The operator may set a lower maximum.
             */
            max_tokens?: number | null;
            /** @description Messages of the chat: 1 to 500. */
            messages: components["schemas"]["ChatMessage"][];
            /**
             * @description Strings by name. The server reads `conversation_id`, `user_id`, `include_history` and `max_context_tokens`;
             *     the others are passed to the provider.
             */
            metadata?: {
                [key: string]: unknown;
            } | null;
            /** @description Model that writes the answer, or `provider/model`. `GET /v1/models` lists them. */
            model: string;
            /** @description Whether the answer is streamed as server-sent events. */
            stream?: boolean | null;
            stream_options?: components["schemas"]["CompletionStreamOptions"] | null;
            /**
             * Format: float
             * @description Temperature of the model, from 0 to 2.
             */
            temperature?: number | null;
        };
        /** @description Options of a streamed answer. */
        CompletionStreamOptions: {
            /** @description Whether the last chunk contains the token usage. */
            include_usage?: boolean | null;
        };
        /** @description An open connection of a node. */
        Connection: {
            /**
             * Format: date-time
             * @description Time at which the connection was opened.
             */
            connected_at: string;
            device_id: components["schemas"]["DeviceId"] | null;
            /** @description Dialect of the connection, such as `presence` or `phoenix_v1`. */
            dialect: string;
            /** @description ID of the connection: its node and its number there. */
            id: string;
            /**
             * Format: int64
             * @description Seconds since the client last sent data.
             */
            idle_seconds: number;
            /**
             * Format: int64
             * @description Messages received from the client.
             */
            messages_received: number;
            /**
             * Format: int64
             * @description Messages sent to the client, pings included.
             */
            messages_sent: number;
            /**
             * Format: uuid
             * @description ID of the node that holds the connection (UUID).
             */
            node: string;
            /** @description Bytes that wait until the client reads, including the entries of the queue. */
            queued_bytes: number;
            /** @description Frames that wait until the client reads. */
            queued_messages: number;
            /**
             * Format: double
             * @description Received messages per second, over about the last minute.
             */
            received_per_second: number;
            /** @description Address and port of the peer. Behind a proxy, that of the proxy. */
            remote_address: string;
            /**
             * Format: double
             * @description Sent messages per second, over about the last minute.
             */
            sent_per_second: number;
            /** @description IDs of the users that act on the connection. A channel socket may have several, or none. */
            user_ids: components["schemas"]["UserId"][];
        };
        /** @description A contact or a contact request, as the caller sees it. */
        Contact: {
            /**
             * Format: date-time
             * @description Time at which the contact was accepted; `null` for a request.
             */
            accepted_at: string | null;
            /**
             * Format: date-time
             * @description Time at which the contact was requested.
             */
            created_at: string;
            /** @description State of the contact, as the caller sees it. */
            status: components["schemas"]["ContactStatus"];
            /** @description ID of the other user (UUID). */
            user_id: components["schemas"]["UserId"];
        };
        /**
         * @description State of a contact, as seen by one side.
         * @enum {string}
         */
        ContactStatus: "pending_in" | "pending_out" | "accepted";
        /** @description Tokens of a prompt. */
        ContextBudget: {
            /** @description Number of tokens that all layers were given. */
            given: number;
            /** @description Maximum number of tokens of the prompt. */
            tokens: number;
            /** @description Number of tokens that all layers use. */
            used: number;
        };
        /**
         * @description How much context a message needs.
         * @enum {string}
         */
        ContextDepth: "minimal" | "standard" | "deep";
        /**
         * @description The engine that assembled a prompt.
         * @enum {string}
         */
        ContextEngine: "dynamic" | "legacy";
        /** @description Health of the context engine. */
        ContextHealth: components["schemas"]["Counts"] & {
            /** @description Whether the dynamic engine works. */
            newEngineAvailable: boolean;
            /** @description Whether the simple engine works. */
            oldEngineAvailable: boolean;
            /** @description `healthy` if both engines work, `degraded` if one does, `down` if none does. */
            status: components["schemas"]["ContextStatus"];
            /**
             * Format: date-time
             * @description Time of the response.
             */
            timestamp: string;
        };
        /** @description A layer of a prompt with its part of the budget. */
        ContextLayer: {
            /**
             * Format: double
             * @description How far the layer may shrink below its ideal, from 0 to 1.
             */
            elasticity: number;
            /** @description Number of tokens that the layer was given. */
            given: number;
            /** @description Number of tokens that the layer asks for. */
            ideal: number;
            /** @description Number of the layer: `L0` to `L7`. */
            layer: string;
            /** @description Maximum number of tokens. */
            maximum: number;
            /** @description Minimum useful number of tokens. */
            minimum: number;
            /** @description Name of the layer. */
            name: components["schemas"]["ContextLayerName"];
            /** @description Layers with a higher priority get the remaining tokens first. */
            priority: number;
            /** @description Sections of the layer, with those that were left out. */
            sections: components["schemas"]["ContextSection"][];
            /** @description Number of tokens that the layer uses. */
            used: number;
        };
        /**
         * @description A layer of the prompt, by name.
         * @enum {string}
         */
        ContextLayerName: "identity" | "preferences" | "topic" | "entity" | "conversation" | "just_in_time" | "history" | "message";
        /** @description A section of the prompt, or the reason why it was left out. */
        ContextSection: {
            /** @description Name of the bundle: its type, and the name of the topic or entity. */
            bundle?: string;
            /**
             * Format: uuid
             * @description ID of the stored bundle, if any.
             */
            bundleId?: string;
            /** @description Text; empty if the section was left out. */
            content: string;
            /** @description Whether the text was truncated. */
            cut: boolean;
            /** @description Layer that the section belongs to. */
            layer: components["schemas"]["ContextLayerName"];
            /** @description State of the bundle; `None` if the section is no bundle. */
            readiness?: components["schemas"]["BundleReadiness"];
            /** @description Human-readable reason why the section is included, cut or left out. */
            reason: string;
            /** @description Heading of the section in the prompt. */
            title: string;
            /** @description Tokens of the text. */
            tokens: number;
        };
        /** @description Composition of a prompt. */
        ContextStats: components["schemas"]["AssemblyMetadata"] & {
            /** @description Wanted bundles that were compiled for this prompt. */
            bundlesCompiled: number;
            /** @description Wanted bundles that were fresh. */
            bundlesReady: number;
            /** @description Bundles that the message and the signals select. */
            bundlesWanted: number;
            /** @description Names of the entities detected in the message. */
            entities: string[];
            /** @description Whether the simple engine replaced the failed dynamic one. */
            fellBack?: boolean;
            /** @description Stored messages in the prompt. */
            historyMessages: number;
            /** @description Tokens by layer (`L0` to `L7`). */
            layers: {
                [key: string]: number;
            };
            /** @description Maximum tokens of the prompt. */
            maxTokens: number;
            /** @description Tokens of the whole prompt. */
            tokens: number;
            /** @description Names of the topics detected in the message. */
            topics: string[];
        };
        /**
         * @description Whether the engines work.
         * @enum {string}
         */
        ContextStatus: "healthy" | "degraded" | "down";
        /** @description A conversation as seen by a participant. */
        Conversation: {
            /**
             * Format: date-time
             * @description Time at which the conversation was created.
             */
            created_at: string;
            /** @description ID of the user who created the conversation (UUID). */
            created_by: components["schemas"]["UserId"];
            /** @description ID of the conversation (UUID). */
            id: components["schemas"]["ConversationId"];
            /** @description IDs of the participants, in order of joining. */
            participant_ids: components["schemas"]["UserId"][];
            /** @description Title of the conversation; `null` without one. */
            title: string | null;
        };
        /** @description Title and participants of a new conversation. */
        ConversationBody: {
            /** @description IDs of the other participants: at most 1,000. */
            participant_ids: components["schemas"]["UserId"][];
            /** @description Title of the conversation: at most 255 characters after trimming. */
            title?: string | null;
        };
        /**
         * Format: uuid
         * @description ID of a conversation (UUID).
         */
        ConversationId: string;
        /** @description Numbers of stored rows; `null` if the dynamic engine is unavailable. */
        Counts: {
            /**
             * Format: int64
             * @description Number of stored bundles.
             * @default null
             */
            contextBundles: number | null;
            /**
             * Format: int64
             * @description Number of compilations that failed too often.
             * @default null
             */
            deadLetters: number | null;
            /**
             * Format: int64
             * @description Number of bundles with changed sources.
             * @default null
             */
            dirtyBundles: number | null;
            /**
             * Format: int64
             * @description Number of profiles of entities.
             * @default null
             */
            entityProfiles: number | null;
            /**
             * Format: int64
             * @description Number of bundles that wait to be compiled again.
             * @default null
             */
            invalidationQueue: number | null;
            /**
             * Format: int64
             * @description Number of profiles of topics.
             * @default null
             */
            topicProfiles: number | null;
        };
        /** @description Calls of one day to one model for one purpose. */
        DailyUsage: {
            /**
             * Format: int64
             * @description Number of the calls.
             */
            calls: number;
            /**
             * Format: int64
             * @description Tokens of all answers together.
             */
            completionTokens: number;
            /**
             * Format: double
             * @description Cost by the prices of the server; `null` without a price.
             */
            cost: number | null;
            /** @description Day in UTC, such as 2026-11-21. */
            day: string;
            /** @description Model that was called. */
            model: string;
            /**
             * Format: int64
             * @description Tokens of all prompts together.
             */
            promptTokens: number;
            /** @description Purpose of the calls: `chat`, `summary`, `roll_up` or `memory`. */
            purpose: string;
        };
        /** @description An event that a webhook did not accept. */
        DeadLetter: {
            /**
             * Format: int32
             * @description Number of requests that failed.
             */
            attempts: number;
            /** @description Content of the event. */
            data: {
                [key: string]: unknown;
            };
            /** @description ID of the event. */
            event_id: string;
            /**
             * Format: date-time
             * @description Time of the last request.
             */
            failed_at: string;
            /**
             * Format: uuid
             * @description ID of the dead letter (UUID).
             */
            id: string;
            /** @description Why the last request failed. */
            last_error: string;
            /**
             * Format: int32
             * @description HTTP status of the last request; `null` without a response.
             */
            last_status: number | null;
            /**
             * Format: date-time
             * @description Time at which it happened.
             */
            occurred_at: string;
            /**
             * Format: date-time
             * @description Time since which it waits to be sent again; `null` if it does not.
             */
            resend_at: string | null;
            /** @description What happened, such as `user.online`. */
            type: string;
        };
        /** @description Tokens of a demo server. */
        Demo: {
            /** @description Users of the demo data. */
            people: components["schemas"]["DemoUser"][];
            /** @description A token of the service role. */
            service_token: string;
        };
        /** @description A user of the demo data. */
        DemoUser: {
            /** @description Name of the demo user. */
            name: string;
            /** @description Token of the user, valid for 12 hours. */
            token: string;
            /** @description ID of the demo user (UUID). */
            user_id: components["schemas"]["UserId"];
        };
        /** @description A topic or entity detected in a message. */
        DetectedSubject: {
            /**
             * Format: uuid
             * @description ID of the topic or entity.
             */
            id: string;
            /** @description Kind of the subject: `topic` or `entity`. */
            kind: string;
            /** @description Name of the topic or entity. */
            name: string;
            /** @description How it was detected: `conversation`, `named`, `misspelt` or `meaning`. */
            reason: string;
            /**
             * Format: double
             * @description Confidence, from 0 to 1.
             */
            score: number;
        };
        /** @description A device as shown to its owner. */
        Device: {
            /** @description Version of the client application. */
            app_version: string | null;
            /** @description Whether a running node holds a socket of the device. */
            connected: boolean;
            /** @description ID of the device, chosen by the client. */
            device_id: components["schemas"]["DeviceId"];
            /** @description Name of the device for people. */
            device_name: string | null;
            /** @description Type as reported by the client, for example phone or desktop. */
            device_type: string | null;
            /**
             * Format: date-time
             * @description Time since which the device has been idle; `null` if it is in use.
             */
            idle_since: string | null;
            /**
             * Format: date-time
             * @description Time at which the device was last known to be live.
             */
            last_heartbeat_at: string;
            /** @description Platform as reported by the client, for example iOS or web. */
            platform: string | null;
            /**
             * Format: date-time
             * @description Start of the current or last live session.
             */
            session_started_at: string;
            /** @description Status of the device: online, away or offline. */
            status: components["schemas"]["Status"];
        };
        /** @description ID of a device of one user: 1 to 255 characters, chosen by the client. */
        DeviceId: string;
        /** @description Result of a disconnect. */
        DisconnectAnswer: {
            /**
             * Format: int64
             * @description 1 for a connection; for a user or device, the number of devices that were connected.
             */
            disconnected: number;
        };
        /** @description What to disconnect: a connection, a user, or a device of a user. */
        DisconnectBody: {
            /** @description ID of the connection. Not together with `user_id`. */
            connection_id?: string;
            /** @description ID of a device of the user: closes the presence connections of this device only. */
            device_id?: components["schemas"]["DeviceId"];
            /** @description Reason, which the client receives in the close frame and the audit log keeps: at most 123 bytes. */
            reason?: string;
            /** @description ID of the user (UUID): closes the user's connections on all nodes. */
            user_id?: components["schemas"]["UserId"];
        };
        /** @description Envelope of a successful response without data. */
        Done: {
            /** @description What the server did, for people. */
            message: string;
            /**
             * @description Always `true` in this response.
             * @enum {boolean}
             */
            success: true;
        };
        /** @description A person, project, organization, tool or concept. */
        Entity: {
            /** @description Other names of the entity: at most 50 of at most 255 characters. */
            aliases: string[];
            /**
             * Format: int32
             * @description Number of conversations that mention the entity.
             */
            conversationCount: number;
            /**
             * Format: date-time
             * @description Time at which the entity was stored.
             */
            createdAt: string;
            /** @description Type: `person`, `project`, `organization`, `tool` or `concept`. */
            entityType: string;
            /**
             * Format: uuid
             * @description ID of the entity (UUID).
             */
            id: string;
            /**
             * Format: float
             * @description Importance of the entity from 0 to 1.
             */
            importance: number;
            /**
             * Format: date-time
             * @description Time of the newest unit that mentions it.
             */
            lastMentionedAt: string | null;
            /**
             * Format: int32
             * @description Number of units that mention the entity.
             */
            mentionCount: number;
            /** @description Name of the entity: 1 to 255 characters. */
            name: string;
            /** @description Relationship to the user: at most 255 characters. */
            relationship: string | null;
            /** @description Name of the entity that never changes. */
            slug: string;
        };
        /** @description Changes of an entity. Absent fields stay. */
        EntityChanges: {
            /** @description Other names of the entity: at most 50 of at most 255 characters. */
            aliases?: string[];
            /**
             * Format: float
             * @description Importance of the entity from 0 to 1.
             */
            importance?: number;
            /** @description Name of the entity: 1 to 255 characters. */
            name?: string;
            /** @description Relationship to the user: at most 255 characters. */
            relationship?: string | null;
        };
        /** @description Result of an erasure. */
        Erasure: {
            /** @description Number of erased rows by table. */
            erased: {
                [key: string]: number;
            };
            /**
             * @description Always `true` in this response.
             * @enum {boolean}
             */
            success: true;
            /** @description ID of the user (UUID). */
            user_id: components["schemas"]["UserId"];
        };
        /** @description Envelope of every error response. */
        Error: {
            /** @description The invalid fields. Present only if the error is about fields. */
            details?: components["schemas"]["FieldError"][];
            /**
             * Format: uri-reference
             * @description Page with cause and cure of the error, relative to the server.
             */
            doc_url: string;
            /** @description Stable code of the error, for programs. */
            error: components["schemas"]["ErrorCode"];
            /** @description English text for people. It contains no SQL, paths or secrets. */
            message: string;
            /** @description HTTP status of the response. */
            statusCode: number;
            /**
             * @description Always `false` in an error.
             * @enum {boolean}
             */
            success: false;
        };
        /**
         * @description Stable code of an error, for programs.
         *
         *     - `INVALID_REQUEST`: A parameter or field is missing or malformed, or the JSON is invalid. Correct the fields that `details` names, and send the request again.
         *     - `INVALID_REFERENCE`: The request refers to a conversation, topic or entity that does not exist. Create the resource first, or correct its ID.
         *     - `UNAUTHORIZED`: The request has no token, or its token names no user. Send `Authorization: Bearer <JWT>` with the token of a user.
         *     - `INVALID_TOKEN`: The token is malformed, expired, or signed with another key. Get a new token. If it is new, compare `JWT_SECRET` or `JWKS_URL` with the issuer; `rollcall token` creates a valid one.
         *     - `FORBIDDEN`: The caller may not act for that user, or a row-level security policy denies the request. Act for the user of the token, or use a token with role `service_role` or an admin permission. Otherwise check the policies.
         *     - `NOT_FOUND`: The resource or route does not exist, or the caller may not see it. The response does not tell which. Check path and ID. `rollcall.explain_visibility` tells an operator why a user is not visible.
         *     - `METHOD_NOT_ALLOWED`: The path does not have this method. Use one of the methods in the header `Allow`.
         *     - `CONFLICT`: The request conflicts with a concurrent one or with the current state. Follow the message: try again later, or use another idempotency key.
         *     - `DUPLICATE_PRESENCE`: Another request created the same device at the same time. Send the request again.
         *     - `TOO_MANY_DEVICES`: The device is new, and the user has as many devices as allowed, all of them online. Otherwise the device that has been offline for the longest time is replaced. Sign a device off, or use the ID of an existing one. An operator can change the quota: `update rollcall.quotas set maximum = 200 where key = 'devices'`.
         *     - `PAYLOAD_TOO_LARGE`: The body exceeds the maximum size of the route. Send less data in one request; the message names the maximum.
         *     - `UNSUPPORTED_MEDIA_TYPE`: The content type of the body is not JSON. Send the header `Content-Type: application/json`.
         *     - `UNPROCESSABLE`: A value is well-formed but not one of the allowed values. Use one of the values that `details` lists.
         *     - `UPGRADE_REQUIRED`: The path is a WebSocket, and the request is not a WebSocket handshake. Open the path with a WebSocket client. Proxies must forward `Upgrade` and `Connection`.
         *     - `RATE_LIMITED`: A rate limit of the user is exceeded. Wait for the seconds in `Retry-After`, on sockets for `retry_after_ms`. An operator can change the limits.
         *     - `INTERNAL_ERROR`: The server failed. The cause is in its log and is not sent. Look for the `x-request-id` of the response in the log, or report it to the operator.
         *     - `POLICY_ERROR`: A row-level security policy of the application raised an error. An operator finds table, policy, role, SQLSTATE and message in the log, and with `rollcall doctor`.
         *     - `LEGACY_ENGINE_ERROR`: Both context engines failed to assemble a prompt. Look for the `x-request-id` of the response in the log; `GET /api/v1/context/health` shows the engines.
         *     - `SERVICE_UNAVAILABLE`: A dependency is unavailable: the database, the signing keys, or a model provider. Try again after the seconds in `Retry-After`. `GET /api/v1/system/health` names the dependency.
         *     - `DATABASE_CONNECTION_ERROR`: The server has no connection to PostgreSQL. Try again after the seconds in `Retry-After`. An operator finds the cause with `rollcall doctor`.
         *     - `CONTEXT_ENGINE_ERROR`: The dynamic context engine failed, and falling back to the simple one is disabled. Try again later, or allow the fallback (`CONTEXT_FALLBACK`).
         * @enum {string}
         */
        ErrorCode: "INVALID_REQUEST" | "INVALID_REFERENCE" | "UNAUTHORIZED" | "INVALID_TOKEN" | "FORBIDDEN" | "NOT_FOUND" | "METHOD_NOT_ALLOWED" | "CONFLICT" | "DUPLICATE_PRESENCE" | "TOO_MANY_DEVICES" | "PAYLOAD_TOO_LARGE" | "UNSUPPORTED_MEDIA_TYPE" | "UNPROCESSABLE" | "UPGRADE_REQUIRED" | "RATE_LIMITED" | "INTERNAL_ERROR" | "POLICY_ERROR" | "LEGACY_ENGINE_ERROR" | "SERVICE_UNAVAILABLE" | "DATABASE_CONNECTION_ERROR" | "CONTEXT_ENGINE_ERROR";
        /** @description Which events a webhook receives. An absent list passes all. */
        EventFilter: {
            /** @description Names of channels; a `*` at the end stands for any end. Events without a channel pass. */
            topics?: string[];
            /** @description IDs of users (UUIDs). Events without a user pass. */
            user_ids?: string[];
        };
        /**
         * @description What happened to a user or in a channel.
         * @enum {string}
         */
        EventType: "user.online" | "user.offline" | "user.status" | "channel.occupied" | "channel.vacated" | "member.joined" | "member.left";
        /** @description All stored presence data of a user. */
        Export: {
            /** @description Rows by the table that stores them. */
            data: {
                [key: string]: unknown;
            };
            /**
             * Format: date-time
             * @description Time of the export.
             */
            exported_at: string;
            /** @description ID of the user (UUID). */
            user_id: components["schemas"]["UserId"];
        };
        /**
         * @description One of the two forms in which a user is shown.
         * @enum {string}
         */
        Face: "public" | "trusted";
        /** @description An error in one field. */
        FieldError: {
            /** @description Path of the field from the root of the body, for example `data.status`; empty for the whole body. */
            field: string;
            /** @description English text that says what is wrong. */
            message: string;
        };
        /** @description Numbers of what was forgotten. */
        Forgotten: {
            /**
             * Format: int64
             * @description Number of deleted memories.
             */
            memories: number;
            /**
             * Format: int64
             * @description Number of deleted units that were learned from messages.
             */
            units: number;
        };
        /** @description Health of the server and its dependencies. */
        Health: {
            /** @description Results of the checks, by dependency. */
            checks: {
                [key: string]: {
                    /** @description Duration of the check in milliseconds. */
                    latency_ms: number;
                    /** @description Reason why the check failed. */
                    message?: string;
                    /** @description Whether the dependency is available. */
                    ok: boolean;
                } & {
                    [key: string]: unknown;
                };
            };
            /** @description `unavailable` if a check failed, `draining` while the server stops. */
            status: components["schemas"]["HealthStatus"];
            /**
             * Format: date-time
             * @description Time of the report.
             */
            timestamp: string;
            /**
             * @description Version of the server.
             * @example 0.1.0
             */
            version: string;
        };
        /**
         * @description Whether the server can serve requests.
         * @enum {string}
         */
        HealthStatus: "ok" | "unavailable" | "draining";
        /** @description Response to a heartbeat. */
        HeartbeatAnswer: {
            /**
             * Format: int64
             * @description Milliseconds until the next heartbeat is due.
             */
            next_heartbeat_ms: number;
            /**
             * Format: date-time
             * @description Current time of the server.
             */
            server_time: string;
            /**
             * @description Always `true` in this response.
             * @enum {boolean}
             */
            success: true;
        };
        /** @description A heartbeat of a device. */
        HeartbeatBody: {
            /** @description Whether the device is in use. */
            active?: boolean | null;
            device_id?: components["schemas"]["DeviceId"] | null;
            user_id?: components["schemas"]["UserId"] | null;
        };
        /** @description Load of the nodes over the last hour. */
        HistoryAnswer: {
            /** @description The nodes that answered. */
            nodes: components["schemas"]["NodeHistory"][];
            /** @description IDs of nodes that did not answer. */
            unanswered: string[];
        };
        /** @description A memory or a unit that matches. */
        Hit: {
            /** @description Text of the memory or unit. */
            content: string;
            /**
             * Format: uuid
             * @description ID of the conversation that it comes from (UUID).
             */
            conversationId: string | null;
            /**
             * Format: date-time
             * @description Time of the statement, or at which the memory was stored.
             */
            createdAt: string;
            /**
             * Format: uuid
             * @description ID of the memory or unit (UUID).
             */
            id: string;
            /** @description Kind of the hit: `memory` or `unit`. */
            kind: string;
            /**
             * Format: uuid
             * @description ID of the message that it comes from (UUID).
             */
            messageId: string | null;
            /**
             * Format: uuid
             * @description ID of the notebook that it belongs to (UUID).
             */
            notebookId: string | null;
            /**
             * Format: float
             * @description How well it matches, from 0 to 1.
             */
            score: number;
        };
        /** @description Hits of a search. */
        Hits: {
            /** @description Hits in the order of their score. */
            data: components["schemas"]["Hit"][];
        };
        /** @description An instruction of a user. */
        Instruction: {
            /** @description Text of the instruction: 1 to 10,000 characters. */
            content: string;
            /**
             * Format: date-time
             * @description Time at which the instruction was stored.
             */
            createdAt: string;
            /**
             * Format: uuid
             * @description ID of the instruction (UUID).
             */
            id: string;
            /** @description Whether the instruction is used in prompts. */
            isActive: boolean;
            /**
             * Format: int32
             * @description Instructions with a higher priority come first.
             */
            priority: number;
            /**
             * Format: uuid
             * @description ID of the topic that it applies to (UUID); `null` if it always applies.
             */
            topicId: string | null;
            /**
             * Format: date-time
             * @description Time of the last change of the row.
             */
            updatedAt: string;
        };
        /** @description Changes of an instruction. Absent fields stay. */
        InstructionChanges: {
            /** @description Text of the instruction: 1 to 10,000 characters. */
            content?: string;
            /** @description Whether the instruction is used in prompts. */
            isActive?: boolean;
            /**
             * Format: int32
             * @description Instructions with a higher priority come first.
             */
            priority?: number;
        };
        /** @description A change of a source. */
        InvalidateBody: {
            /** @description Type of the change, for example `memory_updated`. The error for an unknown type lists all types in `validTypes`. */
            eventType: string;
            /** @description IDs of what changed. Without IDs, all bundles of the affected types are marked. */
            relatedIds?: components["schemas"]["RelatedIdsBody"];
        };
        /** @description Last activity of a user. */
        LastSeen: {
            /**
             * Format: date-time
             * @description Time at which a device was last live; `null` if the user does not share it.
             */
            last_seen: string | null;
            /** @description ID of the user (UUID). */
            user_id: components["schemas"]["UserId"];
        };
        /** @description Load of a node at one time. Rates are those of the ten seconds before. */
        LoadSample: {
            /**
             * Format: date-time
             * @description Time of the sample, a multiple of ten seconds.
             */
            at: string;
            /**
             * Format: double
             * @description Bytes per second written to connections.
             */
            bytes_per_second: number;
            /**
             * Format: int64
             * @description Number of open connections.
             */
            connections: number;
            /**
             * Format: double
             * @description Frames per second that fan-out put into the queues of connections.
             */
            deliveries_per_second: number;
            /**
             * Format: double
             * @description Connections per second that were closed because they read too slowly.
             */
            slow_closed_per_second: number;
        };
        /** @description A memory of a user. */
        Memory: {
            /**
             * @description Category: `biography`, `identity` and `role` describe the user, `preference` what they like; at most 64
             *     characters.
             */
            category: string;
            /** @description Text of the memory: 1 to 10,000 characters. */
            content: string;
            /**
             * Format: uuid
             * @description ID of the conversation that it was learned in (UUID).
             */
            conversationId: string | null;
            /**
             * Format: date-time
             * @description Time at which the memory was stored.
             */
            createdAt: string;
            /**
             * Format: uuid
             * @description ID of the memory (UUID).
             */
            id: string;
            /**
             * Format: float
             * @description Importance of the memory from 0 to 1.
             */
            importance: number;
            /** @description Whether the memory is used in prompts. */
            isActive: boolean;
            /** @description Whether the server learned it from a message. */
            isLearned: boolean;
            /** @description Whether the memory is in every prompt and never superseded. */
            isPinned: boolean;
            /**
             * Format: uuid
             * @description ID of the message that it was learned from (UUID).
             */
            messageId: string | null;
            /**
             * Format: uuid
             * @description ID of the notebook that the memory belongs to (UUID); `null` without one.
             */
            notebookId: string | null;
            /**
             * Format: uuid
             * @description ID of the memory that superseded it (UUID).
             */
            supersededBy: string | null;
            /**
             * Format: date-time
             * @description Time of the last change of the row.
             */
            updatedAt: string;
            /**
             * Format: date-time
             * @description Time since which the memory is valid.
             */
            validFrom: string;
            /**
             * Format: date-time
             * @description Time at which a newer memory superseded it.
             */
            validUntil: string | null;
        };
        /** @description Changes of a memory. Absent fields stay. */
        MemoryChanges: {
            /**
             * @description Category: `biography`, `identity` and `role` describe the user, `preference` what they like; at most 64
             *     characters.
             */
            category?: string;
            /** @description Text of the memory: 1 to 10,000 characters. */
            content?: string;
            /**
             * Format: float
             * @description Importance of the memory from 0 to 1.
             */
            importance?: number;
            /** @description Whether the memory is used in prompts. */
            isActive?: boolean;
            /** @description Whether the memory is in every prompt and never superseded. */
            isPinned?: boolean;
            /**
             * Format: uuid
             * @description ID of the notebook that the memory belongs to (UUID); `null` without one.
             */
            notebookId?: string | null;
        };
        /** @description Whether the server learns from messages, in one conversation or in all. */
        MemorySetting: {
            conversationId?: components["schemas"]["ConversationId"] | null;
            /** @description Whether the server learns from the messages of the user there. */
            learns: boolean;
            /**
             * Format: uuid
             * @description ID of the notebook that what is learned there belongs to (UUID).
             */
            notebookId?: string | null;
        };
        /** @description Settings of a user's memory. */
        MemorySettings: {
            /** @description Settings that differ from the default: for all conversations first. */
            data: components["schemas"]["MemorySetting"][];
        };
        /** @description A model in the format of OpenAI's API. */
        Model: {
            /**
             * Format: int64
             * @description Time of creation in Unix seconds. It is unknown and always 0.
             */
            created: number;
            /** @description Name of the model, with the provider's name as a prefix unless it is the default one. */
            id: string;
            /** @description Always `model` in this response. */
            object: string;
            /** @description Name of the provider. */
            owned_by: string;
        };
        /** @description List of models in the format of OpenAI's API. */
        ModelList: {
            /** @description Models that the caller may use. */
            data: components["schemas"]["Model"][];
            /** @description Always `list` in this response. */
            object: string;
        };
        /** @description An instruction to store. Absent fields have their defaults. */
        NewInstruction: {
            /** @description Text of the instruction: 1 to 10,000 characters. */
            content: string;
            /** @description Whether the instruction is used in prompts. */
            isActive?: boolean;
            /**
             * Format: int32
             * @description Instructions with a higher priority come first.
             */
            priority?: number;
            /**
             * Format: uuid
             * @description ID of the topic that it applies to (UUID); `null` if it always applies.
             */
            topicId?: string | null;
        };
        /** @description A memory to store. Absent fields have their defaults. */
        NewMemory: {
            /**
             * @description Category: `biography`, `identity` and `role` describe the user, `preference` what they like; at most 64
             *     characters.
             */
            category?: string;
            /** @description Text of the memory: 1 to 10,000 characters. */
            content: string;
            /**
             * Format: float
             * @description Importance of the memory from 0 to 1.
             */
            importance?: number;
            /** @description Whether the memory is used in prompts. */
            isActive?: boolean;
            /** @description Whether the memory is in every prompt and never superseded. */
            isPinned?: boolean;
            /**
             * Format: uuid
             * @description ID of the notebook that the memory belongs to (UUID); `null` without one.
             */
            notebookId?: string | null;
        };
        /** @description A notebook to store. Absent fields have their defaults. */
        NewNotebook: {
            /** @description Title of the notebook: 1 to 255 characters. */
            title: string;
        };
        /** @description A persona to store. Absent fields have their defaults. */
        NewPersona: {
            /** @description Description of the persona: at most 10,000 characters. */
            description?: string | null;
            /** @description Name of the persona: 1 to 255 characters. */
            name: string;
        };
        /** @description A unit to store. Absent fields have their defaults. */
        NewUnit: {
            /** @description Text of the unit: 1 to 20,000 characters. */
            content: string;
            /**
             * Format: uuid
             * @description ID of the notebook that the unit belongs to (UUID); `null` without one.
             */
            notebookId?: string | null;
            /**
             * Format: float
             * @description Quality of the unit from 0 to 1.
             */
            quality?: number;
            /** @description Type of the unit, such as `statement`; at most 64 characters. */
            unitType?: string;
        };
        /** @description A webhook to create. Absent fields have their defaults. */
        NewWebhook: {
            /** @description Text for operators, at most 255 characters. */
            description?: string;
            /** @description Whether events are delivered. Default: true. */
            enabled?: boolean;
            /** @description Events that it receives. Default: all. */
            events?: components["schemas"]["EventType"][];
            /** @description Which of these events it receives. Default: all. */
            filter?: components["schemas"]["EventFilter"];
            /** @description Secret that signs requests: `whsec_` and the base64 text of 24 to 64 bytes. Default: a random one. */
            secret?: string;
            /** @description URL that receives the events: https with a public host, unless `WEBHOOK_ALLOW_PRIVATE` is set. */
            url: string;
        };
        /** @description A node (server process) and its lease. */
        Node: {
            /** @description Whether the lease of the node is valid. */
            alive: boolean;
            /** @description Number of open connections; `null` if the node did not answer. */
            connections: number | null;
            /**
             * Format: int64
             * @description Number of devices whose sockets the node holds.
             */
            devices: number;
            /**
             * Format: uuid
             * @description ID of the node (UUID).
             */
            id: string;
            /**
             * Format: date-time
             * @description Time at which the lease expires if it is not renewed.
             */
            lease_expires_at: string;
            /**
             * Format: date-time
             * @description Time at which the node last renewed its lease.
             */
            renewed_at: string;
            /**
             * Format: date-time
             * @description Time at which the node started.
             */
            started_at: string;
            /**
             * Format: int64
             * @description Seconds since the start of the node; `null` if the node did not answer.
             */
            uptime_seconds: number | null;
            /** @description Version of the server; `null` if the node did not answer. */
            version: string | null;
        };
        /** @description Load of a node over the last hour. */
        NodeHistory: {
            /**
             * Format: uuid
             * @description ID of the node (UUID).
             */
            node: string;
            /** @description Samples every ten seconds, oldest first: at most 360. */
            samples: components["schemas"]["LoadSample"][];
        };
        /** @description One page of a list of all nodes. */
        NodesPage_Connection: {
            /** @description Items of the page. */
            data: {
                /**
                 * Format: date-time
                 * @description Time at which the connection was opened.
                 */
                connected_at: string;
                device_id: components["schemas"]["DeviceId"] | null;
                /** @description Dialect of the connection, such as `presence` or `phoenix_v1`. */
                dialect: string;
                /** @description ID of the connection: its node and its number there. */
                id: string;
                /**
                 * Format: int64
                 * @description Seconds since the client last sent data.
                 */
                idle_seconds: number;
                /**
                 * Format: int64
                 * @description Messages received from the client.
                 */
                messages_received: number;
                /**
                 * Format: int64
                 * @description Messages sent to the client, pings included.
                 */
                messages_sent: number;
                /**
                 * Format: uuid
                 * @description ID of the node that holds the connection (UUID).
                 */
                node: string;
                /** @description Bytes that wait until the client reads, including the entries of the queue. */
                queued_bytes: number;
                /** @description Frames that wait until the client reads. */
                queued_messages: number;
                /**
                 * Format: double
                 * @description Received messages per second, over about the last minute.
                 */
                received_per_second: number;
                /** @description Address and port of the peer. Behind a proxy, that of the proxy. */
                remote_address: string;
                /**
                 * Format: double
                 * @description Sent messages per second, over about the last minute.
                 */
                sent_per_second: number;
                /** @description IDs of the users that act on the connection. A channel socket may have several, or none. */
                user_ids: components["schemas"]["UserId"][];
            }[];
            /** @description Cursor of the next page; `null` on the last one. */
            next_cursor: string | null;
            /** @description Number of items in all pages. A channel counts once for each node and hub shard that has members. */
            total: number;
            /** @description IDs of nodes that did not answer: their items are missing. */
            unanswered: string[];
        };
        /** @description One page of a list of all nodes. */
        NodesPage_OperatorChannel: {
            /** @description Items of the page. */
            data: {
                /** @description Number of connections that have joined the channel. */
                members: number;
                /** @description Whether the channel is private. */
                private: boolean;
                /** @description Topic of the channel, without `realtime:`. */
                topic: string;
            }[];
            /** @description Cursor of the next page; `null` on the last one. */
            next_cursor: string | null;
            /** @description Number of items in all pages. A channel counts once for each node and hub shard that has members. */
            total: number;
            /** @description IDs of nodes that did not answer: their items are missing. */
            unanswered: string[];
        };
        /** @description One page of a list of all nodes. */
        NodesPage_Subscription: {
            /** @description Items of the page. */
            data: {
                /** @description Whether changes are delivered. A subscription that is not active waits until its table can be subscribed to. */
                active: boolean;
                /** @description What the subscription requests. */
                bindings: components["schemas"]["SubscriptionBinding"][];
                /** @description ID of the connection. */
                connection_id: string;
                /** @description ID of the subscription: its connection and its channel there. */
                id: string;
                /** @description Role that row-level security is evaluated for. */
                role: string;
                /** @description Topic of the channel, without `realtime:`. */
                topic: string;
                user_id: components["schemas"]["UserId"] | null;
            }[];
            /** @description Cursor of the next page; `null` on the last one. */
            next_cursor: string | null;
            /** @description Number of items in all pages. A channel counts once for each node and hub shard that has members. */
            total: number;
            /** @description IDs of nodes that did not answer: their items are missing. */
            unanswered: string[];
        };
        /** @description A notebook: a namespace for memories and units. */
        Notebook: {
            /**
             * Format: date-time
             * @description Time at which the notebook was stored.
             */
            createdAt: string;
            /**
             * Format: uuid
             * @description ID of the notebook (UUID).
             */
            id: string;
            /** @description Title of the notebook: 1 to 255 characters. */
            title: string;
        };
        /** @description Changes of a notebook. Absent fields stay. */
        NotebookChanges: {
            /** @description Title of the notebook: 1 to 255 characters. */
            title?: string;
        };
        /** @description An error in the format of OpenAI's API. */
        OpenAiError: {
            /** @description What is wrong with the request. */
            error: components["schemas"]["OpenAiErrorObject"];
        };
        /** @description Message and code of an error. */
        OpenAiErrorObject: {
            /** @description Code of the error, for programs. */
            code: string | null;
            /** @description English text for people. */
            message: string;
            /** @description Name of the invalid parameter; `null` if the error is not about one. */
            param: string | null;
            /** @description Kind of the error, as in OpenAI's API. */
            type: string;
        };
        /** @description A channel and its occupancy. */
        OperatorChannel: {
            /** @description Number of connections that have joined the channel. */
            members: number;
            /** @description Whether the channel is private. */
            private: boolean;
            /** @description Topic of the channel, without `realtime:`. */
            topic: string;
        };
        /** @description One page of a list. */
        Page_Entity: {
            /** @description Rows of the page. */
            data: {
                /** @description Other names of the entity: at most 50 of at most 255 characters. */
                aliases: string[];
                /**
                 * Format: int32
                 * @description Number of conversations that mention the entity.
                 */
                conversationCount: number;
                /**
                 * Format: date-time
                 * @description Time at which the entity was stored.
                 */
                createdAt: string;
                /** @description Type: `person`, `project`, `organization`, `tool` or `concept`. */
                entityType: string;
                /**
                 * Format: uuid
                 * @description ID of the entity (UUID).
                 */
                id: string;
                /**
                 * Format: float
                 * @description Importance of the entity from 0 to 1.
                 */
                importance: number;
                /**
                 * Format: date-time
                 * @description Time of the newest unit that mentions it.
                 */
                lastMentionedAt: string | null;
                /**
                 * Format: int32
                 * @description Number of units that mention the entity.
                 */
                mentionCount: number;
                /** @description Name of the entity: 1 to 255 characters. */
                name: string;
                /** @description Relationship to the user: at most 255 characters. */
                relationship: string | null;
                /** @description Name of the entity that never changes. */
                slug: string;
            }[];
            /** @description Cursor of the next page; `null` on the last one. */
            nextCursor: string | null;
        };
        /** @description One page of a list. */
        Page_Instruction: {
            /** @description Rows of the page. */
            data: {
                /** @description Text of the instruction: 1 to 10,000 characters. */
                content: string;
                /**
                 * Format: date-time
                 * @description Time at which the instruction was stored.
                 */
                createdAt: string;
                /**
                 * Format: uuid
                 * @description ID of the instruction (UUID).
                 */
                id: string;
                /** @description Whether the instruction is used in prompts. */
                isActive: boolean;
                /**
                 * Format: int32
                 * @description Instructions with a higher priority come first.
                 */
                priority: number;
                /**
                 * Format: uuid
                 * @description ID of the topic that it applies to (UUID); `null` if it always applies.
                 */
                topicId: string | null;
                /**
                 * Format: date-time
                 * @description Time of the last change of the row.
                 */
                updatedAt: string;
            }[];
            /** @description Cursor of the next page; `null` on the last one. */
            nextCursor: string | null;
        };
        /** @description One page of a list. */
        Page_Memory: {
            /** @description Rows of the page. */
            data: {
                /**
                 * @description Category: `biography`, `identity` and `role` describe the user, `preference` what they like; at most 64
                 *     characters.
                 */
                category: string;
                /** @description Text of the memory: 1 to 10,000 characters. */
                content: string;
                /**
                 * Format: uuid
                 * @description ID of the conversation that it was learned in (UUID).
                 */
                conversationId: string | null;
                /**
                 * Format: date-time
                 * @description Time at which the memory was stored.
                 */
                createdAt: string;
                /**
                 * Format: uuid
                 * @description ID of the memory (UUID).
                 */
                id: string;
                /**
                 * Format: float
                 * @description Importance of the memory from 0 to 1.
                 */
                importance: number;
                /** @description Whether the memory is used in prompts. */
                isActive: boolean;
                /** @description Whether the server learned it from a message. */
                isLearned: boolean;
                /** @description Whether the memory is in every prompt and never superseded. */
                isPinned: boolean;
                /**
                 * Format: uuid
                 * @description ID of the message that it was learned from (UUID).
                 */
                messageId: string | null;
                /**
                 * Format: uuid
                 * @description ID of the notebook that the memory belongs to (UUID); `null` without one.
                 */
                notebookId: string | null;
                /**
                 * Format: uuid
                 * @description ID of the memory that superseded it (UUID).
                 */
                supersededBy: string | null;
                /**
                 * Format: date-time
                 * @description Time of the last change of the row.
                 */
                updatedAt: string;
                /**
                 * Format: date-time
                 * @description Time since which the memory is valid.
                 */
                validFrom: string;
                /**
                 * Format: date-time
                 * @description Time at which a newer memory superseded it.
                 */
                validUntil: string | null;
            }[];
            /** @description Cursor of the next page; `null` on the last one. */
            nextCursor: string | null;
        };
        /** @description One page of a list. */
        Page_Notebook: {
            /** @description Rows of the page. */
            data: {
                /**
                 * Format: date-time
                 * @description Time at which the notebook was stored.
                 */
                createdAt: string;
                /**
                 * Format: uuid
                 * @description ID of the notebook (UUID).
                 */
                id: string;
                /** @description Title of the notebook: 1 to 255 characters. */
                title: string;
            }[];
            /** @description Cursor of the next page; `null` on the last one. */
            nextCursor: string | null;
        };
        /** @description One page of a list. */
        Page_Persona: {
            /** @description Rows of the page. */
            data: {
                /**
                 * Format: date-time
                 * @description Time at which the persona was stored.
                 */
                createdAt: string;
                /** @description Description of the persona: at most 10,000 characters. */
                description: string | null;
                /**
                 * Format: uuid
                 * @description ID of the persona (UUID).
                 */
                id: string;
                /** @description Name of the persona: 1 to 255 characters. */
                name: string;
            }[];
            /** @description Cursor of the next page; `null` on the last one. */
            nextCursor: string | null;
        };
        /** @description One page of a list. */
        Page_StoredMessage: {
            /** @description Rows of the page. */
            data: {
                /** @description Text of the message. */
                content: string;
                /** @description ID of the conversation (UUID). */
                conversationId: components["schemas"]["ConversationId"];
                /**
                 * Format: date-time
                 * @description Time at which the message was stored.
                 */
                createdAt: string;
                /**
                 * Format: uuid
                 * @description ID of the message (UUID).
                 */
                id: string;
                /**
                 * Format: uuid
                 * @description ID of the message that it answers (UUID).
                 */
                replyTo: string | null;
                /** @description Author of the message: `user`, `assistant` or `system`. */
                role: string;
                /** @description State of the message: `complete`, or `partial` if the answer was interrupted. */
                state: string;
                /** @description ID of the author (UUID); of a model's message, the user that asked. */
                userId: components["schemas"]["UserId"];
            }[];
            /** @description Cursor of the next page; `null` on the last one. */
            nextCursor: string | null;
        };
        /** @description One page of a list. */
        Page_Topic: {
            /** @description Rows of the page. */
            data: {
                /** @description Other names of the topic: at most 50 of at most 255 characters. */
                aliases: string[];
                /**
                 * Format: int32
                 * @description Number of conversations about the topic.
                 */
                conversationCount: number;
                /**
                 * Format: date-time
                 * @description Time at which the topic was stored.
                 */
                createdAt: string;
                /** @description Domain of the topic, such as `engineering`. */
                domain: string | null;
                /**
                 * Format: uuid
                 * @description ID of the topic (UUID).
                 */
                id: string;
                /**
                 * Format: float
                 * @description Importance of the topic from 0 to 1.
                 */
                importance: number;
                /** @description Name of the topic: 1 to 255 characters. */
                label: string;
                /**
                 * Format: date-time
                 * @description Time of the newest unit of the topic.
                 */
                lastEngagedAt: string | null;
                /** @description How well the user knows the topic. */
                proficiency: string;
                /** @description Name of the topic that never changes. */
                slug: string;
                /**
                 * Format: int32
                 * @description Number of units of the topic.
                 */
                unitCount: number;
            }[];
            /** @description Cursor of the next page; `null` on the last one. */
            nextCursor: string | null;
        };
        /** @description One page of a list. */
        Page_Unit: {
            /** @description Rows of the page. */
            data: {
                /** @description Text of the unit: 1 to 20,000 characters. */
                content: string;
                /**
                 * Format: uuid
                 * @description ID of the conversation that it comes from (UUID).
                 */
                conversationId: string | null;
                /**
                 * Format: date-time
                 * @description Time of the statement.
                 */
                createdAt: string;
                /**
                 * Format: uuid
                 * @description ID of the unit (UUID).
                 */
                id: string;
                /** @description Whether the unit is used in prompts. */
                isActive: boolean;
                /** @description Whether the server learned it from a message. */
                isLearned: boolean;
                /**
                 * Format: uuid
                 * @description ID of the message that it comes from (UUID).
                 */
                messageId: string | null;
                /**
                 * Format: uuid
                 * @description ID of the notebook that the unit belongs to (UUID); `null` without one.
                 */
                notebookId: string | null;
                /**
                 * Format: float
                 * @description Quality of the unit from 0 to 1.
                 */
                quality: number;
                /** @description Type of the unit, such as `statement`; at most 64 characters. */
                unitType: string;
            }[];
            /** @description Cursor of the next page; `null` on the last one. */
            nextCursor: string | null;
        };
        /** @description A persona of the application. */
        Persona: {
            /**
             * Format: date-time
             * @description Time at which the persona was stored.
             */
            createdAt: string;
            /** @description Description of the persona: at most 10,000 characters. */
            description: string | null;
            /**
             * Format: uuid
             * @description ID of the persona (UUID).
             */
            id: string;
            /** @description Name of the persona: 1 to 255 characters. */
            name: string;
        };
        /** @description Changes of a persona. Absent fields stay. */
        PersonaChanges: {
            /** @description Description of the persona: at most 10,000 characters. */
            description?: string | null;
            /** @description Name of the persona: 1 to 255 characters. */
            name?: string;
        };
        /** @description Presence of a user, as the caller may see it. */
        Presence: {
            /** @description Activity text of the user. */
            activity?: string;
            /** @description Full status of the user. */
            availability: components["schemas"]["Status"];
            /** @description Page that the user is on. */
            current_page?: string;
            /** @description Custom status text of the user. */
            custom_status?: string;
            /**
             * Format: date-time
             * @description Time since which all live devices of the user have been idle.
             */
            idle_since?: string;
            /** @description Whether the user is typing in a conversation shared with the caller. Present only in lists. */
            is_typing?: boolean;
            /**
             * Format: date-time
             * @description Time at which a device was last live; `null` if the user does not share it.
             */
            last_seen: string | null;
            /** @description Whether the user is reachable. */
            status: components["schemas"]["Reach"];
            /** @description ID of the user this presence belongs to (UUID). */
            user_id: components["schemas"]["UserId"];
        };
        /** @description The presence of one user in the format of the devices API. */
        PresenceSummary: {
            /** @description Custom status text; `null` without one. */
            custom_status: string | null;
            /**
             * Format: int64
             * @description Number of live devices; 1 if the viewer may not see the user's devices.
             */
            devices_online: number;
            /**
             * Format: date-time
             * @description Time at which a device was last live; `null` if the user does not share it.
             */
            last_seen_at: string | null;
            /** @description Status that the caller sees. */
            online_status: components["schemas"]["Status"];
            /** @description ID of the user (UUID). */
            user_id: components["schemas"]["UserId"];
        };
        /** @description An assembled prompt, layer by layer. */
        PromptData: {
            /** @description Tokens of the whole prompt. */
            budget: components["schemas"]["ContextBudget"];
            /** @description ID of the conversation (UUID). */
            conversationId: components["schemas"]["ConversationId"];
            /** @description How much context the message needs. */
            depth: components["schemas"]["ContextDepth"];
            /** @description Topics and entities detected in the message. */
            detected: components["schemas"]["DetectedSubject"][];
            /** @description Layers in the order of their priority. */
            layers: components["schemas"]["ContextLayer"][];
            /** @description Messages of the conversation in the prompt, oldest first, in the format of OpenAI's API. */
            messages: components["schemas"]["ChatMessage"][];
            /** @description System message of the prompt, as Markdown. */
            systemPrompt: string;
        };
        /** @description An assembled prompt with its metrics. */
        PromptEnvelope: {
            /** @description The prompt, layer by layer. */
            data: components["schemas"]["PromptData"];
            /** @description Metrics of the assembly. */
            metadata: components["schemas"]["PromptMetadata"];
            /**
             * @description Always `true` in this response.
             * @enum {boolean}
             */
            success: true;
            /**
             * Format: date-time
             * @description Time of the response.
             */
            timestamp: string;
        };
        /** @description Metrics of the assembly of a shown prompt. */
        PromptMetadata: {
            /**
             * Format: double
             * @description Time of the assembly in milliseconds.
             */
            assemblyTimeMs: number;
            /** @description Number of wanted bundles that were fresh. */
            bundlesReady: number;
            /** @description Names of the bundles in the prompt: type, and topic or entity. */
            bundlesUsed: string[];
            /** @description Number of bundles that the message and the signals select. */
            bundlesWanted: number;
            /**
             * Format: double
             * @description Fresh bundles divided by wanted bundles.
             */
            cacheHitRate: number;
        };
        /** @description A broadcast to a channel. */
        PublishBody: {
            /** @description Name of the event: 1 to 255 characters. */
            event: string;
            /** @description Payload of the event. */
            payload: {
                [key: string]: unknown;
            };
            /**
             * @description Whether the channel is private; by default it is.
             * @default true
             */
            private: boolean;
            /** @description Reason for the audit log: at most 255 characters. */
            reason?: string;
            /** @description Topic of the channel, without `realtime:`: 1 to 255 characters. */
            topic: string;
        };
        /**
         * @description Whether a user is reachable. `busy` and `dnd` count as `online`.
         * @enum {string}
         */
        Reach: "online" | "away" | "offline";
        /** @description An error in the words of Supabase Realtime. */
        RealtimeErrorText: {
            /** @description Text as clients of Supabase Realtime know it. */
            error: string;
        };
        /** @description Validation errors of a request. */
        RealtimeFieldErrors: {
            /** @description Lists of errors by field; for a batch, the errors of each message by position. */
            errors: {
                [key: string]: unknown;
            };
        };
        /** @description A message in the words of Supabase Realtime. */
        RealtimeMessage: {
            /** @description Text as clients of Supabase Realtime know it. */
            message: string;
        };
        /** @description Rejection of a request: errors by field, or a message if the policies could not be checked. */
        RealtimeRejection: components["schemas"]["RealtimeFieldErrors"] | components["schemas"]["RealtimeMessage"];
        /** @description IDs of the changed source and of what it belongs to. */
        RelatedIdsBody: {
            /**
             * Format: uuid
             * @description ID of the conversation (UUID).
             * @default null
             */
            conversationId: string | null;
            /**
             * Format: uuid
             * @description ID of the entity (UUID).
             * @default null
             */
            entityId: string | null;
            /**
             * Format: uuid
             * @description ID of the instruction (UUID).
             * @default null
             */
            instructionId: string | null;
            /**
             * Format: uuid
             * @description ID of the memory (UUID).
             * @default null
             */
            memoryId: string | null;
            /**
             * Format: uuid
             * @description ID of the topic (UUID).
             * @default null
             */
            topicId: string | null;
        };
        /** @description Which dead letters to send again. */
        ResendBody: {
            /** @description IDs of dead letters (UUIDs). Default: all of the webhook. */
            ids?: string[];
        };
        /** @description How many dead letters are sent again. */
        Resent: {
            /**
             * Format: int64
             * @description Number of dead letters that wait to be sent again from now on.
             */
            resent: number;
        };
        /** @description Options of a roll-up. */
        RollUpBody: {
            /**
             * @description Whether a roll-up that is already running is replaced.
             * @default false
             */
            force: boolean;
            /**
             * Format: int32
             * @description Maximum number of units to process, by default 50.
             * @default null
             */
            limit: number | null;
        };
        /** @description Counts of what a roll-up changed. */
        RollUpSummary: {
            /**
             * Format: int64
             * @description Number of processed units ("atomic content units").
             */
            acusProcessed: number;
            /**
             * Format: int64
             * @description Number of new entities.
             */
            entitiesCreated: number;
            /**
             * Format: int64
             * @description Number of existing entities that got new units.
             */
            entitiesUpdated: number;
            /**
             * Format: int64
             * @description Number of new topics.
             */
            topicsCreated: number;
            /**
             * Format: int64
             * @description Number of existing topics that got new units.
             */
            topicsUpdated: number;
        };
        /** @description Session of a device. */
        SessionData: {
            /**
             * Format: uuid
             * @description ID of the session. It is the same for every request of the same user and device.
             */
            sessionId: string;
        };
        /** @description Privacy settings of a user. */
        Settings: {
            /** @description Whether viewers see the user's activity and page. */
            show_activity: boolean;
            /** @description Whether viewers see the custom status. */
            show_custom_status: boolean;
            /** @description Whether viewers see when the user was last seen. */
            show_last_seen: boolean;
            /** @description Whether participants of a conversation see the user's typing. */
            show_typing: boolean;
            /** @description Who may see the user. */
            visibility: components["schemas"]["Visibility"];
        };
        /** @description Settings to save. All fields are optional. */
        SettingsBody: {
            /** @description Whether viewers see the user's activity and page. */
            show_activity?: boolean | null;
            /** @description Whether viewers see the custom status. */
            show_custom_status?: boolean | null;
            /** @description Whether viewers see when the user was last seen. */
            show_last_seen?: boolean | null;
            /** @description Whether participants of a conversation see the user's typing. */
            show_typing?: boolean | null;
            visibility?: components["schemas"]["Visibility"] | null;
        };
        /** @description Settings to change. Absent fields are kept. */
        SettingsChanges: {
            /** @description Whether viewers see the user's activity and page. */
            show_activity?: boolean;
            /** @description Whether viewers see the custom status. */
            show_custom_status?: boolean;
            /** @description Whether viewers see when the user was last seen. */
            show_last_seen?: boolean;
            /** @description Whether participants of a conversation see the user's typing. */
            show_typing?: boolean;
            /** @description Who may see the user. Any other value is answered with 422. */
            visibility?: components["schemas"]["Visibility"];
        };
        /** @description Signals of a device. An absent field is kept, `null` clears it. */
        SignalsBody: {
            activeConversationId?: components["schemas"]["ConversationId"] | null;
            /**
             * Format: uuid
             * @description ID of the notebook that is open.
             */
            activeNotebookId?: string | null;
            /**
             * Format: uuid
             * @description ID of the persona that is selected.
             */
            activePersonaId?: string | null;
            /** @description ID of the device that reports the signals. */
            deviceId: components["schemas"]["DeviceId"];
            /** @description Page in the application: at most 2,048 characters after trimming. The last ten are kept. */
            lastNavigationPath?: string | null;
            /** @description Local time of the user: 14:30, or with a date and an offset. */
            localTime: string;
            /** @description IDs of the visible conversations: at most 100. */
            visibleConversationIds?: components["schemas"]["ConversationId"][] | null;
        };
        /** @description A sign-off of a device by a page that is closing. */
        SignOffBody: {
            /** @description ID of the device to sign off. */
            device_id: components["schemas"]["DeviceId"];
            /** @description Token of the user, if the request has no header `Authorization`. */
            token?: string | null;
        };
        /**
         * @description A status that a user may set. `busy`, `dnd` and `invisible` hold on all devices until changed; the others are the
         *     state of one device.
         * @enum {string}
         */
        Status: "online" | "away" | "busy" | "dnd" | "invisible" | "offline";
        /** @description A status with its optional fields. */
        StatusBody: {
            /** @description Activity text: at most 140 characters after trimming. `null` clears the text. */
            activity?: string | null;
            /**
             * @description Whether the app goes to the background: its device stays `away` for `background_seconds` after its socket closed
             *     or its last heartbeat, then it is offline. Only with status `away`, `busy`, `dnd` or `invisible`; `away` then
             *     keeps the user's choice of the others. A new socket, a status without `background`, or a heartbeat with `active`
             *     ends it.
             */
            background?: boolean | null;
            /**
             * Format: int32
             * @description Seconds in the background; without it, the server's setting `BACKGROUND_GRACE` counts.
             */
            background_seconds?: number | null;
            /** @description Page that the user is on: at most 2,048 characters after trimming. `null` clears the page. */
            current_page?: string | null;
            /**
             * @description Custom status text: at most 140 characters after trimming. Control characters, direction overrides and markup
             *     are neutralized. `null` clears the text.
             */
            custom_status?: string | null;
            /**
             * Format: date-time
             * @description Time at which the custom status expires. `null` clears the time.
             */
            custom_status_expires_at?: string | null;
            device_id?: components["schemas"]["DeviceId"] | null;
            /** @description New status. Any other value is answered with 422. */
            status: components["schemas"]["Status"];
            user_id?: components["schemas"]["UserId"] | null;
        };
        /** @description A message in a conversation. */
        StoredMessage: {
            /** @description Text of the message. */
            content: string;
            /** @description ID of the conversation (UUID). */
            conversationId: components["schemas"]["ConversationId"];
            /**
             * Format: date-time
             * @description Time at which the message was stored.
             */
            createdAt: string;
            /**
             * Format: uuid
             * @description ID of the message (UUID).
             */
            id: string;
            /**
             * Format: uuid
             * @description ID of the message that it answers (UUID).
             */
            replyTo: string | null;
            /** @description Author of the message: `user`, `assistant` or `system`. */
            role: string;
            /** @description State of the message: `complete`, or `partial` if the answer was interrupted. */
            state: string;
            /** @description ID of the author (UUID); of a model's message, the user that asked. */
            userId: components["schemas"]["UserId"];
        };
        /** @description A subscription to changes of tables. */
        Subscription: {
            /** @description Whether changes are delivered. A subscription that is not active waits until its table can be subscribed to. */
            active: boolean;
            /** @description What the subscription requests. */
            bindings: components["schemas"]["SubscriptionBinding"][];
            /** @description ID of the connection. */
            connection_id: string;
            /** @description ID of the subscription: its connection and its channel there. */
            id: string;
            /** @description Role that row-level security is evaluated for. */
            role: string;
            /** @description Topic of the channel, without `realtime:`. */
            topic: string;
            user_id: components["schemas"]["UserId"] | null;
        };
        /** @description One entry of a subscription. */
        SubscriptionBinding: {
            /** @description `INSERT`, `UPDATE`, `DELETE` or `*`. */
            event: string;
            /** @description Conditions that must all match, such as `room_id=eq.7`. */
            filters: string[];
            /** @description Name of the schema, or `*`. */
            schema: string;
            /** @description Columns that are sent beside the primary key; `null` for all. */
            select: string[] | null;
            /** @description Name of the table, or `*`. */
            table: string;
        };
        /** @description Response of a request that returns nothing else. */
        Success: {
            /**
             * @description Always `true` in this response.
             * @enum {boolean}
             */
            success: true;
        };
        /** @description Envelope of a successful response with data. */
        SuccessEnvelope_BundleCounts: {
            /** @description Counts of a user's bundles by state. */
            data: {
                /**
                 * Format: int64
                 * @description Number of bundles that are not fresh.
                 * @default 0
                 */
                dirtyBundles: number;
                /**
                 * Format: int64
                 * @description Number of fresh bundles of conversations.
                 * @default 0
                 */
                freshConversationBundles: number;
                /**
                 * Format: int64
                 * @description Number of fresh bundles of entities.
                 * @default 0
                 */
                freshEntityBundles: number;
                /**
                 * Format: int64
                 * @description Number of fresh bundles of topics.
                 * @default 0
                 */
                freshTopicBundles: number;
                /**
                 * Format: int64
                 * @description Number of all fresh bundles.
                 * @default 0
                 */
                totalFreshBundles: number;
            };
            /** @description What the server did, for people. */
            message: string;
            /**
             * @description Always `true` in this response.
             * @enum {boolean}
             */
            success: true;
        };
        /** @description Envelope of a successful response with data. */
        SuccessEnvelope_RollUpSummary: {
            /** @description Counts of what a roll-up changed. */
            data: {
                /**
                 * Format: int64
                 * @description Number of processed units ("atomic content units").
                 */
                acusProcessed: number;
                /**
                 * Format: int64
                 * @description Number of new entities.
                 */
                entitiesCreated: number;
                /**
                 * Format: int64
                 * @description Number of existing entities that got new units.
                 */
                entitiesUpdated: number;
                /**
                 * Format: int64
                 * @description Number of new topics.
                 */
                topicsCreated: number;
                /**
                 * Format: int64
                 * @description Number of existing topics that got new units.
                 */
                topicsUpdated: number;
            };
            /** @description What the server did, for people. */
            message: string;
            /**
             * @description Always `true` in this response.
             * @enum {boolean}
             */
            success: true;
        };
        /** @description Envelope of a successful response with data. */
        SuccessEnvelope_SessionData: {
            /** @description Session of a device. */
            data: {
                /**
                 * Format: uuid
                 * @description ID of the session. It is the same for every request of the same user and device.
                 */
                sessionId: string;
            };
            /** @description What the server did, for people. */
            message: string;
            /**
             * @description Always `true` in this response.
             * @enum {boolean}
             */
            success: true;
        };
        /** @description Summary of a conversation. */
        Summary: {
            /** @description ID of the conversation (UUID). */
            conversationId: components["schemas"]["ConversationId"];
            /** @description Summary as Markdown, by a model or of the most important sentences; empty without messages. */
            summary: string;
        };
        /** @description Health of the channels. */
        TenantHealth: {
            /** @description Health of the only tenant. */
            data: components["schemas"]["TenantHealthData"];
        };
        /** @description Health of a tenant. */
        TenantHealthData: {
            /**
             * Format: int32
             * @description Number of channel sockets of this node.
             */
            connected_cluster: number;
            /** @description Whether the database is available. */
            db_connected: boolean;
            /** @description Whether the channels work in full. */
            healthy: boolean;
            /** @description Always `null` in this server. */
            node: string | null;
            /** @description Always `null` in this server. */
            region: string | null;
            /** @description Whether broadcasts from the database arrive. */
            replication_connected: boolean;
        };
        /** @description What became of a test event. */
        TestResult: {
            /** @description Whether the receiver accepted it. */
            delivered: boolean;
            /**
             * Format: int64
             * @description Time of the request in milliseconds.
             */
            duration_ms: number;
            /** @description Why it failed; `null` if it did not. */
            error: string | null;
            /**
             * Format: int32
             * @description HTTP status of the response; `null` without one.
             */
            status: number | null;
        };
        /** @description A topic that a user talks about. */
        Topic: {
            /** @description Other names of the topic: at most 50 of at most 255 characters. */
            aliases: string[];
            /**
             * Format: int32
             * @description Number of conversations about the topic.
             */
            conversationCount: number;
            /**
             * Format: date-time
             * @description Time at which the topic was stored.
             */
            createdAt: string;
            /** @description Domain of the topic, such as `engineering`. */
            domain: string | null;
            /**
             * Format: uuid
             * @description ID of the topic (UUID).
             */
            id: string;
            /**
             * Format: float
             * @description Importance of the topic from 0 to 1.
             */
            importance: number;
            /** @description Name of the topic: 1 to 255 characters. */
            label: string;
            /**
             * Format: date-time
             * @description Time of the newest unit of the topic.
             */
            lastEngagedAt: string | null;
            /** @description How well the user knows the topic. */
            proficiency: string;
            /** @description Name of the topic that never changes. */
            slug: string;
            /**
             * Format: int32
             * @description Number of units of the topic.
             */
            unitCount: number;
        };
        /** @description Changes of a topic. Absent fields stay. */
        TopicChanges: {
            /** @description Other names of the topic: at most 50 of at most 255 characters. */
            aliases?: string[];
            /**
             * Format: float
             * @description Importance of the topic from 0 to 1.
             */
            importance?: number;
            /** @description Name of the topic: 1 to 255 characters. */
            label?: string;
        };
        /** @description A user who is typing. */
        Typing: {
            /**
             * Format: date-time
             * @description Time at which the typing was last reported.
             */
            updated_at: string;
            /** @description ID of the user who is typing (UUID). */
            user_id: components["schemas"]["UserId"];
        };
        /** @description Typing of the caller in a conversation. */
        TypingBody: {
            /** @description Whether the caller is typing: `false` after stopping. */
            is_typing: boolean;
        };
        /** @description A unit of knowledge: a single statement. */
        Unit: {
            /** @description Text of the unit: 1 to 20,000 characters. */
            content: string;
            /**
             * Format: uuid
             * @description ID of the conversation that it comes from (UUID).
             */
            conversationId: string | null;
            /**
             * Format: date-time
             * @description Time of the statement.
             */
            createdAt: string;
            /**
             * Format: uuid
             * @description ID of the unit (UUID).
             */
            id: string;
            /** @description Whether the unit is used in prompts. */
            isActive: boolean;
            /** @description Whether the server learned it from a message. */
            isLearned: boolean;
            /**
             * Format: uuid
             * @description ID of the message that it comes from (UUID).
             */
            messageId: string | null;
            /**
             * Format: uuid
             * @description ID of the notebook that the unit belongs to (UUID); `null` without one.
             */
            notebookId: string | null;
            /**
             * Format: float
             * @description Quality of the unit from 0 to 1.
             */
            quality: number;
            /** @description Type of the unit, such as `statement`; at most 64 characters. */
            unitType: string;
        };
        /** @description Changes of a unit. Absent fields stay. */
        UnitChanges: {
            /** @description Text of the unit: 1 to 20,000 characters. */
            content?: string;
            /**
             * Format: uuid
             * @description ID of the notebook that the unit belongs to (UUID); `null` without one.
             */
            notebookId?: string | null;
            /**
             * Format: float
             * @description Quality of the unit from 0 to 1.
             */
            quality?: number;
            /** @description Type of the unit, such as `statement`; at most 64 characters. */
            unitType?: string;
        };
        /** @description The error envelope, with the valid event types if the type is unknown. */
        UnknownEventType: {
            /** @description The invalid fields of the request. */
            details?: components["schemas"]["FieldError"][];
            /** @description Page with cause and cure of the error, relative to the server. */
            doc_url: string;
            /** @description Stable code of the error, for programs. */
            error: string;
            /** @description English text for people. */
            message: string;
            /**
             * Format: int32
             * @description HTTP status of the response.
             */
            statusCode: number;
            /**
             * @description Always `false` in an error.
             * @enum {boolean}
             */
            success: false;
            /** @description All event types. Present only if the type is unknown. */
            validTypes?: string[];
        };
        /** @description Usage of models by day. */
        Usage: {
            /** @description Usage by day, purpose and model, newest first. */
            data: components["schemas"]["DailyUsage"][];
        };
        /**
         * Format: uuid
         * @description ID of a user (UUID): the `sub` claim of a token, `auth.uid()` in SQL.
         */
        UserId: string;
        /** @description Bodies that name one user. */
        UserIdBody: {
            /** @description ID of the other user (UUID). It must not be the caller's own. */
            user_id: components["schemas"]["UserId"];
        };
        /** @description Version of the server. */
        Version: {
            /**
             * @description Name of the program: always `rollcall`.
             * @example rollcall
             */
            name: string;
            /**
             * @description Version of the server, as in Semantic Versioning.
             * @example 0.1.0
             */
            version: string;
        };
        /**
         * @description Who may see a user, besides the users on the visibility list.
         * @enum {string}
         */
        Visibility: "nobody" | "team" | "contacts" | "everyone";
        /** @description Explains why a viewer sees a face of a user, or none. */
        VisibilityExplanation: {
            /**
             * @description The deciding rule: `self`, `block`, `list`, `setting`, `contact`, `team`, `policy`, `never_seen`, `grant`,
             *     `error`, or `row_level_security` if it is disabled.
             */
            decided_by: string;
            /** @description The deciding row or setting; `null` without one. */
            evidence: {
                [key: string]: unknown;
            } | null;
            face: components["schemas"]["Face"] | null;
            /** @description The policies that allow it, or the policy that denies it. */
            policy: string | null;
            /** @description The reason in one English sentence. */
            reason: string;
            /** @description Whether the viewer sees the user. */
            visible: boolean;
        };
        /** @description The users on a visibility list. */
        VisibilityList: {
            /** @description IDs of the users on the list. */
            user_ids: components["schemas"]["UserId"][];
        };
        /** @description A new visibility list. */
        VisibilityListBody: {
            /** @description IDs of the users on the list: at most 1,000, without the caller's own. */
            user_ids: components["schemas"]["UserId"][];
        };
        /** @description Options of a warm-up. */
        WarmUpBody: {
            /** @default null */
            deviceId: components["schemas"]["DeviceId"] | null;
            /**
             * @description Whether fresh bundles are compiled too.
             * @default false
             */
            force: boolean;
        };
        /** @description A webhook and how far it is. */
        Webhook: {
            /**
             * Format: date-time
             * @description Time at which the webhook was created.
             */
            created_at: string;
            /** @description Text for operators that names the webhook. */
            description: string;
            /** @description Whether events are delivered. Those that happen meanwhile wait within the bounds of `rollcall.event_settings`. */
            enabled: boolean;
            /** @description Events that it receives. */
            events: components["schemas"]["EventType"][];
            /** @description Which of these events it receives. */
            filter: components["schemas"]["EventFilter"];
            /**
             * Format: uuid
             * @description ID of the webhook (UUID).
             */
            id: string;
            /** @description Secret that signs requests: `whsec_` and base64. Only in the response to its creation. */
            secret?: string;
            /** @description How far the webhook is. Only in lists. */
            state?: components["schemas"]["WebhookState"];
            /**
             * Format: date-time
             * @description Time of the last change.
             */
            updated_at: string;
            /** @description URL that receives the events. */
            url: string;
        };
        /** @description Changes of a webhook. Absent fields are kept. */
        WebhookChanges: {
            /** @description Text for operators, at most 255 characters. */
            description?: string;
            /** @description Whether events are delivered. */
            enabled?: boolean;
            /** @description Events that it receives. */
            events?: components["schemas"]["EventType"][];
            /** @description Which of these events it receives. */
            filter?: components["schemas"]["EventFilter"];
            /** @description Secret that signs as well, while receivers change to the new one; `null` ends that. */
            previous_secret?: string | null;
            /** @description Secret that signs requests. */
            secret?: string;
            /** @description URL that receives the events. */
            url?: string;
        };
        /** @description How far a webhook is. */
        WebhookState: {
            /**
             * Format: int32
             * @description Failed requests with the current events.
             */
            attempts: number;
            /**
             * Format: int64
             * @description Number of dead letters.
             */
            dead_letters: number;
            /**
             * Format: int64
             * @description Number of events that were deleted before the webhook received them, because of the bounds in
             *     `rollcall.event_settings`.
             */
            dropped: number;
            /**
             * Format: double
             * @description Seconds for which the oldest of them waits.
             */
            lag_seconds: number;
            /**
             * Format: date-time
             * @description Time of the last request that was accepted.
             */
            last_delivered_at: string | null;
            /** @description Why the last request failed; `null` if it did not. */
            last_error: string | null;
            /**
             * Format: date-time
             * @description Time of the last request that failed.
             */
            last_failed_at: string | null;
            /**
             * Format: int32
             * @description HTTP status of the last request; `null` without a response.
             */
            last_status: number | null;
            /**
             * Format: date-time
             * @description Time of the next request after a failure.
             */
            next_attempt_at: string | null;
            /**
             * Format: int64
             * @description Number of events that wait for the webhook, counted up to 10,000.
             */
            pending: number;
        };
    };
    responses: {
        /** @description The request conflicts with a concurrent one or with the current state. Codes: `CONFLICT`, `DUPLICATE_PRESENCE`, `TOO_MANY_DEVICES`. */
        Conflict: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "doc_url": "/docs/errors#CONFLICT",
                 *       "error": "CONFLICT",
                 *       "message": "the contact is being removed; try again",
                 *       "statusCode": 409,
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description The caller may not act for that user, or a row-level security policy denies the request. Codes: `FORBIDDEN`. */
        Forbidden: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "doc_url": "/docs/errors#FORBIDDEN",
                 *       "error": "FORBIDDEN",
                 *       "message": "you cannot act for another user; use a token with role service_role or an admin permission",
                 *       "statusCode": 403,
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description The server failed. The log contains the cause under the `x-request-id` of the response. Codes: `INTERNAL_ERROR`, `POLICY_ERROR`, `LEGACY_ENGINE_ERROR`. */
        InternalError: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "doc_url": "/docs/errors#INTERNAL_ERROR",
                 *       "error": "INTERNAL_ERROR",
                 *       "message": "internal server error; include x-request-id when you report it",
                 *       "statusCode": 500,
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description A parameter or field is missing or malformed, the JSON is invalid, or the request refers to something that does not exist. `details` names the fields. Codes: `INVALID_REQUEST`, `INVALID_REFERENCE`. */
        InvalidRequest: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "details": [
                 *         {
                 *           "field": "user_id",
                 *           "message": "must be a UUID"
                 *         }
                 *       ],
                 *       "doc_url": "/docs/errors#INVALID_REQUEST",
                 *       "error": "INVALID_REQUEST",
                 *       "message": "user_id: must be a UUID",
                 *       "statusCode": 400,
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description The path does not have this method. Codes: `METHOD_NOT_ALLOWED`. */
        MethodNotAllowed: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "doc_url": "/docs/errors#METHOD_NOT_ALLOWED",
                 *       "error": "METHOD_NOT_ALLOWED",
                 *       "message": "method not allowed; see the Allow header",
                 *       "statusCode": 405,
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description The resource does not exist or is not visible to the caller. The response does not tell which. Codes: `NOT_FOUND`. */
        NotFound: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "doc_url": "/docs/errors#NOT_FOUND",
                 *       "error": "NOT_FOUND",
                 *       "message": "not found",
                 *       "statusCode": 404,
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description The body exceeds the maximum size of the route. Codes: `PAYLOAD_TOO_LARGE`. */
        PayloadTooLarge: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "doc_url": "/docs/errors#PAYLOAD_TOO_LARGE",
                 *       "error": "PAYLOAD_TOO_LARGE",
                 *       "message": "the body exceeds the maximum of 65536 bytes",
                 *       "statusCode": 413,
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description The rate limit is exceeded. `Retry-After` gives the seconds to wait. Codes: `RATE_LIMITED`. */
        RateLimited: {
            headers: {
                "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                "RateLimit-Reset": components["headers"]["RateLimitReset"];
                "Retry-After": components["headers"]["RetryAfter"];
                "x-request-id": components["headers"]["RequestId"];
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "doc_url": "/docs/errors#RATE_LIMITED",
                 *       "error": "RATE_LIMITED",
                 *       "message": "rate limit exceeded; retry after 6 s",
                 *       "statusCode": 429,
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description A dependency of the route is unavailable. `Retry-After` gives the seconds to wait. Codes: `SERVICE_UNAVAILABLE`, `DATABASE_CONNECTION_ERROR`, `CONTEXT_ENGINE_ERROR`. */
        ServiceUnavailable: {
            headers: {
                "Retry-After": components["headers"]["RetryAfter"];
                "x-request-id": components["headers"]["RequestId"];
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "doc_url": "/docs/errors#SERVICE_UNAVAILABLE",
                 *       "error": "SERVICE_UNAVAILABLE",
                 *       "message": "the database is unavailable; try again later",
                 *       "statusCode": 503,
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description The token is missing (`UNAUTHORIZED`), or malformed, expired or signed with another key (`INVALID_TOKEN`). Codes: `UNAUTHORIZED`, `INVALID_TOKEN`. */
        Unauthorized: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "doc_url": "/docs/errors#UNAUTHORIZED",
                 *       "error": "UNAUTHORIZED",
                 *       "message": "the token has expired",
                 *       "statusCode": 401,
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description A value is well-formed but not one of the allowed values. `details` names the fields. Codes: `UNPROCESSABLE`. */
        Unprocessable: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "details": [
                 *         {
                 *           "field": "status",
                 *           "message": "must be one of online, away, busy, dnd, invisible, offline (got \"idle\")"
                 *         }
                 *       ],
                 *       "doc_url": "/docs/errors#UNPROCESSABLE",
                 *       "error": "UNPROCESSABLE",
                 *       "message": "status: must be one of online, away, busy, dnd, invisible, offline (got \"idle\")",
                 *       "statusCode": 422,
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description The content type of the body is not JSON. Codes: `UNSUPPORTED_MEDIA_TYPE`. */
        UnsupportedMediaType: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "doc_url": "/docs/errors#UNSUPPORTED_MEDIA_TYPE",
                 *       "error": "UNSUPPORTED_MEDIA_TYPE",
                 *       "message": "Content-Type: must be application/json",
                 *       "statusCode": 415,
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description The path is a WebSocket, and the request is not a WebSocket handshake. Codes: `UPGRADE_REQUIRED`. */
        UpgradeRequired: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "doc_url": "/docs/errors#UPGRADE_REQUIRED",
                 *       "error": "UPGRADE_REQUIRED",
                 *       "message": "the route is a WebSocket; send a WebSocket handshake",
                 *       "statusCode": 426,
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
    };
    parameters: never;
    requestBodies: never;
    headers: {
        /** @description Maximum number of requests in a burst. */
        RateLimitLimit: number;
        /** @description Number of requests that are allowed now. */
        RateLimitRemaining: number;
        /** @description Seconds until the whole burst is allowed again. */
        RateLimitReset: number;
        /** @description ID of the request: the one that the client sent, or a new one. The log contains it. */
        RequestId: string;
        /** @description Seconds to wait before the next request. */
        RetryAfter: number;
    };
    pathItems: never;
}
export type $defs = Record<string, never>;
export interface operations {
    console: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Page of the console. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "text/html": string;
                };
            };
            /** @description The copy of the browser is current. */
            304: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    card: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description ID of the user (UUID).
                 * @example a0000000-0000-4000-8000-000000000002
                 */
                user_id: components["schemas"]["UserId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Presence of the user. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "custom_status": "At lunch",
                     *       "devices_online": 0,
                     *       "last_seen_at": "2026-11-21T11:40:00.000Z",
                     *       "online_status": "offline",
                     *       "user_id": "a0000000-0000-4000-8000-000000000002"
                     *     }
                     */
                    "application/json": components["schemas"]["PresenceSummary"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    blocks: {
        parameters: {
            query?: {
                /**
                 * @description ID of the user to act for, by default the caller. Another user requires role `service_role` or permission
                 *     `presence:admin`. The request then runs with the rights of that user.
                 */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Blocked users, oldest block first. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example [
                     *       {
                     *         "created_at": "2026-11-20T09:00:00.000Z",
                     *         "user_id": "a0000000-0000-4000-8000-000000000005"
                     *       }
                     *     ]
                     */
                    "application/json": components["schemas"]["Block"][];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            409: components["responses"]["Conflict"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    block: {
        parameters: {
            query?: {
                /**
                 * @description ID of the user to act for, by default the caller. Another user requires role `service_role` or permission
                 *     `presence:admin`. The request then runs with the rights of that user.
                 */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "user_id": "a0000000-0000-4000-8000-000000000005"
                 *     }
                 */
                "application/json": components["schemas"]["UserIdBody"];
            };
        };
        responses: {
            /** @description The user was already blocked. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true
                     *     }
                     */
                    "application/json": components["schemas"]["Success"];
                };
            };
            /** @description The user was blocked. */
            201: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true
                     *     }
                     */
                    "application/json": components["schemas"]["Success"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            409: components["responses"]["Conflict"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    unblock: {
        parameters: {
            query?: {
                /**
                 * @description ID of the user to act for, by default the caller. Another user requires role `service_role` or permission
                 *     `presence:admin`. The request then runs with the rights of that user.
                 */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description ID of the other user (UUID).
                 * @example a0000000-0000-4000-8000-000000000005
                 */
                user_id: components["schemas"]["UserId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The block was removed. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true
                     *     }
                     */
                    "application/json": components["schemas"]["Success"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            409: components["responses"]["Conflict"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    broadcastWithoutPrefix: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description The body has at most 8,000,000 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "messages": [
                 *         {
                 *           "event": "tide",
                 *           "payload": {
                 *             "metres": 3.2
                 *           },
                 *           "topic": "harbour"
                 *         }
                 *       ]
                 *     }
                 */
                "application/json": components["schemas"]["BroadcastBatch"];
            };
        };
        responses: {
            /** @description The messages were accepted. */
            202: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["InvalidRequest"];
            /** @description The token or key is missing or invalid. */
            401: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "Unauthorized"
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeMessage"];
                };
            };
            403: components["responses"]["Forbidden"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            /** @description At least one message is invalid; the errors are listed by position. */
            422: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "errors": {
                     *         "messages": [
                     *           {},
                     *           {
                     *             "payload": [
                     *               "can't be blank"
                     *             ]
                     *           }
                     *         ]
                     *       }
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeFieldErrors"];
                };
            };
            /** @description The message rate of the node is exceeded. */
            429: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "You have exceeded your rate limit"
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeMessage"];
                };
            };
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    broadcastOneWithoutPrefix: {
        parameters: {
            query?: {
                /** @description Whether the private channel of that name is meant. */
                private?: boolean;
            };
            header?: never;
            path: {
                /**
                 * @description Name of the event.
                 * @example tide
                 */
                event: string;
                /**
                 * @description Name of the channel, without `realtime:`.
                 * @example harbour
                 */
                topic: string;
            };
            cookie?: never;
        };
        /** @description The body has at most 8,000,000 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "metres": 3.2
                 *     }
                 */
                "application/json": {
                    [key: string]: unknown;
                };
            };
        };
        responses: {
            /** @description The message was accepted. */
            202: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["InvalidRequest"];
            /** @description The token or key is missing or invalid. */
            401: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "Unauthorized"
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeMessage"];
                };
            };
            /** @description The policies deny the caller the private channel. */
            403: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "Unauthorized"
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeMessage"];
                };
            };
            413: components["responses"]["PayloadTooLarge"];
            /** @description The content type is neither JSON nor binary. */
            415: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unsupported Media Type. Use application/json or application/octet-stream"
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeErrorText"];
                };
            };
            /** @description The payload is too large, or the policies could not be checked. */
            422: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "errors": {
                     *         "payload": [
                     *           "Payload size exceeds tenant limit"
                     *         ]
                     *       }
                     *     }
                     */
                    "application/json": {
                        [key: string]: unknown;
                    };
                };
            };
            /** @description The message rate of the node is exceeded. */
            429: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "You have exceeded your rate limit"
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeMessage"];
                };
            };
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    contacts: {
        parameters: {
            query?: {
                /**
                 * @description ID of the user to act for, by default the caller. Another user requires role `service_role` or permission
                 *     `presence:admin`. The request then runs with the rights of that user.
                 */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Contacts and requests of both directions, oldest first. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example [
                     *       {
                     *         "accepted_at": "2026-11-20T10:00:00.000Z",
                     *         "created_at": "2026-11-20T09:00:00.000Z",
                     *         "status": "accepted",
                     *         "user_id": "a0000000-0000-4000-8000-000000000006"
                     *       }
                     *     ]
                     */
                    "application/json": components["schemas"]["Contact"][];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            409: components["responses"]["Conflict"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    askForContact: {
        parameters: {
            query?: {
                /**
                 * @description ID of the user to act for, by default the caller. Another user requires role `service_role` or permission
                 *     `presence:admin`. The request then runs with the rights of that user.
                 */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "user_id": "a0000000-0000-4000-8000-000000000004"
                 *     }
                 */
                "application/json": components["schemas"]["UserIdBody"];
            };
        };
        responses: {
            /** @description The request existed, or this request accepted one. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "accepted_at": "2026-11-20T10:00:00.000Z",
                     *       "created_at": "2026-11-20T09:00:00.000Z",
                     *       "status": "accepted",
                     *       "user_id": "a0000000-0000-4000-8000-000000000004"
                     *     }
                     */
                    "application/json": components["schemas"]["Contact"];
                };
            };
            /** @description The request was sent. */
            201: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "accepted_at": null,
                     *       "created_at": "2026-11-20T09:00:00.000Z",
                     *       "status": "pending_out",
                     *       "user_id": "a0000000-0000-4000-8000-000000000004"
                     *     }
                     */
                    "application/json": components["schemas"]["Contact"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            409: components["responses"]["Conflict"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    removeContact: {
        parameters: {
            query?: {
                /**
                 * @description ID of the user to act for, by default the caller. Another user requires role `service_role` or permission
                 *     `presence:admin`. The request then runs with the rights of that user.
                 */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description ID of the other user (UUID).
                 * @example a0000000-0000-4000-8000-000000000006
                 */
                user_id: components["schemas"]["UserId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The contact was removed. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true
                     *     }
                     */
                    "application/json": components["schemas"]["Success"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            409: components["responses"]["Conflict"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    acceptContact: {
        parameters: {
            query?: {
                /**
                 * @description ID of the user to act for, by default the caller. Another user requires role `service_role` or permission
                 *     `presence:admin`. The request then runs with the rights of that user.
                 */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description ID of the other user (UUID).
                 * @example a0000000-0000-4000-8000-000000000005
                 */
                user_id: components["schemas"]["UserId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The contact was accepted. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "accepted_at": "2026-11-20T10:00:00.000Z",
                     *       "created_at": "2026-11-20T09:00:00.000Z",
                     *       "status": "accepted",
                     *       "user_id": "a0000000-0000-4000-8000-000000000005"
                     *     }
                     */
                    "application/json": components["schemas"]["Contact"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            409: components["responses"]["Conflict"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    conversations: {
        parameters: {
            query?: {
                /**
                 * @description ID of the user to act for, by default the caller. Another user requires role `service_role` or permission
                 *     `presence:admin`. The request then runs with the rights of that user.
                 */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Conversations of the caller, newest first. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example [
                     *       {
                     *         "created_at": "2026-11-20T09:00:00.000Z",
                     *         "created_by": "a0000000-0000-4000-8000-000000000001",
                     *         "id": "c0000000-0000-4000-8000-000000000001",
                     *         "participant_ids": [
                     *           "a0000000-0000-4000-8000-000000000001",
                     *           "a0000000-0000-4000-8000-000000000002"
                     *         ],
                     *         "title": "Harbour"
                     *       }
                     *     ]
                     */
                    "application/json": components["schemas"]["Conversation"][];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            409: components["responses"]["Conflict"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    beginConversation: {
        parameters: {
            query?: {
                /**
                 * @description ID of the user to act for, by default the caller. Another user requires role `service_role` or permission
                 *     `presence:admin`. The request then runs with the rights of that user.
                 */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "participant_ids": [
                 *         "a0000000-0000-4000-8000-000000000002"
                 *       ],
                 *       "title": "Harbour"
                 *     }
                 */
                "application/json": components["schemas"]["ConversationBody"];
            };
        };
        responses: {
            /** @description The conversation was created. */
            201: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "created_at": "2026-11-20T09:00:00.000Z",
                     *       "created_by": "a0000000-0000-4000-8000-000000000001",
                     *       "id": "c0000000-0000-4000-8000-000000000001",
                     *       "participant_ids": [
                     *         "a0000000-0000-4000-8000-000000000001",
                     *         "a0000000-0000-4000-8000-000000000002"
                     *       ],
                     *       "title": "Harbour"
                     *     }
                     */
                    "application/json": components["schemas"]["Conversation"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            409: components["responses"]["Conflict"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    typing: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description ID of the conversation in the table of participants: a UUID in the built-in table.
                 * @example c0000000-0000-4000-8000-000000000001
                 */
                conversation_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Users who are typing, as far as the caller may see it. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example [
                     *       {
                     *         "updated_at": "2026-11-21T12:00:00.000Z",
                     *         "user_id": "a0000000-0000-4000-8000-000000000002"
                     *       }
                     *     ]
                     */
                    "application/json": components["schemas"]["Typing"][];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    setTyping: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description ID of the conversation in the table of participants: a UUID in the built-in table.
                 * @example c0000000-0000-4000-8000-000000000001
                 */
                conversation_id: string;
            };
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "is_typing": true
                 *     }
                 */
                "application/json": components["schemas"]["TypingBody"];
            };
        };
        responses: {
            /** @description The typing state was recorded. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true
                     *     }
                     */
                    "application/json": components["schemas"]["Success"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    addParticipant: {
        parameters: {
            query?: {
                /**
                 * @description ID of the user to act for, by default the caller. Another user requires role `service_role` or permission
                 *     `presence:admin`. The request then runs with the rights of that user.
                 */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description ID of the conversation (UUID).
                 * @example c0000000-0000-4000-8000-000000000001
                 */
                id: components["schemas"]["ConversationId"];
                /**
                 * @description ID of the participant (UUID).
                 * @example a0000000-0000-4000-8000-000000000003
                 */
                user_id: components["schemas"]["UserId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The conversation with the participant. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "created_at": "2026-11-20T09:00:00.000Z",
                     *       "created_by": "a0000000-0000-4000-8000-000000000001",
                     *       "id": "c0000000-0000-4000-8000-000000000001",
                     *       "participant_ids": [
                     *         "a0000000-0000-4000-8000-000000000001",
                     *         "a0000000-0000-4000-8000-000000000002"
                     *       ],
                     *       "title": "Harbour"
                     *     }
                     */
                    "application/json": components["schemas"]["Conversation"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            409: components["responses"]["Conflict"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    removeParticipant: {
        parameters: {
            query?: {
                /**
                 * @description ID of the user to act for, by default the caller. Another user requires role `service_role` or permission
                 *     `presence:admin`. The request then runs with the rights of that user.
                 */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description ID of the conversation (UUID).
                 * @example c0000000-0000-4000-8000-000000000001
                 */
                id: components["schemas"]["ConversationId"];
                /**
                 * @description ID of the participant (UUID).
                 * @example a0000000-0000-4000-8000-000000000003
                 */
                user_id: components["schemas"]["UserId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The participant was removed. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true
                     *     }
                     */
                    "application/json": components["schemas"]["Success"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            409: components["responses"]["Conflict"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    pingWithoutPrefix: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The server of the channels runs. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "Success"
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeMessage"];
                };
            };
        };
    };
    batch: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "user_ids": [
                 *         "a0000000-0000-4000-8000-000000000002"
                 *       ]
                 *     }
                 */
                "application/json": components["schemas"]["BatchBody"];
            };
        };
        responses: {
            /** @description Presences of the visible users. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "presences": {
                     *         "a0000000-0000-4000-8000-000000000002": {
                     *           "availability": "offline",
                     *           "custom_status": "At lunch",
                     *           "is_typing": false,
                     *           "last_seen": "2026-11-21T11:40:00.000Z",
                     *           "status": "offline",
                     *           "user_id": "a0000000-0000-4000-8000-000000000002"
                     *         }
                     *       }
                     *     }
                     */
                    "application/json": components["schemas"]["BatchAnswer"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    pushToSockets: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "category": "custom",
                 *       "event": "tide",
                 *       "payload": {
                 *         "metres": 3.2
                 *       },
                 *       "recipients": [
                 *         "a0000000-0000-4000-8000-000000000001"
                 *       ]
                 *     }
                 */
                "application/json": components["schemas"]["BroadcastBody"];
            };
        };
        responses: {
            /** @description The event was handed to the sockets. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "delivered_to": 1
                     *     }
                     */
                    "application/json": components["schemas"]["BroadcastAnswer"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            422: components["responses"]["Unprocessable"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    devices: {
        parameters: {
            query?: {
                /**
                 * @description ID of the user to act for, by default the caller. Another user requires role `service_role` or permission
                 *     `presence:admin`. The request then runs with the rights of that user.
                 */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Devices of the caller, most recently live first. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example [
                     *       {
                     *         "app_version": null,
                     *         "connected": false,
                     *         "device_id": "laptop",
                     *         "device_name": null,
                     *         "device_type": null,
                     *         "idle_since": null,
                     *         "last_heartbeat_at": "2026-11-21T12:00:00.000Z",
                     *         "platform": null,
                     *         "session_started_at": "2026-11-21T11:00:00.000Z",
                     *         "status": "online"
                     *       }
                     *     ]
                     */
                    "application/json": components["schemas"]["Device"][];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    signOffDevice: {
        parameters: {
            query?: {
                /**
                 * @description ID of the user to act for, by default the caller. Another user requires role `service_role` or permission
                 *     `presence:admin`. The request then runs with the rights of that user.
                 */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description ID of the device to sign off.
                 * @example laptop
                 */
                device_id: components["schemas"]["DeviceId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The device was signed off. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true
                     *     }
                     */
                    "application/json": components["schemas"]["Success"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    presenceEvents: {
        parameters: {
            query?: {
                /** @description Receives only users whose `current_page` this is. A user who leaves the page is sent once more. */
                current_page?: string;
                /** @description ID of the device that opens the socket. */
                device_id?: components["schemas"]["DeviceId"];
                /**
                 * @description Position of the last connection, to be sent only what changed since, or empty for the first one. With it, the server
                 *     tells positions. An unknown or old position brings the full state.
                 */
                resume?: string;
                /** @description Token of the user, for browsers, which cannot set headers on sockets. */
                token?: string;
                /** @description IDs of users to follow besides the related ones, separated by commas (1 to 1,000). */
                user_ids?: string;
            };
            header?: {
                /** @description ID of the last event, as browsers send it; preferred to `resume`. */
                "Last-Event-ID"?: string;
                /** @description ID of the device that opens the stream; preferred to the query. */
                "X-Device-ID"?: components["schemas"]["DeviceId"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A stream of events that ends when the client disconnects. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "text/event-stream": {
                        /** @description The text in the lines `data` of the event. */
                        data: string;
                    };
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    exportMine: {
        parameters: {
            query?: {
                /**
                 * @description ID of the user to act for, by default the caller. Another user requires role `service_role` or permission
                 *     `presence:admin`. The request then runs with the rights of that user.
                 */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description All rows by table. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "data": {
                     *         "contacts": [],
                     *         "presence_devices": []
                     *       },
                     *       "exported_at": "2026-11-21T12:00:00.000Z",
                     *       "user_id": "a0000000-0000-4000-8000-000000000001"
                     *     }
                     */
                    "application/json": components["schemas"]["Export"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    heartbeat: {
        parameters: {
            query?: never;
            header?: {
                /** @description ID of the device, unless the body names it. */
                "X-Device-ID"?: components["schemas"]["DeviceId"];
            };
            path?: never;
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "active": true,
                 *       "device_id": "laptop"
                 *     }
                 */
                "application/json": components["schemas"]["HeartbeatBody"] | null;
            };
        };
        responses: {
            /** @description The heartbeat was recorded. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "next_heartbeat_ms": 10000,
                     *       "server_time": "2026-11-21T12:00:00.000Z",
                     *       "success": true
                     *     }
                     */
                    "application/json": components["schemas"]["HeartbeatAnswer"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            409: components["responses"]["Conflict"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    lastSeen: {
        parameters: {
            query?: {
                /**
                 * @description IDs of the users, separated by commas (1 to 1,000). Without it, all users related to the caller are returned.
                 * @example a0000000-0000-4000-8000-000000000002
                 */
                user_ids?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Last activity of the visible users. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example [
                     *       {
                     *         "last_seen": "2026-11-21T11:40:00.000Z",
                     *         "user_id": "a0000000-0000-4000-8000-000000000002"
                     *       }
                     *     ]
                     */
                    "application/json": components["schemas"]["LastSeen"][];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    forgetMe: {
        parameters: {
            query?: {
                /**
                 * @description ID of the user to act for, by default the caller. Another user requires role `service_role` or permission
                 *     `presence:admin`. The request then runs with the rights of that user.
                 */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The data was erased. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "erased": {
                     *         "presence_devices": 1
                     *       },
                     *       "success": true,
                     *       "user_id": "a0000000-0000-4000-8000-000000000006"
                     *     }
                     */
                    "application/json": components["schemas"]["Erasure"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    settings: {
        parameters: {
            query?: {
                /**
                 * @description ID of the user to act for, by default the caller. Another user requires role `service_role` or permission
                 *     `presence:admin`. The request then runs with the rights of that user.
                 */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Settings of the caller. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "show_activity": true,
                     *       "show_custom_status": true,
                     *       "show_last_seen": true,
                     *       "show_typing": true,
                     *       "visibility": "contacts"
                     *     }
                     */
                    "application/json": components["schemas"]["Settings"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    replaceSettings: {
        parameters: {
            query?: {
                /**
                 * @description ID of the user to act for, by default the caller. Another user requires role `service_role` or permission
                 *     `presence:admin`. The request then runs with the rights of that user.
                 */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "visibility": "team"
                 *     }
                 */
                "application/json": components["schemas"]["SettingsBody"];
            };
        };
        responses: {
            /** @description The new settings of the caller. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "show_activity": true,
                     *       "show_custom_status": true,
                     *       "show_last_seen": true,
                     *       "show_typing": true,
                     *       "visibility": "team"
                     *     }
                     */
                    "application/json": components["schemas"]["Settings"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            422: components["responses"]["Unprocessable"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    changeSettings: {
        parameters: {
            query?: {
                /**
                 * @description ID of the user to act for, by default the caller. Another user requires role `service_role` or permission
                 *     `presence:admin`. The request then runs with the rights of that user.
                 */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "show_last_seen": false
                 *     }
                 */
                "application/json": components["schemas"]["SettingsChanges"];
            };
        };
        responses: {
            /** @description The new settings of the caller. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "show_activity": true,
                     *       "show_custom_status": true,
                     *       "show_last_seen": false,
                     *       "show_typing": true,
                     *       "visibility": "team"
                     *     }
                     */
                    "application/json": components["schemas"]["Settings"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            422: components["responses"]["Unprocessable"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    signOff: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "device_id": "laptop"
                 *     }
                 */
                "application/json": components["schemas"]["SignOffBody"];
            };
        };
        responses: {
            /** @description The device was signed off, or did not exist. */
            204: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    ownStatus: {
        parameters: {
            query?: {
                /**
                 * @description ID of the user to act for, by default the caller. Another user requires role `service_role` or permission
                 *     `presence:admin`. The request then runs with the rights of that user.
                 */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The caller's own presence. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "availability": "busy",
                     *       "custom_status": "Writing",
                     *       "last_seen": "2026-11-21T12:00:00.000Z",
                     *       "status": "online",
                     *       "user_id": "a0000000-0000-4000-8000-000000000001"
                     *     }
                     */
                    "application/json": components["schemas"]["Presence"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    setStatus: {
        parameters: {
            query?: never;
            header?: {
                /** @description ID of the device, unless the body names it. */
                "X-Device-ID"?: components["schemas"]["DeviceId"];
            };
            path?: never;
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "custom_status": "Writing",
                 *       "device_id": "laptop",
                 *       "status": "busy"
                 *     }
                 */
                "application/json": components["schemas"]["StatusBody"];
            };
        };
        responses: {
            /** @description The new presence, as the user sees it. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "availability": "busy",
                     *       "custom_status": "Writing",
                     *       "last_seen": "2026-11-21T12:00:00.000Z",
                     *       "status": "online",
                     *       "user_id": "a0000000-0000-4000-8000-000000000001"
                     *     }
                     */
                    "application/json": components["schemas"]["Presence"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            409: components["responses"]["Conflict"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            422: components["responses"]["Unprocessable"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    presenceSocket: {
        parameters: {
            query?: {
                /** @description Receives only users whose `current_page` this is. A user who leaves the page is sent once more. */
                current_page?: string;
                /** @description ID of the device that opens the socket. */
                device_id?: components["schemas"]["DeviceId"];
                /**
                 * @description Position of the last connection, to be sent only what changed since, or empty for the first one. With it, the server
                 *     tells positions. An unknown or old position brings the full state.
                 */
                resume?: string;
                /** @description Token of the user, for browsers, which cannot set headers on sockets. */
                token?: string;
                /** @description IDs of users to follow besides the related ones, separated by commas (1 to 1,000). */
                user_ids?: string;
            };
            header?: {
                /** @description ID of the device that opens the socket; preferred to the query. */
                "X-Device-ID"?: components["schemas"]["DeviceId"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The connection is a WebSocket from here on. */
            101: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            426: components["responses"]["UpgradeRequired"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    users: {
        parameters: {
            query?: {
                /** @description Returns only users whose `current_page` this is. */
                current_page?: string;
                /**
                 * @description IDs of the users, separated by commas (1 to 1,000). Without it, all users related to the caller are returned.
                 * @example a0000000-0000-4000-8000-000000000002
                 */
                user_ids?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Presences of the visible users. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example [
                     *       {
                     *         "availability": "offline",
                     *         "custom_status": "At lunch",
                     *         "is_typing": false,
                     *         "last_seen": "2026-11-21T11:40:00.000Z",
                     *         "status": "offline",
                     *         "user_id": "a0000000-0000-4000-8000-000000000002"
                     *       }
                     *     ]
                     */
                    "application/json": components["schemas"]["Presence"][];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    user: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description ID of the user (UUID).
                 * @example a0000000-0000-4000-8000-000000000002
                 */
                user_id: components["schemas"]["UserId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Presence of the user. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "availability": "offline",
                     *       "custom_status": "At lunch",
                     *       "is_typing": false,
                     *       "last_seen": "2026-11-21T11:40:00.000Z",
                     *       "status": "offline",
                     *       "user_id": "a0000000-0000-4000-8000-000000000002"
                     *     }
                     */
                    "application/json": components["schemas"]["Presence"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    visibilityList: {
        parameters: {
            query?: {
                /**
                 * @description ID of the user to act for, by default the caller. Another user requires role `service_role` or permission
                 *     `presence:admin`. The request then runs with the rights of that user.
                 */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The visibility list, in order of entry. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "user_ids": []
                     *     }
                     */
                    "application/json": components["schemas"]["VisibilityList"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    replaceVisibilityList: {
        parameters: {
            query?: {
                /**
                 * @description ID of the user to act for, by default the caller. Another user requires role `service_role` or permission
                 *     `presence:admin`. The request then runs with the rights of that user.
                 */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "user_ids": []
                 *     }
                 */
                "application/json": components["schemas"]["VisibilityListBody"];
            };
        };
        responses: {
            /** @description The new visibility list. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "user_ids": []
                     *     }
                     */
                    "application/json": components["schemas"]["VisibilityList"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    enlist: {
        parameters: {
            query?: {
                /**
                 * @description ID of the user to act for, by default the caller. Another user requires role `service_role` or permission
                 *     `presence:admin`. The request then runs with the rights of that user.
                 */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description ID of the other user (UUID).
                 * @example a0000000-0000-4000-8000-000000000003
                 */
                user_id: components["schemas"]["UserId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The user was already on the list. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true
                     *     }
                     */
                    "application/json": components["schemas"]["Success"];
                };
            };
            /** @description The user was added to the list. */
            201: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true
                     *     }
                     */
                    "application/json": components["schemas"]["Success"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    unlist: {
        parameters: {
            query?: {
                /**
                 * @description ID of the user to act for, by default the caller. Another user requires role `service_role` or permission
                 *     `presence:admin`. The request then runs with the rights of that user.
                 */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description ID of the other user (UUID).
                 * @example a0000000-0000-4000-8000-000000000003
                 */
                user_id: components["schemas"]["UserId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The user was removed from the list. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true
                     *     }
                     */
                    "application/json": components["schemas"]["Success"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    tenantHealth: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description Name of the tenant, which is ignored.
                 * @example realtime-dev
                 */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Health of the channels. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "data": {
                     *         "connected_cluster": 3,
                     *         "db_connected": true,
                     *         "healthy": true,
                     *         "node": null,
                     *         "region": null,
                     *         "replication_connected": true
                     *       }
                     *     }
                     */
                    "application/json": components["schemas"]["TenantHealth"];
                };
            };
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    chat: {
        parameters: {
            query?: never;
            header?: {
                /** @description Key of the request, unless the body has `idempotencyKey`. */
                "Idempotency-Key"?: string;
                /** @description Whether the dynamic engine assembles the prompt, unless the body says so. */
                "x-use-dynamic-context"?: boolean;
            };
            path?: never;
            cookie?: never;
        };
        /** @description The body has at most 1 MiB. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "conversationId": "c0000000-0000-4000-8000-000000000001",
                 *       "messages": [
                 *         {
                 *           "content": "Hello",
                 *           "role": "user"
                 *         }
                 *       ]
                 *     }
                 */
                "application/json": components["schemas"]["ChatBody"];
            };
        };
        responses: {
            /** @description The answer, whole or as events. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "data": {
                     *         "content": "Hello, Alice.",
                     *         "contextStats": {
                     *           "assemblyTimeMs": 1.5,
                     *           "bundlesCompiled": 0,
                     *           "bundlesReady": 0,
                     *           "bundlesUsed": [],
                     *           "bundlesWanted": 0,
                     *           "cacheHitRate": 1,
                     *           "entities": [],
                     *           "historyMessages": 0,
                     *           "layers": {
                     *             "L0": 8
                     *           },
                     *           "maxTokens": 12000,
                     *           "tokens": 8,
                     *           "topics": []
                     *         },
                     *         "engine": "dynamic",
                     *         "messageId": "d0000000-0000-4000-8000-000000000001",
                     *         "model": "echo",
                     *         "usage": {
                     *           "completionTokens": 4,
                     *           "promptTokens": 8,
                     *           "totalTokens": 12
                     *         }
                     *       },
                     *       "metadata": {
                     *         "assemblyTimeMs": 1.5,
                     *         "bundlesUsed": [],
                     *         "cacheHitRate": 1
                     *       },
                     *       "success": true,
                     *       "timestamp": "2026-11-21T12:00:00.000Z"
                     *     }
                     */
                    "application/json": components["schemas"]["ChatEnvelope"];
                    "text/event-stream": {
                        /** @description The text in the lines `data` of the event. */
                        data: string | unknown | "[DONE]";
                    };
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            409: components["responses"]["Conflict"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            422: components["responses"]["Unprocessable"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    showContext: {
        parameters: {
            query?: {
                /** @description Whether the prompt contains messages of the conversation, by default `true`. */
                includeHistory?: boolean;
                /** @description Maximum tokens of the prompt, from 500 to 200,000; by default 12,000. */
                maxContextTokens?: number;
                /**
                 * @description Next message of the user: at most 4,000 characters. Without it, the conversation's recent messages select the
                 *     context.
                 */
                message?: string;
                /**
                 * @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`.
                 * @example a0000000-0000-4000-8000-000000000001
                 */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description ID of the conversation (UUID).
                 * @example c0000000-0000-4000-8000-000000000001
                 */
                conversation_id: components["schemas"]["ConversationId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The assembled prompt, layer by layer. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "data": {
                     *         "budget": {
                     *           "given": 400,
                     *           "tokens": 12000,
                     *           "used": 4
                     *         },
                     *         "conversationId": "c0000000-0000-4000-8000-000000000001",
                     *         "depth": "minimal",
                     *         "detected": [],
                     *         "layers": [
                     *           {
                     *             "elasticity": 0.1,
                     *             "given": 400,
                     *             "ideal": 400,
                     *             "layer": "L1",
                     *             "maximum": 800,
                     *             "minimum": 0,
                     *             "name": "preferences",
                     *             "priority": 90,
                     *             "sections": [
                     *               {
                     *                 "content": "Answer briefly.",
                     *                 "cut": false,
                     *                 "layer": "preferences",
                     *                 "readiness": "fresh",
                     *                 "reason": "the user's own words",
                     *                 "title": "How to answer",
                     *                 "tokens": 4
                     *               }
                     *             ],
                     *             "used": 4
                     *           }
                     *         ],
                     *         "messages": [],
                     *         "systemPrompt": "# You"
                     *       },
                     *       "metadata": {
                     *         "assemblyTimeMs": 1.5,
                     *         "bundlesReady": 1,
                     *         "bundlesUsed": [
                     *           "global_prefs"
                     *         ],
                     *         "bundlesWanted": 1,
                     *         "cacheHitRate": 1
                     *       },
                     *       "success": true,
                     *       "timestamp": "2026-11-21T12:00:00.000Z"
                     *     }
                     */
                    "application/json": components["schemas"]["PromptEnvelope"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    contextHealth: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Both context engines work. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "contextBundles": 0,
                     *       "deadLetters": 0,
                     *       "dirtyBundles": 0,
                     *       "entityProfiles": 0,
                     *       "invalidationQueue": 0,
                     *       "newEngineAvailable": true,
                     *       "oldEngineAvailable": true,
                     *       "status": "healthy",
                     *       "timestamp": "2026-11-21T12:00:00.000Z",
                     *       "topicProfiles": 0
                     *     }
                     */
                    "application/json": components["schemas"]["ContextHealth"];
                };
            };
            /** @description Only one of the engines works. */
            206: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "contextBundles": null,
                     *       "deadLetters": null,
                     *       "dirtyBundles": null,
                     *       "entityProfiles": null,
                     *       "invalidationQueue": null,
                     *       "newEngineAvailable": false,
                     *       "oldEngineAvailable": true,
                     *       "status": "degraded",
                     *       "timestamp": "2026-11-21T12:00:00.000Z",
                     *       "topicProfiles": null
                     *     }
                     */
                    "application/json": components["schemas"]["ContextHealth"];
                };
            };
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    invalidate: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description ID of the user (UUID). Another user than the caller requires role `service_role` or permission `context:admin`.
                 * @example a0000000-0000-4000-8000-000000000001
                 */
                user_id: components["schemas"]["UserId"];
            };
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "eventType": "conversation_updated",
                 *       "relatedIds": {
                 *         "conversationId": "c0000000-0000-4000-8000-000000000001"
                 *       }
                 *     }
                 */
                "application/json": components["schemas"]["InvalidateBody"];
            };
        };
        responses: {
            /** @description The invalidation was queued. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "Invalidation queued",
                     *       "success": true
                     *     }
                     */
                    "application/json": components["schemas"]["Done"];
                };
            };
            /** @description The request is malformed, or the event type is unknown; then `validTypes` lists all. */
            400: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "details": [
                     *         {
                     *           "field": "eventType",
                     *           "message": "must be one of memory_created"
                     *         }
                     *       ],
                     *       "doc_url": "/docs/errors#INVALID_REQUEST",
                     *       "error": "INVALID_REQUEST",
                     *       "message": "eventType: must be one of memory_created",
                     *       "statusCode": 400,
                     *       "success": false,
                     *       "validTypes": [
                     *         "memory_created"
                     *       ]
                     *     }
                     */
                    "application/json": components["schemas"]["UnknownEventType"];
                };
            };
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    noteContext: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description ID of the user (UUID). Another user than the caller requires role `service_role` or permission `context:admin`.
                 * @example a0000000-0000-4000-8000-000000000001
                 */
                user_id: components["schemas"]["UserId"];
            };
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "activeConversationId": "c0000000-0000-4000-8000-000000000001",
                 *       "deviceId": "web",
                 *       "localTime": "14:30"
                 *     }
                 */
                "application/json": components["schemas"]["SignalsBody"];
            };
        };
        responses: {
            /** @description The signals were stored. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "data": {
                     *         "sessionId": "c0000000-0000-4000-8000-000000000001"
                     *       },
                     *       "message": "Presence updated",
                     *       "success": true
                     *     }
                     */
                    "application/json": components["schemas"]["SuccessEnvelope_SessionData"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            409: components["responses"]["Conflict"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    rollUp: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description ID of the user (UUID). Another user than the caller requires role `service_role` or permission `context:admin`.
                 * @example a0000000-0000-4000-8000-000000000001
                 */
                user_id: components["schemas"]["UserId"];
            };
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody?: {
            content: {
                /**
                 * @example {
                 *       "limit": 50
                 *     }
                 */
                "application/json": components["schemas"]["RollUpBody"];
            };
        };
        responses: {
            /** @description What the roll-up changed. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "data": {
                     *         "acusProcessed": 0,
                     *         "entitiesCreated": 0,
                     *         "entitiesUpdated": 0,
                     *         "topicsCreated": 0,
                     *         "topicsUpdated": 0
                     *       },
                     *       "message": "Roll-up done",
                     *       "success": true
                     *     }
                     */
                    "application/json": components["schemas"]["SuccessEnvelope_RollUpSummary"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            409: components["responses"]["Conflict"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    warmUp: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description ID of the user (UUID). Another user than the caller requires role `service_role` or permission `context:admin`.
                 * @example a0000000-0000-4000-8000-000000000001
                 */
                user_id: components["schemas"]["UserId"];
            };
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody?: {
            content: {
                /**
                 * @example {
                 *       "deviceId": "web"
                 *     }
                 */
                "application/json": components["schemas"]["WarmUpBody"];
            };
        };
        responses: {
            /** @description State of the bundles after the warm-up. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "data": {
                     *         "dirtyBundles": 0,
                     *         "freshConversationBundles": 0,
                     *         "freshEntityBundles": 0,
                     *         "freshTopicBundles": 0,
                     *         "totalFreshBundles": 0
                     *       },
                     *       "message": "Warm-up done",
                     *       "success": true
                     *     }
                     */
                    "application/json": components["schemas"]["SuccessEnvelope_BundleCounts"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    contextSocket: {
        parameters: {
            query?: {
                /** @description ID of the device that opens the socket. */
                device_id?: components["schemas"]["DeviceId"];
                /** @description Token of the user, for browsers, which cannot set headers on sockets. */
                token?: string;
            };
            header?: {
                /** @description ID of the device that opens the socket; preferred to the query. */
                "X-Device-ID"?: components["schemas"]["DeviceId"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The connection is a WebSocket from here on. */
            101: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            426: components["responses"]["UpgradeRequired"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    listMessages: {
        parameters: {
            query?: {
                /** @description Value of `nextCursor` of the page before. */
                cursor?: string;
                /** @description Maximum number of rows: 1 to 200, by default 50. */
                limit?: number;
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description ID of the conversation (UUID).
                 * @example c0000000-0000-4000-8000-000000000001
                 */
                conversation_id: components["schemas"]["ConversationId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description One page of messages. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "data": [
                     *         {
                     *           "content": "When does the tide turn?",
                     *           "conversationId": "c0000000-0000-4000-8000-000000000001",
                     *           "createdAt": "2026-11-21T12:00:00.000Z",
                     *           "id": "d0000000-0000-4000-8000-000000000008",
                     *           "replyTo": null,
                     *           "role": "user",
                     *           "state": "complete",
                     *           "userId": "a0000000-0000-4000-8000-000000000001"
                     *         }
                     *       ],
                     *       "nextCursor": null
                     *     }
                     */
                    "application/json": components["schemas"]["Page_StoredMessage"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    conversationSummary: {
        parameters: {
            query?: {
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description ID of the conversation (UUID).
                 * @example c0000000-0000-4000-8000-000000000001
                 */
                conversation_id: components["schemas"]["ConversationId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The summary of the conversation. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "conversationId": "c0000000-0000-4000-8000-000000000001",
                     *       "summary": "## Current Conversation\n\"Harbour\", begun on 2026-11-21, 1 messages."
                     *     }
                     */
                    "application/json": components["schemas"]["Summary"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    listEntities: {
        parameters: {
            query?: {
                /** @description Value of `nextCursor` of the page before. */
                cursor?: string;
                /** @description Maximum number of rows: 1 to 200, by default 50. */
                limit?: number;
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description One page of entities. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "data": [
                     *         {
                     *           "aliases": [],
                     *           "conversationCount": 0,
                     *           "createdAt": "2026-11-21T12:00:00.000Z",
                     *           "entityType": "person",
                     *           "id": "d0000000-0000-4000-8000-000000000007",
                     *           "importance": 0.5,
                     *           "lastMentionedAt": null,
                     *           "mentionCount": 0,
                     *           "name": "Mara",
                     *           "relationship": null,
                     *           "slug": "mara"
                     *         }
                     *       ],
                     *       "nextCursor": null
                     *     }
                     */
                    "application/json": components["schemas"]["Page_Entity"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    deleteEntity: {
        parameters: {
            query?: {
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description ID of the entity (UUID).
                 * @example d0000000-0000-4000-8000-000000000007
                 */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The entity was deleted. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true
                     *     }
                     */
                    "application/json": components["schemas"]["Success"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    updateEntity: {
        parameters: {
            query?: {
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description ID of the entity (UUID).
                 * @example d0000000-0000-4000-8000-000000000007
                 */
                id: string;
            };
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "name": "Mara"
                 *     }
                 */
                "application/json": components["schemas"]["EntityChanges"];
            };
        };
        responses: {
            /** @description The entity after the change. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "aliases": [],
                     *       "conversationCount": 0,
                     *       "createdAt": "2026-11-21T12:00:00.000Z",
                     *       "entityType": "person",
                     *       "id": "d0000000-0000-4000-8000-000000000007",
                     *       "importance": 0.5,
                     *       "lastMentionedAt": null,
                     *       "mentionCount": 0,
                     *       "name": "Mara",
                     *       "relationship": null,
                     *       "slug": "mara"
                     *     }
                     */
                    "application/json": components["schemas"]["Entity"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    listInstructions: {
        parameters: {
            query?: {
                /** @description Only active instructions, or only inactive ones. */
                active?: boolean;
                /** @description Value of `nextCursor` of the page before. */
                cursor?: string;
                /** @description Maximum number of rows: 1 to 200, by default 50. */
                limit?: number;
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description One page of instructions. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "data": [
                     *         {
                     *           "content": "Answer briefly.",
                     *           "createdAt": "2026-11-21T12:00:00.000Z",
                     *           "id": "d0000000-0000-4000-8000-000000000002",
                     *           "isActive": true,
                     *           "priority": 0,
                     *           "topicId": null,
                     *           "updatedAt": "2026-11-21T12:00:00.000Z"
                     *         }
                     *       ],
                     *       "nextCursor": null
                     *     }
                     */
                    "application/json": components["schemas"]["Page_Instruction"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    createInstruction: {
        parameters: {
            query?: {
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "content": "Answer briefly."
                 *     }
                 */
                "application/json": components["schemas"]["NewInstruction"];
            };
        };
        responses: {
            /** @description The instruction was stored. */
            201: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "content": "Answer briefly.",
                     *       "createdAt": "2026-11-21T12:00:00.000Z",
                     *       "id": "d0000000-0000-4000-8000-000000000002",
                     *       "isActive": true,
                     *       "priority": 0,
                     *       "topicId": null,
                     *       "updatedAt": "2026-11-21T12:00:00.000Z"
                     *     }
                     */
                    "application/json": components["schemas"]["Instruction"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    deleteInstruction: {
        parameters: {
            query?: {
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description ID of the instruction (UUID).
                 * @example d0000000-0000-4000-8000-000000000002
                 */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The instruction was deleted. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true
                     *     }
                     */
                    "application/json": components["schemas"]["Success"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    updateInstruction: {
        parameters: {
            query?: {
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description ID of the instruction (UUID).
                 * @example d0000000-0000-4000-8000-000000000002
                 */
                id: string;
            };
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "content": "Answer briefly."
                 *     }
                 */
                "application/json": components["schemas"]["InstructionChanges"];
            };
        };
        responses: {
            /** @description The instruction after the change. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "content": "Answer briefly.",
                     *       "createdAt": "2026-11-21T12:00:00.000Z",
                     *       "id": "d0000000-0000-4000-8000-000000000002",
                     *       "isActive": true,
                     *       "priority": 0,
                     *       "topicId": null,
                     *       "updatedAt": "2026-11-21T12:00:00.000Z"
                     *     }
                     */
                    "application/json": components["schemas"]["Instruction"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    listMemories: {
        parameters: {
            query?: {
                /** @description Only active memories, or only inactive ones. */
                active?: boolean;
                /** @description Only memories of this category. */
                category?: string;
                /** @description Only memories from this conversation (UUID). */
                conversationId?: string;
                /** @description Value of `nextCursor` of the page before. */
                cursor?: string;
                /** @description Only memories that were stored at this time or later. */
                from?: string;
                /** @description Maximum number of rows: 1 to 200, by default 50. */
                limit?: number;
                /** @description Only memories of this notebook (UUID). */
                notebookId?: string;
                /** @description Only memories that were stored before this time. */
                until?: string;
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description One page of memories. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "data": [
                     *         {
                     *           "category": "identity",
                     *           "content": "Is a harbour pilot.",
                     *           "conversationId": null,
                     *           "createdAt": "2026-11-21T12:00:00.000Z",
                     *           "id": "d0000000-0000-4000-8000-000000000001",
                     *           "importance": 0.5,
                     *           "isActive": true,
                     *           "isLearned": false,
                     *           "isPinned": false,
                     *           "messageId": null,
                     *           "notebookId": null,
                     *           "supersededBy": null,
                     *           "updatedAt": "2026-11-21T12:00:00.000Z",
                     *           "validFrom": "2026-11-21T12:00:00.000Z",
                     *           "validUntil": null
                     *         }
                     *       ],
                     *       "nextCursor": null
                     *     }
                     */
                    "application/json": components["schemas"]["Page_Memory"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    createMemory: {
        parameters: {
            query?: {
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "content": "Is a harbour pilot."
                 *     }
                 */
                "application/json": components["schemas"]["NewMemory"];
            };
        };
        responses: {
            /** @description The memory was stored. */
            201: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "category": "identity",
                     *       "content": "Is a harbour pilot.",
                     *       "conversationId": null,
                     *       "createdAt": "2026-11-21T12:00:00.000Z",
                     *       "id": "d0000000-0000-4000-8000-000000000001",
                     *       "importance": 0.5,
                     *       "isActive": true,
                     *       "isLearned": false,
                     *       "isPinned": false,
                     *       "messageId": null,
                     *       "notebookId": null,
                     *       "supersededBy": null,
                     *       "updatedAt": "2026-11-21T12:00:00.000Z",
                     *       "validFrom": "2026-11-21T12:00:00.000Z",
                     *       "validUntil": null
                     *     }
                     */
                    "application/json": components["schemas"]["Memory"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    deleteMemory: {
        parameters: {
            query?: {
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description ID of the memory (UUID).
                 * @example d0000000-0000-4000-8000-000000000001
                 */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The memory was deleted. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true
                     *     }
                     */
                    "application/json": components["schemas"]["Success"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    updateMemory: {
        parameters: {
            query?: {
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description ID of the memory (UUID).
                 * @example d0000000-0000-4000-8000-000000000001
                 */
                id: string;
            };
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "content": "Is a harbour pilot."
                 *     }
                 */
                "application/json": components["schemas"]["MemoryChanges"];
            };
        };
        responses: {
            /** @description The memory after the change. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "category": "identity",
                     *       "content": "Is a harbour pilot.",
                     *       "conversationId": null,
                     *       "createdAt": "2026-11-21T12:00:00.000Z",
                     *       "id": "d0000000-0000-4000-8000-000000000001",
                     *       "importance": 0.5,
                     *       "isActive": true,
                     *       "isLearned": false,
                     *       "isPinned": false,
                     *       "messageId": null,
                     *       "notebookId": null,
                     *       "supersededBy": null,
                     *       "updatedAt": "2026-11-21T12:00:00.000Z",
                     *       "validFrom": "2026-11-21T12:00:00.000Z",
                     *       "validUntil": null
                     *     }
                     */
                    "application/json": components["schemas"]["Memory"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    forgetMemory: {
        parameters: {
            query?: {
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The memories were deleted. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "memories": 1,
                     *       "units": 1
                     *     }
                     */
                    "application/json": components["schemas"]["Forgotten"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    memorySettings: {
        parameters: {
            query?: {
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The settings, at most 1,000. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "data": [
                     *         {
                     *           "conversationId": null,
                     *           "learns": true,
                     *           "notebookId": null
                     *         }
                     *       ]
                     *     }
                     */
                    "application/json": components["schemas"]["MemorySettings"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    setMemory: {
        parameters: {
            query?: {
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "conversationId": "c0000000-0000-4000-8000-000000000001",
                 *       "learns": false
                 *     }
                 */
                "application/json": components["schemas"]["MemorySetting"];
            };
        };
        responses: {
            /** @description The setting as it is stored. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "conversationId": "c0000000-0000-4000-8000-000000000001",
                     *       "learns": false,
                     *       "notebookId": null
                     *     }
                     */
                    "application/json": components["schemas"]["MemorySetting"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    deleteMessage: {
        parameters: {
            query?: {
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description ID of the message (UUID).
                 * @example d0000000-0000-4000-8000-000000000008
                 */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The message was deleted. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true
                     *     }
                     */
                    "application/json": components["schemas"]["Success"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    listNotebooks: {
        parameters: {
            query?: {
                /** @description Value of `nextCursor` of the page before. */
                cursor?: string;
                /** @description Maximum number of rows: 1 to 200, by default 50. */
                limit?: number;
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description One page of notebooks. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "data": [
                     *         {
                     *           "createdAt": "2026-11-21T12:00:00.000Z",
                     *           "id": "d0000000-0000-4000-8000-000000000004",
                     *           "title": "Harbour"
                     *         }
                     *       ],
                     *       "nextCursor": null
                     *     }
                     */
                    "application/json": components["schemas"]["Page_Notebook"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    createNotebook: {
        parameters: {
            query?: {
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "title": "Harbour"
                 *     }
                 */
                "application/json": components["schemas"]["NewNotebook"];
            };
        };
        responses: {
            /** @description The notebook was stored. */
            201: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "createdAt": "2026-11-21T12:00:00.000Z",
                     *       "id": "d0000000-0000-4000-8000-000000000004",
                     *       "title": "Harbour"
                     *     }
                     */
                    "application/json": components["schemas"]["Notebook"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    deleteNotebook: {
        parameters: {
            query?: {
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description ID of the notebook (UUID).
                 * @example d0000000-0000-4000-8000-000000000004
                 */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The notebook was deleted. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true
                     *     }
                     */
                    "application/json": components["schemas"]["Success"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    updateNotebook: {
        parameters: {
            query?: {
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description ID of the notebook (UUID).
                 * @example d0000000-0000-4000-8000-000000000004
                 */
                id: string;
            };
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "title": "Harbour"
                 *     }
                 */
                "application/json": components["schemas"]["NotebookChanges"];
            };
        };
        responses: {
            /** @description The notebook after the change. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "createdAt": "2026-11-21T12:00:00.000Z",
                     *       "id": "d0000000-0000-4000-8000-000000000004",
                     *       "title": "Harbour"
                     *     }
                     */
                    "application/json": components["schemas"]["Notebook"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    listPersonas: {
        parameters: {
            query?: {
                /** @description Value of `nextCursor` of the page before. */
                cursor?: string;
                /** @description Maximum number of rows: 1 to 200, by default 50. */
                limit?: number;
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description One page of personas. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "data": [
                     *         {
                     *           "createdAt": "2026-11-21T12:00:00.000Z",
                     *           "description": "Knows the harbour.",
                     *           "id": "d0000000-0000-4000-8000-000000000003",
                     *           "name": "Pilot"
                     *         }
                     *       ],
                     *       "nextCursor": null
                     *     }
                     */
                    "application/json": components["schemas"]["Page_Persona"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    createPersona: {
        parameters: {
            query?: {
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "description": "Knows the harbour.",
                 *       "name": "Pilot"
                 *     }
                 */
                "application/json": components["schemas"]["NewPersona"];
            };
        };
        responses: {
            /** @description The persona was stored. */
            201: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "createdAt": "2026-11-21T12:00:00.000Z",
                     *       "description": "Knows the harbour.",
                     *       "id": "d0000000-0000-4000-8000-000000000003",
                     *       "name": "Pilot"
                     *     }
                     */
                    "application/json": components["schemas"]["Persona"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    deletePersona: {
        parameters: {
            query?: {
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description ID of the persona (UUID).
                 * @example d0000000-0000-4000-8000-000000000003
                 */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The persona was deleted. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true
                     *     }
                     */
                    "application/json": components["schemas"]["Success"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    updatePersona: {
        parameters: {
            query?: {
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description ID of the persona (UUID).
                 * @example d0000000-0000-4000-8000-000000000003
                 */
                id: string;
            };
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "name": "Pilot"
                 *     }
                 */
                "application/json": components["schemas"]["PersonaChanges"];
            };
        };
        responses: {
            /** @description The persona after the change. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "createdAt": "2026-11-21T12:00:00.000Z",
                     *       "description": "Knows the harbour.",
                     *       "id": "d0000000-0000-4000-8000-000000000003",
                     *       "name": "Pilot"
                     *     }
                     */
                    "application/json": components["schemas"]["Persona"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    search: {
        parameters: {
            query: {
                /** @description Only hits from this conversation (UUID). */
                conversationId?: string;
                /** @description Only hits that were stored at this time or later. */
                from?: string;
                /** @description Only memories or only units. */
                kind?: "memory" | "unit";
                /** @description Maximum number of hits: 1 to 200, by default 20. */
                limit?: number;
                /** @description Only hits of this notebook (UUID). */
                notebookId?: string;
                /**
                 * @description Text to search for: 1 to 1,000 characters.
                 * @example tide
                 */
                q: string;
                /** @description Only hits that were stored before this time. */
                until?: string;
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Hits in the order of their score. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "data": [
                     *         {
                     *           "content": "The tide turns at six.",
                     *           "conversationId": null,
                     *           "createdAt": "2026-11-21T12:00:00.000Z",
                     *           "id": "d0000000-0000-4000-8000-000000000005",
                     *           "kind": "unit",
                     *           "messageId": null,
                     *           "notebookId": null,
                     *           "score": 1
                     *         }
                     *       ]
                     *     }
                     */
                    "application/json": components["schemas"]["Hits"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    listAudit: {
        parameters: {
            query?: {
                /** @description Only entries of this action. */
                action?: "disconnect_user" | "disconnect_device" | "disconnect_connection" | "publish" | "watch_connection";
                /** @description Value of `next_cursor` of the page before. */
                cursor?: number;
                /** @description Maximum number of entries: 1 to 200, by default 50. */
                limit?: number;
                /** @description Only actions that concern this user (UUID). */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description One page of the audit log. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "data": [
                     *         {
                     *           "action": "disconnect_user",
                     *           "actor": "service_role",
                     *           "at": "2026-11-21T12:00:00.000Z",
                     *           "id": 7,
                     *           "login": "rollcall",
                     *           "reason": "Account suspended",
                     *           "request_id": "0198c0de-0000-7000-8000-000000000000",
                     *           "role": "service_role",
                     *           "target": {
                     *             "user_id": "a0000000-0000-4000-8000-000000000001"
                     *           },
                     *           "user_id": "a0000000-0000-4000-8000-000000000001"
                     *         }
                     *       ],
                     *       "next_cursor": null
                     *     }
                     */
                    "application/json": components["schemas"]["AuditPage"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    listChannels: {
        parameters: {
            query?: {
                /** @description Value of `next_cursor` of the page before. */
                cursor?: string;
                /** @description Maximum number of channels: 1 to 200, by default 50. */
                limit?: number;
                /** @description Only channels and members of this node (UUID). */
                node?: string;
                /** @description Only channels whose topic contains this text. */
                search?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description One page of channels. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "data": [
                     *         {
                     *           "members": 2,
                     *           "private": false,
                     *           "topic": "harbour"
                     *         }
                     *       ],
                     *       "next_cursor": null,
                     *       "total": 1,
                     *       "unanswered": []
                     *     }
                     */
                    "application/json": components["schemas"]["NodesPage_OperatorChannel"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    listConnections: {
        parameters: {
            query?: {
                /** @description Only connections whose remote address begins with this text, such as `192.0.2.`. */
                address?: string;
                /** @description Value of `next_cursor` of the page before. */
                cursor?: string;
                /** @description Only connections of devices with this ID. */
                device_id?: components["schemas"]["DeviceId"];
                /** @description Only connections with this dialect. */
                dialect?: "presence" | "presence_events" | "devices" | "context" | "phoenix_v1" | "phoenix_v2" | "channel_events";
                /** @description Maximum number of connections: 1 to 200, by default 50. */
                limit?: number;
                /** @description Only connections with at least this number of bytes that wait until the client reads. */
                min_queued_bytes?: number;
                /** @description Only connections of this node (UUID). */
                node?: string;
                /** @description Only connections on which this user acts (UUID). */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description One page of connections. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "data": [
                     *         {
                     *           "connected_at": "2026-11-21T12:00:00.000Z",
                     *           "device_id": "phone",
                     *           "dialect": "presence",
                     *           "id": "0b7f2f0e-0000-4000-8000-000000000000.0.3.12",
                     *           "idle_seconds": 4,
                     *           "messages_received": 12,
                     *           "messages_sent": 80,
                     *           "node": "0b7f2f0e-0000-4000-8000-000000000000",
                     *           "queued_bytes": 0,
                     *           "queued_messages": 0,
                     *           "received_per_second": 0.1,
                     *           "remote_address": "192.0.2.7:50112",
                     *           "sent_per_second": 1.5,
                     *           "user_ids": [
                     *             "a0000000-0000-4000-8000-000000000001"
                     *           ]
                     *         }
                     *       ],
                     *       "next_cursor": null,
                     *       "total": 1,
                     *       "unanswered": []
                     *     }
                     */
                    "application/json": components["schemas"]["NodesPage_Connection"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    watchConnection: {
        parameters: {
            query?: {
                /** @description Whether to include payloads, without tokens. Requires the setting `OPERATOR_PAYLOADS`. */
                payloads?: boolean;
            };
            header?: never;
            path: {
                /** @description ID of the connection, as in the list of connections. */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A stream of events that ends when the client disconnects. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "text/event-stream": {
                        /** @description The text in the lines `data` of the event. */
                        data: string;
                    };
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    disconnect: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "reason": "Account suspended",
                 *       "user_id": "a0000000-0000-4000-8000-000000000001"
                 *     }
                 */
                "application/json": components["schemas"]["DisconnectBody"];
            };
        };
        responses: {
            /** @description The connections are being closed. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "disconnected": 1
                     *     }
                     */
                    "application/json": components["schemas"]["DisconnectAnswer"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    explain: {
        parameters: {
            query: {
                /**
                 * @description ID of the user who is looked at (UUID).
                 * @example a0000000-0000-4000-8000-000000000006
                 */
                subject: components["schemas"]["UserId"];
                /**
                 * @description ID of the user who looks (UUID).
                 * @example a0000000-0000-4000-8000-000000000001
                 */
                viewer: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description One entry for each form of the user; one entry if nothing is visible. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example [
                     *       {
                     *         "decided_by": "list",
                     *         "evidence": {},
                     *         "face": "trusted",
                     *         "policy": null,
                     *         "reason": "on the list",
                     *         "visible": true
                     *       }
                     *     ]
                     */
                    "application/json": components["schemas"]["VisibilityExplanation"][];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    health: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description All health checks passed. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "checks": {
                     *         "database": {
                     *           "latency_ms": 1,
                     *           "ok": true
                     *         },
                     *         "listener": {
                     *           "latency_ms": 0,
                     *           "ok": true
                     *         }
                     *       },
                     *       "status": "ok",
                     *       "timestamp": "2026-11-21T12:00:00.000Z",
                     *       "version": "0.1.0"
                     *     }
                     */
                    "application/json": components["schemas"]["Health"];
                };
            };
            /** @description A check failed, or the server stops. */
            503: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "checks": {
                     *         "database": {
                     *           "latency_ms": 2000,
                     *           "message": "timed out",
                     *           "ok": false
                     *         }
                     *       },
                     *       "status": "unavailable",
                     *       "timestamp": "2026-11-21T12:00:00.000Z",
                     *       "version": "0.1.0"
                     *     }
                     */
                    "application/json": components["schemas"]["Health"];
                };
            };
        };
    };
    history: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Samples of each node. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "nodes": [
                     *         {
                     *           "node": "0b7f2f0e-0000-4000-8000-000000000000",
                     *           "samples": [
                     *             {
                     *               "at": "2026-11-21T12:00:00.000Z",
                     *               "bytes_per_second": 300,
                     *               "connections": 3,
                     *               "deliveries_per_second": 1.5,
                     *               "slow_closed_per_second": 0
                     *             }
                     *           ]
                     *         }
                     *       ],
                     *       "unanswered": []
                     *     }
                     */
                    "application/json": components["schemas"]["HistoryAnswer"];
                };
            };
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    metricsWithToken: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Metrics in the text format of Prometheus. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "text/plain": string;
                };
            };
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    nodes: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The nodes, oldest first. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example [
                     *       {
                     *         "alive": true,
                     *         "connections": 4,
                     *         "devices": 3,
                     *         "id": "0b7f2f0e-0000-4000-8000-000000000000",
                     *         "lease_expires_at": "2026-11-21T12:00:00.000Z",
                     *         "renewed_at": "2026-11-21T12:00:00.000Z",
                     *         "started_at": "2026-11-21T12:00:00.000Z",
                     *         "uptime_seconds": 60,
                     *         "version": "0.1.0"
                     *       }
                     *     ]
                     */
                    "application/json": components["schemas"]["Node"][];
                };
            };
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    publish: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "event": "notice",
                 *       "payload": {
                 *         "text": "Maintenance at 22:00"
                 *       },
                 *       "private": false,
                 *       "topic": "harbour"
                 *     }
                 */
                "application/json": components["schemas"]["PublishBody"];
            };
        };
        responses: {
            /** @description The message was stored and is being delivered. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true
                     *     }
                     */
                    "application/json": components["schemas"]["Success"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    listSubscriptions: {
        parameters: {
            query?: {
                /** @description Value of `next_cursor` of the page before. */
                cursor?: string;
                /** @description Maximum number of subscriptions: 1 to 200, by default 50. */
                limit?: number;
                /** @description Only subscriptions on this node (UUID). */
                node?: string;
                /** @description Only subscriptions to tables of this schema. */
                schema?: string;
                /** @description Only subscriptions to tables with this name. */
                table?: string;
                /** @description Only subscriptions of this user (UUID). */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description One page of subscriptions. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "data": [
                     *         {
                     *           "active": true,
                     *           "bindings": [
                     *             {
                     *               "event": "*",
                     *               "filters": [
                     *                 "list_id=eq.7"
                     *               ],
                     *               "schema": "public",
                     *               "select": null,
                     *               "table": "todos"
                     *             }
                     *           ],
                     *           "connection_id": "0b7f2f0e-0000-4000-8000-000000000000.0.3.12",
                     *           "id": "0b7f2f0e-0000-4000-8000-000000000000.0.3.12/7",
                     *           "role": "authenticated",
                     *           "topic": "todos",
                     *           "user_id": "a0000000-0000-4000-8000-000000000001"
                     *         }
                     *       ],
                     *       "next_cursor": null,
                     *       "total": 1,
                     *       "unanswered": []
                     *     }
                     */
                    "application/json": components["schemas"]["NodesPage_Subscription"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    webhooks: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The webhooks, oldest first, without secrets. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example [
                     *       {
                     *         "created_at": "2026-11-21T12:00:00.000Z",
                     *         "description": "billing",
                     *         "enabled": true,
                     *         "events": [
                     *           "user.online",
                     *           "user.offline"
                     *         ],
                     *         "filter": {},
                     *         "id": "d0000000-0000-4000-8000-000000000001",
                     *         "state": {
                     *           "attempts": 0,
                     *           "dead_letters": 0,
                     *           "dropped": 0,
                     *           "lag_seconds": 0,
                     *           "last_delivered_at": "2026-11-21T12:00:00.000Z",
                     *           "last_error": null,
                     *           "last_failed_at": null,
                     *           "last_status": 204,
                     *           "next_attempt_at": null,
                     *           "pending": 0
                     *         },
                     *         "updated_at": "2026-11-21T12:00:00.000Z",
                     *         "url": "https://example.com/events"
                     *       }
                     *     ]
                     */
                    "application/json": components["schemas"]["Webhook"][];
                };
            };
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    createWebhook: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "description": "billing",
                 *       "events": [
                 *         "user.online",
                 *         "user.offline"
                 *       ],
                 *       "url": "https://example.com/events"
                 *     }
                 */
                "application/json": components["schemas"]["NewWebhook"];
            };
        };
        responses: {
            /** @description The webhook was created. */
            201: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "created_at": "2026-11-21T12:00:00.000Z",
                     *       "description": "billing",
                     *       "enabled": true,
                     *       "events": [
                     *         "user.online",
                     *         "user.offline"
                     *       ],
                     *       "filter": {},
                     *       "id": "d0000000-0000-4000-8000-000000000001",
                     *       "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                     *       "updated_at": "2026-11-21T12:00:00.000Z",
                     *       "url": "https://example.com/events"
                     *     }
                     */
                    "application/json": components["schemas"]["Webhook"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            422: components["responses"]["Unprocessable"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    deleteWebhook: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description ID of the webhook (UUID).
                 * @example d0000000-0000-4000-8000-000000000001
                 */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The webhook was deleted. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true
                     *     }
                     */
                    "application/json": components["schemas"]["Success"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    updateWebhook: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description ID of the webhook (UUID).
                 * @example d0000000-0000-4000-8000-000000000001
                 */
                id: string;
            };
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "enabled": false
                 *     }
                 */
                "application/json": components["schemas"]["WebhookChanges"];
            };
        };
        responses: {
            /** @description The webhook as it is now. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "created_at": "2026-11-21T12:00:00.000Z",
                     *       "description": "billing",
                     *       "enabled": false,
                     *       "events": [
                     *         "user.online",
                     *         "user.offline"
                     *       ],
                     *       "filter": {},
                     *       "id": "d0000000-0000-4000-8000-000000000001",
                     *       "updated_at": "2026-11-21T12:30:00.000Z",
                     *       "url": "https://example.com/events"
                     *     }
                     */
                    "application/json": components["schemas"]["Webhook"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            422: components["responses"]["Unprocessable"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    webhookDeadLetters: {
        parameters: {
            query?: {
                /** @description Continues behind the event with this ID. */
                after?: number;
                /** @description Number of dead letters: 1 to 1,000, by default 100. */
                limit?: number;
            };
            header?: never;
            path: {
                /**
                 * @description ID of the webhook (UUID).
                 * @example d0000000-0000-4000-8000-000000000001
                 */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The dead letters, oldest event first. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example [
                     *       {
                     *         "attempts": 12,
                     *         "data": {
                     *           "status": "online",
                     *           "user_id": "a0000000-0000-4000-8000-000000000002"
                     *         },
                     *         "event_id": "7",
                     *         "failed_at": "2026-11-21T12:30:00.000Z",
                     *         "id": "d0000000-0000-4000-8000-000000000002",
                     *         "last_error": "status 500",
                     *         "last_status": 500,
                     *         "occurred_at": "2026-11-21T12:00:00.000Z",
                     *         "resend_at": null,
                     *         "type": "user.online"
                     *       }
                     *     ]
                     */
                    "application/json": components["schemas"]["DeadLetter"][];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    resendDeadLetters: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description ID of the webhook (UUID).
                 * @example d0000000-0000-4000-8000-000000000001
                 */
                id: string;
            };
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody: {
            content: {
                /** @example {} */
                "application/json": components["schemas"]["ResendBody"];
            };
        };
        responses: {
            /** @description They are sent soon. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "resent": 1
                     *     }
                     */
                    "application/json": components["schemas"]["Resent"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    testWebhook: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description ID of the webhook (UUID).
                 * @example d0000000-0000-4000-8000-000000000001
                 */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description What became of it. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "delivered": true,
                     *       "duration_ms": 87,
                     *       "error": null,
                     *       "status": 204
                     *     }
                     */
                    "application/json": components["schemas"]["TestResult"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    listTopics: {
        parameters: {
            query?: {
                /** @description Value of `nextCursor` of the page before. */
                cursor?: string;
                /** @description Maximum number of rows: 1 to 200, by default 50. */
                limit?: number;
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description One page of topics. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "data": [
                     *         {
                     *           "aliases": [
                     *             "ebb"
                     *           ],
                     *           "conversationCount": 0,
                     *           "createdAt": "2026-11-21T12:00:00.000Z",
                     *           "domain": null,
                     *           "id": "d0000000-0000-4000-8000-000000000006",
                     *           "importance": 0.5,
                     *           "label": "Tides",
                     *           "lastEngagedAt": null,
                     *           "proficiency": "unknown",
                     *           "slug": "tides",
                     *           "unitCount": 0
                     *         }
                     *       ],
                     *       "nextCursor": null
                     *     }
                     */
                    "application/json": components["schemas"]["Page_Topic"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    deleteTopic: {
        parameters: {
            query?: {
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description ID of the topic (UUID).
                 * @example d0000000-0000-4000-8000-000000000006
                 */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The topic was deleted. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true
                     *     }
                     */
                    "application/json": components["schemas"]["Success"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    updateTopic: {
        parameters: {
            query?: {
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description ID of the topic (UUID).
                 * @example d0000000-0000-4000-8000-000000000006
                 */
                id: string;
            };
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "label": "Tides"
                 *     }
                 */
                "application/json": components["schemas"]["TopicChanges"];
            };
        };
        responses: {
            /** @description The topic after the change. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "aliases": [
                     *         "ebb"
                     *       ],
                     *       "conversationCount": 0,
                     *       "createdAt": "2026-11-21T12:00:00.000Z",
                     *       "domain": null,
                     *       "id": "d0000000-0000-4000-8000-000000000006",
                     *       "importance": 0.5,
                     *       "label": "Tides",
                     *       "lastEngagedAt": null,
                     *       "proficiency": "unknown",
                     *       "slug": "tides",
                     *       "unitCount": 0
                     *     }
                     */
                    "application/json": components["schemas"]["Topic"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    listUnits: {
        parameters: {
            query?: {
                /** @description Only units from this conversation (UUID). */
                conversationId?: string;
                /** @description Value of `nextCursor` of the page before. */
                cursor?: string;
                /** @description Only units that were stored at this time or later. */
                from?: string;
                /** @description Maximum number of rows: 1 to 200, by default 50. */
                limit?: number;
                /** @description Only units of this notebook (UUID). */
                notebookId?: string;
                /** @description Only units that were stored before this time. */
                until?: string;
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description One page of units. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "data": [
                     *         {
                     *           "content": "The tide turns at six.",
                     *           "conversationId": null,
                     *           "createdAt": "2026-11-21T12:00:00.000Z",
                     *           "id": "d0000000-0000-4000-8000-000000000005",
                     *           "isActive": true,
                     *           "isLearned": false,
                     *           "messageId": null,
                     *           "notebookId": null,
                     *           "quality": 0.5,
                     *           "unitType": "statement"
                     *         }
                     *       ],
                     *       "nextCursor": null
                     *     }
                     */
                    "application/json": components["schemas"]["Page_Unit"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    createUnit: {
        parameters: {
            query?: {
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "content": "The tide turns at six."
                 *     }
                 */
                "application/json": components["schemas"]["NewUnit"];
            };
        };
        responses: {
            /** @description The unit was stored. */
            201: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "content": "The tide turns at six.",
                     *       "conversationId": null,
                     *       "createdAt": "2026-11-21T12:00:00.000Z",
                     *       "id": "d0000000-0000-4000-8000-000000000005",
                     *       "isActive": true,
                     *       "isLearned": false,
                     *       "messageId": null,
                     *       "notebookId": null,
                     *       "quality": 0.5,
                     *       "unitType": "statement"
                     *     }
                     */
                    "application/json": components["schemas"]["Unit"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    deleteUnit: {
        parameters: {
            query?: {
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description ID of the unit (UUID).
                 * @example d0000000-0000-4000-8000-000000000005
                 */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The unit was deleted. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true
                     *     }
                     */
                    "application/json": components["schemas"]["Success"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    updateUnit: {
        parameters: {
            query?: {
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description ID of the unit (UUID).
                 * @example d0000000-0000-4000-8000-000000000005
                 */
                id: string;
            };
            cookie?: never;
        };
        /** @description The body has at most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "content": "The tide turns at six."
                 *     }
                 */
                "application/json": components["schemas"]["UnitChanges"];
            };
        };
        responses: {
            /** @description The unit after the change. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "content": "The tide turns at six.",
                     *       "conversationId": null,
                     *       "createdAt": "2026-11-21T12:00:00.000Z",
                     *       "id": "d0000000-0000-4000-8000-000000000005",
                     *       "isActive": true,
                     *       "isLearned": false,
                     *       "messageId": null,
                     *       "notebookId": null,
                     *       "quality": 0.5,
                     *       "unitType": "statement"
                     *     }
                     */
                    "application/json": components["schemas"]["Unit"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    usage: {
        parameters: {
            query?: {
                /** @description ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`. */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The usage, at most 1,000 rows. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "data": [
                     *         {
                     *           "calls": 2,
                     *           "completionTokens": 40,
                     *           "cost": 0.00012,
                     *           "day": "2026-11-21",
                     *           "model": "gpt-4o-mini",
                     *           "promptTokens": 640,
                     *           "purpose": "chat"
                     *         }
                     *       ]
                     *     }
                     */
                    "application/json": components["schemas"]["Usage"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    asyncapi: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The description as a JSON document. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /** @example {} */
                    "application/json": {
                        [key: string]: unknown;
                    };
                };
            };
        };
    };
    consoleFile: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description Name of the file.
                 * @example index.html
                 */
                file: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The file of the console. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "text/html": string;
                };
            };
            /** @description The copy of the browser is current. */
            304: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["InvalidRequest"];
            404: components["responses"]["NotFound"];
        };
    };
    demo: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Tokens of the demo users. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "people": [],
                     *       "service_token": "eyJhbGciOiJIUzI1NiJ9.e30.x"
                     *     }
                     */
                    "application/json": components["schemas"]["Demo"];
                };
            };
            404: components["responses"]["NotFound"];
            500: components["responses"]["InternalError"];
        };
    };
    demoLink: {
        parameters: {
            query: {
                /** @description Code that the server printed at its start. */
                code: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The cookie is set; the console follows. */
            303: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["InvalidRequest"];
            404: components["responses"]["NotFound"];
        };
    };
    docs: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Page of the API reference. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "text/html": string;
                };
            };
            /** @description The copy of the browser is current. */
            304: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    errorDocs: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Page of the error codes. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "text/html": string;
                };
            };
            /** @description The copy of the browser is current. */
            304: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    alive: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The server runs: the text `ok`. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "text/plain": string;
                };
            };
        };
    };
    livez: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The server runs: the text `ok`. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "text/plain": string;
                };
            };
        };
    };
    metrics: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Metrics in the text format of Prometheus. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "text/plain": string;
                };
            };
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    openapi: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The description as a JSON document. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /** @example {} */
                    "application/json": {
                        [key: string]: unknown;
                    };
                };
            };
        };
    };
    readyz: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description All health checks passed. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "checks": {
                     *         "database": {
                     *           "latency_ms": 1,
                     *           "ok": true
                     *         },
                     *         "listener": {
                     *           "latency_ms": 0,
                     *           "ok": true
                     *         }
                     *       },
                     *       "status": "ok",
                     *       "timestamp": "2026-11-21T12:00:00.000Z",
                     *       "version": "0.1.0"
                     *     }
                     */
                    "application/json": components["schemas"]["Health"];
                };
            };
            /** @description A check failed, or the server stops. */
            503: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "checks": {
                     *         "database": {
                     *           "latency_ms": 2000,
                     *           "message": "timed out",
                     *           "ok": false
                     *         }
                     *       },
                     *       "status": "unavailable",
                     *       "timestamp": "2026-11-21T12:00:00.000Z",
                     *       "version": "0.1.0"
                     *     }
                     */
                    "application/json": components["schemas"]["Health"];
                };
            };
        };
    };
    broadcast: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description The body has at most 8,000,000 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "messages": [
                 *         {
                 *           "event": "tide",
                 *           "payload": {
                 *             "metres": 3.2
                 *           },
                 *           "topic": "harbour"
                 *         }
                 *       ]
                 *     }
                 */
                "application/json": components["schemas"]["BroadcastBatch"];
            };
        };
        responses: {
            /** @description The messages were accepted. */
            202: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["InvalidRequest"];
            /** @description The token or key is missing or invalid. */
            401: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "Unauthorized"
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeMessage"];
                };
            };
            403: components["responses"]["Forbidden"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            /** @description At least one message is invalid; the errors are listed by position. */
            422: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "errors": {
                     *         "messages": [
                     *           {},
                     *           {
                     *             "payload": [
                     *               "can't be blank"
                     *             ]
                     *           }
                     *         ]
                     *       }
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeFieldErrors"];
                };
            };
            /** @description The message rate of the node is exceeded. */
            429: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "You have exceeded your rate limit"
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeMessage"];
                };
            };
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    broadcastOne: {
        parameters: {
            query?: {
                /** @description Whether the private channel of that name is meant. */
                private?: boolean;
            };
            header?: never;
            path: {
                /**
                 * @description Name of the event.
                 * @example tide
                 */
                event: string;
                /**
                 * @description Name of the channel, without `realtime:`.
                 * @example harbour
                 */
                topic: string;
            };
            cookie?: never;
        };
        /** @description The body has at most 8,000,000 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "metres": 3.2
                 *     }
                 */
                "application/json": {
                    [key: string]: unknown;
                };
            };
        };
        responses: {
            /** @description The message was accepted. */
            202: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["InvalidRequest"];
            /** @description The token or key is missing or invalid. */
            401: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "Unauthorized"
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeMessage"];
                };
            };
            /** @description The policies deny the caller the private channel. */
            403: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "Unauthorized"
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeMessage"];
                };
            };
            413: components["responses"]["PayloadTooLarge"];
            /** @description The content type is neither JSON nor binary. */
            415: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unsupported Media Type. Use application/json or application/octet-stream"
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeErrorText"];
                };
            };
            /** @description The payload is too large, or the policies could not be checked. */
            422: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "errors": {
                     *         "payload": [
                     *           "Payload size exceeds tenant limit"
                     *         ]
                     *       }
                     *     }
                     */
                    "application/json": {
                        [key: string]: unknown;
                    };
                };
            };
            /** @description The message rate of the node is exceeded. */
            429: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "You have exceeded your rate limit"
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeMessage"];
                };
            };
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    channelsHealth: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description All health checks passed. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "checks": {
                     *         "database": {
                     *           "latency_ms": 1,
                     *           "ok": true
                     *         },
                     *         "listener": {
                     *           "latency_ms": 0,
                     *           "ok": true
                     *         }
                     *       },
                     *       "status": "ok",
                     *       "timestamp": "2026-11-21T12:00:00.000Z",
                     *       "version": "0.1.0"
                     *     }
                     */
                    "application/json": components["schemas"]["Health"];
                };
            };
            /** @description A check failed, or the server stops. */
            503: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "checks": {
                     *         "database": {
                     *           "latency_ms": 2000,
                     *           "message": "timed out",
                     *           "ok": false
                     *         }
                     *       },
                     *       "status": "unavailable",
                     *       "timestamp": "2026-11-21T12:00:00.000Z",
                     *       "version": "0.1.0"
                     *     }
                     */
                    "application/json": components["schemas"]["Health"];
                };
            };
        };
    };
    channelOccupancy: {
        parameters: {
            query?: {
                /** @description Whether the private channel of that name is meant. */
                private?: "true" | "false";
            };
            header?: never;
            path: {
                /**
                 * @description Name of the channel, without `realtime:`.
                 * @example harbour
                 */
                topic: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Numbers of keys and of tracked payloads. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "keys": 2,
                     *       "metas": 3,
                     *       "private": false,
                     *       "topic": "harbour"
                     *     }
                     */
                    "application/json": components["schemas"]["ChannelOccupancy"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            /** @description The token or key is missing or invalid. */
            401: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "Unauthorized"
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeMessage"];
                };
            };
            /** @description The policies deny the caller the private channel. */
            403: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "Unauthorized"
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeMessage"];
                };
            };
            /** @description `private` is invalid, or the policies could not be checked. */
            422: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "errors": {
                     *         "private": [
                     *           "is invalid"
                     *         ]
                     *       }
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeRejection"];
                };
            };
            /** @description Too many requests check the policies. */
            429: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "Connection pool exhausted"
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeMessage"];
                };
            };
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    ping: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The server of the channels runs. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "Success"
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeMessage"];
                };
            };
        };
    };
    channelPresence: {
        parameters: {
            query?: {
                /** @description Whether the private channel of that name is meant. */
                private?: "true" | "false";
            };
            header?: never;
            path: {
                /**
                 * @description Name of the channel, without `realtime:`.
                 * @example harbour
                 */
                topic: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Tracked payloads by key. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "presence": {
                     *         "alice": {
                     *           "metas": [
                     *             {
                     *               "phx_ref": "GKV5bJ4-BTFw1gBC",
                     *               "status": "online"
                     *             }
                     *           ]
                     *         }
                     *       },
                     *       "private": false,
                     *       "topic": "harbour"
                     *     }
                     */
                    "application/json": components["schemas"]["ChannelPresence"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            /** @description The token or key is missing or invalid. */
            401: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "Unauthorized"
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeMessage"];
                };
            };
            /** @description The policies deny the caller the private channel. */
            403: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "Unauthorized"
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeMessage"];
                };
            };
            /** @description `private` is invalid, or the policies could not be checked. */
            422: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "errors": {
                     *         "private": [
                     *           "is invalid"
                     *         ]
                     *       }
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeRejection"];
                };
            };
            /** @description Too many requests check the policies. */
            429: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "Connection pool exhausted"
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeMessage"];
                };
            };
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    channelEvents: {
        parameters: {
            query: {
                /** @description Token of the user, if `apikey` is the key of the project. The header `Authorization` may have it too. */
                access_token?: string;
                /** @description Token or key; required unless the header `x-api-key`, `apikey` or `Authorization` has it. */
                apikey?: string;
                /**
                 * @description Further settings of the join, as JSON, for example
                 *     `{"broadcast":{"self":true},"postgres_changes":[{"event":"*","schema":"public","table":"messages"}]}`.
                 */
                config?: string;
                /** @description ID of the last event, for clients that cannot send the header `Last-Event-ID`, which takes precedence. */
                last_event_id?: string;
                /** @description Whether the channel is private. */
                private?: boolean;
                /** @description Topic of the channel, without `realtime:`. */
                topic: string;
            };
            header?: {
                /** @description ID of the last event, as browsers send it. In a channel with a history, the broadcasts after it are replayed. */
                "Last-Event-ID"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A stream of events that ends with the channel, or when the client disconnects. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "text/event-stream": {
                        /** @description The text in the lines `data` of the event. */
                        data: string;
                    };
                };
            };
            /** @description `topic` is missing, or `config` is not a JSON object. */
            400: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "config must be a JSON object"
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeErrorText"];
                };
            };
            /** @description The key is missing or invalid. */
            401: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "API key is missing"
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeErrorText"];
                };
            };
            403: components["responses"]["Forbidden"];
            /** @description The node has too many sockets or joins. */
            429: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Too many connected users"
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeErrorText"];
                };
            };
            /** @description A header value is too long. */
            431: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    channelsSocket: {
        parameters: {
            query?: {
                /** @description Token or key; required unless the header `x-api-key` has it. */
                apikey?: string;
                /** @description Serializer version: `1.0.0` (the default) for objects, `2.0.0` for arrays and binary frames. */
                vsn?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The connection is a WebSocket from here on. */
            101: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description The request is not a WebSocket handshake. */
            400: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "not a WebSocket handshake"
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeErrorText"];
                };
            };
            /** @description The key is missing or invalid. */
            401: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "API key is missing"
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeErrorText"];
                };
            };
            /** @description The serializer version is not supported. */
            403: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description The node has too many sockets or joins. */
            429: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Too many connected users"
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeErrorText"];
                };
            };
            /** @description A header value is too long. */
            431: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    channelsSocketWithoutPrefix: {
        parameters: {
            query?: {
                /** @description Token or key; required unless the header `x-api-key` has it. */
                apikey?: string;
                /** @description Serializer version: `1.0.0` (the default) for objects, `2.0.0` for arrays and binary frames. */
                vsn?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The connection is a WebSocket from here on. */
            101: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description The request is not a WebSocket handshake. */
            400: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "not a WebSocket handshake"
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeErrorText"];
                };
            };
            /** @description The key is missing or invalid. */
            401: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "API key is missing"
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeErrorText"];
                };
            };
            /** @description The serializer version is not supported. */
            403: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description The node has too many sockets or joins. */
            429: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Too many connected users"
                     *     }
                     */
                    "application/json": components["schemas"]["RealtimeErrorText"];
                };
            };
            /** @description A header value is too long. */
            431: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    createChatCompletion: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description The body has at most 1 MiB. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "messages": [
                 *         {
                 *           "content": "Hello",
                 *           "role": "user"
                 *         }
                 *       ],
                 *       "model": "gpt-4o-mini"
                 *     }
                 */
                "application/json": components["schemas"]["CompletionBody"];
            };
        };
        responses: {
            /** @description The completion; with `stream` its chunks as server-sent events, and `[DONE]`. */
            200: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "choices": [
                     *         {
                     *           "finish_reason": "stop",
                     *           "index": 0,
                     *           "message": {
                     *             "content": "Hello.",
                     *             "role": "assistant"
                     *           }
                     *         }
                     *       ],
                     *       "created": 1790000000,
                     *       "id": "chatcmpl-1",
                     *       "model": "gpt-4o-mini",
                     *       "object": "chat.completion",
                     *       "usage": {
                     *         "completion_tokens": 4,
                     *         "prompt_tokens": 8,
                     *         "total_tokens": 12
                     *       }
                     *     }
                     */
                    "application/json": {
                        [key: string]: unknown;
                    };
                    "text/event-stream": {
                        /** @description The text in the lines `data` of the event. */
                        data: string;
                    };
                };
            };
            /** @description The request is invalid; `param` names the field. */
            400: {
                headers: {
                    "RateLimit-Limit": components["headers"]["RateLimitLimit"];
                    "RateLimit-Remaining": components["headers"]["RateLimitRemaining"];
                    "RateLimit-Reset": components["headers"]["RateLimitReset"];
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": {
                     *         "code": "invalid_request",
                     *         "message": "temperature: must be from 0 to 2",
                     *         "param": "temperature",
                     *         "type": "invalid_request_error"
                     *       }
                     *     }
                     */
                    "application/json": components["schemas"]["OpenAiError"];
                };
            };
            /** @description The token is missing (`UNAUTHORIZED`), or malformed, expired or signed with another key (`INVALID_TOKEN`). */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["OpenAiError"];
                };
            };
            /** @description The caller may not act for that user, or a row-level security policy denies the request. */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["OpenAiError"];
                };
            };
            /** @description The request conflicts with a concurrent one or with the current state. */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["OpenAiError"];
                };
            };
            /** @description The body exceeds the maximum size of the route. */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["OpenAiError"];
                };
            };
            /** @description The content type of the body is not JSON. */
            415: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["OpenAiError"];
                };
            };
            /** @description The rate limit is exceeded. `Retry-After` gives the seconds to wait. */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["OpenAiError"];
                };
            };
            /** @description The server failed. The log contains the cause under the `x-request-id` of the response. */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["OpenAiError"];
                };
            };
            /** @description A dependency of the route is unavailable. `Retry-After` gives the seconds to wait. */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["OpenAiError"];
                };
            };
        };
    };
    listModels: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Models that the caller may use. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "data": [
                     *         {
                     *           "created": 0,
                     *           "id": "gpt-4o-mini",
                     *           "object": "model",
                     *           "owned_by": "openai"
                     *         }
                     *       ],
                     *       "object": "list"
                     *     }
                     */
                    "application/json": components["schemas"]["ModelList"];
                };
            };
            /** @description The token is missing (`UNAUTHORIZED`), or malformed, expired or signed with another key (`INVALID_TOKEN`). */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["OpenAiError"];
                };
            };
            /** @description The caller may not act for that user, or a row-level security policy denies the request. */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["OpenAiError"];
                };
            };
            /** @description The server failed. The log contains the cause under the `x-request-id` of the response. */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["OpenAiError"];
                };
            };
            /** @description A dependency of the route is unavailable. `Retry-After` gives the seconds to wait. */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["OpenAiError"];
                };
            };
        };
    };
    version: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The version of the server. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "name": "rollcall",
                     *       "version": "0.1.0"
                     *     }
                     */
                    "application/json": components["schemas"]["Version"];
                };
            };
        };
    };
    devicesSocket: {
        parameters: {
            query?: {
                /** @description ID of the device that opens the socket. */
                device_id?: components["schemas"]["DeviceId"];
                /**
                 * @description Position of the last connection, to be sent only what changed since, or empty for the first one. With it, the server
                 *     tells positions. An unknown or old position brings the full state.
                 */
                resume?: string;
                /** @description Token of the user, for browsers, which cannot set headers on sockets. */
                token?: string;
                /** @description IDs of users to follow besides the related ones, separated by commas (1 to 1,000). */
                user_ids?: string;
            };
            header?: {
                /** @description ID of the device that opens the socket; preferred to the query. */
                "X-Device-ID"?: components["schemas"]["DeviceId"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The connection is a WebSocket from here on. */
            101: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            426: components["responses"]["UpgradeRequired"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
}
