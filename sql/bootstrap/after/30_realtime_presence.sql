-- `realtime.presence`: who is present in channels, where people who know the schema `realtime` look for it.
-- Invariant: it shows what rollcall.channel_presence shows to whoever asks, since that is what it is.
-- On Supabase the schema belongs to Supabase, so it is not made there; ask rollcall.channel_presence.
-- Invoker: the policies on rollcall.presence decide.
create or replace view realtime.presence with (security_invoker = true) as
  select topic, private, key, meta, user_id, joined_at, updated_at, phx_ref, node, channel from rollcall.channel_presence;
comment on view realtime.presence is 'Who is present in realtime channels now: a row a meta. The same as rollcall.channel_presence.';
grant select on realtime.presence to authenticated, service_role;
