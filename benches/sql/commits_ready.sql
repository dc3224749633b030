-- Whether a node relays notifications as $1 says, and the policy's table is watched.
select coalesce(r.relayed_until > clock_timestamp(), false) = $1 and exists (
  select from pg_catalog.pg_trigger t where t.tgrelid = 'public.bench_grants'::regclass and t.tgname = 'rollcall_watch')
from rollcall_internal.relay r
