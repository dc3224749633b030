//! Integration tests with a real PostgreSQL, real servers and real sockets.
//!
//! One cluster serves the whole run ([`testkit::cluster`]). Each test has its own database and servers
//! ([`testkit::harness`]) and uses them like clients ([`testkit::client`]). Run some with
//! `cargo test --test integration -- <part of a name>`.

mod changes_harness;

mod background;
mod bad_input;
mod channel_authorizer;
mod channel_bus;
mod channel_presence_service;
mod channels_authorization;
mod channels_basics;
mod channels_broadcast;
mod channels_frames;
mod channels_handshake;
mod channels_lifecycle;
mod channels_limits;
mod channels_postgres_changes;
mod channels_presence;
mod connection_attacks;
mod connection_strings;
mod context_access;
mod context_chat;
mod context_embeddings;
mod context_freshness;
mod context_library;
mod context_llm;
mod context_memory;
mod context_openai;
mod context_passthrough;
mod context_quality;
mod context_routes;
mod context_search;
mod database_faults;
mod device_quota;
mod doctor;
mod edge_function;
mod environment;
mod event_streams;
mod faults;
mod floods;
mod hidden_users;
mod installation;
mod invisible;
mod isolation;
mod lost_history;
mod metrics_access;
mod modules;
mod notification_relay;
mod notifications;
mod openapi_examples;
mod operations;
mod own_tables;
mod pooler;
mod postgres_changes;
mod postgres_changes_attacks;
mod postgres_changes_authorization;
mod postgres_changes_faults;
mod postgres_changes_random;
mod postgres_changes_tables;
mod projects;
mod readme;
mod rest_devices_and_users;
mod rest_lists;
mod rest_manage;
mod rest_presence;
mod rest_privacy;
mod revocation;
mod sockets_dialects;
mod sockets_presence;
mod sql_interface;
mod sql_schema_changes;
mod sql_to_sockets;
mod supabase;
mod typing;
