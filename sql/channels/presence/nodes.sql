-- Living nodes. Returns one row per node: its id, and the generation of its rows in rollcall.presence if they are complete.
select n.id, c.generation
from rollcall.presence_nodes n
left join rollcall_internal.channel_nodes c on c.node = n.id
where n.lease_expires_at > now()
