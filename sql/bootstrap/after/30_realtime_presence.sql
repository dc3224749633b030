-- `realtime.presence`: who is present in channels, where users of the schema `realtime` look for it. Equal to
-- rollcall.channel_presence. On Supabase the schema belongs to Supabase, so the view is not created there.
-- Invoker: the policies on rollcall.presence decide.
do $$
begin
  if to_regclass('realtime.presence') is null then
    create view realtime.presence with (security_invoker = true) as
      select topic, private, key, meta, user_id, joined_at, updated_at, phx_ref, node, channel
      from rollcall.channel_presence;
    comment on view realtime.presence is
      'Who is present in realtime channels now, one row per meta. The same as rollcall.channel_presence.';
    grant select on realtime.presence to authenticated, service_role;
    insert into pg_temp.rollcall_created (kind, name, undo)
      values ('view', 'realtime.presence', 'drop view if exists realtime.presence');
  end if;
end
$$;
