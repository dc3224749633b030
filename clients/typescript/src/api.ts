// Made from the server's /openapi.json by `npm run generate`. Do not edit.

export interface paths {
    "/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The console */
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
         * Look at one user, with the number of devices
         * @description A path that is no UUID is a 404, whoever asks.
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
        /** List whom one blocks */
        get: operations["blocks"];
        put?: never;
        /**
         * Block a user
         * @description Neither sees the other from then on, whatever else is allowed.
         *
         *     Limit: 120 changes of this kind a minute and user unless configured otherwise, as many at once.
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
         * End a block
         * @description Limit: 120 changes of this kind a minute and user unless configured otherwise, as many at once.
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
         * Broadcast several messages
         * @description To whoever is in the channels now. Private messages need the policies' leave to insert; without it they are dropped, and the answer is 202 all the same.
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
         * Broadcast one message
         * @description The body is the payload: a JSON object (anything else arrives as `_json`), or bytes as `application/octet-stream`, which only serializer 2.0.0 can hear.
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
        /** List contacts and requests */
        get: operations["contacts"];
        put?: never;
        /**
         * Ask for a contact
         * @description Asking somebody who has asked before accepts; asking again changes nothing.
         *
         *     Limit: 120 changes of this kind a minute and user unless configured otherwise, as many at once.
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
         * End a contact
         * @description Or decline a request, or take one back.
         *
         *     Limit: 120 changes of this kind a minute and user unless configured otherwise, as many at once.
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
         * Accept a request
         * @description Limit: 120 changes of this kind a minute and user unless configured otherwise, as many at once.
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
        /** List the own conversations */
        get: operations["conversations"];
        put?: never;
        /**
         * Begin a conversation
         * @description Whoever begins it takes part.
         *
         *     Limit: 120 changes of this kind a minute and user unless configured otherwise, as many at once.
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
        /** Who is typing? */
        get: operations["typing"];
        put?: never;
        /**
         * Type, or stop typing
         * @description Lasts 5 s unless refreshed; a repeat within 2 s refreshes without telling anybody. Who takes no part in the conversation gets a 404.
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
         * Add a participant
         * @description Limit: 120 changes of this kind a minute and user unless configured otherwise, as many at once.
         */
        post: operations["addParticipant"];
        /**
         * Remove a participant, or leave
         * @description Only who began the conversation removes others.
         *
         *     Limit: 120 changes of this kind a minute and user unless configured otherwise, as many at once.
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
        /** Is the channels' server there? */
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
         * Look at many users
         * @description As `GET /api/presence/users`, by id.
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
         * Push an event to users' sockets
         * @description At most once: recipients who have no socket open now miss it. Their sockets get it in their dialect.
         *
         *     For `service_role` and holders of `presence:admin`.
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
        /** List the own devices */
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
         * Sign a device off
         * @description Offline at once, and its sockets are closed.
         *
         *     Limit: 120 changes of this kind a minute and user unless configured otherwise, as many at once.
         */
        delete: operations["signOffDevice"];
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
        /** Everything that is kept on the own presence */
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
         * Keep a device alive
         * @description For devices without a socket. Tells nobody unless it brings the device back. `active` says that somebody is using it.
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
        /** When were they last here? */
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
         * Erase the own presence
         * @description Settings, devices, last seen, typing and history; closes the user's sockets. The user then reads as never seen.
         *
         *     Limit: 120 changes of this kind a minute and user unless configured otherwise, as many at once.
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
        /** Read the own settings */
        get: operations["settings"];
        /**
         * Replace the own settings
         * @description What is not named goes back to its default.
         *
         *     Limit: 120 changes of this kind a minute and user unless configured otherwise, as many at once.
         */
        put: operations["replaceSettings"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        /**
         * Change some of the own settings
         * @description What is not named stays.
         *
         *     Limit: 120 changes of this kind a minute and user unless configured otherwise, as many at once.
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
         * Sign a device off while the page is being closed
         * @description For `navigator.sendBeacon`, which can set no headers and reads no answer: the token may be in the body, whose media type does not matter. Offline at once, and the device's sockets are closed.
         *
         *     Limit: 120 changes of this kind a minute and user unless configured otherwise, as many at once.
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
         * Read the own status
         * @description Whoever was never here is `offline` to themselves.
         */
        get: operations["ownStatus"];
        put?: never;
        /**
         * Set the own status
         * @description `busy`, `dnd` and `invisible` are chosen for all devices and hold until changed; `online`, `away` and `offline` are the device's. A text that is left out stays, `null` clears it. A repeat within 5 s changes nothing.
         *
         *     Limit: 10 status updates a minute and user unless configured otherwise, as many at once.
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
         * Presence, as it changes
         * @description The first frame is `initial_state` with everybody related to the user; then updates as they happen.
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
         * Look at several users
         * @description Without `user_ids`: contacts, team members and people in shared conversations, as far as the caller may see them. Ids that are unknown or not visible are left out.
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
        /** Look at one user */
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
         * Read the own visibility list
         * @description Who sees the user while invisible.
         */
        get: operations["visibilityList"];
        /**
         * Replace the own visibility list
         * @description Limit: 120 changes of this kind a minute and user unless configured otherwise, as many at once.
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
         * Put a user on the visibility list
         * @description Whoever is on the list sees the real state, also while the user is invisible.
         *
         *     Limit: 120 changes of this kind a minute and user unless configured otherwise, as many at once.
         */
        post: operations["enlist"];
        /**
         * Take a user off the visibility list
         * @description Whoever is on the list sees the real state, also while the user is invisible.
         *
         *     Limit: 120 changes of this kind a minute and user unless configured otherwise, as many at once.
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
         * Are channels well?
         * @description As the usual compose files of Supabase ask it. There is one tenant, whatever it is called.
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
         * Ask a model, with what is known of the user
         * @description Question and answer are saved once. With `stream` the answer is server-sent events: context, delta, done or error, then [DONE].
         *
         *     Limit: 20 chat requests a minute and user unless configured otherwise, as many at once.
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
         * The assembled prompt, layer by layer
         * @description Without calling a model: for seeing and debugging.
         *
         *     Limit: 30 context requests a minute and user unless configured otherwise, as many at once.
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
         * How the context engine is
         * @description The counts are the caller's own; the service's are everybody's.
         *
         *     Limit: 30 context requests a minute and user unless configured otherwise, as many at once.
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
         * Say by hand that a source has changed
         * @description Triggers notice by themselves. An unknown event is a 400 with `validTypes`.
         *
         *     Limit: 30 context requests a minute and user unless configured otherwise, as many at once.
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
         * Say what the user does on a device
         * @description Sets off a warm-up, which keeps nobody waiting; sockets hear bundle_ready.
         *
         *     Limit: 30 context requests a minute and user unless configured otherwise, as many at once.
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
         * Make profiles of new units
         * @description Oldest units first. At most one a user at a time; `force` takes the place of one that runs.
         *
         *     Limit: 30 context requests a minute and user unless configured otherwise, as many at once.
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
         * Compile what will be wanted
         * @description Answers when it is done.
         *
         *     Limit: 30 context requests a minute and user unless configured otherwise, as many at once.
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
         * What the user does on other devices
         * @description Opens for everybody: who is no valid user is closed with 4001 `Unauthorized`. Also at `/` of `WS_PORT`.
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
    "/api/v1/system/explain": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Why does somebody see somebody?
         * @description For `service_role`.
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
         * Is the server well?
         * @description Open, as balancers have no token; asks its dependencies at most once a second.
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
    "/api/v1/system/metrics": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * What the server counts
         * @description Prometheus text; 404 where nothing is counted.
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
         * The servers on this database
         * @description For `service_role`.
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
    "/asyncapi.json": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The sockets' description */
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
        /** A file of the pages */
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
         * Tokens of the demo's people
         * @description Only from a demo server on loopback, for its own pages; 404 elsewhere.
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
    "/docs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** This description, to read and to try */
        get: operations["docs"];
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
        /** Is the server there? */
        get: operations["alive"];
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
         * What the server counts
         * @description Prometheus text; 404 where nothing is counted.
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
        /** This description */
        get: operations["openapi"];
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
         * Broadcast several messages
         * @description To whoever is in the channels now. Private messages need the policies' leave to insert; without it they are dropped, and the answer is 202 all the same.
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
         * Broadcast one message
         * @description The body is the payload: a JSON object (anything else arrives as `_json`), or bytes as `application/octet-stream`, which only serializer 2.0.0 can hear.
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
         * Is the server well?
         * @description Open, as balancers have no token; asks its dependencies at most once a second.
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
    "/realtime/v1/api/ping": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Is the channels' server there? */
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
         * Who is present in a channel
         * @description On all nodes, as `presence_state` tells a client. A private channel's is for whoever may read its presence by the policies on `realtime.messages`, and so for the service.
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
    "/realtime/v1/websocket": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Channels: broadcast, presence, database changes
         * @description Phoenix channels as Supabase Realtime speaks them; `supabase-js` and the other official clients connect here. `vsn` picks the serializer.
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
         * Channels: broadcast, presence, database changes
         * @description Phoenix channels as Supabase Realtime speaks them; `supabase-js` and the other official clients connect here. `vsn` picks the serializer.
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
         * Create a chat completion with the context of a user
         * @description Request, response, stream chunks and errors have the format of OpenAI's API. `metadata.conversation_id` names the conversation; without it the prompt has the context of the user only, and nothing is saved.
         *
         *     Limit: 20 chat requests a minute and user unless configured otherwise, as many at once.
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
         * List the models
         * @description Default models of the configured providers, and the models that the role may use.
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
    "/ws": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Presence for devices and services
         * @description `{type, payload}` frames, with acknowledgements.
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
        /** @description Somebody whom the caller blocks. */
        Block: {
            /**
             * Format: date-time
             * @description Since when.
             */
            created_at: string;
            /** @description Whom. */
            user_id: components["schemas"]["UserId"];
        };
        /** @description One user as services and devices know them. */
        Card: {
            /** @description What the user wrote. */
            custom_status: string | null;
            /** @description How many devices are live; one to whoever may not see them. */
            devices_online: number;
            /**
             * Format: date-time
             * @description When any device was last live; `null` where it is not shared.
             */
            last_seen_at: string | null;
            /** @description The full value. */
            online_status: components["schemas"]["Status"];
            /** @description Whose. */
            user_id: components["schemas"]["UserId"];
        };
        /**
         * @description What an event is about.
         * @enum {string}
         */
        Category: "presence" | "typing" | "custom";
        /** @description A server-sent event of an answer. */
        ChatEvent: {
            /** @description JSON of a `context`, `delta`, `done` or `error`; at last `[DONE]`. */
            data: "[DONE]" | string;
        };
        /** @description A contact or a request, as the caller sees it. */
        Contact: {
            /**
             * Format: date-time
             * @description When it was accepted.
             */
            accepted_at: string | null;
            /**
             * Format: date-time
             * @description When it was asked for.
             */
            created_at: string;
            /**
             * @description The other side asks, the caller asked, or both agreed.
             * @enum {string}
             */
            status: "pending_in" | "pending_out" | "accepted";
            /** @description The other side. */
            user_id: components["schemas"]["UserId"];
        };
        /** @description How the context engine is. */
        ContextHealth: {
            /** @description Bundles. */
            contextBundles: number | null;
            /** @description What was given up. */
            deadLetters: number | null;
            /** @description Those of which a source has changed. */
            dirtyBundles: number | null;
            /** @description Entities. */
            entityProfiles: number | null;
            /** @description What waits to be compiled again. */
            invalidationQueue: number | null;
            /** @description Whether the dynamic engine answers. */
            newEngineAvailable: boolean;
            /** @description Whether the simple engine answers. */
            oldEngineAvailable: boolean;
            /**
             * @description Whether both engines answer, one, or none.
             * @enum {string}
             */
            status: "healthy" | "degraded" | "down";
            /**
             * Format: date-time
             * @description The server's clock.
             */
            timestamp: string;
            /** @description Topics. */
            topicProfiles: number | null;
        };
        /** @description A layer of a prompt with its part of the budget. */
        ContextLayer: {
            /** @description How willingly it shrinks, from 0 to 1. */
            elasticity: number;
            /** @description What it was given of the budget. */
            given: number;
            /** @description As many as it would like. */
            ideal: number;
            /** @description `L0` to `L7`. */
            layer: string;
            /** @description The most. */
            maximum: number;
            /** @description The fewest tokens that make sense. */
            minimum: number;
            /** @description In words. */
            name: string;
            /** @description Who gets first what is left. */
            priority: number;
            /** @description What it consists of. */
            sections: {
                /** @description Name of the bundle. */
                bundle?: string;
                /**
                 * Format: uuid
                 * @description Of a bundle, its row.
                 */
                bundleId?: string;
                /** @description Its text; empty where it was left out. */
                content: string;
                /** @description Whether it is only the beginning. */
                cut: boolean;
                /** @description Its layer's name. */
                layer: string;
                /**
                 * @description Of a bundle, whether it was ready.
                 * @enum {string}
                 */
                readiness?: "fresh" | "missing" | "dirty" | "expired" | "forced";
                /** @description Why it is here, or is not. */
                reason: string;
                /** @description What it is about. */
                title: string;
                /** @description The text's tokens. */
                tokens: number;
            }[];
            /** @description What it took. */
            used: number;
        };
        /** @description A conversation as one of its participants sees it. */
        Conversation: {
            /**
             * Format: date-time
             * @description When.
             */
            created_at: string;
            /** @description Who began it. */
            created_by: components["schemas"]["UserId"];
            /** @description Which. */
            id: components["schemas"]["ConversationId"];
            /** @description Who takes part, in order of joining. */
            participant_ids: components["schemas"]["UserId"][];
            /** @description What it is called. */
            title: string | null;
        };
        /**
         * Format: uuid
         * @description A conversation that people type in.
         */
        ConversationId: string;
        /** @description The tokens of a demo. */
        Demo: {
            /** @description The demo data's people. */
            people: {
                /** @description What they are called. */
                name: string;
                /** @description Valid for twelve hours. */
                token: string;
                /** @description Who. */
                user_id: components["schemas"]["UserId"];
            }[];
            /** @description A token of the service role. */
            service_token: string;
        };
        /** @description A device as its owner sees it. */
        Device: {
            /** @description The client's version. */
            app_version: string | null;
            /** @description Whether a running server holds a socket of it. */
            connected: boolean;
            /** @description As the client named it. */
            device_id: components["schemas"]["DeviceId"];
            /** @description For people. */
            device_name: string | null;
            /** @description Phone, desktop and the like, in the client's words. */
            device_type: string | null;
            /**
             * Format: date-time
             * @description Since when nobody has looked at it.
             */
            idle_since: string | null;
            /**
             * Format: date-time
             * @description When it was last known to be live.
             */
            last_heartbeat_at: string;
            /** @description iOS, web and the like, in the client's words. */
            platform: string | null;
            /**
             * Format: date-time
             * @description Since when it has been live, or was the last time.
             */
            session_started_at: string;
            /** @description Online, away or offline. */
            status: components["schemas"]["Status"];
        };
        /** @description A device of one user: 1 to 255 characters, none of them a control character. */
        DeviceId: string;
        /** @description It is done. */
        Done: {
            /**
             * @description Always `true`.
             * @constant
             */
            success: true;
        };
        /** @description What every error of every route looks like. */
        Error: {
            /** @description Which fields are wrong; only where it is about fields. */
            details?: components["schemas"]["FieldError"][];
            /** @description For programs. */
            error: string;
            /** @description For a person; never SQL, paths or secrets. */
            message: string;
            /** @description The status again. */
            statusCode: number;
            /** @constant */
            success: false;
        };
        /** @description One field and what is wrong with it. */
        FieldError: {
            /** @description Its path from the body's root; empty for the whole. */
            field: string;
            /** @description What is wrong, for a person. */
            message: string;
        };
        /** @description Whether the server is well. */
        Health: {
            /** @description What was found, by what was asked. */
            checks: {
                [key: string]: {
                    /** @description How long the answer took. */
                    latency_ms: number;
                    /** @description What is wrong. */
                    message?: string;
                    /** @description Whether the server can do its work with this. */
                    ok: boolean;
                } & {
                    [key: string]: unknown;
                };
            };
            /**
             * @description `unavailable` if one of the checks is not well, `draining` once the server is stopping.
             * @enum {string}
             */
            status: "ok" | "unavailable" | "draining";
            /**
             * Format: date-time
             * @description When.
             */
            timestamp: string;
            /** @description The server's version. */
            version: string;
        };
        /** @description When a user was last here. */
        LastSeen: {
            /**
             * Format: date-time
             * @description When any device was last live; `null` where it is not shared.
             */
            last_seen: string | null;
            /** @description Whose. */
            user_id: components["schemas"]["UserId"];
        };
        /** @description A server on the database. */
        Node: {
            /** @description Whether the lease runs. */
            alive: boolean;
            /** @description Devices whose sockets it holds. */
            devices: number;
            /**
             * Format: uuid
             * @description Which.
             */
            id: string;
            /**
             * Format: date-time
             * @description Until when it counts as alive without renewing again.
             */
            lease_expires_at: string;
            /**
             * Format: date-time
             * @description When it last renewed its lease.
             */
            renewed_at: string;
            /**
             * Format: date-time
             * @description Since when.
             */
            started_at: string;
        };
        /** @description One user as the caller may see them. */
        Presence: {
            /** @description What the user does. */
            activity?: string;
            /** @description The full value. */
            availability: components["schemas"]["Status"];
            /** @description Where the user does it. */
            current_page?: string;
            /** @description What the user wrote. */
            custom_status?: string;
            /**
             * Format: date-time
             * @description Since when every live device has been idle.
             */
            idle_since?: string;
            /** @description Whether the user types in a conversation shared with the caller; in lists. */
            is_typing?: boolean;
            /**
             * Format: date-time
             * @description When any device was last live; `null` where it is not shared.
             */
            last_seen: string | null;
            /** @description Whether the user can be reached. */
            status: components["schemas"]["Reach"];
            /** @description Whose. */
            user_id: components["schemas"]["UserId"];
        };
        /**
         * @description Whether a user can be reached; `busy` and `dnd` read `online`.
         * @enum {string}
         */
        Reach: "online" | "away" | "offline";
        /** @description What errors of the channels' routes look like. */
        RealtimeError: {
            /** @description For a person, in the words that clients know. */
            error: string;
        };
        /** @description What the channels' routes say beside data. */
        RealtimeMessage: {
            /** @description For a person, in the words that clients know. */
            message: string;
        };
        /** @description What a user shares, and with whom. */
        Settings: {
            /** @description Whether they see what the user does, and where. */
            show_activity: boolean;
            /** @description Whether they see what the user wrote. */
            show_custom_status: boolean;
            /** @description Whether they learn when the user was last here. */
            show_last_seen: boolean;
            /** @description Whether participants of a conversation see the user type. */
            show_typing: boolean;
            /** @description Who may see the user. */
            visibility: components["schemas"]["Visibility"];
        };
        /** @description What somebody sees of somebody, and why. */
        Sighting: {
            /** @description `self`, `block`, `list`, `setting`, `contact`, `team`: Rollcall's own policies; `policy`: another one; `never_seen`, `grant`, `error`; `row_level_security`: it is switched off. */
            decided_by: string;
            /** @description The row or setting that decides. */
            evidence: {
                [key: string]: unknown;
            } | null;
            /** @description Which face. */
            face: ("public" | "trusted") | null;
            /** @description The policies that allow it, or the one that forbids it. */
            policy: string | null;
            /** @description In words. */
            reason: string;
            /** @description Whether there is something to see. */
            visible: boolean;
        };
        /**
         * @description What a user may set. `busy`, `dnd` and `invisible` are chosen for all devices and hold until changed; the others are a device's.
         * @enum {string}
         */
        Status: "online" | "away" | "busy" | "dnd" | "invisible" | "offline";
        /**
         * Format: uuid
         * @description A person: the `sub` of a token, `auth.uid()` in SQL.
         */
        UserId: string;
        /**
         * @description Who may see a user at all: nobody but the visibility list, whoever shares a team, accepted contacts, or everyone who is signed in.
         * @enum {string}
         */
        Visibility: "nobody" | "team" | "contacts" | "everyone";
    };
    responses: {
        /** @description It is being done, or was changed, at the same time. */
        Conflict: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "error": "CONFLICT",
                 *       "message": "the contact is being ended",
                 *       "statusCode": 409,
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"] & {
                    /** @enum {unknown} */
                    error?: "CONFLICT" | "DUPLICATE_PRESENCE";
                    /** @constant */
                    statusCode?: 409;
                };
            };
        };
        /** @description Not allowed: another user's id, or what the database's policies do not let the caller do. */
        Forbidden: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "error": "FORBIDDEN",
                 *       "message": "that is another user",
                 *       "statusCode": 403,
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"] & {
                    /** @constant */
                    error?: "FORBIDDEN";
                    /** @constant */
                    statusCode?: 403;
                };
            };
        };
        /** @description Something went wrong on the server's side. The log has its cause, by `x-request-id`. */
        InternalError: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "error": "INTERNAL_ERROR",
                 *       "message": "something went wrong on our side",
                 *       "statusCode": 500,
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"] & {
                    /** @enum {unknown} */
                    error?: "INTERNAL_ERROR" | "LEGACY_ENGINE_ERROR";
                    /** @constant */
                    statusCode?: 500;
                };
            };
        };
        /** @description Missing or malformed parameters, JSON that does not parse, or something that the request refers to does not exist. `details` names the fields. */
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
                 *           "message": "is not a UUID"
                 *         }
                 *       ],
                 *       "error": "INVALID_REQUEST",
                 *       "message": "user_id: is not a UUID",
                 *       "statusCode": 400,
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"] & {
                    /** @enum {unknown} */
                    error?: "INVALID_REQUEST" | "INVALID_REFERENCE";
                    /** @constant */
                    statusCode?: 400;
                };
            };
        };
        /** @description The path has no such method. */
        MethodNotAllowed: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "error": "METHOD_NOT_ALLOWED",
                 *       "message": "this method is not supported here",
                 *       "statusCode": 405,
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"] & {
                    /** @constant */
                    error?: "METHOD_NOT_ALLOWED";
                    /** @constant */
                    statusCode?: 405;
                };
            };
        };
        /** @description Not there, or not visible to the caller: the two cannot be told apart. */
        NotFound: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "error": "NOT_FOUND",
                 *       "message": "not found",
                 *       "statusCode": 404,
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"] & {
                    /** @constant */
                    error?: "NOT_FOUND";
                    /** @constant */
                    statusCode?: 404;
                };
            };
        };
        /** @description The body is longer than the route takes. */
        PayloadTooLarge: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "error": "PAYLOAD_TOO_LARGE",
                 *       "message": "the body is longer than 65536 bytes",
                 *       "statusCode": 413,
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"] & {
                    /** @constant */
                    error?: "PAYLOAD_TOO_LARGE";
                    /** @constant */
                    statusCode?: 413;
                };
            };
        };
        /** @description Too often; `Retry-After` says when to come back. */
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
                 *       "error": "RATE_LIMITED",
                 *       "message": "too many requests, try again in 6 s",
                 *       "statusCode": 429,
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"] & {
                    /** @constant */
                    error?: "RATE_LIMITED";
                    /** @constant */
                    statusCode?: 429;
                };
            };
        };
        /** @description Something that the route depends on is out of reach; `Retry-After` says when to come back. */
        ServiceUnavailable: {
            headers: {
                "Retry-After": components["headers"]["RetryAfter"];
                "x-request-id": components["headers"]["RequestId"];
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "error": "SERVICE_UNAVAILABLE",
                 *       "message": "the database is out of reach, try again soon",
                 *       "statusCode": 503,
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"] & {
                    /** @enum {unknown} */
                    error?: "SERVICE_UNAVAILABLE" | "DATABASE_CONNECTION_ERROR" | "CONTEXT_ENGINE_ERROR";
                    /** @constant */
                    statusCode?: 503;
                };
            };
        };
        /** @description No token (`UNAUTHORIZED`), or one that is not believed: malformed, expired, signed by somebody else (`INVALID_TOKEN`). */
        Unauthorized: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "error": "UNAUTHORIZED",
                 *       "message": "the token has expired",
                 *       "statusCode": 401,
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"] & {
                    /** @enum {unknown} */
                    error?: "UNAUTHORIZED" | "INVALID_TOKEN";
                    /** @constant */
                    statusCode?: 401;
                };
            };
        };
        /** @description Well-formed, but a value outside its set. `details` names the fields. */
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
                 *           "message": "must be one of online, away, busy, dnd, invisible, offline"
                 *         }
                 *       ],
                 *       "error": "UNPROCESSABLE",
                 *       "message": "status: must be one of online, away, busy, dnd, invisible, offline",
                 *       "statusCode": 422,
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"] & {
                    /** @constant */
                    error?: "UNPROCESSABLE";
                    /** @constant */
                    statusCode?: 422;
                };
            };
        };
        /** @description The body is not declared to be JSON. */
        UnsupportedMediaType: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "error": "UNSUPPORTED_MEDIA_TYPE",
                 *       "message": "the body must be JSON, with Content-Type: application/json",
                 *       "statusCode": 415,
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"] & {
                    /** @constant */
                    error?: "UNSUPPORTED_MEDIA_TYPE";
                    /** @constant */
                    statusCode?: 415;
                };
            };
        };
        /** @description The path is a WebSocket's. */
        UpgradeRequired: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "error": "UPGRADE_REQUIRED",
                 *       "message": "this is a WebSocket, and the request does not ask for one",
                 *       "statusCode": 426,
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"] & {
                    /** @constant */
                    error?: "UPGRADE_REQUIRED";
                    /** @constant */
                    statusCode?: 426;
                };
            };
        };
    };
    parameters: never;
    requestBodies: never;
    headers: {
        /** @description How many may come at once. */
        RateLimitLimit: number;
        /** @description How many more may come now. */
        RateLimitRemaining: number;
        /** @description Seconds until the whole allowance is there again. */
        RateLimitReset: number;
        /** @description The request's id, the client's own if it sent one; the log has it too. */
        RequestId: string;
        /** @description Seconds after which to come back. */
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
            /** @description The page. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "text/html": string;
                };
            };
            /** @description The browser has it. */
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
                 * @description Whom.
                 * @example a0000000-0000-4000-8000-000000000002
                 */
                user_id: components["schemas"]["UserId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The user. */
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
                    "application/json": components["schemas"]["Card"];
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
                /** @description Whom it is about, where that is not the caller: for `service_role` and holders of `presence:admin`. Done as that user, so that it does exactly what they could do. */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Oldest first. */
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
                /** @description Whom it is about, where that is not the caller: for `service_role` and holders of `presence:admin`. Done as that user, so that it does exactly what they could do. */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description At most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "user_id": "a0000000-0000-4000-8000-000000000005"
                 *     }
                 */
                "application/json": {
                    /** @description Whom; not oneself. */
                    user_id: components["schemas"]["UserId"];
                };
            };
        };
        responses: {
            /** @description Was blocked. */
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
                    "application/json": components["schemas"]["Done"];
                };
            };
            /** @description Blocked. */
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
                    "application/json": components["schemas"]["Done"];
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
                /** @description Whom it is about, where that is not the caller: for `service_role` and holders of `presence:admin`. Done as that user, so that it does exactly what they could do. */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description Whom.
                 * @example a0000000-0000-4000-8000-000000000005
                 */
                user_id: components["schemas"]["UserId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Ended. */
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
                    "application/json": components["schemas"]["Done"];
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
        /** @description At most 65536 bytes. */
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
                "application/json": {
                    /** @description All are taken, or none. */
                    messages: {
                        /** @description The event's name. */
                        event: string;
                        /** @description Arrives as `meta.id`. */
                        id?: string | null;
                        /** @description Passed on as it came. */
                        payload: {
                            [key: string]: unknown;
                        };
                        /** @description Which of the two channels of that name; public by default. */
                        private?: boolean | null;
                        /** @description The channel's name, without `realtime:`. */
                        topic: string;
                    }[];
                };
            };
        };
        responses: {
            /** @description On their way. */
            202: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["InvalidRequest"];
            /** @description No token or key, or one that is not believed. */
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
            /** @description One or more are wrong; position by position, what. */
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
                    "application/json": {
                        /** @description By field. */
                        errors: {
                            [key: string]: unknown;
                        };
                    };
                };
            };
            /** @description Too many messages. */
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
                /** @description Which of the two channels of that name. */
                private?: boolean;
            };
            header?: never;
            path: {
                /**
                 * @description The event's name.
                 * @example tide
                 */
                event: string;
                /**
                 * @description The channel's name, without `realtime:`.
                 * @example harbour
                 */
                topic: string;
            };
            cookie?: never;
        };
        /** @description At most 65536 bytes. */
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
            /** @description On its way. */
            202: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["InvalidRequest"];
            /** @description No token or key, or one that is not believed. */
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
            /** @description A private channel that the caller may not speak in. */
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
            /** @description Neither JSON nor bytes. */
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
                    "application/json": components["schemas"]["RealtimeError"];
                };
            };
            /** @description Too large, or the policies could not be asked. */
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
            /** @description Too many messages. */
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
                /** @description Whom it is about, where that is not the caller: for `service_role` and holders of `presence:admin`. Done as that user, so that it does exactly what they could do. */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Both ways, oldest first. */
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
                /** @description Whom it is about, where that is not the caller: for `service_role` and holders of `presence:admin`. Done as that user, so that it does exactly what they could do. */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description At most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "user_id": "a0000000-0000-4000-8000-000000000004"
                 *     }
                 */
                "application/json": {
                    /** @description Whom; not oneself. */
                    user_id: components["schemas"]["UserId"];
                };
            };
        };
        responses: {
            /** @description Was asked for, or is accepted by this. */
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
            /** @description Asked. */
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
                /** @description Whom it is about, where that is not the caller: for `service_role` and holders of `presence:admin`. Done as that user, so that it does exactly what they could do. */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description Whom.
                 * @example a0000000-0000-4000-8000-000000000006
                 */
                user_id: components["schemas"]["UserId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Ended. */
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
                    "application/json": components["schemas"]["Done"];
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
                /** @description Whom it is about, where that is not the caller: for `service_role` and holders of `presence:admin`. Done as that user, so that it does exactly what they could do. */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description Whom.
                 * @example a0000000-0000-4000-8000-000000000005
                 */
                user_id: components["schemas"]["UserId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Accepted. */
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
                /** @description Whom it is about, where that is not the caller: for `service_role` and holders of `presence:admin`. Done as that user, so that it does exactly what they could do. */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Newest first. */
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
                /** @description Whom it is about, where that is not the caller: for `service_role` and holders of `presence:admin`. Done as that user, so that it does exactly what they could do. */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description At most 65536 bytes. */
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
                "application/json": {
                    /** @description Who else takes part. */
                    participant_ids: components["schemas"]["UserId"][];
                    /** @description At most 255 characters after trimming. */
                    title?: string | null;
                };
            };
        };
        responses: {
            /** @description Begun. */
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
                 * @description ID of the conversation.
                 * @example c0000000-0000-4000-8000-000000000001
                 */
                conversation_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Those who type now, as far as the caller may see. */
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
                    "application/json": {
                        /**
                         * Format: date-time
                         * @description Since when it was told.
                         */
                        updated_at: string;
                        /** @description Who. */
                        user_id: components["schemas"]["UserId"];
                    }[];
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
                 * @description ID of the conversation.
                 * @example c0000000-0000-4000-8000-000000000001
                 */
                conversation_id: string;
            };
            cookie?: never;
        };
        /** @description At most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "is_typing": true
                 *     }
                 */
                "application/json": {
                    /** @description Typing, or stopped. */
                    is_typing: boolean;
                };
            };
        };
        responses: {
            /** @description Noted. */
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
                    "application/json": components["schemas"]["Done"];
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
    addParticipant: {
        parameters: {
            query?: {
                /** @description Whom it is about, where that is not the caller: for `service_role` and holders of `presence:admin`. Done as that user, so that it does exactly what they could do. */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description Which conversation.
                 * @example c0000000-0000-4000-8000-000000000001
                 */
                id: components["schemas"]["ConversationId"];
                /**
                 * @description Whom.
                 * @example a0000000-0000-4000-8000-000000000003
                 */
                user_id: components["schemas"]["UserId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The conversation after it. */
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
                /** @description Whom it is about, where that is not the caller: for `service_role` and holders of `presence:admin`. Done as that user, so that it does exactly what they could do. */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description Which conversation.
                 * @example c0000000-0000-4000-8000-000000000001
                 */
                id: components["schemas"]["ConversationId"];
                /**
                 * @description Whom.
                 * @example a0000000-0000-4000-8000-000000000003
                 */
                user_id: components["schemas"]["UserId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Removed. */
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
                    "application/json": components["schemas"]["Done"];
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
            /** @description It is. */
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
        /** @description At most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "user_ids": [
                 *         "a0000000-0000-4000-8000-000000000002"
                 *       ]
                 *     }
                 */
                "application/json": {
                    /** @description Whom. */
                    user_ids: components["schemas"]["UserId"][];
                };
            };
        };
        responses: {
            /** @description Those who are visible, by id. */
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
                    "application/json": {
                        /** @description By id. */
                        presences: {
                            [key: string]: components["schemas"]["Presence"];
                        };
                    };
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
        /** @description At most 65536 bytes. */
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
                "application/json": {
                    /** @description What it is about; any other word is a 422. */
                    category: components["schemas"]["Category"];
                    /** @description Its name. */
                    event: string;
                    /** @description Passed on as it came. */
                    payload: {
                        [key: string]: unknown;
                    };
                    /** @description To whom. */
                    recipients: components["schemas"]["UserId"][];
                };
            };
        };
        responses: {
            /** @description Handed over. */
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
                    "application/json": {
                        /** @description How many of them have a socket open. */
                        delivered_to: number;
                    };
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
                /** @description Whom it is about, where that is not the caller: for `service_role` and holders of `presence:admin`. Done as that user, so that it does exactly what they could do. */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The devices, the latest first. */
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
                /** @description Whom it is about, where that is not the caller: for `service_role` and holders of `presence:admin`. Done as that user, so that it does exactly what they could do. */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description Which device.
                 * @example laptop
                 */
                device_id: components["schemas"]["DeviceId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Signed off. */
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
                    "application/json": components["schemas"]["Done"];
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
    exportMine: {
        parameters: {
            query?: {
                /** @description Whom it is about, where that is not the caller: for `service_role` and holders of `presence:admin`. Done as that user, so that it does exactly what they could do. */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Rows by table. */
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
                    "application/json": {
                        /** @description Rows, by the table that holds them. */
                        data: {
                            [key: string]: unknown;
                        };
                        /**
                         * Format: date-time
                         * @description When.
                         */
                        exported_at: string;
                        /** @description Whose. */
                        user_id: components["schemas"]["UserId"];
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
    heartbeat: {
        parameters: {
            query?: never;
            header?: {
                /** @description Which of the user's devices sends this, where the body does not say. */
                "X-Device-ID"?: components["schemas"]["DeviceId"];
            };
            path?: never;
            cookie?: never;
        };
        /** @description At most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "active": true,
                 *       "device_id": "laptop"
                 *     }
                 */
                "application/json": {
                    /** @description Whether somebody is using it. */
                    active?: boolean;
                    /** @description Which device. */
                    device_id?: components["schemas"]["DeviceId"];
                    /** @description Whose, for the service and admins. */
                    user_id?: components["schemas"]["UserId"];
                };
            };
        };
        responses: {
            /** @description Noted. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "next_heartbeat_ms": 10000,
                     *       "server_time": "2026-11-21T12:00:00Z",
                     *       "success": true
                     *     }
                     */
                    "application/json": {
                        /** @description When the next one is due, in milliseconds. */
                        next_heartbeat_ms: number;
                        /**
                         * Format: date-time
                         * @description The server's clock.
                         */
                        server_time: string;
                        /**
                         * @description Always `true`.
                         * @constant
                         */
                        success: true;
                    };
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
    lastSeen: {
        parameters: {
            query?: {
                /**
                 * @description Whom, joined by commas: 1 to 1,000 ids. Without it everybody related to the caller.
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
            /** @description Those who are visible; `null` where it is not shared. */
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
                /** @description Whom it is about, where that is not the caller: for `service_role` and holders of `presence:admin`. Done as that user, so that it does exactly what they could do. */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Erased. */
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
                    "application/json": {
                        /** @description How many rows went, by table. */
                        erased: {
                            [key: string]: number;
                        };
                        /**
                         * @description Always `true`.
                         * @constant
                         */
                        success: true;
                        /** @description Whose. */
                        user_id: components["schemas"]["UserId"];
                    };
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
                /** @description Whom it is about, where that is not the caller: for `service_role` and holders of `presence:admin`. Done as that user, so that it does exactly what they could do. */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The settings. */
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
                /** @description Whom it is about, where that is not the caller: for `service_role` and holders of `presence:admin`. Done as that user, so that it does exactly what they could do. */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description At most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "visibility": "team"
                 *     }
                 */
                "application/json": {
                    /** @description Whether they see what the user does, and where. */
                    show_activity?: boolean | null;
                    /** @description Whether they see what the user wrote. */
                    show_custom_status?: boolean | null;
                    /** @description Whether they learn when the user was last here. */
                    show_last_seen?: boolean | null;
                    /** @description Whether participants of a conversation see the user type. */
                    show_typing?: boolean | null;
                    /** @description Who may see the user; any other word is a 422. */
                    visibility?: components["schemas"]["Visibility"] | null;
                };
            };
        };
        responses: {
            /** @description The settings after it. */
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
                /** @description Whom it is about, where that is not the caller: for `service_role` and holders of `presence:admin`. Done as that user, so that it does exactly what they could do. */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description At most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "show_last_seen": false
                 *     }
                 */
                "application/json": {
                    /** @description Whether they see what the user does, and where. */
                    show_activity?: boolean | null;
                    /** @description Whether they see what the user wrote. */
                    show_custom_status?: boolean | null;
                    /** @description Whether they learn when the user was last here. */
                    show_last_seen?: boolean | null;
                    /** @description Whether participants of a conversation see the user type. */
                    show_typing?: boolean | null;
                    /** @description Who may see the user; any other word is a 422. */
                    visibility?: components["schemas"]["Visibility"] | null;
                };
            };
        };
        responses: {
            /** @description The settings after it. */
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
        /** @description At most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "device_id": "laptop"
                 *     }
                 */
                "application/json": {
                    /** @description Which device. */
                    device_id: components["schemas"]["DeviceId"];
                    /** @description The token, where there is no `Authorization`. */
                    token?: string;
                };
            };
        };
        responses: {
            /** @description Signed off, or there was no such device. */
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
                /** @description Whom it is about, where that is not the caller: for `service_role` and holders of `presence:admin`. Done as that user, so that it does exactly what they could do. */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The own presence, with everything that is not shared. */
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
                /** @description Which of the user's devices sends this, where the body does not say. */
                "X-Device-ID"?: components["schemas"]["DeviceId"];
            };
            path?: never;
            cookie?: never;
        };
        /** @description At most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "custom_status": "Writing",
                 *       "device_id": "laptop",
                 *       "status": "busy"
                 *     }
                 */
                "application/json": {
                    /** @description What the user does: at most 140 characters after trimming. */
                    activity?: string | null;
                    /** @description Where the user does it: at most 2,048 characters after trimming. */
                    current_page?: string | null;
                    /** @description What the user writes: at most 140 characters after trimming. Control characters, direction overrides and markup are neutralised. */
                    custom_status?: string | null;
                    /**
                     * Format: date-time
                     * @description When that ends by itself.
                     */
                    custom_status_expires_at?: string | null;
                    /** @description Which device says so. */
                    device_id?: components["schemas"]["DeviceId"];
                    /** @description The new status; any other word is `UNPROCESSABLE`. */
                    status: components["schemas"]["Status"];
                    /** @description Whose, for the service and admins. */
                    user_id?: components["schemas"]["UserId"];
                };
            };
        };
        responses: {
            /** @description The user's presence after it, as the user sees it. */
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
                /** @description Which of the user's devices this is. */
                device_id?: components["schemas"]["DeviceId"];
                /** @description The token, for browsers, which cannot set headers on sockets. */
                token?: string;
                /** @description Follows these users beside those whom the caller is related to. */
                user_ids?: string;
            };
            header?: {
                /** @description The same; counts first. */
                "X-Device-ID"?: components["schemas"]["DeviceId"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A WebSocket from here on. */
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
                /**
                 * @description Whom, joined by commas: 1 to 1,000 ids. Without it everybody related to the caller.
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
            /** @description Those who are visible. */
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
                 * @description Whom.
                 * @example a0000000-0000-4000-8000-000000000002
                 */
                user_id: components["schemas"]["UserId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The user. */
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
                /** @description Whom it is about, where that is not the caller: for `service_role` and holders of `presence:admin`. Done as that user, so that it does exactly what they could do. */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The list. */
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
                    "application/json": {
                        /** @description Who is on it, in order of entry. */
                        user_ids: components["schemas"]["UserId"][];
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
    replaceVisibilityList: {
        parameters: {
            query?: {
                /** @description Whom it is about, where that is not the caller: for `service_role` and holders of `presence:admin`. Done as that user, so that it does exactly what they could do. */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description At most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "user_ids": []
                 *     }
                 */
                "application/json": {
                    /** @description Who shall be on it: nobody else, and never oneself. */
                    user_ids: components["schemas"]["UserId"][];
                };
            };
        };
        responses: {
            /** @description The list after it. */
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
                    "application/json": {
                        /** @description Who is on it, in order of entry. */
                        user_ids: components["schemas"]["UserId"][];
                    };
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
                /** @description Whom it is about, where that is not the caller: for `service_role` and holders of `presence:admin`. Done as that user, so that it does exactly what they could do. */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description Whom.
                 * @example a0000000-0000-4000-8000-000000000003
                 */
                user_id: components["schemas"]["UserId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Was on the list. */
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
                    "application/json": components["schemas"]["Done"];
                };
            };
            /** @description On the list now. */
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
                    "application/json": components["schemas"]["Done"];
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
                /** @description Whom it is about, where that is not the caller: for `service_role` and holders of `presence:admin`. Done as that user, so that it does exactly what they could do. */
                user_id?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description Whom.
                 * @example a0000000-0000-4000-8000-000000000003
                 */
                user_id: components["schemas"]["UserId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Off the list now. */
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
                    "application/json": components["schemas"]["Done"];
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
                 * @description Any name.
                 * @example realtime-dev
                 */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description How they are. */
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
                    "application/json": {
                        /** @description What was found. */
                        data: {
                            /** @description Channel sockets of this node. */
                            connected_cluster: number;
                            /** @description Whether the database answers. */
                            db_connected: boolean;
                            /** @description Whether channels work in full. */
                            healthy: boolean;
                            /** @description Not told. */
                            node?: null;
                            /** @description There is none. */
                            region?: null;
                            /** @description Whether broadcasts from the database arrive. */
                            replication_connected: boolean;
                        };
                    };
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
                /** @description As idempotencyKey, which is stronger. */
                "Idempotency-Key"?: string;
                /** @description As useDynamicContext, which is stronger. */
                "x-use-dynamic-context"?: boolean;
            };
            path?: never;
            cookie?: never;
        };
        /** @description At most 65536 bytes. */
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
                "application/json": {
                    /** @description Where. */
                    conversationId: components["schemas"]["ConversationId"];
                    /** @description Repeats with it are answered once; also a header. */
                    idempotencyKey?: string | null;
                    /** @description Read the conversation's messages; true without. */
                    includeHistory?: boolean | null;
                    /** @description The prompt's tokens; 12,000 without. */
                    maxContextTokens?: number | null;
                    /** @description The most tokens of the answer. */
                    maxTokens?: number | null;
                    /** @description The last of the user's is what was typed. */
                    messages: {
                        [key: string]: unknown;
                    }[];
                    /** @description One of the provider's. */
                    model?: string | null;
                    /** @description One of those that are configured. */
                    provider?: string | null;
                    /** @description Answer with server-sent events. */
                    stream?: boolean | null;
                    /** @description From 0 to 2. */
                    temperature?: number | null;
                    /** @description Bundles and retrieval, or the simple engine. */
                    useDynamicContext?: boolean | null;
                    /** @description For whom; oneself without. */
                    userId?: components["schemas"]["UserId"] | null;
                };
            };
        };
        responses: {
            /** @description The answer. */
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
                     *       "timestamp": "2026-11-21T12:00:00Z"
                     *     }
                     */
                    "application/json": {
                        /** @description The answer. */
                        data: {
                            /** @description What the model says. */
                            content: string;
                            /** @description What the prompt consisted of. */
                            contextStats: {
                                /** @description Milliseconds. */
                                assemblyTimeMs: number;
                                /** @description Those that were compiled for this. */
                                bundlesCompiled: number;
                                /** @description Those ready and fresh. */
                                bundlesReady: number;
                                /** @description Bundles in the prompt. */
                                bundlesUsed: string[];
                                /** @description Bundles wanted. */
                                bundlesWanted: number;
                                /** @description Bundles that were ready and fresh over bundles wanted. */
                                cacheHitRate: number;
                                /** @description The entities. */
                                entities: string[];
                                /** @description The simple engine had to step in. */
                                fellBack?: boolean;
                                /** @description Messages of the conversation. */
                                historyMessages: number;
                                /** @description Tokens by layer. */
                                layers: {
                                    [key: string]: number;
                                };
                                /** @description What they may be. */
                                maxTokens: number;
                                /** @description The prompt's tokens. */
                                tokens: number;
                                /** @description The topics that the message is about. */
                                topics: string[];
                            };
                            /** @description Who assembled. */
                            engine: string;
                            /** @description Why the answer ends, as the provider reports it. */
                            finishReason?: string;
                            /**
                             * Format: uuid
                             * @description The answer's row.
                             */
                            messageId: string;
                            /** @description Which model. */
                            model: string;
                            /** @description It broke off. */
                            partial?: boolean;
                            /** @description It was answered before, and this is that answer. */
                            replayed?: boolean;
                            /** @description Calls of tools, in the format of OpenAI's API. */
                            toolCalls?: {
                                [key: string]: unknown;
                            }[];
                            /** @description What it cost. */
                            usage: {
                                /** @description Of the answer. */
                                completionTokens: number;
                                /** @description Of the prompt. */
                                promptTokens: number;
                                /** @description Of both. */
                                totalTokens: number;
                            };
                        };
                        /** @description How it came about. */
                        metadata: {
                            /** @description Milliseconds. */
                            assemblyTimeMs: number;
                            /** @description Bundles in the prompt. */
                            bundlesUsed: string[];
                            /** @description Bundles that were ready and fresh over bundles wanted. */
                            cacheHitRate: number;
                        };
                        /**
                         * @description Always `true`.
                         * @constant
                         */
                        success: true;
                        /**
                         * Format: date-time
                         * @description The server's clock.
                         */
                        timestamp: string;
                    };
                    "text/event-stream": components["schemas"]["ChatEvent"];
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
                /** @description Read the conversation's messages. */
                includeHistory?: boolean;
                /** @description The prompt's tokens. */
                maxContextTokens?: number;
                /** @description What would be typed. */
                message?: string;
                /**
                 * @description For whom; oneself without.
                 * @example a0000000-0000-4000-8000-000000000001
                 */
                userId?: components["schemas"]["UserId"];
            };
            header?: never;
            path: {
                /**
                 * @description Which conversation.
                 * @example c0000000-0000-4000-8000-000000000001
                 */
                conversation_id: components["schemas"]["ConversationId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The prompt. */
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
                     *       "timestamp": "2026-11-21T12:00:00Z"
                     *     }
                     */
                    "application/json": {
                        /** @description The answer. */
                        data: {
                            /** @description The tokens. */
                            budget: {
                                /** @description What the layers were given. */
                                given: number;
                                /** @description What the prompt may have. */
                                tokens: number;
                                /** @description What they took. */
                                used: number;
                            };
                            /** @description Which conversation. */
                            conversationId: components["schemas"]["ConversationId"];
                            /** @description How deep the question goes. */
                            depth: string;
                            /** @description What the message is about. */
                            detected: {
                                /**
                                 * Format: uuid
                                 * @description Its row.
                                 */
                                id: string;
                                /**
                                 * @description Which of the two.
                                 * @enum {string}
                                 */
                                kind: "topic" | "entity";
                                /** @description Its name. */
                                name: string;
                                /** @description `conversation`, `named`, `misspelt` or `meaning`. */
                                reason: string;
                                /** @description How sure, from 0 to 1. */
                                score: number;
                            }[];
                            /** @description By priority. */
                            layers: components["schemas"]["ContextLayer"][];
                            /** @description The last messages, oldest first. */
                            messages: {
                                [key: string]: unknown;
                            }[];
                            /** @description Everything that is known, as Markdown. */
                            systemPrompt: string;
                        };
                        /** @description How it came about. */
                        metadata: {
                            /** @description Milliseconds. */
                            assemblyTimeMs: number;
                            /** @description Those ready and fresh. */
                            bundlesReady: number;
                            /** @description Bundles in the prompt. */
                            bundlesUsed: string[];
                            /** @description Bundles wanted. */
                            bundlesWanted: number;
                            /** @description Bundles that were ready and fresh over bundles wanted. */
                            cacheHitRate: number;
                        };
                        /**
                         * @description Always `true`.
                         * @constant
                         */
                        success: true;
                        /**
                         * Format: date-time
                         * @description The server's clock.
                         */
                        timestamp: string;
                    };
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
            /** @description Both engines can answer. */
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
            /** @description One can. */
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
                 * @description Whose context; another's for the service and context:admin.
                 * @example a0000000-0000-4000-8000-000000000001
                 */
                user_id: components["schemas"]["UserId"];
            };
            cookie?: never;
        };
        /** @description At most 65536 bytes. */
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
                "application/json": {
                    /** @description As memory_updated or topic_deleted. */
                    eventType: string;
                    /** @description topicId, entityId, conversationId, memoryId, instructionId. */
                    relatedIds?: {
                        [key: string]: unknown;
                    };
                };
            };
        };
        responses: {
            /** @description Queued. */
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
                    "application/json": {
                        /** @description Invalidation queued. */
                        message: string;
                        /** @description True. */
                        success: boolean;
                    };
                };
            };
            /** @description The request is malformed, or there is no such event: then with those that there are. */
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
                     *           "message": "is no event that there is"
                     *         }
                     *       ],
                     *       "error": "INVALID_REQUEST",
                     *       "message": "eventType: is no event that there is",
                     *       "statusCode": 400,
                     *       "success": false,
                     *       "validTypes": [
                     *         "memory_created"
                     *       ]
                     *     }
                     */
                    "application/json": {
                        /** @description Which fields are wrong. */
                        details?: components["schemas"]["FieldError"][];
                        /**
                         * @description For programs.
                         * @constant
                         */
                        error: "INVALID_REQUEST";
                        /** @description For a person. */
                        message: string;
                        /**
                         * @description The status again.
                         * @constant
                         */
                        statusCode: 400;
                        /**
                         * @description Always `false`.
                         * @constant
                         */
                        success: false;
                        /** @description The events that there are. */
                        validTypes?: string[];
                    };
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
                 * @description Whose context; another's for the service and context:admin.
                 * @example a0000000-0000-4000-8000-000000000001
                 */
                user_id: components["schemas"]["UserId"];
            };
            cookie?: never;
        };
        /** @description At most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "activeConversationId": "c0000000-0000-4000-8000-000000000001",
                 *       "deviceId": "web",
                 *       "localTime": "14:30"
                 *     }
                 */
                "application/json": {
                    /** @description The conversation that is open. */
                    activeConversationId?: components["schemas"]["ConversationId"] | null;
                    /**
                     * Format: uuid
                     * @description The notebook that is open.
                     */
                    activeNotebookId?: string | null;
                    /**
                     * Format: uuid
                     * @description The persona that is chosen.
                     */
                    activePersonaId?: string | null;
                    /** @description Which device. */
                    deviceId: string;
                    /** @description Where in the application; the last ten are kept. */
                    lastNavigationPath?: string | null;
                    /** @description The time of day there: 14:30, or with a date and offset. */
                    localTime: string;
                    /** @description Those in view. */
                    visibleConversationIds?: components["schemas"]["ConversationId"][];
                };
            };
        };
        responses: {
            /** @description Noted. */
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
                    "application/json": {
                        /** @description What came of it. */
                        data: {
                            /**
                             * Format: uuid
                             * @description Of user and device.
                             */
                            sessionId: string;
                        };
                        /** @description What was done. */
                        message: string;
                        /** @description True. */
                        success: boolean;
                    };
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
    rollUp: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description Whose context; another's for the service and context:admin.
                 * @example a0000000-0000-4000-8000-000000000001
                 */
                user_id: components["schemas"]["UserId"];
            };
            cookie?: never;
        };
        /** @description At most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "limit": 50
                 *     }
                 */
                "application/json": {
                    /** @description Whether to take over. */
                    force?: boolean;
                    /** @description Units, from 1 to 500; 50 without. */
                    limit?: number | null;
                };
            };
        };
        responses: {
            /** @description What changed. */
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
                    "application/json": {
                        /** @description What came of it. */
                        data: {
                            /** @description How many. */
                            acusProcessed: number;
                            /** @description How many. */
                            entitiesCreated: number;
                            /** @description How many. */
                            entitiesUpdated: number;
                            /** @description How many. */
                            topicsCreated: number;
                            /** @description How many. */
                            topicsUpdated: number;
                        };
                        /** @description What was done. */
                        message: string;
                        /** @description True. */
                        success: boolean;
                    };
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
                 * @description Whose context; another's for the service and context:admin.
                 * @example a0000000-0000-4000-8000-000000000001
                 */
                user_id: components["schemas"]["UserId"];
            };
            cookie?: never;
        };
        /** @description At most 65536 bytes. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "deviceId": "web"
                 *     }
                 */
                "application/json": {
                    /** @description The device whose signals count; the newest without. */
                    deviceId?: string | null;
                    /** @description Also what is fresh. */
                    force?: boolean;
                };
            };
        };
        responses: {
            /** @description How the bundles stand. */
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
                    "application/json": {
                        /** @description What came of it. */
                        data: {
                            /** @description How many. */
                            dirtyBundles: number;
                            /** @description How many. */
                            freshConversationBundles: number;
                            /** @description How many. */
                            freshEntityBundles: number;
                            /** @description How many. */
                            freshTopicBundles: number;
                            /** @description How many. */
                            totalFreshBundles: number;
                        };
                        /** @description What was done. */
                        message: string;
                        /** @description True. */
                        success: boolean;
                    };
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
                /** @description Which of the user's devices this is. */
                device_id?: components["schemas"]["DeviceId"];
                /** @description The token, for browsers, which cannot set headers on sockets. */
                token?: string;
            };
            header?: {
                /** @description The same; counts first. */
                "X-Device-ID"?: components["schemas"]["DeviceId"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A WebSocket from here on. */
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
    explain: {
        parameters: {
            query: {
                /**
                 * @description At whom.
                 * @example a0000000-0000-4000-8000-000000000006
                 */
                subject: components["schemas"]["UserId"];
                /**
                 * @description Who looks.
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
            /** @description A row a face; one, if nothing is visible. */
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
                    "application/json": components["schemas"]["Sighting"][];
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
            /** @description Well. */
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
                     *       "timestamp": "2026-11-21T12:00:00Z",
                     *       "version": "0.1.0"
                     *     }
                     */
                    "application/json": components["schemas"]["Health"];
                };
            };
            /** @description Not well, or stopping. */
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
                     *           "message": "out of reach",
                     *           "ok": false
                     *         }
                     *       },
                     *       "status": "unavailable",
                     *       "timestamp": "2026-11-21T12:00:00Z",
                     *       "version": "0.1.0"
                     *     }
                     */
                    "application/json": components["schemas"]["Health"];
                };
            };
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
            /** @description Sockets, deliveries, latencies, requests. */
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
            /** @description The oldest first. */
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
                     *         "devices": 3,
                     *         "id": "0b7f2f0e-0000-4000-8000-000000000000",
                     *         "lease_expires_at": "2026-11-21T12:00:00.000Z",
                     *         "renewed_at": "2026-11-21T12:00:00.000Z",
                     *         "started_at": "2026-11-21T12:00:00.000Z"
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
    asyncapi: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The document. */
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
                 * @description Which.
                 * @example index.html
                 */
                file: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The page. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "text/html": string;
                };
            };
            /** @description The browser has it. */
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
            /** @description The tokens. */
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
    docs: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The page. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "text/html": string;
                };
            };
            /** @description The browser has it. */
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
            /** @description `ok`. */
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
            /** @description Sockets, deliveries, latencies, requests. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "text/plain": string;
                };
            };
            404: components["responses"]["NotFound"];
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
            /** @description The document. */
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
    broadcast: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description At most 65536 bytes. */
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
                "application/json": {
                    /** @description All are taken, or none. */
                    messages: {
                        /** @description The event's name. */
                        event: string;
                        /** @description Arrives as `meta.id`. */
                        id?: string | null;
                        /** @description Passed on as it came. */
                        payload: {
                            [key: string]: unknown;
                        };
                        /** @description Which of the two channels of that name; public by default. */
                        private?: boolean | null;
                        /** @description The channel's name, without `realtime:`. */
                        topic: string;
                    }[];
                };
            };
        };
        responses: {
            /** @description On their way. */
            202: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["InvalidRequest"];
            /** @description No token or key, or one that is not believed. */
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
            /** @description One or more are wrong; position by position, what. */
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
                    "application/json": {
                        /** @description By field. */
                        errors: {
                            [key: string]: unknown;
                        };
                    };
                };
            };
            /** @description Too many messages. */
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
                /** @description Which of the two channels of that name. */
                private?: boolean;
            };
            header?: never;
            path: {
                /**
                 * @description The event's name.
                 * @example tide
                 */
                event: string;
                /**
                 * @description The channel's name, without `realtime:`.
                 * @example harbour
                 */
                topic: string;
            };
            cookie?: never;
        };
        /** @description At most 65536 bytes. */
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
            /** @description On its way. */
            202: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["InvalidRequest"];
            /** @description No token or key, or one that is not believed. */
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
            /** @description A private channel that the caller may not speak in. */
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
            /** @description Neither JSON nor bytes. */
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
                    "application/json": components["schemas"]["RealtimeError"];
                };
            };
            /** @description Too large, or the policies could not be asked. */
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
            /** @description Too many messages. */
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
            /** @description Well. */
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
                     *       "timestamp": "2026-11-21T12:00:00Z",
                     *       "version": "0.1.0"
                     *     }
                     */
                    "application/json": components["schemas"]["Health"];
                };
            };
            /** @description Not well, or stopping. */
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
                     *           "message": "out of reach",
                     *           "ok": false
                     *         }
                     *       },
                     *       "status": "unavailable",
                     *       "timestamp": "2026-11-21T12:00:00Z",
                     *       "version": "0.1.0"
                     *     }
                     */
                    "application/json": components["schemas"]["Health"];
                };
            };
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
            /** @description It is. */
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
                 * @description The channel's name without `realtime:`.
                 * @example harbour
                 */
                topic: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Per key what its channels track. */
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
                    "application/json": {
                        /** @description `{key: {metas: [{phx_ref, …}]}}`. */
                        presence: {
                            [key: string]: unknown;
                        };
                        /** @description Whether it is the private one. */
                        private: boolean;
                        /** @description The channel's name. */
                        topic: string;
                    };
                };
            };
            400: components["responses"]["InvalidRequest"];
            /** @description No token or key, or one that is not believed. */
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
            /** @description A private channel that the caller may not see. */
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
            /** @description `private` is neither, or the policies could not be asked. */
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
                    "application/json": {
                        [key: string]: unknown;
                    };
                };
            };
            /** @description Too many ask the policies. */
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
    channelsSocket: {
        parameters: {
            query?: {
                /** @description A token or key; needed unless `x-api-key` holds it. */
                apikey?: string;
                /** @description `1.0.0` (the default): objects. `2.0.0`: arrays and binary frames. */
                vsn?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A WebSocket from here on. */
            101: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description Not the handshake of a WebSocket. */
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
                    "application/json": components["schemas"]["RealtimeError"];
                };
            };
            /** @description No key, or one that is not believed. */
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
                    "application/json": components["schemas"]["RealtimeError"];
                };
            };
            /** @description A serializer that there is not. */
            403: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description Too many sockets or joins. */
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
                    "application/json": components["schemas"]["RealtimeError"];
                };
            };
            /** @description A header that is too long. */
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
                /** @description A token or key; needed unless `x-api-key` holds it. */
                apikey?: string;
                /** @description `1.0.0` (the default): objects. `2.0.0`: arrays and binary frames. */
                vsn?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A WebSocket from here on. */
            101: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description Not the handshake of a WebSocket. */
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
                    "application/json": components["schemas"]["RealtimeError"];
                };
            };
            /** @description No key, or one that is not believed. */
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
                    "application/json": components["schemas"]["RealtimeError"];
                };
            };
            /** @description A serializer that there is not. */
            403: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description Too many sockets or joins. */
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
                    "application/json": components["schemas"]["RealtimeError"];
                };
            };
            /** @description A header that is too long. */
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
        /** @description At most 65536 bytes. */
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
                "application/json": {
                    [key: string]: unknown;
                };
            };
        };
        responses: {
            /** @description The completion, or with `stream` its chunks. */
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
    listModels: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The models. */
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
                    "application/json": {
                        [key: string]: unknown;
                    };
                };
            };
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            500: components["responses"]["InternalError"];
            503: components["responses"]["ServiceUnavailable"];
        };
    };
    devicesSocket: {
        parameters: {
            query?: {
                /** @description Which of the user's devices this is. */
                device_id?: components["schemas"]["DeviceId"];
                /** @description The token, for browsers, which cannot set headers on sockets. */
                token?: string;
                /** @description Follows these users beside those whom the caller is related to. */
                user_ids?: string;
            };
            header?: {
                /** @description The same; counts first. */
                "X-Device-ID"?: components["schemas"]["DeviceId"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A WebSocket from here on. */
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
